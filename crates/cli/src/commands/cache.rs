//! `trueup cache`: what is kept between runs.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use fs_err as fs;

use super::size;
use crate::{args::Cache, environment, failure::Failure, terminal::Terminal};

/// The caches that can be made again, in the program's own folder.
const CACHES: [&str; 2] = ["tokens", "reference"];

/// Shows or clears the caches.
pub(super) fn run(what: Cache, terminal: &Terminal) -> Result<(), Failure> {
    let caches = environment::caches()?;
    let own = CACHES.map(|name| (name, caches.own.join(name)));
    match what {
        Cache::List => {
            let mut text = String::new();
            for (name, path) in own.iter().chain([&("models", caches.hub)]) {
                let bytes = size(folder_bytes(path)?);
                let _ = writeln!(text, "{name:<10} {bytes:>12}  {}", path.display());
            }
            terminal.data(&text)
        }
        Cache::Clear => {
            for (name, path) in own {
                let bytes = folder_bytes(&path)?;
                if path.exists() {
                    fs::remove_dir_all(&path)?;
                    terminal.note(&format!("removed {} of {name}", size(bytes)));
                }
            }
            Ok(())
        }
    }
}

/// The bytes of all files under a folder, links not followed; 0 for one that is not there.
pub(super) fn folder_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        let entries = match fs::read_dir(&at) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}
