//! A tiny model made on the spot, for machines without any network.
//!
//! It is a random two-block Llama over bytes: it knows nothing, but every part of the program
//! treats it as it treats a real one, and alignment moves it in a way that can be measured.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use data::rng::Stream;
use formats::{Dtype, safetensors};
use serde_json::{Map, Value, json};

const HIDDEN: usize = 64;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const INTERMEDIATE: usize = 160;
/// 256 bytes, then the special tokens.
const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const VOCABULARY: usize = 256 + SPECIALS.len();

/// The chat template, of the common `ChatML` shape.
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Writes the model as a Hugging Face folder; the same bytes every time.
///
/// # Errors
///
/// A file that cannot be written.
pub(super) fn write(folder: &Path) -> Result<(), formats::Error> {
    fs_err::create_dir_all(folder)?;
    for (name, value) in [
        ("config.json", config()),
        ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", tokenizer_config()),
    ] {
        fs_err::write(folder.join(name), format!("{value:#}\n"))?;
    }
    write_weights(&folder.join(safetensors::MODEL_FILE))
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "intermediate_size": INTERMEDIATE,
        "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "max_position_embeddings": 1024,
        "hidden_act": "silu",
        "bos_token_id": 257,
        "eos_token_id": 258,
    })
}

fn tokenizer() -> Value {
    let mut vocabulary = Map::new();
    for (id, symbol) in byte_symbols().into_iter().enumerate() {
        vocabulary.insert(symbol.to_string(), id.into());
    }
    let mut added = Vec::new();
    for (index, content) in SPECIALS.into_iter().enumerate() {
        vocabulary.insert(content.into(), (256 + index).into());
        added.push(json!({
            "id": 256 + index, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        }));
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    })
}

fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "chat_template": TEMPLATE,
    })
}

/// The printable character that stands for each byte in a byte-level vocabulary.
fn byte_symbols() -> Vec<char> {
    let mut next = 256;
    (0..=255_u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap_or(' ')
            }
        })
        .collect()
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("self_attn.q_proj", vec![q, HIDDEN]),
            ("self_attn.k_proj", vec![kv, HIDDEN]),
            ("self_attn.v_proj", vec![kv, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, q]),
            ("mlp.gate_proj", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.up_proj", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INTERMEDIATE]),
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    shapes
}

fn write_weights(path: &Path) -> Result<(), formats::Error> {
    let layouts: Vec<_> = shapes()
        .into_iter()
        .map(|(name, shape)| safetensors::Layout { name, dtype: Dtype::F32, shape })
        .collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::write_with(path, &layouts, &metadata, |index| {
        Ok::<_, formats::Error>(Cow::Owned(values(&layouts[index])))
    })
}

/// Norms are one; all else is uniform with the deviation `1 / sqrt(inputs)`.
fn values(layout: &safetensors::Layout) -> Vec<u8> {
    let count: usize = layout.shape.iter().product();
    let stream = Stream::new(0, &layout.name);
    let bound = match layout.shape.as_slice() {
        [_, inputs] => (3.0 / *inputs as f64).sqrt(),
        _ => 0.0,
    };
    (0..count as u64)
        .flat_map(|index| {
            let value = match layout.shape.len() {
                1 => 1.0,
                _ => (2.0 * stream.unit(index) - 1.0) * bound,
            };
            (value as f32).to_le_bytes()
        })
        .collect()
}
