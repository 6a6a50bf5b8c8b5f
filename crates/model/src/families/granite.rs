//! Granite: four multipliers.

use super::{
    base::{self, Biases, Widths},
    keys::Keys,
};
use crate::{Config, Error};
use kernels::ops::{activation::Curve, head::Logits};

/// `GraniteForCausalLM`: the dense Granite 3.
pub(super) fn granite(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = base::read(keys, None)?;
    config.activation.curve = base::activation(keys, "hidden_act", Curve::Silu)?;
    let attention = keys.flag_or("attention_bias", false)?;
    let biases =
        Biases { qkv: attention, output: attention, mlp: keys.flag_or("mlp_bias", false)? };
    config.linears = Widths::of(&config).linears(biases);
    base::one_rope(keys, &mut config, 10_000.0)?;
    config.embedding_scale = keys.number_or("embedding_multiplier", 1.0)? as f32;
    config.residual_scale = keys.number_or("residual_multiplier", 1.0)? as f32;
    config.score_scale = keys.number_or("attention_multiplier", 1.0)? as f32;
    let divisor = keys.number_or("logits_scaling", 1.0)?;
    config.logits = Logits { scale: (1.0 / divisor) as f32, softcap: None };
    Ok(config)
}
