//! Safetensors files: one file, or a folder with a model in one or many of them.
//!
//! A file is the length of a header (8 bytes), the header (JSON), and the numbers. The header gives
//! each tensor its type, shape, and place among the numbers; the places must follow one another
//! without overlap or gap. A large model is cut into shards with an index beside them,
//! `model.safetensors.index.json`, which says where each tensor is.

mod header;
mod index;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use index::write_index;
pub use write::{TensorData, write, write_with};

pub use crate::tensor::Layout;

use crate::mapped::Bytes;
use crate::{Error, Result, TensorView, nearest::nearest};
use header::{Entry, Header};

/// The file with a whole model.
pub const MODEL_FILE: &str = "model.safetensors";
/// The file that says in which shard each tensor is.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// A model's tensors, in one file or in shards.
#[derive(Debug)]
pub struct Checkpoint {
    files: Vec<File>,
    /// For each tensor its file and its place in that file's header.
    places: BTreeMap<String, (usize, usize)>,
}

/// One mapped file.
#[derive(Debug)]
struct File {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
}

impl File {
    fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        match header::parse(&bytes) {
            Ok(header) => Ok(Self { path, bytes, header }),
            Err(error) => Err(error.reading(path)),
        }
    }

    fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::map(path).map_err(|error| error.reading(path))?;
        Self::new(path.to_owned(), bytes)
    }
}

impl Checkpoint {
    /// Opens a `.safetensors` file, an index file, or a folder with either.
    ///
    /// In a folder `model.safetensors` comes before `model.safetensors.index.json`, as transformers
    /// looks for them. Tensors of a shard that the index does not name are there too.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with the file or folder, whose source says what is wrong: not found, pickled
    /// weights only, a damaged header, a missing shard, a name in two shards. A tensor of a type
    /// that is not supported is an error only when it is asked for.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let (file, index) = (path.join(MODEL_FILE), path.join(INDEX_FILE));
            if file.exists() {
                return Self::from_files(vec![File::open(&file)?]);
            }
            if index.exists() {
                return index::open(&index);
            }
            return Err(no_weights(path).reading(path));
        }
        if path.to_string_lossy().ends_with(".index.json") {
            return index::open(path);
        }
        Self::from_files(vec![File::open(path)?])
    }

    /// Reads a file that is in memory; `path` is for messages only.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        Self::from_files(vec![File::new(path.into(), Bytes::Owned(bytes))?])
    }

    /// Puts the tensors of all files into one table.
    fn from_files(files: Vec<File>) -> Result<Self> {
        let mut places = BTreeMap::new();
        for (file_index, file) in files.iter().enumerate() {
            for (entry_index, entry) in file.header.entries.iter().enumerate() {
                let place = (file_index, entry_index);
                if places.insert(entry.name.clone(), place).is_some() {
                    let name = entry.name.clone();
                    return Err(Error::Duplicate { what: "tensor", name }.reading(&file.path));
                }
            }
        }
        Ok(Self { files, places })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with the file, whose source is [`Error::MissingTensor`] with the nearest
    /// names, or [`Error::UnknownDtype`].
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let (file, entry) = self.place(name)?;
        let view = entry.dtype().and_then(|dtype| {
            let bytes = file.header.bytes_of(entry, &file.bytes)?;
            TensorView::new(&entry.name, dtype, entry.shape.clone(), bytes)
        });
        view.map_err(|error| error.reading(&file.path))
    }

    /// The shape of a tensor, whatever type its numbers have.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] around [`Error::MissingTensor`].
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.place(name)?.1.shape)
    }

    fn place(&self, name: &str) -> Result<(&File, &Entry)> {
        let place = self.places.get(name).and_then(|&(file, entry)| {
            let file = self.files.get(file)?;
            Some((file, file.header.entries.get(entry)?))
        });
        place.ok_or_else(|| {
            let error = Error::MissingTensor {
                name: name.to_owned(),
                nearest: nearest(name, self.names()),
            };
            match self.files.first() {
                Some(file) => error.reading(&file.path),
                None => error,
            }
        })
    }

    /// The free-form text of the first file's header, such as `format` = `pt`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.files.first().map_or(&NONE, |file| &file.header.metadata)
    }

    /// Gives the memory of pages that were read back to the system.
    pub fn release(&self) {
        for file in &self.files {
            file.bytes.release();
        }
    }

    /// Every file with the names of its tensors, in the order of the shards' names.
    pub fn shards(&self) -> impl Iterator<Item = (&Path, Vec<&str>)> {
        self.files.iter().map(|file| {
            let names = file.header.entries.iter().map(|entry| entry.name.as_str()).collect();
            (file.path.as_path(), names)
        })
    }

    /// Every file with all its bytes, in the order of the shards' names; for checksums.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter().map(|file| (file.path.as_path(), &*file.bytes))
    }
}

/// Says what a folder has in place of weights.
fn no_weights(folder: &Path) -> Error {
    let pickles = ["pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin"];
    match pickles.iter().find(|name| folder.join(name).exists()) {
        Some(file) => Error::Pickle { file: (*file).to_owned() },
        None => Error::NoSuchFile { wanted: vec![MODEL_FILE.to_owned(), INDEX_FILE.to_owned()] },
    }
}
