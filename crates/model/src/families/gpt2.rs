//! GPT-2: learned positions, centred norms, linears stored turned, nothing gated.

use kernels::ops::{
    activation::{Activation, Curve},
    head::Logits,
};

use super::{base, keys::Keys};
use crate::{BlockShape, Config, Error, LinearShape, Mixer, Names, NormKind, decoder::Group};

const NAMES: Names = Names {
    embedding: "transformer.wte.weight",
    positions: Some("transformer.wpe.weight"),
    block: "transformer.h.",
    attention_norm: "ln_1",
    post_attention_norm: None,
    mlp_norm: "ln_2",
    post_mlp_norm: None,
    head_norms: None,
    scan: None,
    norm: "transformer.ln_f",
    head: "lm_head.weight",
    are_linears_turned: true,
};

/// `GPT2LMHeadModel`.
pub(super) fn gpt2(keys: &Keys<'_>) -> Result<Config, Error> {
    let (hidden, heads) = (keys.count("n_embd")?, keys.count("n_head")?);
    if heads == 0 || !hidden.is_multiple_of(heads) {
        return Err(keys.bad(format!("{hidden} columns do not divide among {heads} heads")));
    }
    let layers = keys.count("n_layer")?;
    if layers > 1 << 16 {
        return Err(keys.bad(format!("`n_layer` is {layers}")));
    }
    let intermediate = keys.optional_count("n_inner")?.unwrap_or(4 * hidden);
    for (key, wanted) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        keys.only(key, &[wanted.into()])?;
    }
    // It orders the sum of a product, whose rounding is not the same in any two programs.
    keys.get("reorder_and_upcast_attn");
    let curve = base::activation(keys, "activation_function", Curve::GeluTanh)?;
    let linear = |name, group, outputs, inputs| LinearShape {
        mixer: None,
        name,
        group,
        outputs,
        inputs,
        has_bias: true,
    };
    Ok(Config {
        family: "",
        hidden,
        blocks: vec![BlockShape { mixer: Mixer::Attention, window: None, rope: None }; layers],
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        intermediate,
        vocabulary: keys.count("vocab_size")?,
        linears: vec![
            linear("attn.c_attn", Group::Qkv, 3 * hidden, hidden),
            linear("attn.c_proj", Group::Output, hidden, hidden),
            linear("mlp.c_fc", Group::GateUp, intermediate, hidden),
            linear("mlp.c_proj", Group::Down, hidden, intermediate),
        ],
        scan: None,
        norm: NormKind::Layer,
        norm_eps: keys.number_or("layer_norm_epsilon", 1e-5)? as f32,
        activation: Activation { curve, is_gated: false },
        ropes: Vec::new(),
        score_scale: 1.0 / ((hidden / heads) as f32).sqrt(),
        score_softcap: None,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logits: Logits::PLAIN,
        tied: keys.flag_or("tie_word_embeddings", true)?,
        context: keys.count_or("n_positions", 1024)?,
        bos: keys.tokens("bos_token_id").first().copied(),
        eos: keys.tokens("eos_token_id"),
        names: NAMES,
    })
}
