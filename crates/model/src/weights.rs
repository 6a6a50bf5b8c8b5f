//! A checkpoint on disk: a Hugging Face folder or a GGUF file, seen the same way.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use formats::{Dtype, TensorView, gguf::Gguf, safetensors};
use kernels::{LowBit, Rows, Stored};

use crate::{Config, Error, gguf, llama_config};

/// A checkpoint that was opened: its configuration is read, its weights are mapped.
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    notes: Vec<String>,
    files: Files,
    fingerprint: OnceLock<String>,
}

enum Files {
    Folder(safetensors::Checkpoint),
    Gguf(Gguf),
}

impl Checkpoint {
    /// Opens a folder with `config.json` and safetensors, or a GGUF file.
    ///
    /// # Errors
    ///
    /// Nothing there, files missing or damaged, an architecture or a setting that is not
    /// supported.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Self::open_folder(path);
        }
        if !path.is_file() {
            return Err(Error::NotFound { path: path.into() });
        }
        let file = Gguf::open(path)?;
        let config = gguf::config(path, &file)?;
        Ok(Self::new(path, config, Vec::new(), Files::Gguf(file)))
    }

    fn open_folder(path: &Path) -> Result<Self, Error> {
        let config_file = path.join("config.json");
        if !config_file.is_file() {
            if path.join(formats::peft::CONFIG_FILE).is_file() {
                return Err(Error::AdapterAlone { path: path.into() });
            }
            return Err(Error::Incomplete { path: path.into(), missing: "config.json" });
        }
        let (mut config, unknown) = llama_config::read(&config_file)?;
        add_generation_ends(path, &mut config);
        let files = safetensors::Checkpoint::open(path)?;
        let notes = unknown
            .into_iter()
            .map(|key| format!("`{key}` in config.json is not known and changes nothing"))
            .collect();
        Ok(Self::new(path, config, notes, Files::Folder(files)))
    }

    fn new(path: &Path, config: Config, notes: Vec<String>, files: Files) -> Self {
        Self { path: path.into(), config, notes, files, fingerprint: OnceLock::new() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its shape and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the user should know about the configuration.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The GGUF file, if it is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.files {
            Files::Gguf(file) => Some(file),
            Files::Folder(_) => None,
        }
    }

    /// The storage types of the linears, for the run to say what it rounds.
    pub fn stored_types(&self) -> Vec<Dtype> {
        let mut types: Vec<Dtype> = Vec::new();
        for (name, ..) in self.config.linears() {
            let name = format!("model.layers.0.{name}.weight");
            if let Ok(view) = self.view(&name)
                && !types.contains(&view.dtype)
            {
                types.push(view.dtype);
            }
        }
        types
    }

    /// Bytes of the weights on disk.
    pub fn byte_count(&self) -> u64 {
        match &self.files {
            Files::Folder(files) => files.files().map(|(_, bytes)| bytes.len() as u64).sum(),
            Files::Gguf(file) => file.bytes().len() as u64,
        }
    }

    /// Gives the memory of weights that were read back to the system, once they are packed.
    pub fn release(&self) {
        match &self.files {
            Files::Folder(files) => files.release(),
            Files::Gguf(file) => file.release(),
        }
    }

    /// A fingerprint of every weight and of the configuration; the files are read once for it.
    pub fn fingerprint(&self) -> &str {
        self.fingerprint.get_or_init(|| self.hash())
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?}", self.config).as_bytes());
        match &self.files {
            Files::Folder(files) => {
                for (_, bytes) in files.files() {
                    hasher.update_rayon(bytes);
                }
            }
            Files::Gguf(file) => {
                hasher.update_rayon(file.bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The safetensors files, if it is a folder with such.
    pub(crate) fn folder_files(&self) -> Option<&safetensors::Checkpoint> {
        match &self.files {
            Files::Folder(files) => Some(files),
            Files::Gguf(_) => None,
        }
    }

    /// A tensor as it is stored, by its Hugging Face name.
    pub(crate) fn view(&self, name: &str) -> Result<TensorView<'_>, Error> {
        Ok(match &self.files {
            Files::Folder(files) => files.tensor(name)?,
            Files::Gguf(file) => file.tensor(&gguf::tensor_name(name))?,
        })
    }

    /// The rows of a matrix, by its Hugging Face name.
    pub(crate) fn rows(&self, name: &str, wanted: [usize; 2]) -> Result<TensorRows<'_>, Error> {
        let view = self.view(name)?;
        if view.shape != wanted {
            let found = view.shape.clone();
            return Err(Error::Shape { name: name.into(), found, wanted: wanted.into() });
        }
        Ok(TensorRows { view, order: self.row_order(name) })
    }

    /// The values of a vector, by its Hugging Face name.
    pub(crate) fn vector(&self, name: &str, wanted: usize) -> Result<Vec<f32>, Error> {
        let view = self.view(name)?;
        if view.shape != [wanted] {
            let found = view.shape.clone();
            return Err(Error::Shape { name: name.into(), found, wanted: vec![wanted] });
        }
        let mut stored = vec![0.0; wanted];
        view.read_row(0, &mut stored)?;
        let order = self.row_order(name);
        let values: Vec<f32> = (0..wanted).map(|row| stored[order.stored_row(row)]).collect();
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(Error::NotFinite { name: name.into(), row: 0 })
        }
    }

    /// How the rows of a tensor are stored, by its Hugging Face name.
    pub(crate) fn row_order(&self, name: &str) -> RowOrder {
        match &self.files {
            Files::Gguf(_) => gguf::row_order(&self.config, name),
            Files::Folder(_) => RowOrder::AsStored,
        }
    }
}

/// `generation_config.json` may name more ends than `config.json`; a model stops at any of them.
fn add_generation_ends(folder: &Path, config: &mut Config) {
    let Ok(text) = fs_err::read_to_string(folder.join("generation_config.json")) else { return };
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { return };
    for id in llama_config::token_ids(value.get("eos_token_id")) {
        if !config.eos.contains(&id) {
            config.eos.push(id);
        }
    }
}

/// How the rows of a rotated projection are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// As Hugging Face has them: the two halves of a head rotate against each other.
    AsStored,
    /// As GGUF has them for this family: neighbours rotate against each other.
    AdjacentPairs { head_dim: usize },
}

impl RowOrder {
    /// The stored row that holds a row of the Hugging Face order.
    pub(crate) fn stored_row(self, row: usize) -> usize {
        match self {
            Self::AsStored => row,
            Self::AdjacentPairs { head_dim } => {
                let (head, inside) = (row / head_dim, row % head_dim);
                let (half, pair) = (inside / (head_dim / 2), inside % (head_dim / 2));
                head * head_dim + 2 * pair + half
            }
        }
    }

    /// The row of the Hugging Face order that lies at a stored row.
    pub(crate) fn row_at(self, stored: usize) -> usize {
        match self {
            Self::AsStored => stored,
            Self::AdjacentPairs { head_dim } => {
                let (head, inside) = (stored / head_dim, stored % head_dim);
                head * head_dim + (inside % 2) * (head_dim / 2) + inside / 2
            }
        }
    }
}

/// A matrix of a checkpoint, row by row in the Hugging Face order.
pub(crate) struct TensorRows<'a> {
    view: TensorView<'a>,
    order: RowOrder,
}

impl TensorRows<'_> {
    /// All values, row-major.
    pub(crate) fn to_vec(&self) -> Vec<f32> {
        let cols = self.cols();
        let mut values = vec![0.0; self.rows() * cols];
        for (row, out) in values.chunks_exact_mut(cols.max(1)).enumerate() {
            self.read_row(row, out);
        }
        values
    }
}

impl TensorRows<'_> {
    /// In how few bits the numbers are stored, if they share scales.
    pub(crate) fn low_bit(&self) -> Option<LowBit> {
        match self.view.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => None,
            Dtype::Q4_0 => Some(LowBit::Q4_0),
            Dtype::Q4_1 => Some(LowBit::Q4_1),
            Dtype::Q5_0 => Some(LowBit::Q5_0),
            Dtype::Q5_1 => Some(LowBit::Q5_1),
            Dtype::Q8_0 => Some(LowBit::Q8_0),
            Dtype::Q4K => Some(LowBit::Q4K),
            Dtype::Q5K => Some(LowBit::Q5K),
            Dtype::Q6K => Some(LowBit::Q6K),
        }
    }

    /// Reads a row's codes and scales; `None` if there is no such row.
    pub(crate) fn read_codes(
        &self,
        row: usize,
        codes: &mut [u8],
        scales: &mut [u32],
    ) -> Option<()> {
        self.view.read_codes(self.order.stored_row(row), codes, scales).ok()
    }
}

impl Rows for TensorRows<'_> {
    fn rows(&self) -> usize {
        self.view.shape[0]
    }

    fn cols(&self) -> usize {
        self.view.shape[1]
    }

    fn stored(&self) -> Stored {
        match self.view.dtype {
            Dtype::F16 => Stored::F16,
            Dtype::Bf16 => Stored::Bf16,
            _ => Stored::F32,
        }
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        // The view's shape and length were checked when it was made, so a row cannot fail; should
        // it ever, the NaN is found by the check that follows packing.
        if self.view.read_row(self.order.stored_row(row), out).is_err() {
            out.fill(f32::NAN);
        }
    }
}
