//! The bytes of one file: patiently, from where an earlier try stopped, and checked at the end.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::client::{Client, Remote};
use crate::digest::like_etag;
use crate::repo::Repo;
use crate::{Error, Result};

/// How much is read from the network at a time.
const BUFFER_BYTES: usize = 1 << 18;

/// The longest wait is this power of two times the first.
const DELAY_DOUBLINGS_MAX: u32 = 5;

/// The longest pause that a hub may ask for; public ones count requests in windows of this length.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// How often the watch is asked during a wait.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How far a transfer is.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// The file's name in its repository.
    pub file: &'a str,
    /// Bytes on disk.
    pub done_bytes: u64,
    /// The file's size, where the server told it.
    pub total_bytes: Option<u64>,
    /// Nothing comes at the moment, and why.
    pub wait: Option<Wait>,
}

/// Why nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A try failed; the next one begins after so many seconds.
    Retry {
        /// Seconds that are left.
        left_secs: u64,
    },
    /// Another process fetches the same file.
    Lock,
}

/// What is told about a transfer; `Break` stops it, and it can be taken up again.
pub type Watch<'a> = &'a mut dyn FnMut(Transfer<'_>) -> ControlFlow<()>;

/// Waits, unless the watch wants to stop.
fn wait(transfer: Transfer<'_>, delay: Duration, watch: Watch<'_>) -> Result<()> {
    let end = Instant::now() + delay;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let told = Wait::Retry { left_secs: left.as_secs() };
        if watch(Transfer { wait: Some(told), ..transfer }).is_break() {
            return Err(Error::Interrupted);
        }
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

/// Repeats what fails for a passing reason, with growing waits, as long as it gets on or tries are
/// left; `action` says how far it is after each try.
pub(crate) fn patiently<T>(
    client: &Client,
    transfer: Transfer<'_>,
    watch: Watch<'_>,
    action: &mut dyn FnMut(Watch<'_>) -> Result<T>,
    done: &dyn Fn() -> u64,
) -> Result<T> {
    let mut failures = 0;
    loop {
        let before = done();
        let error = match action(watch) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failures = if before < done() { 1 } else { failures + 1 };
        if !error.is_passing() || failures > client.settings().retries {
            return Err(error);
        }
        let doublings = (failures - 1).min(DELAY_DOUBLINGS_MAX);
        let delay = client.settings().retry_delay * 2u32.pow(doublings);
        let asked = error.pause().unwrap_or_default().min(PAUSE_MAX);
        wait(Transfer { done_bytes: done(), ..transfer }, delay.max(asked), watch)?;
    }
}

/// Takes a lock that other processes may hold; it lasts as long as the file is open.
///
/// # Errors
/// [`Error::Interrupted`] if the watch does not want to wait.
pub(crate) fn lock(path: &Path, file: &str, watch: Watch<'_>) -> Result<fs_err::File> {
    let held = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    loop {
        match held.file().try_lock() {
            Ok(()) => return Ok(held),
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
            Err(std::fs::TryLockError::WouldBlock) => {}
        }
        let transfer = Transfer { file, done_bytes: 0, total_bytes: None, wait: Some(Wait::Lock) };
        if watch(transfer).is_break() {
            return Err(Error::Interrupted);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// One file to be fetched.
pub(crate) struct Job<'a> {
    pub(crate) client: &'a Client,
    pub(crate) repo: &'a Repo,
    pub(crate) file: &'a str,
    pub(crate) remote: &'a Remote,
    /// Where it grows.
    pub(crate) partial: PathBuf,
    /// Where it lies at the end; on the same disk.
    pub(crate) target: &'a Path,
}

impl Job<'_> {
    /// Fetches, checks, renames.
    pub(crate) fn run(&self, watch: Watch<'_>) -> Result<()> {
        let resumed = size(&self.partial) > 0;
        self.transfer(watch)?;
        if let Err(error) = self.check() {
            fs_err::remove_file(&self.partial)?;
            if !resumed {
                return Err(error);
            }
            // An earlier process left something else behind; begin anew.
            self.transfer(watch)?;
            if let Err(error) = self.check() {
                fs_err::remove_file(&self.partial)?;
                return Err(error);
            }
        }
        fs_err::OpenOptions::new().write(true).open(&self.partial)?.sync_all()?;
        Ok(fs_err::rename(&self.partial, self.target)?)
    }

    fn check(&self) -> Result<()> {
        let Remote { url, etag, .. } = self.remote;
        match like_etag(&self.partial, etag)? {
            Some(got) if !got.eq_ignore_ascii_case(etag) => {
                Err(Error::Corrupt { url: url.clone(), want: etag.clone(), got })
            }
            _ => Ok(()),
        }
    }

    fn transfer(&self, watch: Watch<'_>) -> Result<()> {
        let total_bytes = self.remote.size_bytes;
        let transfer = Transfer { file: self.file, done_bytes: 0, total_bytes, wait: None };
        let mut append = |watch: Watch<'_>| self.append(watch);
        patiently(self.client, transfer, watch, &mut append, &|| size(&self.partial))
    }

    /// One request for what is not there yet.
    fn append(&self, watch: Watch<'_>) -> Result<()> {
        let total_bytes = self.remote.size_bytes;
        let mut out = fs_err::OpenOptions::new().create(true).append(true).open(&self.partial)?;
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
            let transfer = Transfer { file: self.file, done_bytes, total_bytes, wait: None };
            if watch(transfer).is_break() {
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

/// A file's size; 0 where there is none.
pub(crate) fn size(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |metadata| metadata.len())
}
