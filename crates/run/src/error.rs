//! What can go wrong with a run folder.

use std::{io, path::PathBuf};

/// What can go wrong with a run folder.
///
/// `Display` says what went wrong, `source` why, and [`Error::hint`] how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed; the text names the operation and the path, the source says why.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A value has no JSON form.
    #[error("cannot write `{}` as JSON", path.display())]
    Json {
        /// The file that would have held it.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A new run was pointed at a folder that holds something.
    #[error("output folder is not empty: `{}`", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The path of a run folder, or a part of it, is a file.
    #[error("output folder `{}` cannot be created: `{}` is a file", path.display(), file.display())]
    UnderFile {
        /// The folder that was asked for.
        path: PathBuf,
        /// The part of its path that is not a folder.
        file: PathBuf,
    },
    /// There is no such run folder.
    #[error("run folder not found at `{}`", path.display())]
    NoFolder {
        /// Where it should be.
        path: PathBuf,
    },
    /// Another process writes the same folder.
    #[error("another run is writing to `{}`", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A path that should be a checkpoint is none.
    #[error("not a checkpoint: `{}`", path.display())]
    NotACheckpoint {
        /// The path.
        path: PathBuf,
    },
    /// A file of a checkpoint is missing or is not what was written.
    #[error("checkpoint `{}` is damaged: `{file}` {}", path.display(), damage.as_str())]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// The file, relative to the checkpoint.
        file: String,
        /// What is wrong with it.
        damage: Damage,
    },
    /// A line of a JSONL file is not what this program writes.
    #[error("`{}` line {line} cannot be read", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The events end before the checkpoint that is to be resumed.
    #[error("`{}` ends at step {last}, before the checkpoint of step {step}", path.display())]
    EventsTooShort {
        /// The file of events.
        path: PathBuf,
        /// The last step it holds; 0 where it holds none.
        last: u64,
        /// The checkpoint's step.
        step: u64,
    },
}

/// What is wrong with a file of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file is not there.
    Missing,
    /// The file has another size than was written.
    Size,
    /// The file has the right size and other bytes.
    Checksum,
    /// The list of checksums itself cannot be read.
    Unreadable,
}

impl Damage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "is missing",
            Self::Size => "has the wrong size",
            Self::Checksum => "has other bytes than were written",
            Self::Unreadable => "cannot be read",
        }
    }
}

impl Error {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io(source) => io_hint(source.kind()),
            Self::NotEmpty { .. } => {
                Some("continue it with `--resume auto`, or choose another `output_dir`".into())
            }
            Self::UnderFile { file, .. } => {
                Some(format!("choose another `output_dir`, or move `{}` away", file.display()))
            }
            Self::NoFolder { .. } => Some(
                "start the run without `--resume`, or give the folder of one of its checkpoints"
                    .into(),
            ),
            Self::Locked { .. } => {
                Some("wait until it ends, or choose another `output_dir`".into())
            }
            Self::NotACheckpoint { .. } => {
                Some("give a folder `checkpoint-<step>` of a run, or `auto`".into())
            }
            Self::Damaged { .. } => {
                Some("`--resume auto` takes the newest checkpoint that is whole".into())
            }
            Self::EventsTooShort { .. } | Self::BadLine { .. } => Some(
                "resume beside the run's own `events.jsonl`, or from an earlier checkpoint".into(),
            ),
            Self::Json { .. } => None,
        }
    }

    /// Whether the disk or a quota is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io(source) if is_full(source.kind()))
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What helps where the system refuses to write into a run folder.
pub fn io_hint(kind: io::ErrorKind) -> Option<String> {
    match kind {
        io::ErrorKind::FileTooLarge => Some(
            "the limit on the size of a file (`ulimit -f`) is reached; what was half written is removed: raise it, then continue with `--resume auto`"
                .into(),
        ),
        kind if is_full(kind) => Some(
            "the disk is full; what was half written is removed: free some space, or set `alignment.save_total_limit`, then continue with `--resume auto`"
                .into(),
        ),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("choose an `output_dir` that you may write to".into())
        }
        _ => None,
    }
}
