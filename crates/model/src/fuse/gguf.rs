//! A model, with or without an adapter in its weights, as one GGUF file.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use formats::{
    Dtype, Layout, convert,
    gguf::{self, FileType, Metadata, Place, Value},
    peft::Adapter,
};

use super::{Matched, Rounding, beside, matched, own_type, part::Part, tensor_names};
use crate::{Checkpoint, Config, Error, families::gguf as names};

/// The version of how blocks are laid out.
const QUANTIZATION_VERSION: u32 = 2;

/// Keys of a GGUF base that do not hold for what is made of it, by how they start.
const OUTDATED: [&str; 6] = [
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
    "general.quantized_by",
    "quantize.",
    "split.",
];

/// How to write a GGUF file.
pub struct GgufOptions<'a> {
    /// How its tensors are stored; absent, each keeps its type, and quantized ones become `F32`.
    pub file_type: Option<FileType>,
    /// Metadata that wins over what the base says: its name, where it comes from, the tokenizer.
    pub metadata: &'a [(String, Value)],
    /// Asked before each tensor; true ends it with [`Error::Stopped`].
    pub stop: &'a dyn Fn() -> bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedGguf {
    /// How many linears were changed.
    pub modules: usize,
    /// What the file says that it is.
    pub file_type: FileType,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Matrices of each type.
    pub matrices: BTreeMap<Dtype, usize>,
    /// Matrices whose rows are no whole blocks of the type that they should have, by the type that
    /// they got instead.
    pub replaced: BTreeMap<Dtype, usize>,
    /// What rounding did to the weights, and to the update.
    pub rounding: Rounding,
}

/// Writes a model, with an adapter in its weights or as it is, as a GGUF file.
///
/// The adapter comes with where it lies, for messages. Vectors are stored as `F32` always.
///
/// # Errors
///
/// As [`fuse`](super::fuse).
pub fn fuse_gguf(
    checkpoint: &Checkpoint,
    adapter: Option<(&Adapter, &Path)>,
    options: &GgufOptions<'_>,
    path: &Path,
) -> Result<FusedGguf, Error> {
    let (parts, replaced) = parts(checkpoint, adapter, options.file_type)?;
    let mut matrices = BTreeMap::new();
    let mut bytes_of = BTreeMap::new();
    for part in parts.iter().filter(|part| 1 < part.view.shape.len()) {
        *matrices.entry(part.written).or_insert(0) += 1;
        *bytes_of.entry(part.written).or_insert(0) += part.byte_count();
    }
    let most = bytes_of.iter().max_by_key(|(_, bytes)| **bytes).map(|(dtype, _)| *dtype);
    let file_type = options.file_type.unwrap_or(match most {
        Some(Dtype::F16) => FileType::F16,
        Some(Dtype::Bf16) => FileType::Bf16,
        _ => FileType::F32,
    });
    let metadata = metadata(checkpoint, file_type, options.metadata)?;
    let factors = names::rope_factors(checkpoint.config());
    let factor_count = factors.as_ref().map_or(0, Vec::len);
    let of_factors = factors.is_some().then(|| Layout {
        name: "rope_freqs.weight".into(),
        dtype: Dtype::F32,
        shape: vec![factor_count],
    });
    let layouts: Vec<_> = of_factors.into_iter().chain(parts.iter().map(Part::layout)).collect();
    let before = layouts.len() - parts.len();
    let mut rounding = Rounding::default();
    gguf::write_with(path, &metadata, &layouts, |index| {
        if (options.stop)() {
            return Err(Error::Stopped);
        }
        checkpoint.release();
        match (index.checked_sub(before), &factors) {
            (None, Some(factors)) => Ok(Cow::Owned(convert::f32_bytes(factors).into_owned())),
            (place, _) => parts[place.unwrap_or(0)].bytes(&mut rounding),
        }
    })?;
    if let (None, Some(folder)) = (checkpoint.gguf(), path.parent()) {
        beside::copy_legal(checkpoint.path(), folder)?;
    }
    let bytes = parts.iter().map(Part::byte_count).sum();
    let modules = parts.iter().filter(|part| part.pair.is_some()).count();
    Ok(FusedGguf { modules, file_type, bytes, matrices, replaced, rounding })
}

/// Tensors, and how many matrices got each type in place of another.
type Parts<'a> = (Vec<Part<'a>>, BTreeMap<Dtype, usize>);

/// Every tensor in the order of the layers, with what the adapter does to it.
fn parts<'a>(
    checkpoint: &'a Checkpoint,
    adapter: Option<(&'a Adapter, &Path)>,
    file_type: Option<FileType>,
) -> Result<Parts<'a>, Error> {
    let config = checkpoint.config();
    let mut replaced = BTreeMap::new();
    let mut parts = Vec::new();
    for Matched { name, view, pair, is_turned } in
        matched(checkpoint, adapter, tensor_names(config))?
    {
        let written_name = names::tensor_name(config, &name);
        let written = match file_type {
            _ if view.shape.len() < 2 => Dtype::F32,
            None => own_type(view.dtype),
            Some(file_type) => {
                let place = Place {
                    name: &written_name,
                    cols: view.cols(),
                    layers: config.layers(),
                    tied: config.tied,
                };
                let (dtype, is_replaced) = file_type.dtype(place);
                if is_replaced {
                    *replaced.entry(dtype).or_insert(0) += 1;
                }
                dtype
            }
        };
        let order = checkpoint.row_order(&name);
        let written_order = names::row_order(config, &name);
        parts.push(Part {
            name: written_name,
            view,
            order,
            written,
            written_order,
            pair,
            is_turned,
        });
    }
    parts.sort_by_cached_key(|part| place_of(&part.name));
    Ok((parts, replaced))
}

/// Where a tensor stands: the embedding, the layers by number, what comes behind them.
fn place_of(name: &str) -> (usize, usize, String) {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
    let part = match (name, layer) {
        ("token_embd.weight", _) => 0,
        (_, Some(_)) => 1,
        _ => 2,
    };
    (part, layer.unwrap_or(0), name.to_owned())
}

/// The metadata of a file: what a GGUF base says or the configuration implies, and what is given.
fn metadata(
    checkpoint: &Checkpoint,
    file_type: FileType,
    given: &[(String, Value)],
) -> Result<Metadata, Error> {
    let mut metadata = match checkpoint.gguf() {
        Some(file) => {
            let holds = |key: &str| !OUTDATED.iter().any(|start| key.starts_with(start));
            let kept = file.metadata().iter().filter(|(key, _)| holds(key));
            kept.map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        None => fresh_metadata(checkpoint.config())?,
    };
    let version = QUANTIZATION_VERSION;
    metadata.push(("general.file_type".into(), Value::U32(file_type.id())));
    metadata.push(("general.quantization_version".into(), Value::U32(version)));
    let replaced: BTreeSet<&String> = given.iter().map(|(key, _)| key).collect();
    metadata.retain(|(key, _)| !replaced.contains(key));
    metadata.extend(given.iter().cloned());
    // People read the head of a listing; the order within a part stays.
    let rank = |key: &str| match key {
        "general.architecture" => 0,
        _ if key.starts_with("general.") => 1,
        _ if key.starts_with("tokenizer.") => 3,
        _ => 2,
    };
    metadata.sort_by_key(|(key, _)| rank(key));
    Ok(metadata)
}

/// What a configuration implies.
fn fresh_metadata(config: &Config) -> Result<Metadata, Error> {
    let text = |text: &str| Value::String(text.to_owned());
    let mut metadata = vec![
        ("general.architecture".to_owned(), text(names::architecture_of(config)?)),
        ("general.type".to_owned(), text("model")),
        ("general.size_label".to_owned(), text(&size_label(config.parameter_count()))),
    ];
    metadata.extend(names::metadata(config)?);
    Ok(metadata)
}

/// A number of weights as names of models have it: `135M`, `1.2B`.
fn size_label(count: usize) -> String {
    let (size, unit) = match count {
        0..1_000_000 => (1e3, "K"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        _ => (1e9, "B"),
    };
    let size = count as f64 / size;
    if size < 10.0 { format!("{size:.1}{unit}") } else { format!("{size:.0}{unit}") }
}
