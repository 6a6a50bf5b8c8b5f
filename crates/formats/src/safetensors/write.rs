//! Writing safetensors files: the same tensors always give the same bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde::ser::SerializeMap;

use crate::tensor::{Layout, tensor_bytes};
use crate::whole::{persist, temporary_beside};
use crate::{Dtype, Error, Result};

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorData<'a> {
    /// Its name.
    pub name: &'a str,
    /// How its numbers are stored: `F32`, `F16` or `Bf16`.
    pub dtype: Dtype,
    /// Its dimensions, row-major.
    pub shape: &'a [usize],
    /// Its numbers, little-endian; [`convert`](crate::convert) makes them.
    pub bytes: Cow<'a, [u8]>,
}

/// Writes a file, whole or not at all.
///
/// The tensors are ordered as the `safetensors` library orders them (wide types first, then by
/// name), so the bytes depend on the tensors alone. The file is written under a temporary name,
/// synced, and renamed. PEFT and transformers expect `metadata` to say `format` = `pt`.
///
/// # Errors
///
/// [`Error::Write`] with the file, whose source is [`Error::Duplicate`], [`Error::TensorSize`],
/// [`Error::UnknownDtype`] for block types, or [`Error::Io`].
///
/// # Example
///
/// ```
/// use formats::safetensors::{Checkpoint, TensorData, write};
/// use formats::{Dtype, convert};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// let norm = TensorData {
///     name: "norm.weight",
///     dtype: Dtype::Bf16,
///     shape: &[2],
///     bytes: convert::narrow_bf16(&[1.0, -0.5]).into(),
/// };
/// write(&path, &[norm], &[("format".to_owned(), "pt".to_owned())].into())?;
///
/// let checkpoint = Checkpoint::open(&path)?;
/// assert_eq!(checkpoint.tensor("norm.weight")?.to_f32()?, [1.0, -0.5]);
/// # Ok(())
/// # }
/// ```
pub fn write(
    path: impl AsRef<Path>,
    tensors: &[TensorData<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let layouts: Vec<_> = tensors
        .iter()
        .map(|tensor| Layout {
            name: tensor.name.to_owned(),
            dtype: tensor.dtype,
            shape: tensor.shape.to_vec(),
        })
        .collect();
    write_with(path, &layouts, metadata, |index| Ok(Cow::Borrowed(&*tensors[index].bytes)))
}

/// Writes a file whose numbers are made one tensor at a time.
///
/// `numbers` is called once for each of `layouts`, with its index, in the order of the file; so at
/// most one tensor has to be in memory. Otherwise as [`write`](write()).
///
/// # Errors
///
/// As [`write`](write()), and whatever `numbers` fails with.
pub fn write_with<'a, E: From<Error>>(
    path: impl AsRef<Path>,
    layouts: &[Layout],
    metadata: &BTreeMap<String, String>,
    mut numbers: impl FnMut(usize) -> Result<Cow<'a, [u8]>, E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let plan = Plan::new(layouts).map_err(|error| error.writing(path))?;
    let io = |error: std::io::Error| Error::Io(error).writing(path);
    let temporary = temporary_beside(path).map_err(io)?;
    let mut out = BufWriter::with_capacity(1 << 20, temporary.as_file());
    let header = plan.header(metadata).map_err(|error| error.writing(path))?;
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    out.write_all(&header).map_err(io)?;
    for entry in &plan.entries {
        let bytes = numbers(entry.index)?;
        if bytes.len() != entry.end - entry.start {
            return Err(E::from(entry.wrong_size(bytes.len()).writing(path)));
        }
        out.write_all(&bytes).map_err(io)?;
    }
    out.flush().map_err(io)?;
    drop(out);
    persist(temporary, path).map_err(io)?;
    Ok(())
}

/// The tensors of a file with their places.
struct Plan<'a> {
    entries: Vec<Planned<'a>>,
}

/// One tensor with its place.
struct Planned<'a> {
    /// Its place in the caller's list.
    index: usize,
    layout: &'a Layout,
    start: usize,
    end: usize,
}

impl Planned<'_> {
    fn wrong_size(&self, found: usize) -> Error {
        Error::TensorSize {
            name: self.layout.name.clone(),
            dtype: self.layout.dtype.name().to_owned(),
            shape: self.layout.shape.clone(),
            wanted: self.end - self.start,
            found,
        }
    }
}

impl<'a> Plan<'a> {
    fn new(layouts: &'a [Layout]) -> Result<Self> {
        let mut order: Vec<usize> = (0..layouts.len()).collect();
        order.sort_by_key(|&index| (type_rank(layouts[index].dtype), &layouts[index].name));
        let mut names = BTreeSet::new();
        let mut entries = Vec::with_capacity(layouts.len());
        let mut start = 0usize;
        for index in order {
            let layout = &layouts[index];
            let name = layout.name.clone();
            if layout.dtype.is_quantized() {
                return Err(Error::UnknownDtype { name, dtype: layout.dtype.name().to_owned() });
            }
            if layout.name == "__metadata__" || !names.insert(&layout.name) {
                return Err(Error::Duplicate { what: "tensor", name });
            }
            let size = tensor_bytes(&layout.name, layout.dtype, &layout.shape)?;
            let end = start
                .checked_add(size)
                .ok_or(Error::ShapeOverflow { name, shape: layout.shape.clone() })?;
            entries.push(Planned { index, layout, start, end });
            start = end;
        }
        Ok(Self { entries })
    }

    /// The header's text, filled up with spaces to a multiple of eight bytes.
    fn header(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec(&HeaderFields { plan: self, metadata })
            .map_err(|source| Error::Json { what: "the header".into(), source })?;
        text.resize(text.len().next_multiple_of(8), b' ');
        Ok(text)
    }
}

/// Where a type stands in the file: wide ones first, then as the `safetensors` library has them.
fn type_rank(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::Bf16 => 1,
        Dtype::F16 => 2,
        _ => 3,
    }
}

/// The header as JSON.
struct HeaderFields<'a> {
    plan: &'a Plan<'a>,
    metadata: &'a BTreeMap<String, String>,
}

/// One tensor of the header as JSON.
#[derive(Serialize)]
struct EntryFields<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: (usize, usize),
}

impl Serialize for HeaderFields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", self.metadata)?;
        }
        for Planned { layout, start, end, .. } in &self.plan.entries {
            let fields = EntryFields {
                dtype: layout.dtype.name(),
                shape: &layout.shape,
                data_offsets: (*start, *end),
            };
            map.serialize_entry(&layout.name, &fields)?;
        }
        map.end()
    }
}
