//! GGUF files of the `llama` architecture: metadata to configuration and back, names to names.

use std::path::Path;

use formats::gguf::{Gguf, Metadata, Value};

use crate::{Config, Error, RopeScaling, llama_config, policy::rope_table, weights::RowOrder};

/// The name of the architecture, and what its keys start with.
pub(crate) const ARCHITECTURE: &str = "llama";

/// Reads the configuration of a GGUF file.
pub(crate) fn config(path: &Path, file: &Gguf) -> Result<Config, Error> {
    let architecture = file.get_str("general.architecture")?;
    if architecture != ARCHITECTURE {
        return Err(Error::Architecture { name: architecture.to_owned() });
    }
    let number = |key: &str| Ok::<usize, Error>(file.get_u32(&format!("llama.{key}"))? as usize);
    let optional =
        |key: &str| file.get_u32(&format!("llama.{key}")).ok().map(|value| value as usize);
    if optional("expert_count").is_some_and(|count| count > 0) {
        return Err(Error::Architecture { name: "llama with experts".into() });
    }
    let hidden = number("embedding_length")?;
    let heads = number("attention.head_count")?;
    let head_dim = optional("attention.key_length").unwrap_or(hidden / heads.max(1));
    if let Some(rotated) = optional("rope.dimension_count").filter(|count| *count != head_dim) {
        return Err(Error::Setting {
            path: path.into(),
            key: "llama.rope.dimension_count".into(),
            value: rotated.to_string(),
        });
    }
    let vocabulary = file.tensor("token_embd.weight")?.shape.first().copied().unwrap_or(0);
    let config = Config {
        hidden,
        layers: number("block_count")?,
        heads,
        kv_heads: optional("attention.head_count_kv").unwrap_or(heads),
        head_dim,
        intermediate: number("feed_forward_length")?,
        vocabulary,
        norm_eps: file.get_f32("llama.attention.layer_norm_rms_epsilon")?,
        rope_theta: file.get_f32("llama.rope.freq_base").map_or(10_000.0, f64::from),
        rope_scaling: rope_scaling(path, file)?,
        tied: file.tensor("output.weight").is_err(),
        attention_bias: file.tensor("blk.0.attn_q.bias").is_ok(),
        mlp_bias: file.tensor("blk.0.ffn_gate.bias").is_ok(),
        context: optional("context_length").unwrap_or(2048),
        bos: file.get_u32("tokenizer.ggml.bos_token_id").ok(),
        eos: ends(file),
    };
    llama_config::check(path, &config)?;
    Ok(config)
}

fn ends(file: &Gguf) -> Vec<u32> {
    let mut ends = Vec::new();
    for key in ["eos", "eot", "eom"] {
        if let Ok(id) = file.get_u32(&format!("tokenizer.ggml.{key}_token_id"))
            && !ends.contains(&id)
        {
            ends.push(id);
        }
    }
    ends
}

fn rope_scaling(path: &Path, file: &Gguf) -> Result<RopeScaling, Error> {
    if let Ok(factors) = file.tensor("rope_freqs.weight") {
        let mut values = vec![0.0; factors.shape.iter().product()];
        factors.read_row(0, &mut values)?;
        return Ok(RopeScaling::Factors(values));
    }
    match file.get_str("llama.rope.scaling.type").unwrap_or("none") {
        "none" => Ok(RopeScaling::None),
        "linear" => {
            let factor = f64::from(file.get_f32("llama.rope.scaling.factor")?);
            Ok(RopeScaling::Linear { factor })
        }
        other => Err(Error::Setting {
            path: path.into(),
            key: "llama.rope.scaling.type".into(),
            value: other.into(),
        }),
    }
}

/// The metadata from which [`config`] reads the same configuration; [`rope_factors`] go with it.
pub(crate) fn metadata(config: &Config) -> Metadata {
    let count = |value: usize| Value::U32(value as u32);
    let mut metadata: Metadata = [
        ("vocab_size", count(config.vocabulary)),
        ("context_length", count(config.context)),
        ("embedding_length", count(config.hidden)),
        ("block_count", count(config.layers)),
        ("feed_forward_length", count(config.intermediate)),
        ("attention.head_count", count(config.heads)),
        ("attention.head_count_kv", count(config.kv_heads)),
        ("attention.key_length", count(config.head_dim)),
        ("attention.value_length", count(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps)),
        ("rope.dimension_count", count(config.head_dim)),
        ("rope.freq_base", Value::F32(config.rope_theta as f32)),
    ]
    .map(|(key, value)| (format!("{ARCHITECTURE}.{key}"), value))
    .into();
    if let RopeScaling::Linear { factor } = config.rope_scaling {
        let scaling = |key: &str| format!("{ARCHITECTURE}.rope.scaling.{key}");
        metadata.push((scaling("type"), Value::String("linear".into())));
        metadata.push((scaling("factor"), Value::F32(factor as f32)));
    }
    metadata
}

/// What `rope_freqs.weight` divides each rotary frequency by, where a file has that tensor.
pub(crate) fn rope_factors(config: &Config) -> Option<Vec<f32>> {
    match &config.rope_scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => None,
        RopeScaling::Factors(factors) => Some(factors.clone()),
        RopeScaling::Llama3 { .. } => {
            let plain = Config { rope_scaling: RopeScaling::None, ..config.clone() };
            let [plain, scaled] = [rope_table(&plain), rope_table(config)];
            let pairs = plain.inverse_frequencies().iter().zip(scaled.inverse_frequencies());
            Some(pairs.map(|(plain, scaled)| plain / scaled).collect())
        }
    }
}

/// How a file has the rows of a tensor with a Hugging Face name.
pub(crate) fn row_order(config: &Config, name: &str) -> RowOrder {
    if name.contains(".q_proj.") || name.contains(".k_proj.") {
        RowOrder::AdjacentPairs { head_dim: config.head_dim }
    } else {
        RowOrder::AsStored
    }
}

/// The GGUF name of a tensor with a Hugging Face name.
pub(crate) fn tensor_name(name: &str) -> String {
    const PARTS: [(&str, &str); 9] = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "lm_head.weight" => return "output.weight".into(),
        _ => {}
    }
    let Some((layer, rest)) =
        name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'))
    else {
        return name.into();
    };
    for (ours, theirs) in PARTS {
        if let Some(kind) = rest.strip_prefix(ours).and_then(|kind| kind.strip_prefix('.')) {
            return format!("blk.{layer}.{theirs}.{kind}");
        }
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::tensor_name;

    #[test]
    fn names_map_to_ggufs() {
        assert_eq!(tensor_name("model.layers.12.self_attn.k_proj.weight"), "blk.12.attn_k.weight");
        assert_eq!(
            tensor_name("model.layers.0.post_attention_layernorm.weight"),
            "blk.0.ffn_norm.weight"
        );
        assert_eq!(tensor_name("model.embed_tokens.weight"), "token_embd.weight");
        assert_eq!(tensor_name("lm_head.weight"), "output.weight");
    }
}
