//! GGUF files: metadata to configuration and back, names to names.
//!
//! A file's metadata becomes the keys that its family has in a `config.json`, so each family is read
//! in one place.

use std::path::Path;

use formats::gguf::{Gguf, Metadata, Value};
use serde_json::{Map, json};

use crate::{
    Config, Error, NormKind, RopeScaling, RopeShape, families, load::rope_table, weights::RowOrder,
};

/// An architecture of GGUF files.
struct Architecture {
    /// Its name, and what its keys start with.
    name: &'static str,
    /// What `config.json` calls it.
    model_type: &'static str,
    /// Whether neighbours rotate against each other, and not the halves of a head.
    turns_pairs: bool,
    /// Whether a file can be written from a folder.
    can_write: bool,
}

const ARCHITECTURES: [Architecture; 9] = [
    Architecture { name: "llama", model_type: "llama", turns_pairs: true, can_write: true },
    Architecture { name: "smollm3", model_type: "smollm3", turns_pairs: true, can_write: false },
    Architecture { name: "granite", model_type: "granite", turns_pairs: true, can_write: false },
    Architecture { name: "qwen2", model_type: "qwen2", turns_pairs: false, can_write: true },
    Architecture { name: "qwen3", model_type: "qwen3", turns_pairs: false, can_write: true },
    Architecture { name: "gemma2", model_type: "gemma2", turns_pairs: false, can_write: false },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        turns_pairs: false,
        can_write: false,
    },
    Architecture { name: "phi3", model_type: "phi3", turns_pairs: false, can_write: false },
    Architecture { name: "gpt2", model_type: "gpt2", turns_pairs: false, can_write: false },
];

/// Blocks of the two models whose queries are scaled by the width that each head would have if all
/// of the stream were divided among them; files do not say so.
const WIDE_QUERIES: [(&str, usize); 2] = [("gemma2", 46), ("gemma3", 62)];

/// Reads the configuration of a GGUF file.
pub(crate) fn config(path: &Path, file: &Gguf) -> Result<Config, Error> {
    let name = file.get_str("general.architecture")?;
    let known = || ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
    let architecture = ARCHITECTURES
        .iter()
        .find(|architecture| architecture.name == name)
        .ok_or_else(|| Error::Architecture { name: name.to_owned(), known: known() })?;
    let source = Source { path, file, prefix: architecture.name };
    if source.count("expert_count").is_some_and(|count| count > 0) {
        let name = format!("{name} with experts");
        return Err(Error::Architecture { name, known: known() });
    }
    let keys = match architecture.name {
        "gpt2" => source.learned_positions()?,
        _ => source.rotary(architecture)?,
    };
    let (mut config, _) = families::read_map(path, keys)?;
    config.names.are_linears_turned = false;
    config.eos = ends(file);
    if let Ok(factors) = file.tensor("rope_freqs.weight") {
        let mut values = vec![0.0; factors.shape.iter().product()];
        factors.read_row(0, &mut values)?;
        for rope in &mut config.ropes {
            if values.len() != rope.dim / 2 || values.iter().any(|f| !(f.is_finite() && *f > 0.0)) {
                let reason = "the rotary factors do not fit the heads".into();
                return Err(Error::Config { path: path.into(), reason });
            }
            rope.scaling = RopeScaling::Factors(values.clone());
        }
    }
    Ok(config)
}

/// A file whose metadata is put into the words of `config.json`.
struct Source<'a> {
    path: &'a Path,
    file: &'a Gguf,
    prefix: &'a str,
}

impl Source<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn number(&self, key: &str) -> Result<usize, Error> {
        Ok(self.file.get_u32(&self.key(key))? as usize)
    }

    fn count(&self, key: &str) -> Option<usize> {
        self.number(key).ok()
    }

    fn real(&self, key: &str) -> Option<f64> {
        self.file.get_f32(&self.key(key)).ok().map(f64::from)
    }

    fn has(&self, tensor: &str) -> bool {
        self.file.tensor(tensor).is_ok()
    }

    fn vocabulary(&self) -> Result<usize, Error> {
        Ok(self.file.tensor("token_embd.weight")?.shape.first().copied().unwrap_or(0))
    }

    /// The keys of families with rotary positions.
    fn rotary(&self, architecture: &Architecture) -> Result<Map<String, serde_json::Value>, Error> {
        let hidden = self.number("embedding_length")?;
        let heads = self.number("attention.head_count")?;
        let head_dim = self.count("attention.key_length").unwrap_or(hidden / heads.max(1));
        let turned = self.count("rope.dimension_count").unwrap_or(head_dim);
        let layers = self.number("block_count")?;
        let is_wide = WIDE_QUERIES.contains(&(architecture.name, layers));
        let value = json!({
            "model_type": architecture.model_type,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self.count("attention.head_count_kv").unwrap_or(heads),
            "head_dim": head_dim,
            "intermediate_size": self.number("feed_forward_length")?,
            "vocab_size": self.vocabulary()?,
            "rms_norm_eps": self.real("attention.layer_norm_rms_epsilon"),
            "partial_rotary_factor": turned as f64 / head_dim.max(1) as f64,
            "rope_theta": self.real("rope.freq_base"),
            "rope_scaling": self.scaling()?,
            "original_max_position_embeddings": self.count("rope.scaling.original_context_length"),
            "tie_word_embeddings": !self.has("output.weight"),
            "attention_bias": self.has("blk.0.attn_q.bias"),
            "mlp_bias": self.has("blk.0.ffn_gate.bias"),
            "max_position_embeddings": self.count("context_length").unwrap_or(2048),
            "bos_token_id": self.file.get_u32("tokenizer.ggml.bos_token_id").ok(),
            "sliding_window": self.count("attention.sliding_window"),
            "attn_logit_softcapping": self.real("attn_logit_softcapping"),
            "final_logit_softcapping": self.real("final_logit_softcapping"),
            "query_pre_attn_scalar": if is_wide { hidden / heads.max(1) } else { head_dim },
            "embedding_multiplier": self.real("embedding_scale"),
            "residual_multiplier": self.real("residual_scale"),
            "attention_multiplier": self.real("attention.scale"),
            "logits_scaling": self.real("logit_scale"),
        });
        Ok(families::table(value))
    }

    /// The keys of the family with learned positions.
    fn learned_positions(&self) -> Result<Map<String, serde_json::Value>, Error> {
        let value = json!({
            "model_type": self.prefix,
            "n_embd": self.number("embedding_length")?,
            "n_layer": self.number("block_count")?,
            "n_head": self.number("attention.head_count")?,
            "n_inner": self.number("feed_forward_length")?,
            "n_positions": self.number("context_length")?,
            "vocab_size": self.vocabulary()?,
            "layer_norm_epsilon": self.real("attention.layer_norm_epsilon"),
            "tie_word_embeddings": !self.has("output.weight"),
            "bos_token_id": self.file.get_u32("tokenizer.ggml.bos_token_id").ok(),
        });
        Ok(families::table(value))
    }

    fn scaling(&self) -> Result<serde_json::Value, Error> {
        let list = |tensor: &str| -> Result<Vec<f32>, Error> {
            let view = self.file.tensor(tensor)?;
            let mut values = vec![0.0; view.shape.iter().product()];
            view.read_row(0, &mut values)?;
            Ok(values)
        };
        if self.has("rope_factors_short.weight") {
            return Ok(json!({
                "rope_type": "longrope",
                "short_factor": list("rope_factors_short.weight")?,
                "long_factor": list("rope_factors_long.weight")?,
                "attention_factor": self.real("rope.scaling.attn_factor"),
            }));
        }
        match self.file.get_str(&self.key("rope.scaling.type")).unwrap_or("none") {
            "none" => Ok(serde_json::Value::Null),
            "linear" => {
                let factor = self.file.get_f32(&self.key("rope.scaling.factor"))?;
                Ok(json!({"rope_type": "linear", "factor": factor}))
            }
            other => Err(Error::Setting {
                path: self.path.into(),
                key: self.key("rope.scaling.type"),
                value: other.into(),
            }),
        }
    }
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

/// The architecture that files of this model have.
///
/// # Errors
///
/// A family that files have no architecture for that we know.
pub(crate) fn architecture_of(config: &Config) -> Result<&'static str, Error> {
    Ok(architecture(config).ok_or(Error::NoGguf { family: config.family })?.name)
}

fn architecture(config: &Config) -> Option<&'static Architecture> {
    // Without windows this family is the first one.
    let is_plain = config.blocks.iter().all(|block| block.window.is_none());
    let is_first = config.family == "mistral" && is_plain;
    let family = if is_first { ARCHITECTURES[0].model_type } else { config.family };
    ARCHITECTURES.iter().find(|it| it.model_type == family)
}

/// The metadata from which [`config`] reads the same configuration; [`rope_factors`] go with it.
pub(crate) fn metadata(config: &Config) -> Result<Metadata, Error> {
    let count = |value: usize| Value::U32(value as u32);
    // A window would be left out.
    let is_plain = config.blocks.iter().all(|block| block.window.is_none());
    let architecture = architecture(config)
        .filter(|it| it.can_write && is_plain)
        .ok_or(Error::NoGguf { family: config.family })?
        .name;
    let rope = config.ropes.first();
    let mut metadata: Metadata = [
        ("vocab_size", count(config.vocabulary)),
        ("context_length", count(config.context)),
        ("embedding_length", count(config.hidden)),
        ("block_count", count(config.layers())),
        ("feed_forward_length", count(config.intermediate)),
        ("attention.head_count", count(config.heads)),
        ("attention.head_count_kv", count(config.kv_heads)),
        ("attention.key_length", count(config.head_dim)),
        ("attention.value_length", count(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps)),
        ("rope.dimension_count", count(rope.map_or(config.head_dim, |rope| rope.dim))),
        ("rope.freq_base", Value::F32(rope.map_or(10_000.0, |rope| rope.theta) as f32)),
    ]
    .map(|(key, value)| (format!("{architecture}.{key}"), value))
    .into();
    if let Some(RopeScaling::Linear { factor }) = rope.map(|rope| &rope.scaling) {
        let scaling = |key: &str| format!("{architecture}.rope.scaling.{key}");
        metadata.push((scaling("type"), Value::String("linear".into())));
        metadata.push((scaling("factor"), Value::F32(*factor as f32)));
    }
    Ok(metadata)
}

/// What `rope_freqs.weight` divides each rotary frequency by, where a file has that tensor.
pub(crate) fn rope_factors(config: &Config) -> Option<Vec<f32>> {
    let rope = config.ropes.first()?;
    match &rope.scaling {
        RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::ByLength { .. } => None,
        RopeScaling::Factors(factors) => Some(factors.clone()),
        RopeScaling::Ramp { .. } => {
            let plain = RopeShape { scaling: RopeScaling::None, ..rope.clone() };
            let [plain, scaled] = [rope_table(&plain), rope_table(rope)];
            let pairs = plain.inverse_frequencies().iter().zip(scaled.inverse_frequencies());
            Some(pairs.map(|(plain, scaled)| plain / scaled).collect())
        }
    }
}

/// How a file has the rows of a tensor with a Hugging Face name.
pub(crate) fn row_order(config: &Config, name: &str) -> RowOrder {
    let turns_pairs = architecture(config).is_some_and(|it| it.turns_pairs);
    if turns_pairs && (name.contains(".q_proj.") || name.contains(".k_proj.")) {
        RowOrder::AdjacentPairs { head_dim: config.head_dim }
    } else {
        RowOrder::AsStored
    }
}

/// What a file has added to the weights of norms, beyond what a folder has.
pub(crate) fn norm_offset(config: &Config) -> f32 {
    if config.norm == NormKind::RmsPlusOne { 1.0 } else { 0.0 }
}

/// The GGUF name of a tensor with a Hugging Face name.
pub(crate) fn tensor_name(config: &Config, name: &str) -> String {
    const LINEARS: [(&str, &str); 13] = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.qkv_proj", "attn_qkv"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.gate_up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("attn.c_attn", "attn_qkv"),
        ("attn.c_proj", "attn_output"),
        ("mlp.c_fc", "ffn_up"),
        ("mlp.c_proj", "ffn_down"),
    ];
    let names = &config.names;
    let is = |own: &str| name == own;
    if is(names.embedding) {
        return "token_embd.weight".into();
    } else if is(names.head) {
        return "output.weight".into();
    } else if names.positions.is_some_and(is) {
        return "position_embd.weight".into();
    } else if let Some(kind) = name.strip_prefix(names.norm).filter(|kind| kind.starts_with('.')) {
        return format!("output_norm{kind}");
    }
    let Some((layer, rest)) = name.strip_prefix(names.block).and_then(|rest| rest.split_once('.'))
    else {
        return name.into();
    };
    let [q_norm, k_norm] = names.head_norms.map_or([None, None], |names| names.map(Some));
    let norms = [
        (Some(names.attention_norm), "attn_norm"),
        (names.post_attention_norm, "post_attention_norm"),
        (Some(names.mlp_norm), "ffn_norm"),
        (names.post_mlp_norm, "post_ffw_norm"),
        (q_norm, "attn_q_norm"),
        (k_norm, "attn_k_norm"),
    ];
    let norms = norms.into_iter().filter_map(|(ours, theirs)| Some((ours?, theirs)));
    for (ours, theirs) in norms.chain(LINEARS) {
        if let Some(kind) = rest.strip_prefix(ours).and_then(|kind| kind.strip_prefix('.')) {
            return format!("blk.{layer}.{theirs}.{kind}");
        }
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::tensor_name;
    use crate::families;

    #[test]
    fn names_map_to_ggufs() {
        for (model, names) in [
            (
                "gqa",
                vec![
                    ("model.layers.12.self_attn.k_proj.weight", "blk.12.attn_k.weight"),
                    ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
                    ("model.embed_tokens.weight", "token_embd.weight"),
                    ("model.norm.weight", "output_norm.weight"),
                    ("lm_head.weight", "output.weight"),
                ],
            ),
            (
                "gemma3",
                vec![
                    (
                        "model.layers.0.post_attention_layernorm.weight",
                        "blk.0.post_attention_norm.weight",
                    ),
                    ("model.layers.1.pre_feedforward_layernorm.weight", "blk.1.ffn_norm.weight"),
                    ("model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"),
                ],
            ),
            (
                "gpt2",
                vec![
                    ("transformer.h.3.attn.c_attn.bias", "blk.3.attn_qkv.bias"),
                    ("transformer.ln_f.bias", "output_norm.bias"),
                    ("transformer.wpe.weight", "position_embd.weight"),
                ],
            ),
        ] {
            let path = testkit::golden("model").join(model).join("config.json");
            let config = families::read(&path).map(|(config, _)| config).ok();
            assert!(config.is_some(), "{model}");
            for (ours, theirs) in names {
                let name = config.as_ref().map(|config| tensor_name(config, ours));
                assert_eq!(name.as_deref(), Some(theirs));
            }
        }
    }
}
