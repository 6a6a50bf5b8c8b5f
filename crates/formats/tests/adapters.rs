//! Adapter folders, right and wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use formats::peft::{self, Adapter, AdapterConfig, Half, Patterns, Targets, name_of};
use formats::safetensors::{TensorData, write};
use formats::{Dtype, Error, Result, convert};

fn reason<T: std::fmt::Debug>(result: Result<T>) -> Error {
    match result.unwrap_err() {
        Error::Read { source, .. } | Error::Write { source, .. } => *source,
        other => other,
    }
}

/// An adapter of rank 2 on one module of 4 inputs and 3 outputs.
fn small() -> Adapter {
    let tensor = |rows: usize, cols: usize| {
        (vec![rows, cols], (0..rows * cols).map(|at| at as f32 / 8.0).collect())
    };
    let config = AdapterConfig {
        r: 2,
        lora_alpha: 4.0,
        task_type: Some("CAUSAL_LM".into()),
        target_modules: Some(Targets::List(vec!["q_proj".into()])),
        ..AdapterConfig::default()
    };
    let tensors = [
        (name_of("model.layers.0.q_proj", Half::A), tensor(2, 4)),
        (name_of("model.layers.0.q_proj", Half::B), tensor(3, 2)),
    ];
    Adapter { config, tensors: tensors.into(), unknown_fields: Vec::new() }
}

/// Replaces the tensors of an adapter folder.
fn replace_tensors(folder: &Path, tensors: &[(&str, &[usize])]) {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|&(name, shape)| TensorData {
            name,
            dtype: Dtype::Bf16,
            shape,
            bytes: convert::narrow_bf16(&vec![0.5; shape.iter().product()]).into(),
        })
        .collect();
    write(folder.join(peft::MODEL_FILE), &tensors, &std::collections::BTreeMap::new()).unwrap();
}

#[test]
fn adapters_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/on/the/way");
    let adapter = small();
    peft::write(&path, &adapter).unwrap();
    assert_eq!(peft::read(&path).unwrap(), adapter);
    let first = fs_err::read(path.join(peft::CONFIG_FILE)).unwrap();
    peft::write(&path, &adapter).unwrap();
    assert_eq!(fs_err::read(path.join(peft::CONFIG_FILE)).unwrap(), first);
    let modules = adapter.modules().unwrap();
    let pair = modules["model.layers.0.q_proj"];
    assert_eq!((pair.rank, pair.inputs, pair.outputs), (2, 4, 3));
    assert_eq!(pair.scale.to_bits(), 2f64.to_bits());
}

#[test]
fn names_with_the_name_of_the_adapter_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    peft::write(path, &small()).unwrap();
    let stem = "base_model.model.model.layers.0.q_proj";
    let (a, b) = (format!("{stem}.lora_A.default.weight"), format!("{stem}.lora_B.default.weight"));
    replace_tensors(path, &[(&a, &[2, 4]), (&b, &[3, 2])]);
    let adapter = peft::read(path).unwrap();
    assert_eq!(adapter.tensors.len(), 2);
    assert_eq!(adapter.modules().unwrap()["model.layers.0.q_proj"].a, [0.5; 8]);
    let plain = format!("{stem}.lora_A.weight");
    replace_tensors(path, &[(&a, &[2, 4]), (&b, &[3, 2]), (&plain, &[2, 4])]);
    assert!(matches!(reason(peft::read(path)), Error::Duplicate { .. }));
}

#[test]
fn tensors_that_make_no_pairs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    peft::write(path, &small()).unwrap();
    let case = |tensors: &[(&str, &[usize])]| {
        replace_tensors(path, tensors);
        reason(peft::read(path))
    };
    let a = "base_model.model.m.lora_A.weight";
    let b = "base_model.model.m.lora_B.weight";
    assert!(matches!(case(&[]), Error::EmptyAdapter));
    assert!(matches!(case(&[(a, &[2, 4])]), Error::AdapterHalf { missing: "lora_B", .. }));
    assert!(matches!(case(&[(b, &[3, 2])]), Error::AdapterHalf { missing: "lora_A", .. }));
    assert!(matches!(case(&[(a, &[2, 4]), (b, &[3, 5])]), Error::ShapeMismatch { .. }));
    assert!(matches!(case(&[(a, &[5, 4]), (b, &[3, 5])]), Error::AdapterRank { found: 5, .. }));
    assert!(matches!(case(&[(a, &[2, 4, 1]), (b, &[3, 2])]), Error::AdapterMatrix { .. }));
    for other in [
        "base_model.model.m.lora_magnitude_vector",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.lm_head.weight",
        "base_model.model.lora_A.weight",
        "m.lora_A.weight",
    ] {
        let error = case(&[(a, &[2, 4]), (b, &[3, 2]), (other, &[3])]);
        assert!(
            matches!(&error, Error::AdapterTensor { name } if name == other),
            "{other}: {error}"
        );
    }
}

#[test]
fn the_least_configuration_is_enough() {
    let text = br#"{"peft_type": "LORA", "target_modules": ["q_proj"], "r": 4}"#;
    let (config, unknown) = AdapterConfig::from_json(text).unwrap();
    let wanted = AdapterConfig {
        r: 4,
        target_modules: Some(Targets::List(vec!["q_proj".into()])),
        ..AdapterConfig::default()
    };
    assert_eq!(config, wanted);
    assert!(unknown.is_empty());
    let text = br#"{"peft_type": "LORA", "target_modules": "all-linear", "future": 1, "also": [],
        "lora_dropout": null, "rank_pattern": null, "modules_to_save": [], "bias": "none"}"#;
    let (config, unknown) = AdapterConfig::from_json(text).unwrap();
    assert_eq!(config.target_modules, Some(Targets::Pattern("all-linear".into())));
    assert_eq!(unknown, ["future", "also"]);
}

#[test]
fn features_that_are_not_supported_are_named() {
    let cases = [
        ("peft_type", r#""IA3""#),
        ("bias", r#""lora_only""#),
        ("use_dora", "true"),
        ("modules_to_save", r#"["lm_head"]"#),
        ("target_parameters", r#"["experts"]"#),
        ("trainable_token_indices", "[1]"),
        ("layer_replication", "[[0,1]]"),
        ("lora_bias", "true"),
        ("use_qalora", "true"),
        ("alora_invocation_tokens", "[1]"),
        ("init_lora_weights", r#""pissa_niter_16""#),
        ("init_lora_weights", r#""olora""#),
        ("megatron_config", r#"{"a":1}"#),
    ];
    for (field, value) in cases {
        let start = if field == "peft_type" { "" } else { r#""peft_type":"LORA","# };
        let text = format!("{{{start}\"{field}\":{value}}}");
        let error = AdapterConfig::from_json(text.as_bytes()).unwrap_err();
        assert!(matches!(&error, Error::AdapterFeature { field: found, .. } if found == field));
        assert!(error.hint().is_some());
    }
    assert!(matches!(
        AdapterConfig::from_json(br#"{"r": 8}"#),
        Err(Error::AdapterFeature { field, .. }) if field == "peft_type"
    ));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let values = [
        ("r", "0"),
        ("r", "9999999999"),
        ("lora_dropout", "1.0"),
        ("lora_dropout", "-0.1"),
        ("rank_pattern", r#"{"q": 0}"#),
    ];
    for (field, value) in values {
        let text = format!(r#"{{"peft_type":"LORA","{field}":{value}}}"#);
        let error = AdapterConfig::from_json(text.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::AdapterValue { .. }), "{field} {value}: {error}");
    }
    for text in
        [r#"{"peft_type":"LORA","r":-1}"#, r#"{"peft_type":"LORA","target_modules":3}"#, "[]"]
    {
        assert!(
            matches!(AdapterConfig::from_json(text.as_bytes()), Err(Error::Json { .. })),
            "{text}"
        );
    }
    let long = format!(r#"{{"peft_type":"LORA","notes":"{}"}}"#, "a".repeat(1 << 20));
    assert!(matches!(AdapterConfig::from_json(long.as_bytes()), Err(Error::TooLong { .. })));
    let infinite = AdapterConfig { lora_alpha: f64::INFINITY, ..AdapterConfig::default() };
    assert!(matches!(infinite.to_json(), Err(Error::AdapterValue { .. })));
}

#[test]
fn patterns_fit_whole_names_or_their_ends() {
    let pattern = |pattern: &str| AdapterConfig {
        r: 8,
        rank_pattern: Patterns(vec![(pattern.into(), 4), (".*".into(), 2)]),
        ..AdapterConfig::default()
    };
    let rank = |text: &str, module: &str| pattern(text).rank(module).unwrap();
    assert_eq!(rank("q_proj", "model.layers.1.self_attn.q_proj"), 4);
    assert_eq!(rank("q_proj", "model.layers.1.self_attn.xq_proj"), 2);
    assert_eq!(rank("q_proj", "q_proj.inner"), 2);
    assert_eq!(rank("q_proj", "q_proj"), 4);
    assert_eq!(rank("longer.q_proj", "q_proj"), 2);
    assert_eq!(rank("1.self_attn.q.proj", "layers.1.self_attn.q_proj"), 4);
    assert_eq!(rank("self_attn.q", "layers.1.self_attn.q_proj"), 2);
    assert_eq!(rank("q_proj|v_proj", "model.v_proj"), 4);
    assert_eq!(rank(r"layers\.1\..*", "model.layers.1.self_attn.q_proj"), 4);
    assert!(matches!(
        pattern("(?=q)").rank("q"),
        Err(Error::AdapterPattern { field: "rank_pattern", .. })
    ));
}
