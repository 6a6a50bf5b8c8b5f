//! Writing GGUF files: the same metadata and tensors always give the same bytes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::value::{Array, Value};
use super::{ALIGNMENT_DEFAULT, DIMENSIONS_MAX};
use crate::tensor::{Layout, tensor_bytes};
use crate::whole::{persist, temporary_beside};
use crate::{Dtype, Error, Result};

/// The version that is written.
const VERSION: u32 = 3;

/// The metadata of a file, in its order.
pub type Metadata = Vec<(String, Value)>;

/// Writes a file whose numbers are made one tensor at a time, whole or not at all.
///
/// `numbers` is called once for each of `layouts`, with its index, in their order, which is that of
/// the file; so at most one tensor has to be in memory. Tensors are aligned to 32 bytes. The file is
/// written under a temporary name, synced, and renamed.
///
/// # Errors
///
/// [`Error::Write`] with the file, whose source is [`Error::Duplicate`], [`Error::Dimensions`],
/// [`Error::PartialBlock`], [`Error::TensorSize`] or [`Error::Io`]; and whatever `numbers` fails with.
///
/// # Example
///
/// ```
/// use formats::gguf::{Gguf, Value, write_with};
/// use formats::{Dtype, Error, Layout, convert};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.gguf");
/// let metadata = vec![("general.architecture".to_owned(), Value::String("llama".into()))];
/// let norm = Layout { name: "output_norm.weight".into(), dtype: Dtype::F32, shape: vec![2] };
/// write_with(&path, &metadata, &[norm], |_| Ok::<_, Error>(convert::f32_bytes(&[1.0, -0.5])))?;
///
/// let file = Gguf::open(&path)?;
/// assert_eq!(file.get_str("general.architecture")?, "llama");
/// assert_eq!(file.tensor("output_norm.weight")?.to_f32()?, [1.0, -0.5]);
/// # Ok(())
/// # }
/// ```
pub fn write_with<'a, E: From<Error>>(
    path: impl AsRef<Path>,
    metadata: &[(String, Value)],
    layouts: &[Layout],
    mut numbers: impl FnMut(usize) -> Result<Cow<'a, [u8]>, E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let header = header(metadata, layouts).map_err(|error| error.writing(path))?;
    let io = |error: std::io::Error| Error::Io(error).writing(path);
    let temporary = temporary_beside(path).map_err(io)?;
    let mut out = BufWriter::with_capacity(1 << 20, temporary.as_file());
    out.write_all(&header).map_err(io)?;
    for (index, layout) in layouts.iter().enumerate() {
        let bytes = numbers(index)?;
        let wanted = tensor_bytes(&layout.name, layout.dtype, &layout.shape)?;
        if bytes.len() != wanted {
            let wrong = Error::TensorSize {
                name: layout.name.clone(),
                dtype: layout.dtype.name().to_owned(),
                shape: layout.shape.clone(),
                wanted,
                found: bytes.len(),
            };
            return Err(E::from(wrong.writing(path)));
        }
        out.write_all(&bytes).map_err(io)?;
        out.write_all(&[0; ALIGNMENT_DEFAULT as usize][..padding(bytes.len())]).map_err(io)?;
    }
    out.flush().map_err(io)?;
    drop(out);
    persist(temporary, path).map_err(io)?;
    Ok(())
}

/// Bytes from `length` to the next aligned one.
fn padding(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT_DEFAULT as usize) - length
}

/// Everything before the numbers, padded.
fn header(metadata: &[(String, Value)], layouts: &[Layout]) -> Result<Vec<u8>> {
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((layouts.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    let mut names = BTreeSet::new();
    for (key, value) in metadata {
        if !names.insert(key) {
            return Err(Error::Duplicate { what: "metadata value", name: key.clone() });
        }
        put_text(key, &mut out);
        put_value(value, &mut out);
    }
    let mut names = BTreeSet::new();
    let mut offset = 0u64;
    for Layout { name, dtype, shape } in layouts {
        if !names.insert(name) {
            return Err(Error::Duplicate { what: "tensor", name: name.clone() });
        }
        if (DIMENSIONS_MAX as usize) < shape.len() {
            let count = shape.len() as u32;
            return Err(Error::Dimensions { name: name.clone(), count, limit: DIMENSIONS_MAX });
        }
        put_text(name, &mut out);
        out.extend((shape.len() as u32).to_le_bytes());
        // The file has the innermost dimension first.
        out.extend(shape.iter().rev().flat_map(|&dim| (dim as u64).to_le_bytes()));
        out.extend(type_id(*dtype).to_le_bytes());
        out.extend(offset.to_le_bytes());
        let size = tensor_bytes(name, *dtype, shape)?;
        offset += (size + padding(size)) as u64;
    }
    out.resize(out.len() + padding(out.len()), 0);
    Ok(out)
}

/// A type's number in the tensor table.
fn type_id(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q4_0 => 2,
        Dtype::Q4_1 => 3,
        Dtype::Q5_0 => 6,
        Dtype::Q5_1 => 7,
        Dtype::Q8_0 => 8,
        Dtype::Q4K => 12,
        Dtype::Q5K => 13,
        Dtype::Q6K => 14,
        Dtype::Bf16 => 30,
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A value with its type before it.
fn put_value(value: &Value, out: &mut Vec<u8>) {
    let mut put = |id: u32, bytes: &[u8]| {
        out.extend(id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(value) => put(0, &[*value]),
        Value::I8(value) => put(1, &value.to_le_bytes()),
        Value::U16(value) => put(2, &value.to_le_bytes()),
        Value::I16(value) => put(3, &value.to_le_bytes()),
        Value::U32(value) => put(4, &value.to_le_bytes()),
        Value::I32(value) => put(5, &value.to_le_bytes()),
        Value::F32(value) => put(6, &value.to_le_bytes()),
        Value::Bool(value) => put(7, &[u8::from(*value)]),
        Value::U64(value) => put(10, &value.to_le_bytes()),
        Value::I64(value) => put(11, &value.to_le_bytes()),
        Value::F64(value) => put(12, &value.to_le_bytes()),
        Value::String(text) => {
            put(8, &[]);
            put_text(text, out);
        }
        Value::Array(array) => {
            put(9, &[]);
            put_array(array, out);
        }
    }
}

/// Values of one type, with their type and their count before them.
fn put_array(array: &Array, out: &mut Vec<u8>) {
    let mut start = |id: u32| {
        out.extend(id.to_le_bytes());
        out.extend((array.len() as u64).to_le_bytes());
    };
    match array {
        Array::U8(values) => {
            start(0);
            out.extend(values);
        }
        Array::I8(values) => {
            start(1);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::U16(values) => {
            start(2);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::I16(values) => {
            start(3);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::U32(values) => {
            start(4);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::I32(values) => {
            start(5);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::F32(values) => {
            start(6);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::Bool(values) => {
            start(7);
            out.extend(values.iter().map(|value| u8::from(*value)));
        }
        Array::String(values) => {
            start(8);
            for text in values {
                put_text(text, out);
            }
        }
        Array::Array(values) => {
            start(9);
            for array in values {
                put_array(array, out);
            }
        }
        Array::U64(values) => {
            start(10);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::I64(values) => {
            start(11);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Array::F64(values) => {
            start(12);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}
