//! One file into the Hugging Face cache: resumable, checked, and whole or absent.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::client::{Client, Remote};
use crate::repo::{Repo, check_file_name};
use crate::transfer::{Job, Transfer, Watch, lock, patiently};
use crate::{Caches, Error, Result};

/// Fetches one file of a repository, unless the cache has it, and gives its path in the snapshot.
///
/// A transfer that breaks off is taken up where it stopped, now or by a later call. Large files are
/// checked against their published SHA-256, the rest against their size. Several processes may fetch
/// the same file at once; one of them does the work.
///
/// Where the hub cannot be reached and the cache has the file at this revision, that one is given.
///
/// # Errors
/// Those of the network, of the hub's answers, and of the disk; see [`Error`].
pub fn fetch(
    client: &Client,
    caches: &Caches,
    repo: &Repo,
    file: &str,
    watch: Watch<'_>,
) -> Result<PathBuf> {
    Fetcher { client, caches, repo }.fetch_to_cache(file, None, watch)
}

/// What is needed to fetch the files of a repository.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetcher<'a> {
    pub(crate) client: &'a Client,
    pub(crate) caches: &'a Caches,
    pub(crate) repo: &'a Repo,
}

impl Fetcher<'_> {
    /// Fetches a file into the cache; see [`fetch`]. `known` is what a listing told of it.
    pub(crate) fn fetch_to_cache(
        &self,
        file: &str,
        known: Option<Remote>,
        watch: Watch<'_>,
    ) -> Result<PathBuf> {
        let Self { client, caches, repo } = *self;
        check_file_name(file)?;
        let root = caches.hub.join(repo.folder_name());
        let kept = cached(&root, repo.revision(), file);
        if let Some(path) = kept.as_ref().filter(|_| client.settings().offline || is_commit(repo)) {
            return Ok(path.clone());
        }
        if client.settings().offline {
            return Err(Error::Offline { what: format!("{}/{file}", repo.id()) });
        }
        let remote = match known.map_or_else(|| self.describe(file, watch), Ok) {
            Ok(remote) => remote,
            Err(error @ Error::Unreachable { .. }) => return kept.ok_or(error),
            Err(error) => return Err(error),
        };
        let blob = root.join("blobs").join(&remote.etag);
        let path = root.join("snapshots").join(&remote.commit).join(file);
        if !leads_to(&path, &blob) {
            let locks = caches.hub.join(".locks").join(repo.folder_name());
            fs_err::create_dir_all(&locks)?;
            fs_err::create_dir_all(root.join("blobs"))?;
            let _lock = lock(&locks.join(format!("{}.lock", remote.etag)), file, watch)?;
            if !blob.is_file() {
                let partial = blob.with_extension("incomplete");
                Job { client, repo, file, remote: &remote, partial, target: &blob }.run(watch)?;
            }
            link(&blob, &path, file)?;
        }
        write_ref(&root, repo.revision(), &remote.commit)?;
        Ok(path)
    }

    /// Asks for a file's identity, patiently.
    pub(crate) fn describe(&self, file: &str, watch: Watch<'_>) -> Result<Remote> {
        let transfer = Transfer { file, done_bytes: 0, total_bytes: None, wait: None };
        let mut ask = |_: Watch<'_>| self.client.describe(self.repo, file);
        patiently(self.client, transfer, watch, &mut ask, &|| 0)
    }
}

/// The path of a file in the snapshot that a revision stands for, if it is there.
pub(crate) fn cached(root: &Path, revision: &str, file: &str) -> Option<PathBuf> {
    let path = snapshot(root, revision)?.join(file);
    path.is_file().then_some(path)
}

/// The snapshot that a branch, tag or commit stands for, if it is there.
pub(crate) fn snapshot(root: &Path, revision: &str) -> Option<PathBuf> {
    let commit = fs_err::read_to_string(root.join("refs").join(revision));
    let commit = commit.map_or_else(|_| revision.to_owned(), |text| text.trim().to_owned());
    let path = root.join("snapshots").join(commit);
    path.is_dir().then_some(path)
}

/// A commit's files never change, so the cache's need no question.
fn is_commit(repo: &Repo) -> bool {
    repo.revision().len() == 40 && repo.revision().bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a path in a snapshot is this blob.
fn leads_to(path: &Path, blob: &Path) -> bool {
    let real = |path| fs_err::canonicalize(path).ok();
    real(blob).is_some_and(|blob| real(path) == Some(blob))
}

/// Makes `path` lead to `blob`: a relative link, so that the cache can be moved; else a hard link or a copy.
///
/// Only with the blob's lock.
fn link(blob: &Path, path: &Path, file: &str) -> Result<()> {
    if leads_to(path, blob) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs_err::create_dir_all(folder)?;
    let up = "../".repeat(file.split('/').count() + 1);
    let target = Path::new(&up).join("blobs").join(blob.file_name().unwrap_or_default());
    // Made in a folder of its own and renamed, so that a reader always finds a whole file.
    let scratch = tempfile::tempdir_in(folder)?;
    let fresh = scratch.path().join("link");
    let linked = symlink(&target, &fresh)
        .or_else(|_| fs_err::hard_link(blob, &fresh))
        .or_else(|_| fs_err::copy(blob, &fresh).map(|_| ()));
    Ok(linked.and_then(|()| fs_err::rename(&fresh, path))?)
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> std::io::Result<()> {
    fs_err::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _path: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into()) // needs a privilege on Windows
}

/// Notes which commit a branch or tag stands for.
pub(crate) fn write_ref(root: &Path, revision: &str, commit: &str) -> Result<()> {
    if revision == commit {
        return Ok(());
    }
    let path = root.join("refs").join(revision);
    let folder = path.parent().unwrap_or(root);
    fs_err::create_dir_all(folder)?;
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    fresh.write_all(commit.as_bytes())?;
    fresh.persist(&path).map_err(|error| error.error)?;
    Ok(())
}
