//! Files that are whole or absent.

use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Writes a text file, whole or not at all.
///
/// # Errors
///
/// [`Error::Write`] with the file, whose source is [`Error::Io`].
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut temporary = temporary_beside(path)?;
        temporary.write_all(text.as_bytes())?;
        persist(temporary, path)
    };
    write().map_err(|error: std::io::Error| Error::Io(error).writing(path))
}

/// A temporary file in the folder of `path`, readable by whom the user's mask lets.
pub(crate) fn temporary_beside(path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // A run folder is cleaned of such names when a killed run goes on.
    builder.prefix(".tmp-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path))
}

/// Syncs a temporary file and gives it its name.
pub(crate) fn persist(temporary: tempfile::NamedTempFile, path: &Path) -> std::io::Result<()> {
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    // The new name is on the disk only when its folder is; Windows has no such call.
    if cfg!(unix) {
        fs_err::File::open(folder_of(path))?.sync_all()?;
    }
    Ok(())
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
