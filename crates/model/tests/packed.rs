//! Weights that stay in the few bits of their file say, to the bit, what widened ones say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use formats::{
    Dtype,
    gguf::FileType,
    peft::Adapter,
    safetensors::{TensorData, write},
};
use kernels::{Device, Precision};
use model::{
    Checkpoint, Coefficient, GgufOptions, Layers, LoraSettings, MicroBatch, Past, Policy, Sequence,
    Targets, Training, Weights, fuse_gguf, packed_bytes,
};

const PROMPT: [u32; 5] = [1, 5, 9, 44, 17];
const COMPLETIONS: [&[u32]; 2] = [&[4, 5, 6, 7, 8, 9, 10], &[30, 31]];

/// A model of random weights whose rows are whole blocks of every kind.
fn wide(home: &Path) -> Checkpoint {
    let folder = home.join("wide");
    fs_err::create_dir(&folder).unwrap();
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 64,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2,
    });
    fs_err::write(folder.join("config.json"), config.to_string()).unwrap();
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let matrices = [
        ("model.embed_tokens.weight".to_owned(), vec![64, 256]),
        (layer("self_attn.q_proj"), vec![256, 256]),
        (layer("self_attn.k_proj"), vec![128, 256]),
        (layer("self_attn.v_proj"), vec![128, 256]),
        (layer("self_attn.o_proj"), vec![256, 256]),
        (layer("mlp.gate_proj"), vec![256, 256]),
        (layer("mlp.up_proj"), vec![256, 256]),
        (layer("mlp.down_proj"), vec![256, 256]),
        (layer("input_layernorm"), vec![256]),
        (layer("post_attention_layernorm"), vec![256]),
        ("model.norm.weight".to_owned(), vec![256]),
    ];
    let mut state = 1_u64;
    let mut number = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let values: Vec<Vec<u8>> = matrices
        .iter()
        .map(|(_, shape)| {
            let count: usize = shape.iter().product();
            let size = if shape.len() == 1 { 1.0 } else { 0.1 };
            (0..count).flat_map(|_| (size * number()).to_le_bytes()).collect()
        })
        .collect();
    let tensors: Vec<TensorData<'_>> = matrices
        .iter()
        .zip(&values)
        .map(|((name, shape), bytes)| TensorData {
            name,
            dtype: Dtype::F32,
            shape,
            bytes: Cow::Borrowed(bytes),
        })
        .collect();
    write(folder.join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    Checkpoint::open(&folder).unwrap()
}

/// Files of every kind, of a model whose rows are whole blocks and of one whose rows are not.
fn files(home: &Path) -> Vec<PathBuf> {
    let small = Checkpoint::open(&testkit::golden("trl/chat")).unwrap();
    let wide = wide(home);
    let mut files = Vec::new();
    for (name, base) in [("small", &small), ("wide", &wide)] {
        for file_type in [
            FileType::Q4_0,
            FileType::Q4_1,
            FileType::Q5_0,
            FileType::Q5_1,
            FileType::Q8_0,
            FileType::Q4KM,
            FileType::Q5KM,
            FileType::Q6K,
        ] {
            let path = home.join(format!("{name}-{file_type:?}.gguf"));
            let options =
                GgufOptions { file_type: Some(file_type), metadata: &[], stop: &|| false };
            fuse_gguf(base, None, &options, &path).unwrap();
            files.push(path);
        }
    }
    files
}

fn adapter(checkpoint: &Checkpoint) -> Adapter {
    let settings = LoraSettings {
        r: 3,
        lora_alpha: 6.0,
        use_rslora: false,
        targets: Targets::AllLinear,
        layers: Layers::All,
    };
    let mut adapter = settings.fresh(checkpoint.config(), 1).unwrap();
    for (_, values) in adapter.tensors.values_mut() {
        for (index, value) in values.iter_mut().enumerate() {
            *value += 0.01 * ((index % 7) as f32 - 3.0);
        }
    }
    adapter
}

fn batch() -> MicroBatch {
    let completions = COMPLETIONS.map(|ids| (ids, 0)).to_vec();
    MicroBatch::new(&[Sequence { prompt: &PROMPT, completions, spans: &[] }])
}

/// Scores with and without the adapter, gradients, logits of a prompt and of a token after it.
fn results(policy: &mut Policy) -> Vec<u32> {
    let mut bits = Vec::new();
    let batch = batch();
    for adapter in [true, false] {
        let scores = policy.score(&batch, adapter).unwrap();
        bits.extend(scores.completions.iter().map(|score| (score.logp as f32).to_bits()));
        let mut past = Past::new(policy.config());
        for tokens in [&PROMPT[..], &[7]] {
            let logits = policy.read(&mut past, tokens, adapter).unwrap();
            bits.extend(logits.iter().map(|logit| logit.to_bits()));
        }
    }
    let pending = policy.forward(&batch).unwrap();
    policy.backward(&batch, pending, &[0.5, -0.25].map(Coefficient::from));
    bits.extend(policy.arena().gradients.iter().map(|gradient| gradient.to_bits()));
    bits
}

#[test]
fn packed_weights_say_what_widened_ones_say() {
    let home = tempfile::tempdir().unwrap();
    for path in files(home.path()) {
        let checkpoint = Checkpoint::open(&path).unwrap();
        let training = Training::Lora(Box::new(adapter(&checkpoint)));
        for precision in [Precision::F32, Precision::Bf16] {
            for load_in_4bit in [false, true] {
                let [(packed, few), (widened, many)] = [true, false].map(|packed| {
                    let weights = Weights { precision, load_in_4bit, packed };
                    let mut policy =
                        Policy::load(&checkpoint, &Device::cpu(), weights, &training).unwrap();
                    if packed {
                        let planned = packed_bytes(&checkpoint, weights).unwrap();
                        let found = policy.weight_bytes() as u64;
                        assert_eq!(planned, found, "{}", path.display());
                    }
                    (results(&mut policy), policy.weight_bytes())
                });
                let what = format!("{} {precision:?} nf4 {load_in_4bit}", path.display());
                assert!(packed == widened, "{what}");
                assert!(few < many, "{what}: {few} bytes and {many}");
            }
        }
    }
}

#[test]
fn a_model_without_few_bits_has_nothing_to_keep() {
    let checkpoint = Checkpoint::open(&testkit::golden("trl/chat")).unwrap();
    assert_eq!(packed_bytes(&checkpoint, Weights::from(Precision::F32)), None);
}

#[test]
fn a_model_that_is_trained_is_widened() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.gguf");
    let base = Checkpoint::open(&testkit::golden("trl/chat")).unwrap();
    let options = GgufOptions { file_type: Some(FileType::Q8_0), metadata: &[], stop: &|| false };
    fuse_gguf(&base, None, &options, &path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let mut policy =
        Policy::load(&checkpoint, &Device::cpu(), Precision::F32, &Training::Full).unwrap();
    let before = policy.score(&batch(), true).unwrap();
    policy.sync();
    assert!(policy.score(&batch(), true).unwrap().completions == before.completions);
}

#[test]
fn scales_that_are_no_numbers_are_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.gguf");
    let base = Checkpoint::open(&testkit::golden("trl/chat")).unwrap();
    let options = GgufOptions { file_type: Some(FileType::Q8_0), metadata: &[], stop: &|| false };
    fuse_gguf(&base, None, &options, &path).unwrap();
    let at = {
        let checkpoint = Checkpoint::open(&path).unwrap();
        let file = checkpoint.gguf().unwrap();
        let tensor = file.tensor("token_embd.weight").unwrap();
        tensor.bytes.as_ptr() as usize - file.bytes().as_ptr() as usize
    };
    let mut bytes = fs_err::read(&path).unwrap();
    // The scale of row 1's first block: infinity.
    bytes[at + 34..at + 36].copy_from_slice(&0x7c00_u16.to_le_bytes());
    fs_err::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    for packed in [true, false] {
        let weights = Weights { packed, ..Weights::from(Precision::F32) };
        let error = Policy::load(&checkpoint, &Device::cpu(), weights, &Training::Nothing).err();
        assert_eq!(
            error.unwrap().to_string(),
            "tensor `model.embed_tokens.weight` holds a value that is not finite (row 1)"
        );
    }
}
