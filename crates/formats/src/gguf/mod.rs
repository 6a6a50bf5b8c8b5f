//! GGUF files: metadata, tokenizer and weights in one file, as llama.cpp and Ollama use them.
//!
//! A file has a header with counts, a table of typed metadata, a table of tensors, and the numbers,
//! each tensor aligned to 32 bytes or what the metadata says. Versions 2 and 3 are read, which
//! differ in name only; all numbers are little-endian. Dimensions lie innermost first in the file
//! and are given here outermost first.

mod access;
pub mod codes;
mod file_type;
mod parse;
mod quantize;
pub mod quants;
mod tokenizer;
mod value;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use access::FromValue;
pub use file_type::{FileType, Place};
pub use quantize::quantize;
pub use tokenizer::{GgufTokenizer, TokenType};
pub use value::{Array, Value};
pub use write::{Metadata, write_with};

use crate::mapped::Bytes;
use crate::{Dtype, Error, Result, TensorView, nearest::nearest};

/// The most dimensions of a tensor.
const DIMENSIONS_MAX: u32 = 4;

/// What tensors are aligned to where the metadata does not say.
const ALIGNMENT_DEFAULT: u64 = 32;

/// A GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
}

/// The tables of a file, checked against its size.
#[derive(Debug)]
struct Header {
    version: u32,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Entry>,
    /// Where the numbers start.
    data_start: u64,
}

/// One tensor of the table.
#[derive(Debug)]
struct Entry {
    name: String,
    stored: Stored,
    /// Outermost dimension first.
    shape: Vec<usize>,
    /// Where it starts, counted from the start of the numbers.
    offset: u64,
    /// Its bytes; `None` for types of unknown size.
    size: Option<u64>,
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug)]
enum Stored {
    /// A type that can be read.
    Known(Dtype),
    /// The number of another type.
    Unknown(u32),
}

impl Stored {
    /// The type with this number.
    fn of(id: u32) -> Self {
        Self::Known(match id {
            0 => Dtype::F32,
            1 => Dtype::F16,
            2 => Dtype::Q4_0,
            3 => Dtype::Q4_1,
            6 => Dtype::Q5_0,
            7 => Dtype::Q5_1,
            8 => Dtype::Q8_0,
            12 => Dtype::Q4K,
            13 => Dtype::Q5K,
            14 => Dtype::Q6K,
            30 => Dtype::Bf16,
            other => return Self::Unknown(other),
        })
    }
}

/// The name of a type that cannot be read, by its number.
fn foreign_name(id: u32) -> String {
    let known = [
        (9, "Q8_1"),
        (10, "Q2_K"),
        (11, "Q3_K"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
    ];
    let name = known.iter().find(|(known, _)| *known == id);
    name.map_or_else(|| format!("type {id}"), |(_, name)| (*name).to_owned())
}

impl Gguf {
    /// Maps and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with the file, whose source says what is wrong. A tensor of a type that is
    /// not supported is an error only when it is asked for.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = Bytes::map(path).map_err(|error| error.reading(path))?;
        Self::new(path.to_owned(), bytes)
    }

    /// Reads a file that is in memory; `path` is for messages only.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        Self::new(path.into(), Bytes::Owned(bytes))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        match parse::parse(&bytes) {
            Ok(header) => Ok(Self { path, bytes, header }),
            Err(error) => Err(error.reading(path)),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes of the file; for checksums.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the memory of pages that were read back to the system.
    pub fn release(&self) {
        self.bytes.release();
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// All metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.header.metadata
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.header.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.header.tensors.is_empty()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with the file, whose source is [`Error::MissingTensor`] with the nearest
    /// names, or [`Error::UnknownDtype`].
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        self.find(name).map_err(|error| error.reading(&self.path))
    }

    fn find(&self, name: &str) -> Result<TensorView<'_>> {
        let Some(entry) = self.header.tensors.get(name) else {
            let nearest = nearest(name, self.names());
            return Err(Error::MissingTensor { name: name.to_owned(), nearest });
        };
        let dtype = match entry.stored {
            Stored::Known(dtype) => dtype,
            Stored::Unknown(id) => {
                return Err(Error::UnknownDtype { name: name.to_owned(), dtype: foreign_name(id) });
            }
        };
        let size = entry.size.unwrap_or(0);
        let bytes = if size == 0 {
            Some(&[][..])
        } else {
            let start = (self.header.data_start + entry.offset) as usize;
            self.bytes.get(start..start + size as usize)
        };
        TensorView::new(&entry.name, dtype, entry.shape.clone(), bytes.unwrap_or_default())
    }
}
