//! A small trained model tells its documented story, token for token, from both kinds of files.

#![expect(clippy::print_stderr, reason = "a test that skips says so")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use formats::{Dtype, gguf::Gguf, safetensors};
use kernels::{Device, Precision};
use model::{Checkpoint, MicroBatch, Policy, Sampler, Sampling, Sequence, Session, Training};
use serde::Deserialize;
use testkit::tolerance;

const BLOCKS: usize = 5;
const HEADS: usize = 8;
const KEY_VALUE_HEADS: usize = 4;

#[derive(Deserialize)]
struct Golden {
    ids: Vec<u32>,
    logp: f64,
}

/// Greedy generation and scoring agree with transformers on every path of the processor.
fn tells_the_story(checkpoint: &Checkpoint) {
    let text = fs_err::read_to_string(testkit::golden("model/stories260k.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let (first, story) = golden.ids.split_at(1);
    for device in Device::every_cpu() {
        let policy = Policy::load(checkpoint, &device, Precision::F32, &Training::Nothing).unwrap();
        let mut sampler = Sampler::new(Sampling::GREEDY);
        let told = Session::new(&policy, false)
            .generate(first, &mut sampler, story.len(), &mut |_| true)
            .unwrap();
        assert_eq!(told.tokens, story, "{}", device.kernel_path());

        let sequence = Sequence { prompt: first, completions: vec![(story, 0)], spans: &[] };
        let scores = policy.score(&MicroBatch::new(&[sequence]), false).unwrap();
        let off = (scores.completions[0].logp / golden.logp - 1.0).abs();
        assert!(off < tolerance::MODEL_F32_LOGP, "{}: off {off:e}", device.kernel_path());
    }
}

/// The tensors of a block under both names, with the heads of those whose rows the GGUF reorders.
const TENSORS: [(&str, &str, Option<usize>); 9] = [
    ("attn_q", "self_attn.q_proj", Some(HEADS)),
    ("attn_k", "self_attn.k_proj", Some(KEY_VALUE_HEADS)),
    ("attn_v", "self_attn.v_proj", None),
    ("attn_output", "self_attn.o_proj", None),
    ("ffn_gate", "mlp.gate_proj", None),
    ("ffn_up", "mlp.up_proj", None),
    ("ffn_down", "mlp.down_proj", None),
    ("attn_norm", "input_layernorm", None),
    ("ffn_norm", "post_attention_layernorm", None),
];

/// Converts the file to the Hugging Face layout.
///
/// Written against the description of both layouts, so that it shares nothing with the reader: the
/// GGUF holds the two halves of a rotated pair in neighbouring rows, Hugging Face half a head apart.
fn convert(gguf: &Gguf, folder: &Path) {
    let mut names = vec![
        ("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned(), None),
        ("output_norm.weight".to_owned(), "model.norm.weight".to_owned(), None),
    ];
    for block in 0..BLOCKS {
        for (theirs, ours, heads) in TENSORS {
            let name = format!("model.layers.{block}.{ours}.weight");
            names.push((format!("blk.{block}.{theirs}.weight"), name, heads));
        }
    }
    let tensors: Vec<_> = names
        .iter()
        .map(|(theirs, _, heads)| {
            let view = gguf.tensor(theirs).unwrap();
            let values = view.to_f32().unwrap();
            let (width, rows) = (view.shape[view.shape.len() - 1], view.shape[0]);
            let mut out = Vec::with_capacity(values.len());
            match heads {
                None => out.extend_from_slice(&values),
                Some(heads) => {
                    let size = rows / heads;
                    for head in 0..*heads {
                        for half in 0..2 {
                            for pair in 0..size / 2 {
                                let row = head * size + 2 * pair + half;
                                out.extend_from_slice(&values[row * width..][..width]);
                            }
                        }
                    }
                }
            }
            (view.shape, out.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
        })
        .collect();
    let data: Vec<_> = names
        .iter()
        .zip(&tensors)
        .map(|((_, name, _), (shape, bytes))| safetensors::TensorData {
            name,
            dtype: Dtype::F32,
            shape,
            bytes: bytes.into(),
        })
        .collect();
    safetensors::write(folder.join("model.safetensors"), &data, &[].into()).unwrap();
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 64, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS, "intermediate_size": 172, "vocab_size": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512,
        "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2,
    });
    fs_err::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn the_story_is_told_token_for_token_from_either_kind_of_file() {
    let Some(data) = testkit::shared_data() else {
        eprintln!("skipped: the folder of real data is not beside the project");
        return;
    };
    let path = data.join("stories260K/stories260K.gguf");
    tells_the_story(&Checkpoint::open(&path).unwrap());

    let folder = tempfile::tempdir().unwrap();
    convert(&Gguf::open(&path).unwrap(), folder.path());
    tells_the_story(&Checkpoint::open(folder.path()).unwrap());
}
