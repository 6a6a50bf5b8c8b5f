//! CSV as people export it: quoted fields over several lines, tabs or semicolons, any line end.

use std::fmt;
use std::io::{BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use ::csv::{ByteRecord, ReaderBuilder, Terminator};
use serde_json::Map;

use super::format::ending;
use super::{Item, Row, cell};
use crate::error::Error;
use crate::record::{Origin, Unit};

/// How much of a file is looked at to find its separator and line ends.
const LOOK_BYTES: u64 = 64 << 10;

/// A CSV file that is being read.
pub(super) struct Csv {
    file: Arc<Path>,
    reader: ::csv::Reader<BufReader<fs_err::File>>,
    /// Column names; an empty name is a column to ignore (the index that pandas writes).
    header: Vec<String>,
    record: ByteRecord,
    done: bool,
}

impl fmt::Debug for Csv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csv").field("file", &self.file).field("header", &self.header).finish()
    }
}

impl Csv {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let mut start = Vec::new();
        fs_err::File::open(path)?.take(LOOK_BYTES).read_to_end(&mut start)?;
        let (separator, terminator) = look(&start, ending(path) == "tsv");
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator)
            .terminator(terminator)
            .from_reader(BufReader::new(fs_err::File::open(path)?));
        let mut record = ByteRecord::new();
        let file: Arc<Path> = Arc::from(path);
        let malformed = |detail: String| Error::Malformed {
            origin: Origin { file: Arc::clone(&file), unit: Unit::Line, number: 1 },
            format: "CSV",
            detail,
        };
        reader.read_byte_record(&mut record).map_err(|error| malformed(error.to_string()))?;
        let mut header = Vec::new();
        for name in &record {
            let name = name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name);
            let name = std::str::from_utf8(name)
                .map_err(|_| malformed("the header is not UTF-8".into()))?
                .trim();
            if !name.is_empty() && header.iter().any(|other| other == name) {
                return Err(malformed(format!("two columns are named `{name}`")));
            }
            header.push(name.to_owned());
        }
        Ok(Self { file, reader, header, record, done: false })
    }

    pub(super) fn next_item(&mut self) -> Result<Option<Item>, Error> {
        if self.done {
            return Ok(None);
        }
        let more = self.reader.read_byte_record(&mut self.record);
        let number = self.record.position().map_or(1, ::csv::Position::line);
        let origin = Origin { file: Arc::clone(&self.file), unit: Unit::Line, number };
        match more {
            Ok(true) => Ok(Some(self.item(origin))),
            Ok(false) => {
                self.done = true;
                Ok(None)
            }
            Err(error) => {
                self.done = true;
                Err(match error.into_kind() {
                    ::csv::ErrorKind::Io(error) => error.into(),
                    other => {
                        Error::Malformed { origin, format: "CSV", detail: format!("{other:?}") }
                    }
                })
            }
        }
    }

    fn item(&self, origin: Origin) -> Item {
        if self.record.len() != self.header.len() {
            let detail = format!(
                "{} cells under {} columns (a quote or comma may be missing)",
                self.record.len(),
                self.header.len()
            );
            return Item::Unreadable { origin, detail };
        }
        match self.fields() {
            Ok(fields) => Item::Row(Row { origin, fields, cells: true }),
            Err(detail) => Item::Unreadable { origin, detail },
        }
    }

    fn fields(&self) -> Result<Map<String, serde_json::Value>, String> {
        let mut fields = Map::new();
        let last = self.header.len().saturating_sub(1);
        for (index, (name, bytes)) in self.header.iter().zip(&self.record).enumerate() {
            // A file with mixed line ends leaves its carriage returns in the last cell.
            let bytes = if index == last { bytes.strip_suffix(b"\r").unwrap_or(bytes) } else { bytes };
            let text = std::str::from_utf8(bytes)
                .map_err(|_| format!("column `{name}` is not UTF-8; save the file as UTF-8"))?;
            if !name.is_empty() {
                fields.insert(name.clone(), cell::value(name, text)?);
            }
        }
        Ok(fields)
    }
}

/// The separator and the line end, from the first line outside quotes.
///
/// Where lines end in a bare line feed, a stray carriage return inside a cell is text.
fn look(start: &[u8], tabs: bool) -> (u8, Terminator) {
    let mut quoted = false;
    let mut seen = [0_u32; 3];
    let separators = [b',', b'\t', b';'];
    let mut terminator = Terminator::Any(b'\n');
    for &byte in start {
        if byte == b'"' {
            quoted = !quoted;
        }
        if quoted {
            continue;
        }
        match byte {
            b'\r' => {
                terminator = Terminator::CRLF;
                break;
            }
            b'\n' => break,
            _ => {}
        }
        if let Some(index) = separators.iter().position(|&separator| separator == byte) {
            seen[index] += 1;
        }
    }
    let separator = match seen {
        [_, _, _] if tabs => b'\t',
        [0, tab, _] if 0 < tab => b'\t',
        [0, 0, semicolon] if 0 < semicolon => b';',
        _ => b',',
    };
    (separator, terminator)
}
