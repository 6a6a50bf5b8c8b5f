//! What can go wrong on the way to a judgment, and how to mend it.

use std::{io, path::PathBuf, time::Duration};

/// Codes of a refusal that is about one request's own text, not about how requests are made.
const OF_ONE_TEXT: [&str; 4] = [
    "context_length_exceeded",
    "string_above_max_length",
    "content_filter",
    "content_policy_violation",
];

/// What can go wrong on the way to a judgment.
///
/// `Display` says what went wrong, `source` why, and [`Error::hint`] how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that is none.
    #[error("`{url}` is not the address of an endpoint")]
    Address {
        /// The text.
        url: String,
    },
    /// A key that cannot be sent.
    #[error("the API key has characters that no header can carry")]
    Key,
    /// Certificates that cannot be read.
    #[error("`{}` holds no certificate", path.display())]
    Certificates {
        /// The PEM file.
        path: PathBuf,
    },
    /// No answer from an endpoint.
    #[error("cannot reach `{url}`")]
    Unreachable {
        /// The address.
        url: String,
        /// What the network said.
        source: Box<ureq::Error>,
    },
    /// An endpoint answered with another status than success.
    #[error("`{url}` answered with status {status}{}", said(message))]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The endpoint's word for what is wrong, such as `insufficient_quota`; may be empty.
        code: String,
        /// What it says; may be empty.
        message: String,
        /// How long it wants to be left alone.
        pause: Option<Duration>,
    },
    /// An answer that is no chat completion.
    #[error("`{url}` gave an answer that is no chat completion: {what}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// An endpoint asks for a longer pause than anyone waits for.
    #[error("`{url}` asks to be left alone for {secs} seconds")]
    Pause {
        /// The address.
        url: String,
        /// For how long.
        secs: u64,
    },
    /// The same request failed again and again.
    #[error("gave up after {tries} tries")]
    GaveUp {
        /// How often it was tried.
        tries: u32,
        /// What went wrong last.
        source: Box<Error>,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
    /// A file that should hold paid answers.
    #[error("`{}` line {line} is no answer that was kept there", path.display())]
    NotJournal {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A journal that another process writes.
    #[error("`{}` is in use by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A file of an evaluation that cannot be used.
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
    /// A rule that is none.
    #[error("`{text}` is no rule")]
    Rule {
        /// The text.
        text: String,
        /// What is wrong with its pattern, where it has one.
        source: Option<Box<regex::Error>>,
    },
    /// A file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Address { .. } => {
                "an address begins with `https://` or `http://` and ends before `/chat/completions`, such as `https://api.openai.com/v1`"
            }
            Self::Key => "the key is one line of letters, digits and signs",
            Self::Certificates { .. } => "`SSL_CERT_FILE` should name a PEM file of certificates",
            Self::Unreachable { .. } => {
                "check the address (`--base-url`, `OPENAI_BASE_URL`), the connection and the proxy; answers so far are kept"
            }
            Self::Status { status: 401 | 403, .. } => {
                "check the key in `OPENAI_API_KEY`, and that it may use the model"
            }
            Self::Status { status: 404, .. } => {
                "check the model's name, and that the address ends as `/v1` does (`--base-url`, `OPENAI_BASE_URL`)"
            }
            Self::Status { code, .. } if code == "insufficient_quota" => {
                "the account has no credit left; the same command goes on once it has"
            }
            Self::Status { status: 429 | 500.., .. } => {
                "the same command goes on where it stopped; fewer requests at once may help"
            }
            Self::Status { .. } => {
                "the request itself was refused: check the model's name and what it allows"
            }
            Self::Answer { .. } => {
                "is the address that of an OpenAI-compatible endpoint (`--base-url`, `OPENAI_BASE_URL`)?"
            }
            Self::Pause { .. } => {
                "answers so far are kept; give the same command again after that time"
            }
            Self::GaveUp { source, .. } => return source.hint(),
            Self::Stopped => "the same command goes on where it stopped",
            Self::NotJournal { .. } => "choose another `--output`, or move the file away",
            Self::Locked { .. } => "wait for the other one, or choose another `--output`",
            Self::Config { hint, .. } => hint,
            Self::Rule { .. } => "a rule is `longer`, `shorter` or `regex:PATTERN`",
            Self::Io(_) => return None,
        };
        Some(text.to_owned())
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Answer { .. } => true,
            Self::Status { code, .. } if code == "insufficient_quota" => false,
            Self::Status { status, .. } => matches!(status, 408 | 409 | 429 | 500..),
            Self::Unreachable { source, .. } => match source.as_ref() {
                ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
                ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the endpoint refuses this one text, and others may do.
    pub(crate) fn is_of_one_text(&self) -> bool {
        match self {
            Self::Status { status: 413, .. } => true,
            Self::Status { status: 400, code, .. } => OF_ONE_TEXT.contains(&code.as_str()),
            _ => false,
        }
    }

    /// How long the endpoint wants to be left alone.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Status { pause, .. } => *pause,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, code: &str) -> Error {
        Error::Status {
            url: "u".into(),
            status,
            code: code.into(),
            message: String::new(),
            pause: None,
        }
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for (error, passes) in [
            (status(400, ""), false),
            (status(401, ""), false),
            (status(404, ""), false),
            (status(408, ""), true),
            (status(429, ""), true),
            (status(429, "rate_limit_exceeded"), true),
            (status(429, "insufficient_quota"), false),
            (status(500, ""), true),
            (status(503, ""), true),
            (Error::Answer { url: "u".into(), what: "w".into() }, true),
            (Error::Stopped, false),
        ] {
            assert_eq!(error.is_passing(), passes, "{error}");
        }
        assert!(status(400, "context_length_exceeded").is_of_one_text());
        assert!(status(413, "").is_of_one_text());
        assert!(!status(400, "model_not_found").is_of_one_text());
    }

    #[test]
    fn errors_say_what_and_how() {
        let refused = Error::Status {
            url: "http://x/v1/chat/completions".into(),
            status: 401,
            code: "invalid_api_key".into(),
            message: "no such key".into(),
            pause: None,
        };
        assert_eq!(
            refused.to_string(),
            "`http://x/v1/chat/completions` answered with status 401: no such key"
        );
        assert!(refused.hint().unwrap().contains("OPENAI_API_KEY"));
        let gave_up = Error::GaveUp { tries: 6, source: Box::new(status(503, "")) };
        assert_eq!(gave_up.to_string(), "gave up after 6 tries");
        assert_eq!(gave_up.hint(), status(503, "").hint());
    }
}
