//! What can go wrong while a model is looked for or fetched, and how to mend it.

use std::path::PathBuf;
use std::time::Duration;
use std::{io, iter};

use crate::repo::Kind;

/// The result of everything fallible here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a model or dataset is looked for or fetched.
///
/// `Display` says what went wrong, `source` why, and [`Error::hint`] how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a path nor an id in the cache.
    #[error("{} not found at \"{name}\"", noun(*kind))]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// The path or id as given.
        name: String,
        /// Whether it has the form of a hub id.
        is_id: bool,
    },
    /// A repository is in the cache, but not whole.
    #[error("`{id}` is only partly downloaded: {missing} is missing in `{}`", path.display())]
    Incomplete {
        /// The hub id.
        id: String,
        /// The snapshot's folder.
        path: PathBuf,
        /// The first thing that is not there.
        missing: String,
    },
    /// A repository in the cache with several GGUF files.
    #[error("`{id}` has several models: {}", file_names(files))]
    ManyModels {
        /// The hub id.
        id: String,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A text that cannot be a hub id.
    #[error("`{id}` is neither a path that exists nor a hub id")]
    BadId {
        /// The text.
        id: String,
    },
    /// A text that cannot be a branch, tag or commit.
    #[error("`{revision}` cannot be a branch, tag or commit")]
    BadRevision {
        /// The text.
        revision: String,
    },
    /// A file's name that leads out of its repository.
    #[error("`{file}` is no name of a file in a repository")]
    BadFileName {
        /// The name.
        file: String,
    },
    /// Something must be fetched, but nothing may be.
    #[error("`{what}` is not in the cache, and nothing is fetched offline")]
    Offline {
        /// The id, with the file where one is meant.
        what: String,
    },
    /// No answer from a server.
    #[error("cannot reach `{url}`")]
    Unreachable {
        /// The address.
        url: String,
        /// What the network said.
        source: Box<ureq::Error>,
    },
    /// A server answered with a status that is not expected.
    #[error("`{url}` answered with status {status}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The pause that the server asked for, in seconds.
        pause_secs: Option<u64>,
    },
    /// A server's answer lacks something, or makes no sense.
    #[error("`{url}` gave an answer that cannot be used: {what}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// No such repository, or none that may be seen.
    #[error("there is no {} `{id}` on the hub, or it is private", noun(*kind))]
    NoRepo {
        /// What it should hold.
        kind: Kind,
        /// The id.
        id: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// A repository whose terms were not accepted.
    #[error("`{id}` asks its users to accept terms first")]
    Gated {
        /// The id.
        id: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// No such branch, tag or commit.
    #[error("`{id}` has no revision `{revision}`")]
    NoRevision {
        /// The id.
        id: String,
        /// The revision.
        revision: String,
    },
    /// No such file in a repository.
    #[error("`{id}` has no file `{file}`")]
    NoFile {
        /// The id.
        id: String,
        /// The file.
        file: String,
    },
    /// A pattern that means no file of a repository.
    #[error("no file of `{id}` matches `{pattern}`")]
    NoMatch {
        /// The id.
        id: String,
        /// The pattern.
        pattern: String,
        /// Some of the files that there are.
        files: String,
    },
    /// A file that asks for downloads and cannot be used.
    #[error("{}{}: {what}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Config {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where one is to blame.
        line: Option<u64>,
        /// What is wrong.
        what: String,
        /// How to fix it.
        hint: String,
    },
    /// A file in the way of a download that no download made.
    #[error("`{}` is not what the hub has, and no download made it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A server sent something else than it announced.
    #[error("what came from `{url}` has the checksum {got}, but it should have {want}")]
    Corrupt {
        /// The address.
        url: String,
        /// The checksum that was published.
        want: String,
        /// The checksum of what came.
        got: String,
    },
    /// A model without weights that can be read here.
    #[error("`{id}` has no weights in safetensors or in one GGUF file{}", if others.is_empty() { String::new() } else { format!(", but {others}") })]
    NoWeights {
        /// The id.
        id: String,
        /// Weight files of other formats, separated by commas.
        others: String,
    },
    /// A transfer ended early, again and again.
    #[error("the transfer of `{url}` broke off at byte {done_bytes}{}", of_total(*total_bytes))]
    Broken {
        /// The address.
        url: String,
        /// How much is on disk.
        done_bytes: u64,
        /// The file's size, where the server told it.
        total_bytes: Option<u64>,
        /// What the network said, where it said something.
        source: Option<io::Error>,
    },
    /// A file is not what it should be.
    #[error("`{}` has the SHA-256 {got}, but it should have {want}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The digest that was published or pinned.
        want: String,
        /// The digest of what is there.
        got: String,
    },
    /// The caller asked to stop.
    #[error("the download was interrupted")]
    Interrupted,
    /// Certificates that cannot be read.
    #[error("`{}` holds no certificate", path.display())]
    Certificates {
        /// The PEM file.
        path: PathBuf,
    },
    /// A program that is needed could not be started.
    #[error("cannot run {tried}")]
    NoPython {
        /// The programs that were tried.
        tried: String,
        /// Why the last one could not be started.
        source: io::Error,
    },
    /// A package could not be downloaded.
    #[error("`pip` could not download `{package}`: {message}")]
    Pip {
        /// The package and its version.
        package: String,
        /// The last line of what pip wrote.
        message: String,
    },
    /// A package that cannot be unpacked.
    #[error("cannot unpack `{}`", path.display())]
    Unpack {
        /// The package's file.
        path: PathBuf,
        /// What is wrong with it.
        source: zip::result::ZipError,
    },
    /// A package without the file that is wanted.
    #[error("`{}` has no file `{file}`", path.display())]
    NotPacked {
        /// The package's file.
        path: PathBuf,
        /// The file that was looked for.
        file: String,
    },
    /// None of the places that have the quickstart's model could be used.
    #[error("the quickstart's model could not be found or fetched{}", each(attempts))]
    NoSource {
        /// What went wrong at each place, in the order tried.
        attempts: Vec<(String, Error)>,
    },
    /// A file of the caches could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// How long the server wants to be left alone.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Status { pause_secs, .. } => pause_secs.map(Duration::from_secs),
            _ => None,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status == 408 || *status >= 500,
            Self::Unreachable { source, .. } => match source.as_ref() {
                ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
                ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
                _ => false,
            },
            _ => false,
        }
    }
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Model => "model",
        Kind::Dataset => "dataset",
    }
}

fn of_total(total_bytes: Option<u64>) -> String {
    total_bytes.map(|total| format!(" of {total}")).unwrap_or_default()
}

/// The names of files, without their folders.
fn file_names(files: &[PathBuf]) -> String {
    let names = files.iter().map(|file| file.file_name().unwrap_or_default().to_string_lossy());
    names.collect::<Vec<_>>().join(", ")
}

/// One line an attempt, with the causes behind it.
fn each(attempts: &[(String, Error)]) -> String {
    let lines = attempts.iter().map(|(place, error)| {
        let causes = iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        format!("\n  {place}: {}", causes.join(": "))
    });
    lines.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Message and hint, as a user reads them.
    fn shown(error: &Error) -> String {
        format!("{error}\n{}", error.hint().unwrap_or_default())
    }

    #[test]
    fn errors_name_the_thing_and_the_way_out() {
        let id = || "org/name".to_owned();
        let url = || "https://hub/org/name/resolve/main/x".to_owned();
        let cases = [
            (
                Error::NotFound {
                    kind: Kind::Model,
                    name: "./checkpoints/gpt2".into(),
                    is_id: false,
                },
                "model not found at \"./checkpoints/gpt2\"\n\
                 check the path",
            ),
            (
                Error::NotFound { kind: Kind::Dataset, name: id(), is_id: true },
                "dataset not found at \"org/name\"\n\
                 download it first: `trueup download --repo-type dataset org/name`\n\
                 a folder of that name would be used too",
            ),
            (
                Error::NoRepo { kind: Kind::Model, id: id(), with_token: false },
                "there is no model `org/name` on the hub, or it is private\n\
                 check the spelling; set `HF_TOKEN` to a token for a private one",
            ),
            (
                Error::Gated { id: id(), with_token: true },
                "`org/name` asks its users to accept terms first\n\
                 accept the terms on the page of `org/name`; the token that was sent must be one of the account that accepted them",
            ),
            (
                Error::NoWeights { id: id(), others: "a.bin, b.gguf".into() },
                "`org/name` has no weights in safetensors or in one GGUF file, but a.bin, b.gguf\n\
                 name the file: `trueup download org/name --include b.gguf`",
            ),
            (
                Error::Broken { url: url(), done_bytes: 5, total_bytes: Some(9), source: None },
                "the transfer of `https://hub/org/name/resolve/main/x` broke off at byte 5 of 9\n\
                 run the same command again: it goes on where it stopped",
            ),
        ];
        for (error, want) in cases {
            assert_eq!(shown(&error), want);
        }
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let status = |status| Error::Status { url: String::new(), status, pause_secs: None };
        assert!(status(503).is_passing() && status(429).is_passing());
        assert!(!status(400).is_passing() && !status(416).is_passing());
        let unreachable =
            |source| Error::Unreachable { url: String::new(), source: Box::new(source) };
        assert!(!unreachable(ureq::Error::HostNotFound).is_passing());
        assert!(unreachable(ureq::Error::Io(io::ErrorKind::ConnectionReset.into())).is_passing());
        assert!(!Error::Interrupted.is_passing());
    }
}
