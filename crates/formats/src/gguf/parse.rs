//! Reading a GGUF file's header: metadata and tensor table.

use std::collections::BTreeMap;

use super::value::{Array, Value};
use super::{ALIGNMENT_DEFAULT, DIMENSIONS_MAX, Entry, Header, Stored};
use crate::{Error, Result, Signature};

/// Arrays inside arrays; the deepest published ones are two deep.
const DEPTH_MAX: usize = 4;

/// Bytes of the smallest metadata entry: an empty key's length, a type, a value.
const KEY_BYTES_MIN: u64 = 8 + 4 + 1;

/// Bytes of the smallest entry of the tensor table: an empty name's length, a count, a type, an
/// offset.
const TENSOR_BYTES_MIN: u64 = 8 + 4 + 4 + 8;

/// Reads and checks a header.
pub(super) fn parse(file: &[u8]) -> Result<Header> {
    let mut cursor = Cursor { bytes: file, at: 0 };
    if !file.starts_with(b"GGUF") {
        return Err(Error::WrongFormat { wanted: "GGUF", found: Signature::of(file) });
    }
    cursor.at = 4;
    let version = cursor.u32("the version")?;
    if version != 2 && version != 3 {
        return Err(Error::GgufVersion { version });
    }
    let tensor_count = cursor.u64("the tensor count")?;
    let key_count = cursor.u64("the metadata count")?;
    cursor.check_count("metadata values", key_count, KEY_BYTES_MIN)?;
    cursor.check_count("tensors", tensor_count, TENSOR_BYTES_MIN)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..key_count {
        let key = cursor.text("a metadata key")?;
        let type_id = cursor.u32(&key)?;
        let value = cursor.value(&key, type_id)?;
        if metadata.contains_key(&key) {
            return Err(Error::Duplicate { what: "metadata value", name: key });
        }
        metadata.insert(key, value);
    }
    let alignment = alignment(&metadata)?;
    let mut entries = Vec::with_capacity(tensor_count as usize);
    for _ in 0..tensor_count {
        entries.push(cursor.entry()?);
    }
    let data_start = (cursor.at as u64).next_multiple_of(alignment);
    check_places(&mut entries, data_start, alignment, file.len() as u64)?;
    let mut tensors = BTreeMap::new();
    for entry in entries {
        let name = entry.name.clone();
        if tensors.insert(name.clone(), entry).is_some() {
            return Err(Error::Duplicate { what: "tensor", name });
        }
    }
    Ok(Header { version, metadata, tensors, data_start })
}

/// What tensors are aligned to.
fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(ALIGNMENT_DEFAULT) };
    match value {
        Value::U32(value) if value.is_power_of_two() => Ok(u64::from(*value)),
        Value::U32(value) => Err(Error::Alignment { found: u64::from(*value) }),
        other => Err(Error::KeyType {
            key: "general.alignment".into(),
            wanted: "an unsigned 32-bit number",
            found: other.kind().into(),
        }),
    }
}

/// Checks that tensors are aligned, inside the file, and apart; sorts them by place.
fn check_places(entries: &mut [Entry], start: u64, alignment: u64, size: u64) -> Result<()> {
    entries.sort_by_key(|entry| (entry.offset, entry.size));
    let mut previous: Option<&Entry> = None;
    for entry in &*entries {
        let Entry { name, offset, .. } = entry;
        if !offset.is_multiple_of(alignment) {
            let (name, offset) = (name.clone(), *offset);
            return Err(Error::Misaligned { name, offset, alignment });
        }
        // Tensors of a type that is not known have a start and no end.
        let entry_size = entry.size.unwrap_or(0);
        let end = offset.checked_add(entry_size).and_then(|end| end.checked_add(start));
        // An empty tensor behind the last byte needs none of the padding before it.
        if entry_size > 0 && end.is_none_or(|end| end > size) {
            let what = format!("tensor `{name}`");
            return Err(Error::Truncated { what, end: end.unwrap_or(u64::MAX), size });
        }
        if let Some(before) = previous
            && before.offset + before.size.unwrap_or(0) > *offset
        {
            let (name, other) = (before.name.clone(), name.clone());
            return Err(Error::Overlap { name, other, at: *offset });
        }
        if entry_size > 0 {
            previous = Some(entry);
        }
    }
    Ok(())
}

/// A place in the file, which never passes its end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Reads a number of the given type.
macro_rules! number {
    ($name:ident, $type:ty) => {
        fn $name(&mut self, what: &str) -> Result<$type> {
            const SIZE: usize = size_of::<$type>();
            let left = &self.bytes[self.at..];
            match left.first_chunk::<SIZE>() {
                Some(bytes) => {
                    self.at += SIZE;
                    Ok(<$type>::from_le_bytes(*bytes))
                }
                None => Err(self.truncated(what, SIZE as u64)),
            }
        }
    };
}

/// Reads an array of numbers of the given type.
macro_rules! numbers {
    ($self:ident, $key:expr, $count:expr, $type:ty) => {{
        const SIZE: usize = size_of::<$type>();
        let bytes = $self.take($key, $count.checked_mul(SIZE as u64))?;
        bytes.as_chunks::<SIZE>().0.iter().map(|bytes| <$type>::from_le_bytes(*bytes)).collect()
    }};
}

impl<'a> Cursor<'a> {
    number!(u8, u8);
    number!(u16, u16);
    number!(u32, u32);
    number!(u64, u64);

    /// Bytes from here to the end of the file.
    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn truncated(&self, what: &str, length: u64) -> Error {
        Error::Truncated {
            what: if what.contains(' ') { what.to_owned() } else { format!("`{what}`") },
            end: (self.at as u64).saturating_add(length),
            size: self.bytes.len() as u64,
        }
    }

    /// The next bytes; `None` stands for more than there can be.
    fn take(&mut self, what: &str, length: Option<u64>) -> Result<&'a [u8]> {
        let length = length.unwrap_or(u64::MAX);
        if length > self.left() {
            return Err(self.truncated(what, length));
        }
        let bytes = &self.bytes[self.at..][..length as usize];
        self.at += length as usize;
        Ok(bytes)
    }

    /// Refuses a count that the rest of the file cannot hold, before anything is reserved for it.
    fn check_count(&self, what: &str, count: u64, bytes_min: u64) -> Result<()> {
        if count.checked_mul(bytes_min).is_some_and(|bytes| bytes <= self.left()) {
            return Ok(());
        }
        Err(Error::Count { what: what.to_owned(), count, left: self.left() })
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.u64(what)?;
        let bytes = self.take(what, Some(length))?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::NotUtf8 {
                what: if what.contains(' ') { what.to_owned() } else { format!("`{what}`") },
            }),
        }
    }

    fn value(&mut self, key: &str, type_id: u32) -> Result<Value> {
        Ok(match type_id {
            0 => Value::U8(self.u8(key)?),
            1 => Value::I8(self.u8(key)?.cast_signed()),
            2 => Value::U16(self.u16(key)?),
            3 => Value::I16(self.u16(key)?.cast_signed()),
            4 => Value::U32(self.u32(key)?),
            5 => Value::I32(self.u32(key)?.cast_signed()),
            6 => Value::F32(f32::from_bits(self.u32(key)?)),
            7 => Value::Bool(self.u8(key)? != 0),
            8 => Value::String(self.text(key)?),
            9 => Value::Array(self.array(key, 1)?),
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(self.u64(key)?.cast_signed()),
            12 => Value::F64(f64::from_bits(self.u64(key)?)),
            id => return Err(Error::ValueType { key: key.to_owned(), id }),
        })
    }

    fn array(&mut self, key: &str, depth: usize) -> Result<Array> {
        if depth > DEPTH_MAX {
            return Err(Error::Depth { key: key.to_owned(), limit: DEPTH_MAX });
        }
        let type_id = self.u32(key)?;
        let count = self.u64(key)?;
        Ok(match type_id {
            0 => Array::U8(self.take(key, Some(count))?.to_vec()),
            1 => Array::I8(numbers!(self, key, count, i8)),
            2 => Array::U16(numbers!(self, key, count, u16)),
            3 => Array::I16(numbers!(self, key, count, i16)),
            4 => Array::U32(numbers!(self, key, count, u32)),
            5 => Array::I32(numbers!(self, key, count, i32)),
            6 => Array::F32(numbers!(self, key, count, f32)),
            7 => Array::Bool(self.take(key, Some(count))?.iter().map(|&byte| byte != 0).collect()),
            8 => {
                self.check_count(&format!("texts in `{key}`"), count, 8)?;
                let mut texts = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    texts.push(self.text(key)?);
                }
                Array::String(texts)
            }
            9 => {
                self.check_count(&format!("arrays in `{key}`"), count, 4 + 8)?;
                let mut arrays = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    arrays.push(self.array(key, depth + 1)?);
                }
                Array::Array(arrays)
            }
            10 => Array::U64(numbers!(self, key, count, u64)),
            11 => Array::I64(numbers!(self, key, count, i64)),
            12 => Array::F64(numbers!(self, key, count, f64)),
            id => return Err(Error::ValueType { key: key.to_owned(), id }),
        })
    }

    fn entry(&mut self) -> Result<Entry> {
        let name = self.text("a tensor name")?;
        let count = self.u32(&name)?;
        if count > DIMENSIONS_MAX {
            return Err(Error::Dimensions { name, count, limit: DIMENSIONS_MAX });
        }
        let mut shape = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let dim = self.u64(&name)?;
            let Ok(dim) = usize::try_from(dim) else {
                return Err(Error::ShapeOverflow { name, shape });
            };
            shape.push(dim);
        }
        // The file has the innermost dimension first.
        shape.reverse();
        let stored = Stored::of(self.u32(&name)?);
        let offset = self.u64(&name)?;
        let size = match stored {
            Stored::Known(dtype) => Some(crate::tensor::tensor_bytes(&name, dtype, &shape)? as u64),
            Stored::Unknown(_) => None,
        };
        Ok(Entry { name, stored, shape, offset, size })
    }
}
