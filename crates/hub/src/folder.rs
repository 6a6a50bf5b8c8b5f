//! One file into a plain folder, beside notes that the hub's other clients write and read too.
//!
//! `<folder>/.cache/huggingface/download/` has for each file a note (commit, content, moment), a lock,
//! and what an unfinished transfer left. A file of the user's own is never replaced.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::Remote;
use crate::digest::like_etag;
use crate::download::Fetcher;
use crate::repo::check_file_name;
use crate::transfer::{Job, Watch, lock};
use crate::{Error, Result};

/// A file's time may be noted less finely than the note's.
const SLACK_SECS: f64 = 1.0;

/// Where a file of a repository and its notes lie in a folder.
pub(crate) struct Paths {
    pub(crate) target: PathBuf,
    home: PathBuf,
    note: PathBuf,
    lock: PathBuf,
}

impl Paths {
    /// `file` must be checked.
    pub(crate) fn new(folder: &Path, file: &str) -> Self {
        let home = folder.join(".cache/huggingface");
        let beside = |ending: &str| home.join("download").join(format!("{file}.{ending}"));
        let (note, lock) = (beside("metadata"), beside("lock"));
        Self { target: folder.join(file), home, note, lock }
    }

    /// What an unfinished transfer of this content left, or will.
    pub(crate) fn partial(&self, etag: &str) -> PathBuf {
        self.note.with_extension(format!("{etag}.incomplete"))
    }

    /// The content that an earlier download left and nobody has changed since.
    pub(crate) fn content(&self) -> Option<String> {
        let note = fs_err::read_to_string(&self.note).ok()?;
        let mut lines = note.lines().map(str::trim);
        let (_commit, etag) = (lines.next()?, lines.next()?);
        let noted: f64 = lines.next()?.parse().ok()?;
        let changed = fs_err::metadata(&self.target).ok()?.modified().ok()?;
        let changed = changed.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        (changed - SLACK_SECS <= noted).then(|| etag.to_owned())
    }

    fn write_note(&self, remote: &Remote) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let note = format!("{}\n{}\n{now}\n", remote.commit, remote.etag);
        Ok(fs_err::write(&self.note, note)?)
    }

    fn create_folders(&self) -> Result<()> {
        for path in [&self.target, &self.note] {
            fs_err::create_dir_all(path.parent().unwrap_or(path))?;
        }
        let ignore = self.home.join(".gitignore");
        if !ignore.exists() {
            fs_err::write(ignore, "*\n")?;
        }
        Ok(())
    }
}

impl Fetcher<'_> {
    /// Fetches a file into a folder, unless it is there; `known` is what a listing told of it.
    ///
    /// # Errors
    /// [`Error::Foreign`] if a file is in the way that no download made, and those of
    /// [`fetch`](crate::fetch).
    pub(crate) fn fetch_to_folder(
        &self,
        folder: &Path,
        file: &str,
        known: Option<Remote>,
        watch: Watch<'_>,
    ) -> Result<PathBuf> {
        check_file_name(file)?;
        let remote = known.map_or_else(|| self.describe(file, watch), Ok)?;
        let paths = Paths::new(folder, file);
        paths.create_folders()?;
        let _lock = lock(&paths.lock, file, watch)?;
        if paths.target.exists() {
            let content = paths.content();
            if content.as_ref() == Some(&remote.etag) {
                return Ok(paths.target);
            }
            if like_etag(&paths.target, &remote.etag)?.as_ref() == Some(&remote.etag) {
                paths.write_note(&remote)?;
                return Ok(paths.target);
            }
            if content.is_none() {
                return Err(Error::Foreign { path: paths.target });
            }
        }
        let partial = paths.partial(&remote.etag);
        let root = self.caches.hub.join(self.repo.folder_name());
        let blob = root.join("blobs").join(&remote.etag);
        if blob.is_file() && !partial.exists() {
            fs_err::copy(blob, &partial)?; // checked like anything that an earlier process left
        }
        let target = paths.target.as_path();
        let Self { client, repo, .. } = *self;
        Job { client, repo, file, remote: &remote, partial, target }.run(watch)?;
        paths.write_note(&remote)?;
        Ok(paths.target)
    }
}
