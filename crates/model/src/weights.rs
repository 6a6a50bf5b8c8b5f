//! A checkpoint on disk: a Hugging Face folder or a GGUF file, seen the same way.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use formats::{Dtype, TensorView, gguf::Gguf, safetensors};
use kernels::{LowBit, Rows, Stored};

use crate::{
    Config, Error,
    families::{self, gguf},
};

/// A checkpoint that was opened: its configuration is read, its weights are mapped.
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    notes: Vec<String>,
    files: Files,
    fingerprint: OnceLock<String>,
}

/// Bytes that are hashed before their memory is given back.
const HASHED_BYTES: usize = 1 << 28;

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
        let (mut config, unknown) = families::read(&config_file)?;
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
        for linear in self.config.block_linears(0) {
            let name = self.config.in_block(0, linear.name) + ".weight";
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
        let files = match &self.files {
            Files::Folder(files) => files.files().map(|(_, bytes)| bytes).collect(),
            Files::Gguf(file) => vec![file.bytes()],
        };
        for part in files.into_iter().flat_map(|bytes| bytes.chunks(HASHED_BYTES)) {
            hasher.update_rayon(part);
            self.release();
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
            Files::Folder(files) => match files.tensor(name) {
                Err(error) => {
                    let rest = name.strip_prefix(self.root()).and_then(|it| it.strip_prefix('.'));
                    match rest.map(|rest| files.tensor(rest)) {
                        Some(Ok(view)) => view,
                        _ => return Err(error.into()),
                    }
                }
                Ok(view) => view,
            },
            Files::Gguf(file) => file.tensor(&gguf::tensor_name(&self.config, name))?,
        })
    }

    /// The rows of a matrix, by its Hugging Face name.
    pub(crate) fn rows(&self, name: &str, wanted: [usize; 2]) -> Result<TensorRows<'_>, Error> {
        let view = self.view(name)?;
        let is_turned = self.is_turned(name);
        let stored = if is_turned { [wanted[1], wanted[0]] } else { wanted };
        if view.shape != stored {
            let found = view.shape.clone();
            return Err(Error::Shape { name: name.into(), found, wanted: stored.into() });
        }
        let turned = if is_turned { Some(turn(&view)?) } else { None };
        Ok(TensorRows { view, order: self.row_order(name), turned })
    }

    /// The values of a vector, by its Hugging Face name.
    pub(crate) fn vector(&self, name: &str, wanted: usize) -> Result<Vec<f32>, Error> {
        self.values(name, &[wanted])
    }

    /// The values of a small tensor of any shape, by its Hugging Face name.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let view = self.view(name)?;
        if view.shape != shape {
            let found = view.shape.clone();
            return Err(Error::Shape { name: name.into(), found, wanted: shape.into() });
        }
        let wanted: usize = shape.iter().product();
        let mut stored = Vec::with_capacity(wanted);
        let mut row = vec![0.0; shape.last().copied().unwrap_or(1)];
        for index in 0..wanted / row.len().max(1) {
            view.read_row(index, &mut row)?;
            stored.extend_from_slice(&row);
        }
        let order = self.row_order(name);
        let offset = match &self.files {
            Files::Gguf(_) if name.ends_with(".weight") => gguf::norm_offset(&self.config),
            _ => 0.0,
        };
        let values: Vec<f32> =
            (0..wanted).map(|row| stored[order.stored_row(row)] - offset).collect();
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(Error::NotFinite { name: name.into(), row: 0 })
        }
    }

    /// What the names of all tensors of the body begin with.
    fn root(&self) -> &'static str {
        self.config.names.block.split('.').next().unwrap_or("")
    }

    /// The name of a tensor in the whole model; some folders hold the body by itself, with names
    /// that lack their root.
    pub(crate) fn full_name(&self, name: &str) -> String {
        let root = self.root();
        let has_root = name.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'));
        if has_root || name == self.config.names.head {
            name.to_owned()
        } else {
            format!("{root}.{name}")
        }
    }

    /// Whether a matrix is stored `[inputs, outputs]`, by its Hugging Face name.
    pub(crate) fn is_turned(&self, name: &str) -> bool {
        let names = &self.config.names;
        names.are_linears_turned && name.starts_with(names.block) && name.ends_with(".weight")
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
    for id in families::token_ids(value.get("eos_token_id")) {
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
    /// All values `[outputs, inputs]`, where they are stored the other way.
    turned: Option<Vec<f32>>,
}

/// The columns of a matrix, one after the other.
fn turn(view: &TensorView<'_>) -> Result<Vec<f32>, Error> {
    let (rows, cols) = (view.shape[0], view.shape[1]);
    let (mut turned, mut row_values) = (vec![0.0; rows * cols], vec![0.0; cols]);
    for row in 0..rows {
        view.read_row(row, &mut row_values)?;
        for (col, value) in row_values.iter().enumerate() {
            turned[col * rows + row] = *value;
        }
    }
    Ok(turned)
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

    /// In how few bits the numbers of each row are stored, if they share scales.
    pub(crate) fn low_bit(&self) -> Option<LowBit> {
        match self.view.dtype {
            _ if self.turned.is_some() => None,
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
        self.view.shape[usize::from(self.turned.is_some())]
    }

    fn cols(&self) -> usize {
        self.view.shape[usize::from(self.turned.is_none())]
    }

    fn stored(&self) -> Stored {
        match self.view.dtype {
            Dtype::F16 => Stored::F16,
            Dtype::Bf16 => Stored::Bf16,
            _ => Stored::F32,
        }
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        if let Some(turned) = &self.turned {
            out.copy_from_slice(&turned[row * out.len()..(row + 1) * out.len()]);
            return;
        }
        // The view's shape and length were checked when it was made, so a row cannot fail; should
        // it ever, the NaN is found by the check that follows packing.
        if self.view.read_row(self.order.stored_row(row), out).is_err() {
            out.fill(f32::NAN);
        }
    }
}
