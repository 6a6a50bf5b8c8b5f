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
    /// Lines end in a carriage return alone, so that the parser does not count them.
    returns: bool,
    done: bool,
}

impl fmt::Debug for Csv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csv")
            .field("file", &self.file)
            .field("header", &self.header)
            .finish_non_exhaustive()
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
        let returns = matches!(terminator, Terminator::CRLF);
        Ok(Self { file, reader, header, record, returns, done: false })
    }

    pub(super) fn next_item(&mut self) -> Result<Option<Item>, Error> {
        if self.done {
            return Ok(None);
        }
        let mut more = self.reader.read_byte_record(&mut self.record);
        while matches!(more, Ok(true)) && self.is_blank() {
            more = self.reader.read_byte_record(&mut self.record);
        }
        let place = self.record.position();
        let number = match place {
            Some(place) if self.returns => place.record() + 1,
            Some(place) => place.line(),
            None => 1,
        };
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

    /// A line of white space, which the parser takes for a row of one cell.
    fn is_blank(&self) -> bool {
        1 < self.header.len()
            && self.record.len() == 1
            && self.record.get(0).is_some_and(|cell| cell.trim_ascii().is_empty())
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
            // Lines that end in a return and a feed leave the return in the last cell.
            let bytes =
                if index == last { bytes.strip_suffix(b"\r").unwrap_or(bytes) } else { bytes };
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
/// Lines end in a feed where there is one, so that a stray carriage return in a cell is text.
fn look(start: &[u8], tabs: bool) -> (u8, Terminator) {
    let mut quoted = false;
    let mut seen = [0_u32; 3];
    let separators = [b',', b'\t', b';'];
    let mut terminator = Terminator::Any(b'\n');
    for (index, &byte) in start.iter().enumerate() {
        if byte == b'"' {
            quoted = !quoted;
        }
        if quoted {
            continue;
        }
        match byte {
            b'\r' if start.get(index + 1) == Some(&b'\n') => break,
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
