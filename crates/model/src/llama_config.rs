//! `config.json` of the Llama family, raw and checked.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Config, Error, RopeScaling};

/// Keys that change nothing in the forward pass, or are read elsewhere.
const HARMLESS: &[&str] = &[
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "initializer_range",
    "attention_dropout",
    "pad_token_id",
    "_name_or_path",
    "pretraining_tp",
    "transformers.js_config",
    "is_llama_config",
    "rope_interleaved",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "is_encoder_decoder",
    "problem_type",
    "use_return_dict",
    "torchscript",
    "is_decoder",
    "add_cross_attention",
    "finetuning_task",
    "unsloth_fixed",
    "unsloth_version",
    "_attn_implementation_autoset",
    "max_length",
    "cross_attention_hidden_size",
];

#[derive(Debug, Deserialize)]
struct RawConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    #[serde(default = "default_eps")]
    rms_norm_eps: f32,
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default = "default_context")]
    max_position_embeddings: usize,
    hidden_act: Option<String>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn default_eps() -> f32 {
    1e-6
}

fn default_context() -> usize {
    2048
}

/// Reads a `config.json`; the second part names keys that were not understood.
///
/// # Errors
///
/// A file that cannot be read, another architecture, or a setting that would change the
/// computation in a way that is not supported.
pub(crate) fn read(path: &Path) -> Result<(Config, Vec<String>), Error> {
    let text = fs_err::read_to_string(path)?;
    let json = |source| Error::Json { path: path.into(), source };
    let value: Value = serde_json::from_str(&text).map_err(json)?;
    refuse_other_families(&value)?;
    let raw: RawConfig =
        serde_json::from_value(value).map_err(|source| bad(path, format!("{source}")))?;
    refuse_settings(path, &raw)?;
    let unknown =
        raw.rest.keys().filter(|key| !HARMLESS.contains(&key.as_str())).cloned().collect();
    let config = Config {
        hidden: raw.hidden_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
        head_dim: raw.head_dim.unwrap_or(raw.hidden_size / raw.num_attention_heads.max(1)),
        intermediate: raw.intermediate_size,
        vocabulary: raw.vocab_size,
        norm_eps: raw.rms_norm_eps,
        rope_theta: rope_theta(&raw),
        rope_scaling: rope_scaling(path, &raw)?,
        tied: raw.tie_word_embeddings,
        attention_bias: raw.attention_bias,
        mlp_bias: raw.mlp_bias,
        context: raw.max_position_embeddings,
        bos: raw.bos_token_id,
        eos: token_ids(raw.eos_token_id.as_ref()),
    };
    check(path, &config)?;
    Ok((config, unknown))
}

/// One id, or a list of them, as `eos_token_id` has it.
pub(crate) fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Checks that the numbers describe a decoder that can exist.
pub(crate) fn check(path: &Path, config: &Config) -> Result<(), Error> {
    let positive = [
        ("hidden_size", config.hidden),
        ("num_hidden_layers", config.layers),
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
    if !config.head_dim.is_multiple_of(2) {
        return Err(bad(path, format!("`head_dim` is {}, rotation needs pairs", config.head_dim)));
    }
    if let RopeScaling::Factors(factors) = &config.rope_scaling
        && (factors.len() != config.head_dim / 2
            || factors.iter().any(|f| !(f.is_finite() && *f > 0.0)))
    {
        return Err(bad(path, "the rotary factors do not fit the heads".into()));
    }
    let finite = config.norm_eps.is_finite() && config.rope_theta.is_finite();
    if !finite || config.norm_eps < 0.0 || config.rope_theta <= 0.0 {
        return Err(bad(path, "`rms_norm_eps` or `rope_theta` is out of range".into()));
    }
    Ok(())
}

fn refuse_other_families(value: &Value) -> Result<(), Error> {
    let architecture = value["architectures"][0].as_str();
    let family = value["model_type"].as_str();
    match (architecture, family) {
        (Some("LlamaForCausalLM"), _) | (None, Some("llama")) => Ok(()),
        (name, family) => Err(Error::Architecture {
            name: name.or(family).unwrap_or("without a name").to_owned(),
        }),
    }
}

fn refuse_settings(path: &Path, raw: &RawConfig) -> Result<(), Error> {
    let setting =
        |key: &str, value: String| Error::Setting { path: path.into(), key: key.into(), value };
    if let Some(act) = raw.hidden_act.as_deref().filter(|act| !matches!(*act, "silu" | "swish")) {
        return Err(setting("hidden_act", act.into()));
    }
    for (key, harmless) in
        [("quantization_config", Value::Null), ("partial_rotary_factor", 1.0.into())]
    {
        if let Some(value) =
            raw.rest.get(key).filter(|value| **value != harmless && !value.is_null())
        {
            let text = if value.is_object() { "{..}".into() } else { value.to_string() };
            return Err(setting(key, text));
        }
    }
    Ok(())
}

/// transformers 5 keeps theta and scaling in `rope_parameters`, older files beside each other.
fn rope_table(raw: &RawConfig) -> Option<&Map<String, Value>> {
    raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref())
}

fn rope_theta(raw: &RawConfig) -> f64 {
    let inside = raw.rope_parameters.as_ref().and_then(|table| table.get("rope_theta")?.as_f64());
    inside.or(raw.rope_theta).unwrap_or(10_000.0)
}

fn rope_scaling(path: &Path, raw: &RawConfig) -> Result<RopeScaling, Error> {
    let Some(table) = rope_table(raw) else { return Ok(RopeScaling::None) };
    let kind = table.get("rope_type").or(table.get("type")).and_then(Value::as_str);
    let number = |key: &str| {
        let value = table.get(key).and_then(Value::as_f64).filter(|v| v.is_finite() && *v > 0.0);
        value.ok_or_else(|| bad(path, format!("rope scaling lacks a positive `{key}`")))
    };
    let count = |key: &str| {
        let value = table.get(key).and_then(Value::as_u64).filter(|v| *v > 0);
        let value = value.and_then(|v| usize::try_from(v).ok());
        value.ok_or_else(|| bad(path, format!("rope scaling lacks a positive whole `{key}`")))
    };
    match kind.unwrap_or("default") {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_context: count("original_max_position_embeddings")?,
        }),
        other => {
            Err(Error::Setting { path: path.into(), key: "rope_type".into(), value: other.into() })
        }
    }
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Config { path: path.into(), reason }
}
