//! Models of every family out of memory and back: adapters in weights, whole models in folders.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use formats::{Dtype, peft};
use kernels::{Device, Precision};
use model::{
    Checkpoint, Coefficient, Error, FuseOptions, Layers, LoraSettings, MicroBatch, Policy,
    Sequence, Targets, Training, fuse, write_folder,
};
use testkit::tolerance;

const MODELS: [&str; 14] = [
    "mistral",
    "qwen2",
    "qwen3",
    "smollm3",
    "gemma2",
    "gemma3",
    "gemma3-linear",
    "gpt2",
    "phi3",
    "phi3-longrope",
    "granite",
    "granite-hybrid",
    "granite-hybrid-rope",
    "gqa",
];

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&testkit::golden("model").join(name)).unwrap()
}

fn batch() -> MicroBatch {
    let completions: Vec<(&[u32], usize)> = vec![(&[44, 7, 90, 20, 2], 0), (&[13, 14, 15], 0)];
    MicroBatch::new(&[Sequence { prompt: &[1, 70, 71, 72, 9], completions, spans: &[] }])
}

fn load(checkpoint: &Checkpoint, training: &Training) -> Policy {
    Policy::load(checkpoint, &Device::cpu(), Precision::F32, training).unwrap()
}

fn logps(policy: &Policy) -> Vec<f64> {
    let scores = policy.score(&batch(), true).unwrap();
    scores.completions.iter().map(|score| score.logp).collect()
}

fn assert_near(got: &[f64], want: &[f64], at: &str) {
    for (got, want) in got.iter().zip(want) {
        let off = (got - want).abs() / want.abs();
        assert!(off < tolerance::MODEL_F32_LOGP, "{at}: {got} for {want}, off {off:e}");
    }
}

#[test]
fn an_adapter_in_the_weights_says_what_it_says_beside_them() {
    for name in MODELS {
        let base = open(name);
        let adapter = peft::read(base.path().join("adapter-r4")).unwrap();
        let want = logps(&load(&base, &Training::Lora(Box::new(adapter.clone()))));
        let home = tempfile::tempdir().unwrap();
        let options = FuseOptions { dtype: Some(Dtype::F32), shard_bytes: None, stop: &|| false };
        let done = fuse(&base, &adapter, Path::new("adapter"), &options, home.path()).unwrap();
        assert_eq!(done.modules, adapter.modules().unwrap().len(), "{name}");
        let fused = load(&Checkpoint::open(home.path()).unwrap(), &Training::Nothing);
        assert_near(&logps(&fused), &want, name);
    }
}

#[test]
fn a_whole_model_that_learned_is_read_back_as_it_was() {
    for name in MODELS {
        let base = open(name);
        let mut policy = load(&base, &Training::Full);
        let before = logps(&policy);
        let pending = policy.forward(&batch()).unwrap();
        policy.backward(&batch(), pending, &[1.0, -1.0].map(Coefficient::from));
        let arena = policy.arena_mut();
        for (value, gradient) in arena.values.iter_mut().zip(&arena.gradients) {
            *value += 1e-3 * gradient;
        }
        policy.sync();
        let want = logps(&policy);
        assert!(want[0] - want[1] > before[0] - before[1], "{name}: it learned");
        let home = tempfile::tempdir().unwrap();
        write_folder(&policy, &base, home.path()).unwrap();
        let written = Checkpoint::open(home.path()).unwrap();
        assert_near(&logps(&load(&written, &Training::Nothing)), &want, name);
    }
}

/// Names in the words of each family's own modules, as PEFT takes them.
#[test]
fn adapters_name_the_modules_of_their_family() {
    for (model, names) in [
        ("gqa", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
        ("phi3", "qkv_proj o_proj gate_up_proj down_proj"),
        ("gpt2", "c_attn c_proj c_fc"),
        (
            "granite-hybrid",
            "q_proj k_proj v_proj in_proj o_proj out_proj input_linear output_linear",
        ),
    ] {
        let base = open(model);
        let settings = |targets| LoraSettings {
            r: 2,
            lora_alpha: 4.0,
            use_rslora: false,
            targets,
            layers: Layers::All,
        };
        let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        let adapter = settings(Targets::AllLinear).fresh(base.config(), 1).unwrap();
        let wanted = peft::Targets::List(names.clone());
        assert_eq!(adapter.config.target_modules, Some(wanted), "{model}");
        assert_eq!(adapter.config.fan_in_fan_out, model == "gpt2");
        let named = settings(Targets::Named(names)).fresh(base.config(), 1).unwrap();
        assert_eq!(named.tensors, adapter.tensors);
        load(&base, &Training::Lora(Box::new(adapter)));
        let other = settings(Targets::Named(vec!["no_proj".into()]));
        let error = other.fresh(base.config(), 1).unwrap_err();
        assert!(matches!(error, Error::NoSuchModule { .. }), "{error}");
    }
}

/// Anything that would change what is computed is refused by name, with what is supported.
#[test]
fn what_a_configuration_asks_for_is_done_or_refused() {
    let edited = |model: &str, key: &str, value: serde_json::Value| {
        let text = fs_err::read_to_string(testkit::golden("model").join(model).join("config.json"));
        let mut config: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
        config[key] = value;
        let home = tempfile::tempdir().unwrap();
        fs_err::write(home.path().join("config.json"), config.to_string()).unwrap();
        Checkpoint::open(home.path()).err().map(|error| (error.to_string(), error.hint()))
    };
    let list = |names: &[&str]| serde_json::json!(names);
    let part_of_heads = serde_json::json!({"rope_type": "default", "partial_rotary_factor": 7});
    for (model, key, value, part) in [
        ("gemma2", "architectures", list(&["Gemma2ForSequence"]), "`Gemma2ForSequence`"),
        (
            "gemma3",
            "use_bidirectional_attention",
            true.into(),
            "use_bidirectional_attention = true",
        ),
        ("gpt2", "scale_attn_by_inverse_layer_idx", true.into(), "scale_attn_by_inverse_layer_idx"),
        ("gpt2", "activation_function", "relu".into(), "activation_function = relu"),
        ("qwen3", "hidden_act", "gelu".into(), "hidden_act = gelu"),
        ("qwen3", "quantization_config", serde_json::json!({"bits": 4}), "quantization_config"),
        ("mistral", "sliding_window", 0.into(), "`sliding_window` is 0"),
        ("mistral", "sliding_window", "wide".into(), "`sliding_window` should be a whole number"),
        ("qwen2-window", "layer_types", list(&["full_attention"]), "an entry for each of 2 blocks"),
        ("phi3", "rope_parameters", part_of_heads, "`partial_rotary_factor` is 7"),
        (
            "granite",
            "residual_multiplier",
            "big".into(),
            "`residual_multiplier` should be a number",
        ),
    ] {
        let (error, hint) = edited(model, key, value).unwrap();
        assert!(error.contains(part), "{model} {key}: {error}");
        if key == "architectures" {
            let hint = hint.unwrap();
            assert!(hint.contains("Gemma2ForCausalLM") && hint.contains("nearest"), "{hint}");
        }
    }
}

/// Python writes infinity without quotes.
#[test]
fn a_configuration_may_hold_pythons_numbers() {
    let golden = testkit::golden("model").join("granite-hybrid");
    let text = fs_err::read_to_string(golden.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["time_step_limit"] = serde_json::json!([0.0, "?"]);
    config["_name_or_path"] = "Infinity \" NaN".into();
    let text = config.to_string().replace("\"?\"", "Infinity");
    let home = tempfile::tempdir().unwrap();
    fs_err::write(home.path().join("config.json"), text).unwrap();
    fs_err::copy(golden.join("model.safetensors"), home.path().join("model.safetensors")).unwrap();
    let read = Checkpoint::open(home.path()).unwrap();
    assert_eq!(read.config(), open("granite-hybrid").config());
}
