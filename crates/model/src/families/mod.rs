//! The families of decoders: what each `config.json` means, and nothing else of any family.

mod base;
mod gemma;
pub(crate) mod gguf;
mod gpt2;
mod granite;
mod keys;
mod llama;
mod phi;
mod qwen;
mod rope;

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Config, Error, RopeScaling};

use keys::Keys;
pub(crate) use keys::token_ids;
pub(crate) use llama::config_json;

/// A family: the names that files have for it, and how its keys are read.
struct Family {
    /// In `architectures`.
    architecture: &'static str,
    /// In `model_type`.
    model_type: &'static str,
    read: fn(&Keys<'_>) -> Result<Config, Error>,
}

const FAMILIES: [Family; 11] = [
    Family { architecture: "LlamaForCausalLM", model_type: "llama", read: llama::llama },
    Family { architecture: "MistralForCausalLM", model_type: "mistral", read: llama::mistral },
    Family { architecture: "SmolLM3ForCausalLM", model_type: "smollm3", read: llama::smollm3 },
    Family { architecture: "Qwen2ForCausalLM", model_type: "qwen2", read: qwen::qwen2 },
    Family { architecture: "Qwen3ForCausalLM", model_type: "qwen3", read: qwen::qwen3 },
    Family { architecture: "Gemma2ForCausalLM", model_type: "gemma2", read: gemma::gemma2 },
    Family { architecture: "Gemma3ForCausalLM", model_type: "gemma3_text", read: gemma::gemma3 },
    Family { architecture: "Phi3ForCausalLM", model_type: "phi3", read: phi::phi3 },
    Family { architecture: "GraniteForCausalLM", model_type: "granite", read: granite::granite },
    Family {
        architecture: "GraniteMoeHybridForCausalLM",
        model_type: "granitemoehybrid",
        read: granite::hybrid,
    },
    Family { architecture: "GPT2LMHeadModel", model_type: "gpt2", read: gpt2::gpt2 },
];

/// The architectures that are supported, by their names in `config.json`.
pub(crate) fn architectures() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.architecture).collect()
}

/// Reads a `config.json`; the second part names keys that were not understood.
///
/// # Errors
///
/// A file that cannot be read, another architecture, or a setting that would change the
/// computation in a way that is not supported.
pub(crate) fn read(path: &Path) -> Result<(Config, Vec<String>), Error> {
    read_map(path, json(path)?)
}

/// The table in a configuration file. Python writes numbers that are no JSON, such as `Infinity`;
/// they become texts.
///
/// # Errors
///
/// A file that cannot be read, or holds no table.
pub(crate) fn json(path: &Path) -> Result<Map<String, Value>, Error> {
    let text = fs_err::read_to_string(path)?;
    let parsed = serde_json::from_str(&text).or_else(|error| {
        // The first error is the better one, if quotes do not help.
        serde_json::from_str(&quoted(&text)).map_err(|_| error)
    });
    match parsed.map_err(|source| Error::Json { path: path.into(), source })? {
        Value::Object(map) => Ok(map),
        _ => Err(bad(path, "it is not a table".into())),
    }
}

/// Puts quotes around Python's numbers that are no JSON, outside of texts.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut is_text, mut rest) = (false, text);
    while let Some(next) = rest.chars().next() {
        let number = ["-Infinity", "Infinity", "NaN"].into_iter().find(|it| rest.starts_with(it));
        let taken = if let Some(number) = number.filter(|_| !is_text) {
            out.extend(['"'].into_iter().chain(number.chars()).chain(['"']));
            number.len()
        } else {
            is_text ^= next == '"';
            // What follows a backslash in a text ends nothing.
            let escaped = rest.chars().nth(1).filter(|_| is_text && next == '\\');
            out.extend(std::iter::once(next).chain(escaped));
            next.len_utf8() + escaped.map_or(0, char::len_utf8)
        };
        rest = &rest[taken..];
    }
    out
}

/// Reads the keys of a configuration that lies in `path`, as [`read`].
pub(crate) fn read_map(
    path: &Path,
    map: Map<String, Value>,
) -> Result<(Config, Vec<String>), Error> {
    let family = family(&map)?;
    let keys = Keys::new(path, map);
    keys.only("quantization_config", &[])?;
    let config = Config { family: family.model_type, ..(family.read)(&keys)? };
    check(path, &config)?;
    Ok((config, keys.unknown()))
}

fn family(map: &Map<String, Value>) -> Result<&'static Family, Error> {
    let architecture = map.get("architectures").and_then(|list| list[0].as_str());
    let model_type = map.get("model_type").and_then(Value::as_str);
    let found = FAMILIES.iter().find(|family| match architecture {
        Some(architecture) => architecture == family.architecture,
        None => model_type == Some(family.model_type),
    });
    let name = || architecture.or(model_type).unwrap_or("without a name").to_owned();
    found.ok_or_else(|| Error::Architecture { name: name(), known: architectures() })
}

/// Checks that the numbers describe a decoder that can exist.
fn check(path: &Path, config: &Config) -> Result<(), Error> {
    let positive = [
        ("hidden_size", config.hidden),
        ("num_hidden_layers", config.layers()),
        ("num_attention_heads", config.heads),
        ("num_key_value_heads", config.kv_heads),
        ("head_dim", config.head_dim),
        ("intermediate_size", config.intermediate),
        ("vocab_size", config.vocabulary),
        ("max_position_embeddings", config.context),
    ];
    for (key, value) in positive {
        if value == 0 || value > 1 << 28 {
            return Err(bad(path, format!("`{key}` is {value}")));
        }
    }
    if !config.heads.is_multiple_of(config.kv_heads) {
        let (heads, kv) = (config.heads, config.kv_heads);
        return Err(bad(path, format!("{heads} query heads cannot share {kv} key-value heads")));
    }
    for rope in &config.ropes {
        if !rope.dim.is_multiple_of(2) || config.head_dim < rope.dim {
            return Err(bad(path, format!("{} columns of a head cannot turn in pairs", rope.dim)));
        }
        let fit = |factors: &[f32]| {
            factors.len() == rope.dim / 2 && factors.iter().all(|f| f.is_finite() && *f > 0.0)
        };
        let is_fitting = match &rope.scaling {
            RopeScaling::Factors(factors) => fit(factors),
            RopeScaling::ByLength { short, long, .. } => fit(short) && fit(long),
            _ => true,
        };
        if !is_fitting {
            return Err(bad(path, "the rotary factors do not fit the heads".into()));
        }
        if !rope.theta.is_finite() || rope.theta <= 0.0 || !rope.magnitude.is_finite() {
            return Err(bad(path, "`rope_theta` is out of range".into()));
        }
    }
    let scales =
        [config.score_scale, config.embedding_scale, config.residual_scale, config.logits.scale];
    if scales.iter().any(|scale| !scale.is_finite()) {
        return Err(bad(path, "a multiplier is not a number".into()));
    }
    if !config.norm_eps.is_finite() || config.norm_eps < 0.0 {
        return Err(bad(path, "`rms_norm_eps` is out of range".into()));
    }
    if config.blocks.iter().any(|block| block.window == Some(0)) {
        return Err(bad(path, "`sliding_window` is 0".into()));
    }
    Ok(())
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Config { path: path.into(), reason }
}

/// A table that was written out.
fn table(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
