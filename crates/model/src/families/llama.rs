//! Llama, and the families that differ from it in their windows or positions.

use super::{
    base::{self, Biases, Widths},
    keys::Keys,
};
use crate::{Config, Error};
use kernels::ops::activation::Curve;

/// `LlamaForCausalLM`: Llama 2 to 3.2, SmolLM and SmolLM2, TinyLlama and many others.
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
