//! Gemma 2, and the text part of Gemma 3.

use super::{
    base::{self, Biases, Widths},
    keys::Keys,
    rope::Source,
};
use crate::{Config, Error, Names, NormKind};
use kernels::ops::{activation::Curve, head::Logits};

/// The names of both: norms before and after attention and feed-forward.
const NAMES: Names = Names {
    post_attention_norm: Some("post_attention_layernorm"),
    mlp_norm: "pre_feedforward_layernorm",
    post_mlp_norm: Some("post_feedforward_layernorm"),
    ..base::NAMES
};

/// `Gemma2ForCausalLM`: bent scores and logits, every other block with a window.
pub(super) fn gemma2(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = read(keys, Some(50.0), Some(30.0))?;
    base::one_rope(keys, &mut config, 10_000.0)?;
    let window = keys.count_or("sliding_window", 4096)?;
    base::windows(keys, &mut config, Some(window), |layer| layer.is_multiple_of(2))?;
    Ok(config)
}

/// `Gemma3ForCausalLM`: normalized heads, most blocks with a window and a rotary table of their own.
pub(super) fn gemma3(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = read(keys, None, None)?;
    keys.only("use_bidirectional_attention", &[false.into()])?;
    config.names.head_norms = Some(["self_attn.q_norm", "self_attn.k_norm"]);
    let window = keys.count_or("sliding_window", 4096)?;
    let period = keys.count_or("sliding_window_pattern", 6)?;
    keys.get("_sliding_window_pattern");
    base::windows(keys, &mut config, Some(window), |layer| {
        !(layer + 1).is_multiple_of(period.max(1))
    })?;
    let head_dim = config.head_dim;
    let [whole, local] = [
        ("full_attention", ("rope_theta", 1_000_000.0), true),
        ("sliding_attention", ("rope_local_base_freq", 10_000.0), false),
    ]
    .map(|(kind, theta, is_scaled)| {
        Source { keys, kind: Some(kind), theta, is_scaled, head_dim }.read()
    });
    config.ropes = vec![whole?, local?];
    for block in &mut config.blocks {
        block.rope = Some(usize::from(block.window.is_some()));
    }
    Ok(config)
}

fn read(keys: &Keys<'_>, score_cap: Option<f32>, logit_cap: Option<f32>) -> Result<Config, Error> {
    let mut config = base::read(keys, Some(256))?;
    let attention = keys.flag_or("attention_bias", false)?;
    let biases = Biases { qkv: attention, output: attention, mlp: false };
    config.linears = Widths::of(&config).linears(biases);
    // Older files have the name of another family's key beside the one that counts.
    keys.get("hidden_act");
    config.activation.curve = base::activation(keys, "hidden_activation", Curve::GeluTanh)?;
    config.names = NAMES;
    config.norm = NormKind::RmsPlusOne;
    config.embedding_scale = (config.hidden as f64).sqrt() as f32;
    let scalar = keys.number_or("query_pre_attn_scalar", 256.0)?;
    config.score_scale = (1.0 / scalar.sqrt()) as f32;
    let cap = |key: &str, default: Option<f32>| {
        if keys.has(key) { keys.optional_limit(key) } else { Ok(default) }
    };
    config.score_softcap = cap("attn_logit_softcapping", score_cap)?;
    let softcap = cap("final_logit_softcapping", logit_cap)?;
    config.logits = Logits { scale: 1.0, softcap };
    config.tied = keys.flag_or("tie_word_embeddings", true)?;
    Ok(config)
}
