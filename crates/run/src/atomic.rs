//! Files and folders that are whole or absent.
//!
//! A file is written under a temporary name beside its target, synced, and renamed; then its
//! folder is synced. A temporary name starts with [`TEMPORARY`], so that what a killed process
//! left is recognised.

use std::{
    cell::Cell,
    ffi::OsString,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use fs_err as fs;

use crate::Result;

/// How the name of everything unfinished starts.
pub const TEMPORARY: &str = ".tmp-";

/// Writes a file so that it is whole or absent, with its old content until it is whole.
///
/// # Errors
///
/// [`crate::Error::Io`]; the temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Like [`write`](fn@write), with the content streamed by a function.
///
/// # Errors
///
/// [`crate::Error::Io`]; the temporary file is removed.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let temporary = Temporary::beside(path);
    let file =
        temporary.claim(|at| fs::OpenOptions::new().write(true).create_new(true).open(at))?;
    let mut writer = BufWriter::new(file);
    fill(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    temporary.rename(path)
}

/// Builds a folder so that it is whole or absent.
///
/// `fill` gets an empty folder to write into; what it returns is returned. What stood at `path` before
/// is replaced at the end.
///
/// # Errors
///
/// Those of `fill`, and [`crate::Error::Io`]; the temporary folder is removed.
pub fn folder<T, E: From<crate::Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let temporary = Temporary::beside(path);
    temporary.claim(fs::create_dir).map_err(crate::Error::from)?;
    let filled = fill(&temporary.path())?;
    sync_tree(&temporary.path())?;
    if path.exists() {
        remove_folder(path)?;
    }
    temporary.rename(path)?;
    Ok(filled)
}

/// Removes a folder so that no other process ever sees half of it under its own name.
///
/// # Errors
///
/// [`crate::Error::Io`].
pub fn remove_folder(path: &Path) -> Result<()> {
    let temporary = Temporary::beside(path);
    temporary.claim(fs::create_dir)?;
    fs::rename(path, temporary.path())?;
    fs::remove_dir_all(temporary.path())?;
    Ok(())
}

/// Removes everything unfinished that a killed process left in a folder, and counts it.
///
/// Only for folders with a single writer.
///
/// # Errors
///
/// [`crate::Error::Io`].
pub fn clean(folder: &Path) -> Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
        removed += 1;
    }
    Ok(removed)
}

/// A temporary name beside a target; what was made there goes away with this value.
struct Temporary {
    folder: PathBuf,
    name: OsString,
    attempt: Cell<u32>,
    is_claimed: Cell<bool>,
}

impl Temporary {
    fn beside(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let name = path.file_name().unwrap_or_default().to_owned();
        Self { folder, name, attempt: Cell::new(0), is_claimed: Cell::new(false) }
    }

    fn path(&self) -> PathBuf {
        let mut name = OsString::from(TEMPORARY);
        name.push(format!("{}-{}-", std::process::id(), self.attempt.get()));
        name.push(&self.name);
        self.folder.join(name)
    }

    /// Creates the temporary thing under the first name that is free.
    fn claim<T>(&self, create: impl Fn(PathBuf) -> io::Result<T>) -> io::Result<T> {
        loop {
            match create(self.path()) {
                Err(err)
                    if err.kind() == io::ErrorKind::AlreadyExists && self.attempt.get() < 1000 =>
                {
                    self.attempt.set(self.attempt.get() + 1);
                }
                other => {
                    self.is_claimed.set(other.is_ok());
                    return other;
                }
            }
        }
    }

    fn rename(self, path: &Path) -> Result<()> {
        fs::rename(self.path(), path)?;
        self.is_claimed.set(false);
        sync_folder(&self.folder)?;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_claimed.get() {
            return;
        }
        // A failure to tidy up must not hide the first error.
        let path = self.path();
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match fs::File::open(folder)?.sync_all() {
        // Some network file systems cannot sync a folder; their renames are durable anyway.
        Err(err)
            if matches!(err.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Makes every file and folder under `folder` durable.
fn sync_tree(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(home.path()), ["a.json"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.json");
        write(&path, b"one").unwrap();
        let result = write_with(&path, |file| {
            file.write_all(&vec![7; 1 << 16])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(result.unwrap_err().is_disk_full());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(home.path()), ["a.json"]);
    }

    #[test]
    fn a_failed_folder_leaves_the_old_one_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("checkpoint-1");
        folder::<(), Error>(&path, |at| write(&at.join("old"), b"")).unwrap();
        let failed = folder::<(), Error>(&path, |at| {
            write(&at.join("new"), b"")?;
            Err(Error::Io(io::ErrorKind::StorageFull.into()))
        });
        assert!(failed.is_err());
        assert_eq!(names(&path), ["old"]);
        folder::<(), Error>(&path, |at| write(&at.join("new"), b"")).unwrap();
        assert_eq!(names(&path), ["new"]);
        assert_eq!(names(home.path()), ["checkpoint-1"]);
    }

    #[test]
    fn what_a_killed_process_left_is_neither_in_the_way_nor_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        let left = home.path().join(format!("{TEMPORARY}{}-0-a", std::process::id()));
        fs::create_dir(&left).unwrap();
        fs::File::create(left.join("half")).unwrap();
        write(&path, b"whole").unwrap();
        assert_eq!(clean(home.path()).unwrap(), 1);
        assert_eq!(names(home.path()), ["a"]);
    }
}
