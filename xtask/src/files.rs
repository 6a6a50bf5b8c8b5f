//! Finding the repository's files.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// The entries of a folder, sorted; none if there is no such folder.
///
/// # Errors
///
/// If the folder cannot be read.
pub fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The files of a folder with an extension, sorted.
///
/// # Errors
///
/// If the folder cannot be read.
pub fn with_extension(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = entries(folder)?;
    paths.retain(|path| path.is_file() && path.extension().is_some_and(|has| has == extension));
    Ok(paths)
}

/// All files below a folder, sorted; build folders and hidden ones are left out.
///
/// # Errors
///
/// If a folder cannot be read.
pub fn below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if path.is_file() {
            files.push(path);
        } else if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(below(&path)?);
        }
    }
    Ok(files)
}
