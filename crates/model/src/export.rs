//! Writing a fully trained model as a Hugging Face folder.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use formats::{Dtype, safetensors};
use serde_json::{Map, Value, json};

use crate::{Checkpoint, Config, Error, Policy, RopeScaling};

/// Writes `config.json` and `model.safetensors` (f32) of a fully trained model.
///
/// A `config.json` beside the original weights is copied and only its dtype changed; from a GGUF
/// it is made anew. Tokenizer files are the caller's.
///
/// # Errors
///
/// A file that cannot be read or written.
pub fn write_folder(policy: &Policy, checkpoint: &Checkpoint, folder: &Path) -> Result<(), Error> {
    fs_err::create_dir_all(folder)?;
    let mut config = config_json(checkpoint)?;
    config.remove("torch_dtype");
    config.insert("dtype".into(), "float32".into());
    let text = serde_json::to_string_pretty(&config)
        .map_err(|source| Error::Json { path: folder.join("config.json"), source })?;
    formats::write_text(&folder.join("config.json"), &(text + "\n"))?;
    let arena = policy.arena();
    let layouts: Vec<_> = arena
        .slots()
        .iter()
        .map(|slot| safetensors::Layout {
            name: slot.name.clone(),
            dtype: Dtype::F32,
            shape: slot.file_shape(),
        })
        .collect();
    safetensors::write_with(folder.join(safetensors::MODEL_FILE), &layouts, &metadata(), |index| {
        Ok::<_, Error>(Cow::Owned(little_endian(&arena.file_value(index))))
    })
}

/// What PEFT and transformers expect in a file's metadata.
pub(crate) fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

/// Numbers as the file holds them.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(crate) fn config_json(checkpoint: &Checkpoint) -> Result<Map<String, Value>, Error> {
    let path = checkpoint.path().join("config.json");
    if checkpoint.gguf().is_some() {
        return config_from(checkpoint.path(), checkpoint.config());
    }
    let text = fs_err::read_to_string(&path)?;
    serde_json::from_str(&text).map_err(|source| Error::Json { path, source })
}

/// The `config.json` of a model that came without one.
fn config_from(path: &Path, config: &Config) -> Result<Map<String, Value>, Error> {
    let rope = match config.ropes.as_slice() {
        [rope] if config.family == "llama" => rope,
        _ => return Err(Error::NoFolder { family: config.family }),
    };
    let has_bias =
        |name: &str| config.linears.iter().any(|linear| linear.name == name && linear.has_bias);
    let scaling = match &rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Ramp { factor, low_freq_factor, high_freq_factor, original_context } => {
            json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_context,
            })
        }
        RopeScaling::Factors(_) | RopeScaling::ByLength { .. } => {
            return Err(Error::Config {
                path: path.into(),
                reason: "its rotary factors have no counterpart in a Hugging Face configuration"
                    .into(),
            });
        }
    };
    let value = json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": has_bias("self_attn.q_proj"),
        "bos_token_id": config.bos,
        "eos_token_id": config.eos,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": config.context,
        "mlp_bias": has_bias("mlp.gate_proj"),
        "model_type": "llama",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers(),
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_scaling": scaling,
        "rope_theta": rope.theta,
        "tie_word_embeddings": config.tied,
        "vocab_size": config.vocabulary,
    });
    Ok(match value {
        Value::Object(map) => map,
        _ => Map::new(),
    })
}
