//! Llama, and the families that differ from it in their windows or positions.

use std::path::Path;

use kernels::ops::activation::Curve;
use serde_json::{Map, Value, json};

use super::{
    base::{self, Biases, Widths},
    keys::Keys,
};
use crate::{Config, Error, RopeScaling};

/// `LlamaForCausalLM`: Llama 2 to 3.2, the first two `SmolLM`, and many others.
pub(super) fn llama(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = base::read(keys, None)?;
    config.activation.curve = base::activation(keys, "hidden_act", Curve::Silu)?;
    let attention = keys.flag_or("attention_bias", false)?;
    let biases =
        Biases { qkv: attention, output: attention, mlp: keys.flag_or("mlp_bias", false)? };
    config.linears = Widths::of(&config).linears(biases);
    base::one_rope(keys, &mut config, 10_000.0)?;
    Ok(config)
}

/// `MistralForCausalLM`: a window over all blocks, where there is one.
pub(super) fn mistral(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = base::read(keys, None)?;
    config.activation.curve = base::activation(keys, "hidden_act", Curve::Silu)?;
    base::one_rope(keys, &mut config, 10_000.0)?;
    // A file that says nothing means the window of the first release; later ones say null.
    let window = if keys.has("sliding_window") {
        keys.optional_count("sliding_window")?
    } else {
        Some(4096)
    };
    for block in &mut config.blocks {
        block.window = window;
    }
    Ok(config)
}

/// `SmolLM3ForCausalLM`: some blocks know no positions.
pub(super) fn smollm3(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = llama(keys)?;
    base::one_rope(keys, &mut config, 2_000_000.0)?;
    config.tied = keys.flag_or("tie_word_embeddings", true)?;
    let interval = keys.count_or("no_rope_layer_interval", 4)?.max(1);
    let listed = keys.of_blocks("no_rope_layers", config.layers())?;
    for (layer, block) in config.blocks.iter_mut().enumerate() {
        // Of this list 1 is a block that turns.
        let turns = match listed {
            Some(list) => list[layer].as_u64() != Some(0),
            None => !(layer + 1).is_multiple_of(interval),
        };
        block.rope = turns.then_some(0);
    }
    let turned: Vec<bool> = config.blocks.iter().map(|block| block.rope.is_some()).collect();
    let slides = keys.flag_or("use_sliding_window", false)?;
    let window = keys.optional_count("sliding_window")?;
    base::windows(keys, &mut config, window, |layer| slides && window.is_some() && !turned[layer])?;
    Ok(config)
}

/// The `config.json` of a model that came without one.
///
/// # Errors
///
/// A family, or a scaling, for which none is written.
pub(crate) fn config_json(path: &Path, config: &Config) -> Result<Map<String, Value>, Error> {
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
    Ok(super::table(value))
}
