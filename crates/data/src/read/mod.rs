//! Reading rows out of files: JSON, JSONL, CSV and Parquet, one file or many.
//!
//! A row is an object of columns; what the columns mean is for [`crate::layout`]. Rows stream, so
//! memory holds one row of a text file, or one page a column of a Parquet file. A row that cannot
//! be parsed is handed on as [`Item::Unreadable`] and the next one is read; a file that is broken
//! as a whole is an error.

mod cell;
mod csv;
mod files;
mod format;
mod guard;
mod json;
mod levels;
mod pages;
mod parquet;
mod scan;

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::record::Origin;

pub use files::{DataFile, Source, WEIGHT_MAX, files_of};
pub use format::Format;
pub(crate) use json::kind;

/// The largest row in bytes; a line longer than this is a broken file, not a row.
pub const ROW_BYTES_MAX: usize = 256 << 20;

/// One row of a file: its columns and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it is.
    pub origin: Origin,
    /// Its columns in the file's order.
    pub fields: Map<String, Value>,
    /// True where every value is a text cell (CSV), so that numbers arrive as text.
    pub cells: bool,
}

/// What a reader finds at one place.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A row.
    Row(Row),
    /// A place where a row should be, and why there is none.
    Unreadable {
        /// The place.
        origin: Origin,
        /// Why.
        detail: String,
    },
}

impl Item {
    /// Where it is.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Row(row) => &row.origin,
            Self::Unreadable { origin, .. } => origin,
        }
    }
}

/// The rows of one file, in order.
#[derive(Debug)]
pub struct Rows {
    format: Format,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Json(Box<json::Json>),
    Csv(Box<csv::Csv>),
    Parquet(Box<parquet::Parquet>),
}

impl Rows {
    /// Opens a file; `Format::Auto` looks at its content and its ending.
    ///
    /// `split` chooses among the lists of a JSON object such as `{"train": [..], "test": [..]}`;
    /// a file without such lists is all training data.
    ///
    /// # Errors
    ///
    /// The file is absent or unreadable, its format is not known here, it is broken at its start,
    /// or it has splits and not this one.
    pub fn open(path: &Path, format: Format, split: &str) -> Result<Self, Error> {
        let format = format::resolve(path, format)?;
        let reader = match format {
            Format::Auto | Format::Json | Format::Jsonl => {
                Reader::Json(Box::new(json::Json::open(path, split)?))
            }
            Format::Csv => Reader::Csv(Box::new(csv::Csv::open(path)?)),
            Format::Parquet => Reader::Parquet(Box::new(parquet::Parquet::open(path)?)),
        };
        let format = match &reader {
            Reader::Json(json) if json.is_lines() => Format::Jsonl,
            Reader::Json(_) => Format::Json,
            Reader::Csv(_) | Reader::Parquet(_) => format,
        };
        Ok(Self { format, reader })
    }

    /// The format found; never `Auto`.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl Iterator for Rows {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.reader {
            Reader::Json(json) => json.next_item(),
            Reader::Csv(csv) => csv.next_item(),
            Reader::Parquet(parquet) => parquet.next_item(),
        }
        .transpose()
    }
}
