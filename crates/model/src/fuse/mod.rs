//! An adapter put into the weights that it belongs to, and the whole written as a Hugging Face folder.
//!
//! ```text
//! W' = round(W + scale * B A)
//! ```
//!
//! Products and sums are in f64, in a fixed order, and each weight is rounded once. Tensors that no
//! adapter changes are copied byte for byte where their type stays. One tensor is in memory at a time.

mod adapter;
mod beside;
mod gguf;
mod part;

use std::{collections::BTreeMap, path::Path};

use formats::{
    Dtype, TensorView,
    peft::{Adapter, LoraPair},
    safetensors,
};

use crate::{Checkpoint, Config, Error, export, weights::RowOrder};
use part::Part;

pub use adapter::write_gguf_adapter;
pub use gguf::{FusedGguf, GgufOptions, fuse_gguf};

/// Largest file of weights where nothing says otherwise, as transformers has had it for long.
const SHARD_BYTES: u64 = 5_000_000_000;

/// How to write.
pub struct FuseOptions<'a> {
    /// The type of every tensor; absent, each keeps its own, and quantized ones become `F32`.
    pub dtype: Option<Dtype>,
    /// The largest file, in bytes; absent, files are those of the base where it is a folder and no
    /// type is asked for, else of 5 GB at most.
    pub shard_bytes: Option<u64>,
    /// Asked before each tensor; true ends it with [`Error::Stopped`].
    pub stop: &'a dyn Fn() -> bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    /// How many linears were changed.
    pub modules: usize,
    /// How many files hold weights.
    pub files: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The types of the changed tensors, each once.
    pub dtypes: Vec<Dtype>,
    /// What rounding did to the update.
    pub rounding: Rounding,
}

/// The update that an adapter asks for, against the one that rounded weights show; sums over every
/// changed weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rounding {
    /// Sum of squares of `d = scale * B A`.
    pub asked: f64,
    /// Sum of squares of `e = round(W + d) - W`.
    pub written: f64,
    /// Sum of `d * e`.
    pub product: f64,
    /// Sum of squares of what rounding added to any weight that was not copied.
    pub off: f64,
    /// Sum of squares of those weights.
    pub size: f64,
}

impl Rounding {
    /// `|e| / |d|`, the norm that is left; 1 for an adapter that changes nothing.
    pub fn norm_share(&self) -> f64 {
        if self.asked > 0.0 { (self.written / self.asked).sqrt() } else { 1.0 }
    }

    /// The cosine of `d` and `e`; 0 where rounding left nothing, 1 where nothing was asked.
    pub fn cosine(&self) -> f64 {
        match (self.asked > 0.0, self.written > 0.0) {
            (true, true) => self.product / (self.asked.sqrt() * self.written.sqrt()),
            (true, false) => 0.0,
            _ => 1.0,
        }
    }

    /// `|e - d| / |d|`, what rounding added for each part of the update; 0 where nothing was asked.
    pub fn noise_share(&self) -> f64 {
        let noise = self.written - 2.0 * self.product + self.asked;
        if self.asked > 0.0 { (noise.max(0.0) / self.asked).sqrt() } else { 0.0 }
    }

    /// What rounding added, beside the weights that it was added to; 0 where all were copied.
    pub fn error_share(&self) -> f64 {
        if self.size > 0.0 { (self.off / self.size).sqrt() } else { 0.0 }
    }

    fn add(&mut self, more: &Self) {
        self.asked += more.asked;
        self.written += more.written;
        self.product += more.product;
        self.off += more.off;
        self.size += more.size;
    }

    /// `d e / |d|^2`, how far the weights went where the adapter wanted them; 1 is all the way.
    pub fn kept(&self) -> f64 {
        if self.asked > 0.0 { self.product / self.asked } else { 1.0 }
    }
}

/// Writes base and adapter as one model: weights, `config.json` and, from a folder, what lies beside
/// them. From a GGUF file the tokenizer is the caller's.
///
/// `origin` is where the adapter lies, for messages.
///
/// # Errors
///
/// [`Error::AdapterMismatch`] or [`Error::TiedHead`] where the adapter changes what the model does not
/// have so; [`Error::NotFinite`] or [`Error::Overflow`] for a weight that cannot be written;
/// [`Error::Stopped`]; a file that cannot be read or written. What was written until then stays.
pub fn fuse(
    checkpoint: &Checkpoint,
    adapter: &Adapter,
    origin: &Path,
    options: &FuseOptions<'_>,
    folder: &Path,
) -> Result<Fused, Error> {
    let parts = parts(checkpoint, adapter, origin, options.dtype)?;
    let modules = parts.iter().filter(|part| part.pair.is_some()).count();
    beside::write_config(checkpoint, &parts, options.dtype, folder)?;
    if checkpoint.gguf().is_none() {
        beside::copy_companions(checkpoint.path(), folder)?;
    }
    let files = files(checkpoint, &parts, options);
    let mut rounding = Rounding::default();
    let kept_metadata = checkpoint.folder_files().map(safetensors::Checkpoint::metadata);
    let metadata =
        kept_metadata.filter(|kept| !kept.is_empty()).cloned().unwrap_or_else(export::metadata);
    for (name, members) in &files {
        let layouts: Vec<_> = members.iter().map(|index| parts[*index].layout()).collect();
        safetensors::write_with(folder.join(name), &layouts, &metadata, |index| {
            if (options.stop)() {
                return Err(Error::Stopped);
            }
            checkpoint.release();
            parts[members[index]].bytes(&mut rounding)
        })?;
    }
    let bytes = parts.iter().map(Part::byte_count).sum();
    if 1 < files.len() || files[0].0 != safetensors::MODEL_FILE {
        let named = |(name, members): &(String, Vec<usize>)| {
            (name.clone(), members.iter().map(|index| parts[*index].name.clone()).collect())
        };
        safetensors::write_index(folder, &files.iter().map(named).collect::<Vec<_>>(), bytes)?;
    }
    let changed = parts.iter().filter(|part| part.pair.is_some()).map(|part| part.written);
    let mut dtypes: Vec<Dtype> = changed.collect();
    dtypes.sort_unstable();
    dtypes.dedup();
    Ok(Fused { modules, files: files.len(), bytes, dtypes, rounding })
}

/// Every tensor of the model in the type that it gets, with what the adapter does to it.
fn parts<'a>(
    checkpoint: &'a Checkpoint,
    adapter: &'a Adapter,
    origin: &Path,
    dtype: Option<Dtype>,
) -> Result<Vec<Part<'a>>, Error> {
    let names = match checkpoint.folder_files() {
        Some(files) => files.names().map(str::to_owned).collect(),
        None => tensor_names(checkpoint.config()),
    };
    let part = |Matched { name, view, pair, is_turned }: Matched<'a>| Part {
        written: dtype.unwrap_or(own_type(view.dtype)),
        order: checkpoint.row_order(&name),
        written_order: RowOrder::AsStored,
        view,
        pair,
        is_turned,
        name,
    };
    let matched = matched(checkpoint, Some((adapter, origin)), names)?;
    Ok(matched.into_iter().map(part).collect())
}

/// The type of a tensor for which none is asked: blocks would round everything anew.
fn own_type(dtype: Dtype) -> Dtype {
    if dtype.is_quantized() { Dtype::F32 } else { dtype }
}

/// A tensor of the base with its matrices of the adapter.
struct Matched<'a> {
    /// Its Hugging Face name.
    name: String,
    view: TensorView<'a>,
    pair: Option<LoraPair<'a>>,
    /// Whether it is stored `[inputs, outputs]`.
    is_turned: bool,
}

/// Finds the tensors, and the matrices that belong to each; all of the adapter belong to one.
fn matched<'a>(
    checkpoint: &'a Checkpoint,
    adapter: Option<(&'a Adapter, &Path)>,
    names: Vec<String>,
) -> Result<Vec<Matched<'a>>, Error> {
    let origin = adapter.map_or(checkpoint.path(), |(_, origin)| origin);
    let mut modules = match adapter {
        Some((adapter, origin)) => modules(checkpoint.config(), adapter, origin)?,
        None => BTreeMap::new(),
    };
    let mismatch = |reason| Error::AdapterMismatch { path: origin.into(), reason };
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let view = checkpoint.view(&name)?;
        let full = checkpoint.full_name(&name);
        let pair = full.strip_suffix(".weight").and_then(|module| modules.remove(module));
        let is_turned = checkpoint.is_turned(&full);
        let stored = |pair: &LoraPair<'_>| match (is_turned, pair.outputs, pair.inputs) {
            (false, outputs, inputs) => [outputs, inputs],
            (true, outputs, inputs) => [inputs, outputs],
        };
        if let Some(pair) = pair.filter(|pair| view.shape != stored(pair)) {
            return Err(mismatch(format!(
                "`{name}` is [{}, {}] there and {:?} in the model",
                pair.outputs, pair.inputs, view.shape
            )));
        }
        found.push(Matched { name, view, pair, is_turned });
    }
    match modules.keys().next() {
        Some(module) => Err(mismatch(format!("the weights of `{module}` are not in the model"))),
        None => Ok(found),
    }
}

/// The adapter's matrices by module; the model has all of these modules.
fn modules<'a>(
    config: &Config,
    adapter: &'a Adapter,
    origin: &Path,
) -> Result<BTreeMap<&'a str, LoraPair<'a>>, Error> {
    let modules = adapter.modules()?;
    let linears = linears(config);
    for module in modules.keys() {
        if *module == "lm_head" && config.tied {
            return Err(Error::TiedHead { path: origin.into() });
        }
        if !linears.iter().any(|linear| linear == module) {
            let reason = format!("the model has no module `{module}`");
            return Err(Error::AdapterMismatch { path: origin.into(), reason });
        }
    }
    Ok(modules)
}

/// The modules that an adapter may change, by full name.
fn linears(config: &Config) -> Vec<String> {
    let in_blocks = (0..config.layers()).flat_map(|layer| {
        config.block_linears(layer).map(move |it| config.in_block(layer, it.name))
    });
    in_blocks.chain((!config.tied).then(|| "lm_head".to_owned())).collect()
}

/// The Hugging Face names of a model's tensors, as its configuration implies them.
fn tensor_names(config: &Config) -> Vec<String> {
    config.tensors().into_iter().map(|(name, _)| name).collect()
}

/// The files to be written, each with its tensors by their index.
fn files(
    checkpoint: &Checkpoint,
    parts: &[Part<'_>],
    options: &FuseOptions<'_>,
) -> Vec<(String, Vec<usize>)> {
    if let (Some(files), None, None) =
        (checkpoint.folder_files(), options.dtype, options.shard_bytes)
    {
        let places: BTreeMap<&str, usize> =
            parts.iter().enumerate().map(|(index, part)| (part.name.as_str(), index)).collect();
        let named = |(path, names): (&Path, Vec<&str>)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, names.iter().filter_map(|name| places.get(name).copied()).collect())
        };
        return files.shards().map(named).collect();
    }
    let limit = options.shard_bytes.unwrap_or(SHARD_BYTES);
    let mut shards: Vec<Vec<usize>> = vec![Vec::new()];
    let mut filled = 0;
    for (index, part) in parts.iter().enumerate() {
        let size = part.byte_count();
        if limit < filled + size && filled > 0 {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(shard) = shards.last_mut() {
            shard.push(index);
        }
    }
    let count = shards.len();
    let name = |index| match count {
        1 => safetensors::MODEL_FILE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    shards.into_iter().enumerate().map(|(index, shard)| (name(index), shard)).collect()
}
