//! Parquet rows as JSON values, a row group at a time.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::Type;
use ::parquet::data_type::Decimal;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::{ReaderIter, TreeBuilder};
use ::parquet::record::{Field, Row as Columns};
use serde_json::{Map, Number, Value};

use super::guard::Guarded;
use super::{Item, Row, pages};
use crate::error::Error;
use crate::record::{Origin, Unit};

/// Lists within lists deeper than this are a broken or hostile file.
const DEPTH_MAX: usize = 64;

/// Rows of a row group that need no bytes, and beyond that how many rows each of its bytes may
/// hold; a false count would otherwise be read as rows of nulls for hours.
const ROWS: (i64, i64) = (1 << 20, 64);

/// Bytes of memory that the pages of a row group may take, and beyond that how many times the size
/// of the file.
const PAGES: (u64, u64) = (16 << 20, 12);

/// The same for everything that is read, as it is kept.
const KEPT: (u64, u64) = (24 << 20, 44);

/// Bytes that a row takes beside its values, and a value or a column beside its letters.
const ROW_BYTES: u64 = 600;
const VALUE_BYTES: u64 = 80;

/// Rows that the decoder reads ahead; each may be as large as a page.
const ROWS_AHEAD: usize = 1;

/// A Parquet file that is being read.
pub(super) struct Parquet {
    file: Arc<Path>,
    reader: SerializedFileReader<std::fs::File>,
    /// The file once more, to look at page headers.
    headers: fs_err::File,
    /// The size of the file.
    bytes: u64,
    /// What the rows so far take in memory.
    kept: u64,
    group: usize,
    rows: Option<ReaderIter>,
    row: u64,
    done: bool,
}

impl fmt::Debug for Parquet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parquet")
            .field("file", &self.file)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

impl Parquet {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = fs_err::File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut headers = fs_err::File::open(path)?;
        pages::check_footer(&mut headers, bytes).map_err(|detail| malformed(path, 1, detail))?;
        let file = file.into_parts().0;
        let reader = guarded(|| SerializedFileReader::new(file))
            .map_err(|detail| malformed(path, 1, detail))?;
        Ok(Self {
            file: Arc::from(path),
            reader,
            headers,
            bytes,
            kept: 0,
            group: 0,
            rows: None,
            row: 0,
            done: false,
        })
    }

    pub(super) fn next_item(&mut self) -> Result<Option<Item>, Error> {
        if self.done {
            return Ok(None);
        }
        let found = self.next_row();
        self.done = !matches!(found, Ok(Some(_)));
        match found {
            Ok(None) => Ok(None),
            Ok(Some(columns)) => {
                self.row += 1;
                let origin =
                    Origin { file: Arc::clone(&self.file), unit: Unit::Row, number: self.row };
                let fields = object(columns, 0);
                self.keep(&fields).map_err(|detail| malformed(&self.file, self.row, detail))?;
                Ok(Some(Item::Row(Row { origin, fields, cells: false })))
            }
            Err(detail) => Err(malformed(&self.file, self.row + 1, detail)),
        }
    }

    fn next_row(&mut self) -> Result<Option<Columns>, String> {
        loop {
            if let Some(rows) = &mut self.rows {
                if let Some(row) = guarded(|| rows.next().transpose())? {
                    return Ok(Some(row));
                }
                self.rows = None;
            }
            if self.reader.num_row_groups() <= self.group {
                return Ok(None);
            }
            let packed = self.check_places()?;
            let rows = guarded(|| {
                let group = Guarded::new(self.reader.get_row_group(self.group)?, packed);
                let schema = self.reader.metadata().file_metadata().schema_descr_ptr();
                TreeBuilder::new().with_batch_size(ROWS_AHEAD).as_iter(schema, &group)
            })?;
            self.group += 1;
            self.rows = Some(rows);
        }
    }
}

impl Parquet {
    /// Sees that the columns of the next row group lie in the file, which the decoder asserts, and
    /// that their pages ask for no more memory than they can fill. Gives the group's packed bytes.
    fn check_places(&mut self) -> Result<usize, String> {
        let group = self.reader.metadata().row_group(self.group);
        let packed = group.columns().iter().map(ColumnChunkMetaData::compressed_size);
        let packed = packed.fold(0, i64::saturating_add);
        if group.num_rows() < 0 || ROWS.0.max(packed.saturating_mul(ROWS.1)) < group.num_rows() {
            return Err(format!("a row group of {packed} bytes claims {} rows", group.num_rows()));
        }
        let mut cost = 0_u64;
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let end = start.checked_add(column.compressed_size());
            let end = end.and_then(|end| u64::try_from(end).ok());
            let lies_inside = 0 <= start
                && 0 <= column.data_page_offset()
                && 0 <= column.compressed_size()
                && end.is_some_and(|end| end <= self.bytes);
            if !lies_inside {
                return Err(format!("column `{}` lies outside the file", column.column_path()));
            }
            let end = end.unwrap_or_default();
            let holds_text =
                matches!(column.column_type(), Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY);
            let needed = pages::check(&mut self.headers, start.unsigned_abs(), end, holds_text)
                .map_err(|detail| format!("column `{}`: {detail}", column.column_path()))?;
            cost = cost.saturating_add(needed);
        }
        if self.most(PAGES) < cost {
            return Err(self.too_large("the pages of a row group", cost));
        }
        Ok(usize::try_from(packed).unwrap_or_default())
    }

    /// Counts a row against what the rows of the file may take.
    fn keep(&mut self, fields: &Map<String, Value>) -> Result<(), String> {
        let values: u64 = fields.iter().map(|(name, value)| taken(value) + name.len() as u64).sum();
        self.kept = self.kept.saturating_add(ROW_BYTES + values);
        if self.most(KEPT) < self.kept {
            return Err(self.too_large("its rows", self.kept));
        }
        Ok(())
    }

    /// So many bytes, and so many times the size of the file.
    fn most(&self, (free, times): (u64, u64)) -> u64 {
        self.bytes.saturating_mul(times).saturating_add(free)
    }

    fn too_large(&self, what: &str, bytes: u64) -> String {
        let (mib, size) = (bytes >> 20, self.bytes);
        format!(
            "{what} unpack to {mib} MiB and more, from a file of {size} bytes; if they are meant to, write them as JSONL"
        )
    }
}

/// Bytes of memory that a value takes.
fn taken(value: &Value) -> u64 {
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len() as u64,
            Value::Array(all) => all.iter().map(taken).sum(),
            Value::Object(all) => {
                all.iter().map(|(name, value)| taken(value) + name.len() as u64).sum()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

/// Runs a piece of the decoder, which asserts on damaged pages instead of returning an error.
fn guarded<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explain(&error)),
        Err(_) => Err("the file is damaged".into()),
    }
}

fn explain(error: &ParquetError) -> String {
    let text = error.to_string();
    if text.contains("Disabled feature") || text.contains("codec") {
        return format!(
            "{text}; only snappy, zstd and no compression are read (rewrite it with `compression=\"zstd\"`)"
        );
    }
    text
}

fn malformed(path: &Path, row: u64, detail: String) -> Error {
    Error::Malformed { origin: Origin::row(path, row), format: "Parquet", detail }
}

fn object(columns: Columns, depth: usize) -> Map<String, Value> {
    columns.into_columns().into_iter().map(|(name, field)| (name, value(field, depth))).collect()
}

/// A column's value; bytes that are no text, and numbers that JSON cannot hold, become null.
fn value(field: Field, depth: usize) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(it) => Value::Bool(it),
        Field::Byte(it) => Value::from(it),
        Field::Short(it) => Value::from(it),
        Field::Int(it) | Field::Date(it) | Field::TimeMillis(it) => Value::from(it),
        Field::Long(it)
        | Field::TimeMicros(it)
        | Field::TimestampMillis(it)
        | Field::TimestampMicros(it) => Value::from(it),
        Field::UByte(it) => Value::from(it),
        Field::UShort(it) => Value::from(it),
        Field::UInt(it) => Value::from(it),
        Field::ULong(it) => Value::from(it),
        Field::Float16(it) => float(f64::from(it)),
        Field::Float(it) => float(f64::from(it)),
        Field::Double(it) => float(it),
        Field::Decimal(it) => float(decimal(&it)),
        Field::Str(it) => Value::String(it),
        Field::Bytes(it) => std::str::from_utf8(it.data())
            .map_or(Value::Null, |text| Value::String(text.to_owned())),
        // Deeper values cannot be messages, and recursion must end.
        _ if DEPTH_MAX <= depth => Value::Null,
        Field::Group(it) => Value::Object(object(it, depth + 1)),
        Field::ListInternal(it) => {
            Value::Array(it.elements().iter().map(|it| value(it.clone(), depth + 1)).collect())
        }
        Field::MapInternal(it) => Value::Object(
            it.entries()
                .iter()
                .map(|(key, it)| (map_key(key), value(it.clone(), depth + 1)))
                .collect(),
        ),
    }
}

fn map_key(key: &Field) -> String {
    match key {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn decimal(value: &Decimal) -> f64 {
    let bytes = value.data();
    let Some(&first) = bytes.first() else {
        return 0.0;
    };
    // Big-endian two's complement of any width.
    let start = if first & 0x80 == 0 { 0.0 } else { -1.0 };
    let whole = bytes.iter().fold(start, |sum, &byte| sum * 256.0 + f64::from(byte));
    whole / 10_f64.powi(value.scale())
}
