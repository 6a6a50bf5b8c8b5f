//! One writer a run folder.
//!
//! The lock is the kernel's, on a file in the folder: it goes away with the process, however that
//! ends, so there is nothing to clean. The file itself stays; removing it would let two processes
//! lock two files of the same name.

use std::{fs::TryLockError, io, path::Path};

use fs_err as fs;

use crate::{Error, Result};

/// Name of the file that carries the lock.
pub(crate) const LOCK: &str = ".lock";

/// Held for as long as a run writes to its folder.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Takes the lock of a folder.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let file = fs::OpenOptions::new().append(true).create(true).open(folder.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_owned() }),
            // A file system without locks should not forbid the run.
            Err(TryLockError::Error(err)) if err.kind() == io::ErrorKind::Unsupported => {
                Ok(Self { _file: file })
            }
            Err(TryLockError::Error(err)) => Err(Error::Io(err)),
        }
    }
}
