//! Phi 3, 3.5 and 4: q, k and v in one linear, gate and up in another.

use super::{base, keys::Keys};
use crate::{Config, Error, LinearShape, decoder::Group};
use kernels::ops::activation::Curve;

/// `Phi3ForCausalLM`.
pub(super) fn phi3(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = base::read(keys, None)?;
    config.activation.curve = base::activation(keys, "hidden_act", Curve::Silu)?;
    let linear = |name, group, outputs, inputs| LinearShape {
        mixer: None,
        name,
        group,
        outputs,
        inputs,
        has_bias: false,
    };
    config.linears = vec![
        linear("self_attn.qkv_proj", Group::Qkv, config.qkv_width(), config.hidden),
        linear("self_attn.o_proj", Group::Output, config.hidden, config.attention_width()),
        linear("mlp.gate_up_proj", Group::GateUp, 2 * config.intermediate, config.hidden),
        linear("mlp.down_proj", Group::Down, config.hidden, config.intermediate),
    ];
    keys.only("embd_layer_norm", &[false.into()])?;
    keys.optional_count("original_max_position_embeddings")?;
    base::one_rope(keys, &mut config, 10_000.0)?;
    let window = keys.optional_count("sliding_window")?;
    for block in &mut config.blocks {
        block.window = window;
    }
    Ok(config)
}
