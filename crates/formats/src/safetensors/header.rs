//! The header of a safetensors file, checked against the file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::{Dtype, Error, Result, Signature};

/// The longest header that the format allows.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// The header of one file.
#[derive(Debug)]
pub(crate) struct Header {
    /// Free-form text.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The tensors, in the order of their bytes.
    pub(crate) entries: Vec<Entry>,
    /// Where the numbers start in the file.
    data_start: usize,
}

/// One tensor of a header.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The type as the file names it; it need not be one that is supported.
    stored: String,
    pub(crate) shape: Vec<usize>,
    /// Its bytes, counted from the start of the data.
    range: Range<usize>,
}

impl Entry {
    /// The type of its numbers.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownDtype`] for types that are not supported.
    pub(crate) fn dtype(&self) -> Result<Dtype> {
        match self.stored.as_str() {
            "F32" => Ok(Dtype::F32),
            "F16" => Ok(Dtype::F16),
            "BF16" => Ok(Dtype::Bf16),
            other => Err(Error::UnknownDtype { name: self.name.clone(), dtype: other.to_owned() }),
        }
    }

    /// Bytes of one number, for all types of whole bytes that the format knows.
    fn value_bytes(&self) -> Option<usize> {
        Some(match self.stored.as_str() {
            "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => 1,
            "I16" | "U16" | "F16" | "BF16" => 2,
            "I32" | "U32" | "F32" => 4,
            "I64" | "U64" | "F64" | "C64" => 8,
            _ => return None,
        })
    }

    /// Checks that the bytes are as many as the shape asks for.
    fn check_size(&self) -> Result<()> {
        let Some(value_bytes) = self.value_bytes() else { return Ok(()) };
        let overflow =
            || Error::ShapeOverflow { name: self.name.clone(), shape: self.shape.clone() };
        let nonzero = self.shape.iter().filter(|&&dim| dim > 0);
        let size =
            nonzero.copied().try_fold(value_bytes, usize::checked_mul).ok_or_else(overflow)?;
        let wanted = if self.shape.contains(&0) { 0 } else { size };
        if wanted == self.range.len() {
            return Ok(());
        }
        Err(Error::TensorSize {
            name: self.name.clone(),
            dtype: self.stored.clone(),
            shape: self.shape.clone(),
            wanted,
            found: self.range.len(),
        })
    }
}

impl Header {
    /// The bytes of one tensor.
    pub(crate) fn bytes_of<'a>(&self, entry: &Entry, file: &'a [u8]) -> Result<&'a [u8]> {
        let start = self.data_start.saturating_add(entry.range.start);
        let end = self.data_start.saturating_add(entry.range.end);
        file.get(start..end).ok_or_else(|| Error::Truncated {
            what: format!("tensor `{}`", entry.name),
            end: end as u64,
            size: file.len() as u64,
        })
    }
}

/// Reads and checks a header.
pub(crate) fn parse(file: &[u8]) -> Result<Header> {
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Error::WrongFormat { wanted: "safetensors", found: Signature::of(file) });
    };
    let length = u64::from_le_bytes(*length);
    let wrong_format = match Signature::of(file) {
        Signature::Safetensors | Signature::Unknown => None,
        found => Some(Error::WrongFormat { wanted: "safetensors", found }),
    };
    if length > HEADER_BYTES_MAX {
        let limit = HEADER_BYTES_MAX;
        return Err(wrong_format.unwrap_or(Error::HeaderLength { length, limit }));
    }
    let length = length as usize;
    let Some(text) = rest.get(..length) else {
        let (end, size) = ((LENGTH_BYTES + length) as u64, file.len() as u64);
        let truncated = Error::Truncated { what: "the header".into(), end, size };
        return Err(wrong_format.unwrap_or(truncated));
    };
    let fields: Fields = serde_json::from_slice(text)
        .map_err(|source| Error::Json { what: "the header".into(), source })?;
    let mut entries = fields.entries;
    check_names(&entries)?;
    entries.sort_by(|a, b| {
        (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name))
    });
    let data_start = LENGTH_BYTES + length;
    check_places(&entries, data_start, file.len())?;
    Ok(Header { metadata: fields.metadata, entries, data_start })
}

/// Refuses a name that stands twice.
fn check_names(entries: &[Entry]) -> Result<()> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Duplicate { what: "tensor", name: pair[0].to_owned() }),
        None => Ok(()),
    }
}

/// Checks that sorted tensors fill the data of the file, without overlap or gap.
fn check_places(entries: &[Entry], data_start: usize, size: usize) -> Result<()> {
    let mut end = 0;
    let mut previous = "";
    for entry in entries {
        let Range { start, end: entry_end } = entry.range;
        if start < end {
            let (name, other) = (previous.to_owned(), entry.name.clone());
            return Err(Error::Overlap { name, other, at: start as u64 });
        }
        if start > end {
            return Err(Error::Gap { start: end as u64, end: start as u64 });
        }
        entry.check_size()?;
        let absolute = data_start.checked_add(entry_end);
        if absolute.is_none_or(|absolute| absolute > size) {
            let end = absolute.map_or(u64::MAX, |absolute| absolute as u64);
            let what = format!("tensor `{}`", entry.name);
            return Err(Error::Truncated { what, end, size: size as u64 });
        }
        end = entry_end;
        previous = &entry.name;
    }
    let data_bytes = size - data_start;
    if end < data_bytes {
        return Err(Error::Gap { start: end as u64, end: data_bytes as u64 });
    }
    Ok(())
}

/// The header's JSON as it stands, with names that may repeat.
struct Fields {
    metadata: BTreeMap<String, String>,
    entries: Vec<Entry>,
}

/// The JSON of one tensor.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryFields {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry a tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut metadata = None;
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        let value: Option<BTreeMap<String, String>> = map.next_value()?;
                        if metadata.replace(value).is_some() {
                            return Err(A::Error::custom("`__metadata__` is there twice"));
                        }
                        continue;
                    }
                    let EntryFields { dtype, shape, data_offsets: (start, end) } =
                        map.next_value()?;
                    if end < start {
                        return Err(A::Error::custom(format!("`{name}` ends before it starts")));
                    }
                    entries.push(Entry { name, stored: dtype, shape, range: start..end });
                }
                Ok(Fields { metadata: metadata.flatten().unwrap_or_default(), entries })
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}
