//! One file into the Hugging Face cache: resumable, checked, and whole or absent.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::client::{Client, Remote};
use crate::digest::{is_sha256, verify_sha256};
use crate::repo::{Repo, check_file_name};
use crate::{Caches, Error, Result};

/// How much is read from the network at a time.
const BUFFER_BYTES: usize = 1 << 18;

/// The longest wait is this power of two times the first.
const DELAY_DOUBLINGS_MAX: u32 = 5;

/// How far a transfer is.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// The file's name in its repository.
    pub file: &'a str,
    /// Bytes on disk.
    pub done_bytes: u64,
    /// The file's size, where the server told it.
    pub total_bytes: Option<u64>,
}

/// What is told about a transfer; `Break` stops it, and it can be taken up again.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(Transfer<'_>) -> ControlFlow<()>;

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
    check_file_name(file)?;
    let root = caches.hub.join(repo.folder_name());
    let kept = cached(&root, repo.revision(), file);
    if let Some(path) = kept.as_ref().filter(|_| client.settings().offline || is_commit(repo)) {
        return Ok(path.clone());
    }
    if client.settings().offline {
        return Err(Error::Offline { what: format!("{}/{file}", repo.id()) });
    }
    let remote = match patiently(client, &mut || client.describe(repo, file), &|| 0) {
        Ok(remote) => remote,
        Err(error @ Error::Unreachable { .. }) => return kept.ok_or(error),
        Err(error) => return Err(error),
    };
    let blob = root.join("blobs").join(&remote.etag);
    let path = root.join("snapshots").join(&remote.commit).join(file);
    if !leads_to(&path, &blob) {
        let _lock = lock(caches, repo, &remote.etag)?;
        if !blob.is_file() {
            let job = Job { client, repo, file, remote: &remote, blob: &blob };
            job.run(watch)?;
        }
        link(&blob, &path, file)?;
    }
    write_ref(&root, repo.revision(), &remote.commit)?;
    Ok(path)
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

/// Repeats what fails for a passing reason, with growing waits, as long as `done` grows or tries are left.
fn patiently<T>(
    client: &Client,
    action: &mut dyn FnMut() -> Result<T>,
    done: &dyn Fn() -> u64,
) -> Result<T> {
    let mut failures = 0;
    loop {
        let before = done();
        let error = match action() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failures = if before < done() { 1 } else { failures + 1 };
        if !error.is_passing() || failures > client.settings().retries {
            return Err(error);
        }
        let doublings = (failures - 1).min(DELAY_DOUBLINGS_MAX);
        std::thread::sleep(client.settings().retry_delay * 2u32.pow(doublings));
    }
}

/// One blob to be fetched.
struct Job<'a> {
    client: &'a Client,
    repo: &'a Repo,
    file: &'a str,
    remote: &'a Remote,
    blob: &'a Path,
}

impl Job<'_> {
    /// Fetches into `<blob>.incomplete`, checks, renames.
    fn run(&self, watch: Watch<'_>) -> Result<()> {
        let partial = self.blob.with_extension("incomplete");
        let resumed = size(&partial) > 0;
        self.transfer(&partial, watch)?;
        if let Err(error) = self.check(&partial) {
            fs_err::remove_file(&partial)?;
            if !resumed {
                return Err(error);
            }
            // An earlier process left something else behind; begin anew.
            self.transfer(&partial, watch)?;
            self.check(&partial)?;
        }
        fs_err::OpenOptions::new().write(true).open(&partial)?.sync_all()?;
        Ok(fs_err::rename(&partial, self.blob)?)
    }

    fn check(&self, partial: &Path) -> Result<()> {
        if is_sha256(&self.remote.etag) {
            verify_sha256(partial, &self.remote.etag)
        } else {
            Ok(())
        }
    }

    fn transfer(&self, partial: &Path, watch: Watch<'_>) -> Result<()> {
        patiently(self.client, &mut || self.append(partial, watch), &|| size(partial))
    }

    /// One request for what is not there yet.
    fn append(&self, partial: &Path, watch: Watch<'_>) -> Result<()> {
        let total_bytes = self.remote.size_bytes;
        let mut out = fs_err::OpenOptions::new().create(true).append(true).open(partial)?;
        let mut have = out.metadata()?.len();
        if total_bytes.is_some_and(|total| total < have) {
            out.set_len(0)?;
            have = 0;
        }
        if total_bytes == Some(have) && have > 0 {
            return Ok(());
        }
        let opened = self.client.open(self.repo, self.file, &self.remote.url, have);
        if matches!(opened, Err(Error::Status { status: 416, .. })) {
            out.set_len(0)?; // What is there does not fit what the server has.
            return Err(self.broken(0, None));
        }
        let mut stream = opened?;
        if stream.start != have {
            out.set_len(0)?;
            if stream.start != 0 {
                return Err(self.broken(0, None));
            }
        }
        out.seek(SeekFrom::End(0))?;
        let mut done_bytes = stream.start;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if watch(Transfer { file: self.file, done_bytes, total_bytes }).is_break() {
                return Err(Error::Interrupted);
            }
            let count = match stream.bytes.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => return Err(self.broken(done_bytes, Some(error))),
            };
            out.write_all(&buffer[..count])?;
            done_bytes += count as u64;
        }
        if total_bytes.is_some_and(|total| total != done_bytes) {
            return Err(self.broken(done_bytes, None));
        }
        Ok(())
    }

    fn broken(&self, done_bytes: u64, source: Option<std::io::Error>) -> Error {
        let Remote { url, size_bytes, .. } = self.remote;
        Error::Broken { url: url.clone(), done_bytes, total_bytes: *size_bytes, source }
    }
}

/// Waits until no other process fetches this blob; the lock lasts as long as the file is open.
fn lock(caches: &Caches, repo: &Repo, etag: &str) -> Result<fs_err::File> {
    let locks = caches.hub.join(".locks").join(repo.folder_name());
    fs_err::create_dir_all(&locks)?;
    fs_err::create_dir_all(caches.hub.join(repo.folder_name()).join("blobs"))?;
    let path = locks.join(format!("{etag}.lock"));
    let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.file().lock()?;
    Ok(file)
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

/// A file's size; 0 where there is none.
fn size(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |metadata| metadata.len())
}
