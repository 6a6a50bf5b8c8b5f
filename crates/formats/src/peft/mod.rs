//! LoRA adapters in folders, as PEFT stores them.
//!
//! A folder has `adapter_config.json` and `adapter_model.safetensors`. For each adapted module of
//! the base model the file has two matrices, `base_model.model.<module>.lora_A.weight` with shape
//! `[r, inputs]` and `base_model.model.<module>.lora_B.weight` with shape `[outputs, r]`; the module
//! then computes
//!
//! ```text
//! y = W x + scale * B (A x)        scale = alpha / r, or alpha / sqrt(r) with use_rslora
//! ```

mod config;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use config::{AdapterConfig, Patterns, Targets};

use crate::safetensors::{Checkpoint, TensorData};
use crate::{Dtype, Error, Result, convert, safetensors};

/// The file with the settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The file with the matrices.
pub const MODEL_FILE: &str = "adapter_model.safetensors";
/// The file with the matrices as older versions of PEFT wrote it, which is refused.
pub const PICKLE_FILE: &str = "adapter_model.bin";

/// What PEFT puts before a module's name.
const PREFIX: &str = "base_model.model.";

/// A tensor's shape and its numbers, row-major.
pub type AdapterTensor = (Vec<usize>, Vec<f32>);

/// An adapter in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapter {
    /// The settings.
    pub config: AdapterConfig,
    /// The matrices by PEFT's names; [`name_of`] makes these, [`modules`](Self::modules) pairs them.
    pub tensors: BTreeMap<String, AdapterTensor>,
    /// Fields of the configuration that nobody knows and that were left out, as PEFT does.
    pub unknown_fields: Vec<String>,
}

/// Which of a module's two matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// `lora_A`, `[r, inputs]`.
    A,
    /// `lora_B`, `[outputs, r]`.
    B,
}

/// The two matrices of one module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraPair<'a> {
    /// How many columns `b` and rows `a` have.
    pub rank: usize,
    /// How many columns `a` has.
    pub inputs: usize,
    /// How many rows `b` has.
    pub outputs: usize,
    /// What the product is multiplied with.
    pub scale: f64,
    /// `[rank, inputs]`.
    pub a: &'a [f32],
    /// `[outputs, rank]`.
    pub b: &'a [f32],
}

/// PEFT's name of one of a module's matrices.
pub fn name_of(module: &str, half: Half) -> String {
    match half {
        Half::A => format!("{PREFIX}{module}.lora_A.weight"),
        Half::B => format!("{PREFIX}{module}.lora_B.weight"),
    }
}

/// The module and the half that a tensor's name in a file means.
///
/// The name of the adapter, which PEFT leaves out and others do not, may be `default`.
fn parse_name(name: &str) -> Option<(&str, Half)> {
    let stem = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    let stem = stem.strip_suffix(".default").unwrap_or(stem);
    let (module, half) = match stem.strip_suffix(".lora_A") {
        Some(module) => (module, Half::A),
        None => (stem.strip_suffix(".lora_B")?, Half::B),
    };
    (!module.is_empty()).then_some((module, half))
}

impl Adapter {
    /// The pairs of matrices by module, named as in the base model.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyAdapter`], [`Error::AdapterTensor`], [`Error::AdapterHalf`],
    /// [`Error::AdapterMatrix`], [`Error::ShapeMismatch`] or [`Error::AdapterRank`] where the
    /// tensors make no pairs, or not those of the configuration.
    pub fn modules(&self) -> Result<BTreeMap<&str, LoraPair<'_>>> {
        let mut modules = BTreeSet::new();
        for name in self.tensors.keys() {
            let (module, half) =
                parse_name(name).ok_or_else(|| Error::AdapterTensor { name: name.clone() })?;
            if *name != name_of(module, half) {
                return Err(Error::AdapterTensor { name: name.clone() });
            }
            modules.insert(module);
        }
        if modules.is_empty() {
            return Err(Error::EmptyAdapter);
        }
        modules.into_iter().map(|module| Ok((module, self.pair(module)?))).collect()
    }

    fn pair(&self, module: &str) -> Result<LoraPair<'_>> {
        let half = |half, missing| {
            let name = name_of(module, half);
            let Some((shape, values)) = self.tensors.get(&name) else {
                return Err(Error::AdapterHalf { module: module.to_owned(), missing });
            };
            match *shape.as_slice() {
                [rows, cols] if rows.checked_mul(cols) == Some(values.len()) => {
                    Ok((rows, cols, values.as_slice()))
                }
                _ => Err(Error::AdapterMatrix { name, shape: shape.clone() }),
            }
        };
        let (rank, inputs, a) = half(Half::A, "lora_A")?;
        let (outputs, columns, b) = half(Half::B, "lora_B")?;
        if columns != rank {
            return Err(Error::ShapeMismatch {
                name: name_of(module, Half::B),
                wanted: vec![outputs, rank],
                found: vec![outputs, columns],
            });
        }
        let wanted = self.config.rank(module)?;
        if rank != wanted {
            return Err(Error::AdapterRank { module: module.to_owned(), wanted, found: rank });
        }
        let scale = self.config.scale(module)?;
        Ok(LoraPair { rank, inputs, outputs, scale, a, b })
    }
}

/// Reads the settings in a folder, and lists the fields that nobody knows.
///
/// # Errors
///
/// [`Error::Read`] with the file, around what is wrong with it.
pub fn read_config(folder: impl AsRef<Path>) -> Result<(AdapterConfig, Vec<String>)> {
    let path = folder.as_ref().join(CONFIG_FILE);
    let read = || {
        config::check_length(fs_err::metadata(&path)?.len())?;
        AdapterConfig::from_json(&fs_err::read(&path)?)
    };
    read().map_err(|error: Error| error.reading(&path))
}

/// Reads an adapter from its folder; its numbers are widened to `f32`.
///
/// # Errors
///
/// [`Error::Read`] with the file, around [`Error::Pickle`] for the old format, or what else is
/// wrong: see [`AdapterConfig::from_json`], [`Checkpoint::open`] and [`Adapter::modules`].
pub fn read(folder: impl AsRef<Path>) -> Result<Adapter> {
    let folder = folder.as_ref();
    let (config, unknown_fields) = read_config(folder)?;
    let path = folder.join(MODEL_FILE);
    if !path.exists() && folder.join(PICKLE_FILE).exists() {
        return Err(Error::Pickle { file: PICKLE_FILE.to_owned() }.reading(folder));
    }
    let checkpoint = Checkpoint::open(&path)?;
    let tensors = tensors_of(&checkpoint).map_err(|error| error.reading(&path))?;
    let adapter = Adapter { config, tensors, unknown_fields };
    adapter.modules().map_err(|error| error.reading(&path))?;
    Ok(adapter)
}

/// The tensors of a file under the names that PEFT would write.
fn tensors_of(checkpoint: &Checkpoint) -> Result<BTreeMap<String, AdapterTensor>> {
    let mut tensors = BTreeMap::new();
    for name in checkpoint.names() {
        let (module, half) =
            parse_name(name).ok_or_else(|| Error::AdapterTensor { name: name.to_owned() })?;
        let view = checkpoint.tensor(name)?;
        let values = view.to_f32()?;
        if tensors.insert(name_of(module, half), (view.shape, values)).is_some() {
            let name = name_of(module, half);
            return Err(Error::Duplicate { what: "tensor", name });
        }
    }
    Ok(tensors)
}

/// Writes an adapter into a folder, which is made where it is missing; numbers are stored as `f32`.
///
/// Each file is written under a temporary name, synced, and renamed, the settings last. The same
/// adapter always gives the same bytes. [`Adapter::unknown_fields`] are not written.
///
/// # Errors
///
/// [`Error::Write`] with the file or folder, around what [`Adapter::modules`] finds wrong, or
/// [`Error::Io`].
pub fn write(folder: impl AsRef<Path>, adapter: &Adapter) -> Result<()> {
    let folder = folder.as_ref();
    adapter.modules().map_err(|error| error.writing(folder))?;
    let config = adapter.config.to_json().map_err(|error| error.writing(folder))?;
    fs_err::create_dir_all(folder).map_err(|error| Error::Io(error).writing(folder))?;
    let tensors: Vec<_> = adapter
        .tensors
        .iter()
        .map(|(name, (shape, values))| TensorData {
            name,
            dtype: Dtype::F32,
            shape,
            bytes: convert::f32_bytes(values),
        })
        .collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::write(folder.join(MODEL_FILE), &tensors, &metadata)?;
    crate::write_text(&folder.join(CONFIG_FILE), &config)
}
