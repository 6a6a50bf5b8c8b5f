//! Every error as a user sees it.

use std::fmt::Write as _;
use std::io;

use super::Error;
use crate::{Dtype, Signature};

/// An error that serde makes.
fn json_error() -> serde_json::Error {
    match serde_json::from_str::<u8>("{") {
        Err(error) => error,
        Ok(_) => unreachable!("a brace is no number"),
    }
}

/// An error that regex makes.
fn pattern_error() -> regex::Error {
    // Built at run time, so that no lint looks into it.
    let pattern = ["(?", "=q)"].concat();
    match regex::Regex::new(&pattern) {
        Err(error) => error,
        Ok(_) => unreachable!("look-around is not supported"),
    }
}

/// Errors about whole files.
fn files() -> Vec<Error> {
    let inner = || Box::new(Error::NotAFile);
    let mut errors = vec![
        Error::Read { path: "model".into(), source: inner() },
        Error::Write { path: "model".into(), source: inner() },
        Error::Io(io::Error::from(io::ErrorKind::NotFound)),
        Error::NotAFile,
        Error::NoSuchFile { wanted: vec!["a.safetensors".into(), "b.json".into()] },
        Error::Pickle { file: "pytorch_model.bin".into() },
        Error::Truncated { what: "tensor `a`".into(), end: 200, size: 100 },
        Error::HeaderLength { length: 200_000_000, limit: 100_000_000 },
        Error::TooLong { what: "the index", length: 200, limit: 100 },
        Error::Json { what: "the header".into(), source: json_error() },
        Error::Duplicate { what: "tensor", name: "a".into() },
        Error::ShardPath { shard: "../a.safetensors".into() },
        Error::MissingShard { shard: "model-2.safetensors".into(), tensor_count: 7 },
        Error::NotInShard { name: "a".into(), shard: "model-2.safetensors".into() },
        Error::GgufVersion { version: 1 },
        Error::GgufVersion { version: 3 << 24 },
    ];
    let signatures = [
        Signature::Gguf,
        Signature::Ggml,
        Signature::LfsPointer,
        Signature::Zip,
        Signature::Html,
        Signature::Json,
        Signature::Safetensors,
        Signature::Empty,
        Signature::Unknown,
    ];
    errors.extend(signatures.map(|found| Error::WrongFormat { wanted: "GGUF", found }));
    errors
}

/// Errors about tensors.
fn tensors() -> Vec<Error> {
    let name = || "model.norm.weight".to_owned();
    vec![
        Error::UnknownDtype { name: name(), dtype: "F8_E4M3".into() },
        Error::ShapeOverflow { name: name(), shape: vec![1 << 40, 1 << 40] },
        Error::PartialBlock { name: name(), dtype: Dtype::Q4K, cols: 100 },
        Error::TensorSize {
            name: name(),
            dtype: "F32".into(),
            shape: vec![2, 3],
            wanted: 24,
            found: 20,
        },
        Error::Overlap { name: name(), other: "lm_head.weight".into(), at: 64 },
        Error::Gap { start: 8, end: 16 },
        Error::Misaligned { name: name(), offset: 8, alignment: 32 },
        Error::MissingTensor { name: "norm.weight".into(), nearest: vec![name()] },
        Error::ShapeMismatch { name: name(), wanted: vec![8], found: vec![16] },
        Error::WrongDtype {
            name: name(),
            wanted: vec![Dtype::F32, Dtype::Bf16],
            found: Dtype::Q8_0,
        },
        Error::RowOutOfRange { name: name(), row: 9, rows: 9 },
        Error::RowLength { name: name(), wanted: 8, found: 7 },
    ]
}

/// Errors about metadata and tokenizers.
fn metadata() -> Vec<Error> {
    vec![
        Error::Count { what: "tensors".into(), count: 1 << 40, left: 100 },
        Error::Depth { key: "a.key".into(), limit: 4 },
        Error::ValueType { key: "a.key".into(), id: 99 },
        Error::NotUtf8 { what: "a metadata key".into() },
        Error::Alignment { found: 31 },
        Error::Dimensions { name: "a".into(), count: 5, limit: 4 },
        Error::MissingKey { key: "llama.block_count".into(), nearest: Vec::new() },
        Error::KeyType { key: "a.key".into(), wanted: "a text", found: "a truth value".into() },
        Error::TokenizerTable { table: "tokenizer.ggml.scores", found: 1, tokens: 2 },
        Error::SpecialToken { key: "tokenizer.ggml.eos_token_id".into(), id: 9, tokens: 2 },
        Error::Merge { index: 3, text: "ab".into() },
    ]
}

/// Errors about adapters.
fn adapters() -> Vec<Error> {
    let feature = |field: &str, value: &str| Error::AdapterFeature {
        field: field.into(),
        value: value.into(),
    };
    vec![
        feature("peft_type", "\"IA3\""),
        feature("use_dora", "true"),
        feature("init_lora_weights", "\"pissa\""),
        Error::AdapterValue { field: "r".into(), value: "0".into(), wanted: "a rank from 1" },
        Error::AdapterPattern {
            field: "rank_pattern",
            pattern: "(?=q)".into(),
            source: Box::new(pattern_error()),
        },
        Error::AdapterTensor { name: "base_model.model.lm_head.weight".into() },
        Error::AdapterMatrix { name: "base_model.model.m.lora_A.weight".into(), shape: vec![8] },
        Error::AdapterHalf { module: "m".into(), missing: "lora_B" },
        Error::AdapterRank { module: "m".into(), wanted: 8, found: 16 },
        Error::EmptyAdapter,
    ]
}

fn all() -> Vec<Error> {
    [files(), tensors(), metadata(), adapters()].into_iter().flatten().collect()
}

/// An error in the program's form.
fn render(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let _ = writeln!(text, "because: {error}");
        source = error.source();
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

#[test]
fn messages_are_as_they_were() {
    let errors = all();
    let text: Vec<String> = errors.iter().map(render).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/messages.txt");
    let stored = snapbox::Data::read_from(std::path::Path::new(path), None);
    snapbox::assert_data_eq!(text.join("\n"), stored.raw());
}

#[test]
fn every_error_is_among_them() {
    let errors = all();
    let names: std::collections::BTreeSet<String> = errors
        .iter()
        .map(|error| format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect())
        .collect();
    assert_eq!(names.len(), include_str!("mod.rs").matches("    #[error(").count());
}

#[test]
fn messages_have_one_form() {
    for error in all() {
        for text in [Some(error.to_string()), error.hint()].into_iter().flatten() {
            let start = text.chars().next();
            let named = text.starts_with("GGUF") || start == Some('`');
            assert!(named || start.is_some_and(|start| !start.is_uppercase()), "{text}");
            assert!(!text.ends_with('.'), "{text}");
        }
    }
}
