//! What most families have in common, for each to change.

use kernels::ops::{
    activation::{Activation, Curve},
    head::Logits,
};
use serde_json::Value;

use super::{keys::Keys, rope};
use crate::{BlockShape, Config, Error, LinearShape, Mixer, Names, NormKind, decoder::Group};

/// The names of most families.
pub(crate) const NAMES: Names = Names {
    embedding: "model.embed_tokens.weight",
    positions: None,
    block: "model.layers.",
    attention_norm: "input_layernorm",
    post_attention_norm: None,
    mlp_norm: "post_attention_layernorm",
    post_mlp_norm: None,
    head_norms: None,
    scan: None,
    norm: "model.norm",
    head: "lm_head.weight",
    are_linears_turned: false,
};

/// Which linears have biases.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Biases {
    pub(crate) qkv: bool,
    pub(crate) output: bool,
    pub(crate) mlp: bool,
}

/// The widths that linears are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widths {
    pub(crate) hidden: usize,
    /// Of all query heads, and of all key heads.
    pub(crate) query: usize,
    pub(crate) key: usize,
    pub(crate) intermediate: usize,
}

impl Widths {
    /// The widths of a decoder.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            hidden: config.hidden,
            query: config.attention_width(),
            key: config.kv_heads * config.head_dim,
            intermediate: config.intermediate,
        }
    }

    /// Seven linears a block.
    pub(crate) fn linears(self, biases: Biases) -> Vec<LinearShape> {
        let Self { hidden, query, key, intermediate } = self;
        let linear = |name, group, outputs, inputs, has_bias| LinearShape {
            mixer: None,
            name,
            group,
            outputs,
            inputs,
            has_bias,
        };
        vec![
            linear("self_attn.q_proj", Group::Qkv, query, hidden, biases.qkv),
            linear("self_attn.k_proj", Group::Qkv, key, hidden, biases.qkv),
            linear("self_attn.v_proj", Group::Qkv, key, hidden, biases.qkv),
            linear("self_attn.o_proj", Group::Output, hidden, query, biases.output),
            linear("mlp.gate_proj", Group::GateUp, intermediate, hidden, biases.mlp),
            linear("mlp.up_proj", Group::GateUp, intermediate, hidden, biases.mlp),
            linear("mlp.down_proj", Group::Down, hidden, intermediate, biases.mlp),
        ]
    }
}

/// What the keys of most families say; biases, norms and scales are as in plain ones.
pub(super) fn read(keys: &Keys<'_>, head_dim: Option<usize>) -> Result<Config, Error> {
    let hidden = keys.count("hidden_size")?;
    let heads = keys.count("num_attention_heads")?;
    let head_dim = match keys.optional_count("head_dim")?.or(head_dim) {
        Some(dim) => dim,
        None => hidden / heads.max(1),
    };
    let layers = keys.count("num_hidden_layers")?;
    if layers > 1 << 16 {
        return Err(keys.bad(format!("`num_hidden_layers` is {layers}")));
    }
    let mut config = Config {
        family: "",
        hidden,
        blocks: vec![BlockShape { mixer: Mixer::Attention, window: None, rope: Some(0) }; layers],
        heads,
        kv_heads: keys.count_or("num_key_value_heads", heads)?,
        head_dim,
        intermediate: keys.count("intermediate_size")?,
        vocabulary: keys.count("vocab_size")?,
        linears: Vec::new(),
        scan: None,
        norm: NormKind::Rms,
        norm_eps: keys.number_or("rms_norm_eps", 1e-6)? as f32,
        activation: Activation { curve: Curve::Silu, is_gated: true },
        ropes: Vec::new(),
        score_scale: 1.0 / (head_dim as f32).sqrt(),
        score_softcap: None,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logits: Logits::PLAIN,
        tied: keys.flag_or("tie_word_embeddings", false)?,
        context: keys.count_or("max_position_embeddings", 2048)?,
        bos: keys.tokens("bos_token_id").first().copied(),
        eos: keys.tokens("eos_token_id"),
        names: NAMES,
    };
    config.linears = Widths::of(&config).linears(Biases::default());
    Ok(config)
}

/// The one rotary table of most families.
pub(super) fn one_rope(keys: &Keys<'_>, config: &mut Config, theta: f64) -> Result<(), Error> {
    let source = rope::Source {
        keys,
        kind: None,
        theta: ("rope_theta", theta),
        is_scaled: true,
        head_dim: config.head_dim,
    };
    config.ropes = vec![source.read()?];
    Ok(())
}

/// The activation by its name, under a key.
pub(super) fn activation(keys: &Keys<'_>, key: &str, default: Curve) -> Result<Curve, Error> {
    match keys.text(key)? {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Curve::Silu),
        Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Curve::GeluTanh),
        Some(other) => Err(keys.setting(key, &other.into())),
    }
}

/// Which blocks attend within a window: `layer_types`, or the family's own rule in files without.
pub(super) fn windows(
    keys: &Keys<'_>,
    config: &mut Config,
    window: Option<usize>,
    is_windowed: impl Fn(usize) -> bool,
) -> Result<(), Error> {
    let layers = config.layers();
    let kinds = keys.of_blocks("layer_types", layers)?;
    for (layer, block) in config.blocks.iter_mut().enumerate() {
        let is_windowed = match kinds.map(|kinds| &kinds[layer]) {
            None => is_windowed(layer),
            Some(Value::String(kind)) if kind == "sliding_attention" => true,
            Some(Value::String(kind)) if kind == "full_attention" => false,
            Some(other) => return Err(keys.setting("layer_types", other)),
        };
        if is_windowed {
            let missing = || keys.bad("blocks with a window need `sliding_window`".into());
            block.window = Some(window.ok_or_else(missing)?);
        }
    }
    Ok(())
}
