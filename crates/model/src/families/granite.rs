//! Granite: four multipliers; and its hybrid with Mamba-2.

use super::{
    base::{Biases, Widths},
    keys::Keys,
    llama,
};
use crate::{Config, Error, LinearShape, Mixer, ScanNames, ScanShape, decoder::Group};
use kernels::ops::{head::Logits, ssd};

/// `GraniteForCausalLM`: the dense Granite 3.
pub(super) fn granite(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = llama::llama(keys)?;
    config.embedding_scale = keys.number_or("embedding_multiplier", 1.0)? as f32;
    config.residual_scale = keys.number_or("residual_multiplier", 1.0)? as f32;
    config.score_scale = keys.number_or("attention_multiplier", 1.0)? as f32;
    let divisor = keys.number_or("logits_scaling", 1.0)?;
    config.logits = Logits { scale: (1.0 / divisor) as f32, softcap: None };
    Ok(config)
}

/// `GraniteMoeHybridForCausalLM` without experts: Granite 4.0 H, most of whose blocks carry a state.
pub(super) fn hybrid(keys: &Keys<'_>) -> Result<Config, Error> {
    keys.only("num_local_experts", &[0.into()])?;
    keys.only("normalization_function", &["rmsnorm".into()])?;
    for key in ["num_experts_per_tok", "output_router_logits", "router_aux_loss_coef"] {
        // Without experts nothing is routed.
        keys.get(key);
    }
    let mut config = granite(keys)?;
    config.intermediate = keys.count("shared_intermediate_size")?;
    config.tied = keys.flag_or("tie_word_embeddings", true)?;
    match keys.text("position_embedding_type")? {
        Some("rope") => {}
        None | Some("nope") => config.ropes.clear(),
        Some(other) => return Err(keys.setting("position_embedding_type", &other.into())),
    }
    let kinds = keys.of_blocks("layer_types", config.layers())?;
    let rope = (!config.ropes.is_empty()).then_some(0);
    for (layer, block) in config.blocks.iter_mut().enumerate() {
        let kind = kinds.and_then(|kinds| kinds[layer].as_str());
        (block.mixer, block.rope) = match kind {
            None | Some("mamba" | "linear_attention") => (Mixer::Scan, None),
            Some("attention" | "full_attention") => (Mixer::Attention, rope),
            Some(other) => return Err(keys.setting("layer_types", &other.into())),
        };
    }
    let shape = scan(keys, config.hidden)?;
    let biases = Biases { qkv: keys.flag_or("attention_bias", false)?, ..Biases::default() };
    config.linears = linears(&config, &shape, biases, keys.flag_or("mamba_proj_bias", false)?);
    config.scan = Some(shape);
    config.names.scan = Some(ScanNames {
        conv: "mamba.conv1d",
        a_log: "mamba.A_log",
        d: "mamba.D",
        dt_bias: "mamba.dt_bias",
        norm: "mamba.norm",
    });
    Ok(config)
}

/// The linears of both kinds of blocks; gate and up are one.
fn linears(
    config: &Config,
    shape: &ScanShape,
    biases: Biases,
    has_scan_bias: bool,
) -> Vec<LinearShape> {
    let biases = Biases { output: biases.qkv, ..biases };
    let plain = Widths::of(config).linears(biases);
    let of_attention = |group: Group| {
        let of_group = plain.clone().into_iter().filter(move |linear| linear.group == group);
        of_group.map(|linear| LinearShape { mixer: Some(Mixer::Attention), ..linear })
    };
    let linear = |mixer, name, group, outputs, inputs| LinearShape {
        mixer,
        name,
        group,
        outputs,
        inputs,
        has_bias: mixer.is_some() && has_scan_bias,
    };
    let (hidden, inner, scan) = (config.hidden, shape.layout.inner(), Some(Mixer::Scan));
    let width = config.intermediate;
    let mut linears: Vec<LinearShape> = of_attention(Group::Qkv).collect();
    linears.push(linear(scan, "mamba.in_proj", Group::Qkv, shape.input_width(), hidden));
    linears.extend(of_attention(Group::Output));
    linears.push(linear(scan, "mamba.out_proj", Group::Output, hidden, inner));
    linears.push(linear(None, "shared_mlp.input_linear", Group::GateUp, 2 * width, hidden));
    linears.push(linear(None, "shared_mlp.output_linear", Group::Down, hidden, width));
    linears
}

fn scan(keys: &Keys<'_>, hidden: usize) -> Result<ScanShape, Error> {
    let heads = keys.count_or("mamba_n_heads", 128)?;
    let groups = keys.count_or("mamba_n_groups", 1)?;
    let inner = keys.count_or("mamba_expand", 2)?.saturating_mul(hidden);
    // How rows are cut changes nothing.
    keys.get("mamba_chunk_size");
    let dim = match keys.get("mamba_d_head").and_then(serde_json::Value::as_str) {
        Some("auto") => inner / heads.max(1),
        Some(other) => return Err(keys.setting("mamba_d_head", &other.into())),
        None => keys.optional_count("mamba_d_head")?.unwrap_or(inner / heads.max(1)),
    };
    let layout = ssd::Layout { heads, dim, groups, state: keys.count_or("mamba_d_state", 256)? };
    let taps = keys.count_or("mamba_d_conv", 4)?;
    let is_whole = groups > 0 && heads.is_multiple_of(groups) && layout.state > 0 && taps > 0;
    if heads.checked_mul(dim) != Some(inner) || inner == 0 || !is_whole {
        let reason =
            format!("{heads} heads of {dim} columns do not make the {inner} of its states");
        return Err(keys.bad(reason));
    }
    let limit = match keys.pair("time_step_limit")? {
        None => (0.0, f32::INFINITY),
        Some([low, high]) if low <= high => (low as f32, high as f32),
        Some([low, high]) => return Err(keys.bad(format!("`time_step_limit` is {low} to {high}"))),
    };
    Ok(ScanShape { layout, taps, has_conv_bias: keys.flag_or("mamba_conv_bias", true)?, limit })
}
