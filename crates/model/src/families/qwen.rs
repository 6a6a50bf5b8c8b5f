//! Qwen 2, 2.5 and 3.

use super::{
    base::{self, Biases, Widths},
    keys::Keys,
};
use crate::{Config, Error, Names};
use kernels::ops::activation::Curve;

/// `Qwen2ForCausalLM`: biases on q, k and v alone.
pub(super) fn qwen2(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = base::read(keys, None)?;
    let biases = Biases { qkv: true, ..Biases::default() };
    config.linears = Widths::of(&config).linears(biases);
    finish(keys, config)
}

/// `Qwen3ForCausalLM`: normalized query and key heads.
pub(super) fn qwen3(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = base::read(keys, Some(128))?;
    let attention = keys.flag_or("attention_bias", false)?;
    let biases = Biases { qkv: attention, output: attention, mlp: false };
    config.linears = Widths::of(&config).linears(biases);
    config.names =
        Names { head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]), ..config.names };
    finish(keys, config)
}

fn finish(keys: &Keys<'_>, mut config: Config) -> Result<Config, Error> {
    config.activation.curve = base::activation(keys, "hidden_act", Curve::Silu)?;
    base::one_rope(keys, &mut config, 10_000.0)?;
    let slides = keys.flag_or("use_sliding_window", false)?;
    let window = keys.optional_count("sliding_window")?;
    let first = keys.count_or("max_window_layers", 28)?;
    if slides {
        base::windows(keys, &mut config, window, |layer| window.is_some() && first <= layer)?;
    } else {
        // Nothing slides, whatever the list of blocks says.
        keys.get("layer_types");
    }
    Ok(config)
}
