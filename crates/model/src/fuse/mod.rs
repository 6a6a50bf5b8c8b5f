//! An adapter put into the weights that it belongs to, and the whole written as a Hugging Face folder.
//!
//! ```text
//! W' = round(W + scale * B A)
//! ```
//!
//! Products and sums are in f64, in a fixed order, and each weight is rounded once. Tensors that no
//! adapter changes are copied byte for byte where their type stays. One tensor is in memory at a time.

mod beside;
mod part;

use std::{collections::BTreeMap, path::Path};

use formats::{Dtype, peft::Adapter, safetensors};

use crate::{Checkpoint, Config, Error, export};
use part::Part;

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

/// Every tensor of the model, with what the adapter does to it.
fn parts<'a>(
    checkpoint: &'a Checkpoint,
    adapter: &'a Adapter,
    origin: &Path,
    dtype: Option<Dtype>,
) -> Result<Vec<Part<'a>>, Error> {
    let mut modules = adapter.modules()?;
    let linears = linears(checkpoint.config());
    let mismatch = |reason| Error::AdapterMismatch { path: origin.into(), reason };
    for module in modules.keys() {
        if *module == "lm_head" && checkpoint.config().tied {
            return Err(Error::TiedHead { path: origin.into() });
        }
        if !linears.iter().any(|linear| linear == module) {
            return Err(mismatch(format!("the model has no module `{module}`")));
        }
    }
    let names = match checkpoint.folder_files() {
        Some(files) => files.names().map(str::to_owned).collect(),
        None => tensor_names(checkpoint.config(), &linears),
    };
    let mut parts = Vec::with_capacity(names.len());
    for name in names {
        let view = checkpoint.view(&name)?;
        let pair = name.strip_suffix(".weight").and_then(|module| modules.remove(module));
        if let Some(pair) = pair
            && view.shape != [pair.outputs, pair.inputs]
        {
            return Err(mismatch(format!(
                "`{name}` is [{}, {}] there and {:?} in the model",
                pair.outputs, pair.inputs, view.shape
            )));
        }
        let own = if view.dtype.is_quantized() { Dtype::F32 } else { view.dtype };
        let order = checkpoint.row_order(&name);
        parts.push(Part { view, order, written: dtype.unwrap_or(own), pair, name });
    }
    match modules.keys().next() {
        Some(module) => Err(mismatch(format!("the weights of `{module}` are not in the model"))),
        None => Ok(parts),
    }
}

/// The modules that an adapter may change, by full name.
fn linears(config: &Config) -> Vec<String> {
    let of_block = config.linears();
    let in_blocks = (0..config.layers)
        .flat_map(|layer| of_block.iter().map(move |it| format!("model.layers.{layer}.{}", it.0)));
    in_blocks.chain((!config.tied).then(|| "lm_head".to_owned())).collect()
}

/// The Hugging Face names of a model's tensors, as its configuration implies them.
fn tensor_names(config: &Config, linears: &[String]) -> Vec<String> {
    let mut names = vec!["model.embed_tokens.weight".to_owned(), "model.norm.weight".to_owned()];
    for layer in 0..config.layers {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            names.push(format!("model.layers.{layer}.{norm}.weight"));
        }
    }
    let has_bias = |linear: &str| {
        let kinds = [("self_attn", config.attention_bias), ("mlp", config.mlp_bias)];
        kinds.iter().any(|(kind, has)| *has && linear.contains(kind))
    };
    for linear in linears {
        names.push(format!("{linear}.weight"));
        if has_bias(linear) {
            names.push(format!("{linear}.bias"));
        }
    }
    names.sort_unstable();
    names
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
