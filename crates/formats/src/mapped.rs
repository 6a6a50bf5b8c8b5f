//! The bytes of a file: mapped into memory, or given.

use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// The bytes of a whole file, which stay put while a reader borrows from them.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// A read-only mapping; pages are read as they are touched.
    Mapped(Mmap),
    /// Bytes in memory.
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where the file cannot be opened, [`Error::NotAFile`] where it is no plain file.
    pub(crate) fn map(path: &Path) -> Result<Self> {
        let file = fs_err::File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(Error::NotAFile);
        }
        map_read_only(&file).map(Self::Mapped)
    }

    /// Gives the memory of pages that were read back to the system; they are read again if they are
    /// touched again.
    pub(crate) fn release(&self) {
        if let Self::Mapped(map) = self {
            release_pages(map);
        }
    }
}

/// Says that the pages of a mapping are not needed for now; a system that cannot be told keeps them.
#[expect(unsafe_code, reason = "the advice is unsafe for mappings that are written to")]
fn release_pages(map: &Mmap) {
    #[cfg(unix)]
    // SAFETY: the mapping is read-only and of a file, so a page that is dropped comes back with
    // the file's bytes; nothing that was written can be lost.
    let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    #[cfg(not(unix))]
    let _ = map;
}

/// Maps a file that others are not expected to change.
#[expect(unsafe_code, reason = "mapping a file is unsafe in every crate that offers it")]
fn map_read_only(file: &fs_err::File) -> Result<Mmap> {
    // SAFETY: the mapping is private to this process and read-only, and no code here writes to a
    // file that it maps: writers make a new file and rename it, which leaves the mapped one whole.
    // Another program that writes into the file while it is mapped changes numbers that are read as
    // plain bytes, each with every bit pattern valid; one that truncates it ends this process.
    let map = unsafe { Mmap::map(file.file()) };
    map.map_err(Error::Io)
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
