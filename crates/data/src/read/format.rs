//! File formats by name, by ending and by content.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How the rows of a file are written down.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Look at each file's content and ending.
    #[default]
    Auto,
    /// A list of objects, an object with a list of rows, or one list a split.
    Json,
    /// One object a line.
    Jsonl,
    /// Cells separated by commas (or tabs, or semicolons) under a header.
    Csv,
    /// Apache Parquet, the hub's own format.
    Parquet,
}

impl Format {
    /// Its name in recipes and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// The format that a file's ending stands for; the ending without dot, in any case.
    pub fn from_ending(ending: &str) -> Option<Self> {
        Some(match ending.to_ascii_lowercase().as_str() {
            "json" => Self::Json,
            "jsonl" | "ndjson" | "jsonlines" => Self::Jsonl,
            "csv" | "tsv" => Self::Csv,
            "parquet" | "pq" => Self::Parquet,
            _ => return None,
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        Self::from_ending(name)
            .ok_or_else(|| Error::UnsupportedFormat { format: name.to_owned(), path: None })
    }
}

/// The ending of a path, in lower case; empty where there is none.
pub(super) fn ending(path: &Path) -> String {
    path.extension().map(|it| it.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// The format of a file: what its first bytes cannot be mistaken for, then the recipe's word, then
/// its ending, then what its text looks like.
pub(super) fn resolve(path: &Path, named: Format) -> Result<Format, Error> {
    let mut start = Vec::with_capacity(4096);
    fs_err::File::open(path)?.take(4096).read_to_end(&mut start)?;
    let unsupported = |format: &str| Error::UnsupportedFormat {
        format: format.to_owned(),
        path: Some(path.to_owned()),
    };
    match start.as_slice() {
        [b'P', b'A', b'R', b'1', ..] => return Ok(Format::Parquet),
        [0x1f, 0x8b, ..] => return Err(unsupported("gz")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(unsupported("zst")),
        [b'P', b'K', 3, 4, ..] => {
            let ending = ending(path);
            return Err(unsupported(if ending == "xlsx" || ending == "ods" {
                &ending
            } else {
                "zip"
            }));
        }
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] | [0xff, 0xff, 0xff, 0xff, ..] => {
            return Err(unsupported("arrow"));
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err(unsupported("UTF-16 text"));
        }
        _ => {}
    }
    if named != Format::Auto {
        return Ok(named);
    }
    let ending = ending(path);
    if let Some(format) = Format::from_ending(&ending) {
        return Ok(format);
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start);
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => Ok(Format::Json),
        _ if ending.is_empty() => Err(unsupported("unknown")),
        _ => Err(unsupported(&ending)),
    }
}
