//! Damaged files, each with the error that it must give.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use formats::gguf::Gguf;
use formats::safetensors::{Checkpoint, TensorData, write};
use formats::{Dtype, Error, Result, Signature, peft};

/// The reason inside [`Error::Read`].
fn reason<T: std::fmt::Debug>(result: Result<T>) -> Error {
    match result.unwrap_err() {
        Error::Read { source, .. } | Error::Write { source, .. } => *source,
        other => panic!("without a file: {other}"),
    }
}

/// A safetensors file with this header and this many bytes of data.
fn file(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    bytes
}

fn safetensors(header: &str, data_bytes: usize) -> Result<Checkpoint> {
    Checkpoint::from_bytes("a.safetensors", file(header, data_bytes))
}

#[test]
fn headers_that_lie_are_refused() {
    let tensor = |shape: &str, start: usize, end: usize| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let one = |shape, start, end| format!(r#"{{"a":{}}}"#, tensor(shape, start, end));
    let two = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
    let case = |header: String, data| reason(safetensors(&header, data));

    assert!(safetensors(&one("[2,2]", 0, 16), 16).is_ok());
    assert!(matches!(case(one("[2,2]", 0, 16), 15), Error::Truncated { .. }));
    assert!(matches!(case(one("[2,2]", 0, 16), 17), Error::Gap { start: 16, end: 17 }));
    assert!(matches!(case(one("[2,2]", 4, 20), 20), Error::Gap { start: 0, end: 4 }));
    assert!(matches!(case(one("[2,3]", 0, 16), 16), Error::TensorSize { wanted: 24, .. }));
    assert!(matches!(case(one("[2,2]", 16, 0), 16), Error::Json { .. }));
    assert!(matches!(case(one("[-2,2]", 0, 16), 16), Error::Json { .. }));
    let huge = one("[4294967296,4294967296,4]", 0, 16);
    assert!(matches!(case(huge, 16), Error::ShapeOverflow { .. }));
    let huge = one("[4294967296,4294967296,0]", 0, 0);
    assert!(matches!(case(huge, 0), Error::ShapeOverflow { .. }));
    let far = one("[1]", usize::MAX - 3, usize::MAX);
    assert!(matches!(case(far, 0), Error::Gap { .. }));

    let overlap = two(tensor("[2]", 0, 8), tensor("[2]", 4, 12));
    assert!(matches!(case(overlap, 12), Error::Overlap { at: 4, .. }));
    let twice = two(tensor("[1]", 0, 4), tensor("[0]", 4, 4)).replace("\"b\"", "\"a\"");
    assert!(matches!(case(twice, 4), Error::Duplicate { .. }));
}

#[test]
fn headers_that_are_no_headers_are_refused() {
    let case = |bytes: &[u8]| reason(Checkpoint::from_bytes("a.safetensors", bytes.to_vec()));
    let wrong = |bytes: &[u8], wanted: Signature| matches!(case(bytes), Error::WrongFormat { found, .. } if found == wanted);
    assert!(wrong(b"", Signature::Empty));
    assert!(wrong(b"GGUF\x03\0\0\0\0\0\0\0", Signature::Gguf));
    assert!(wrong(b"PK\x03\x04 and a pickle", Signature::Zip));
    assert!(wrong(b"version https://git-lfs.example/spec/v1", Signature::LfsPointer));
    assert!(wrong(b"<!DOCTYPE html><html></html>", Signature::Html));
    let mut long = 200_000_000u64.to_le_bytes().to_vec();
    long.push(b'{');
    assert!(matches!(case(&long), Error::HeaderLength { length: 200_000_000, .. }));
    assert!(matches!(case(&[16, 0, 0, 0, 0, 0, 0, 0, b'{']), Error::Truncated { .. }));
    assert!(matches!(reason(safetensors("[]", 0)), Error::Json { .. }));
    assert!(matches!(reason(safetensors("{\"a\":1}", 0)), Error::Json { .. }));
    assert!(matches!(reason(safetensors("{\"__metadata__\":{\"a\":1}}", 0)), Error::Json { .. }));
    assert!(safetensors("{}", 0).unwrap().is_empty());
    // The length of this header is the byte that JSON starts with.
    let padded = format!("{{{}}}", " ".repeat(usize::from(b'{') - 2));
    assert!(safetensors(&padded, 0).is_ok());
    // Nesting cannot exhaust the stack.
    assert!(matches!(reason(safetensors(&"{\"a\":".repeat(100_000), 0)), Error::Json { .. }));
}

#[test]
fn types_that_are_not_supported_fail_when_asked_for() {
    let header = r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},
        "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},
        "c":{"dtype":"F4","shape":[2],"data_offsets":[8,9]}}"#;
    let checkpoint = safetensors(header, 9).unwrap();
    assert!(checkpoint.tensor("b").is_ok());
    assert!(matches!(reason(checkpoint.tensor("a")), Error::UnknownDtype { .. }));
    assert!(matches!(reason(checkpoint.tensor("c")), Error::UnknownDtype { .. }));
    let missing = reason(checkpoint.tensor("bb"));
    assert!(matches!(&missing, Error::MissingTensor { nearest, .. } if nearest[0] == "b"));
}

#[test]
fn readers_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Checkpoint>();
    shared::<Gguf>();
    shared::<formats::TensorView<'_>>();
    shared::<Error>();
}

/// Writes a file with one small tensor of each name.
fn shard(folder: &Path, file: &str, names: &[&str]) {
    let tensors: Vec<_> = names
        .iter()
        .map(|name| TensorData {
            name,
            dtype: Dtype::F32,
            shape: &[1],
            bytes: vec![0, 0, 128, 63].into(),
        })
        .collect();
    write(folder.join(file), &tensors, &std::collections::BTreeMap::new()).unwrap();
}

/// Writes an index that says where each name is.
fn index(folder: &Path, places: &[(&str, &str)]) {
    let map: serde_json::Map<_, _> =
        places.iter().map(|(name, file)| ((*name).to_owned(), (*file).into())).collect();
    let text = serde_json::json!({ "metadata": { "total_size": 8 }, "weight_map": map });
    fs_err::write(folder.join("model.safetensors.index.json"), text.to_string()).unwrap();
}

#[test]
fn shards_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    shard(path, "model-1.safetensors", &["a", "unlisted"]);
    shard(path, "model-2.safetensors", &["b"]);
    index(path, &[("a", "model-1.safetensors"), ("b", "model-2.safetensors")]);
    for path in [path.to_owned(), path.join("model.safetensors.index.json")] {
        let checkpoint = Checkpoint::open(path).unwrap();
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b", "unlisted"]);
        assert_eq!(checkpoint.tensor("b").unwrap().to_f32().unwrap()[0].to_bits(), 1f32.to_bits());
        assert_eq!(checkpoint.files().count(), 2);
    }
}

#[test]
fn shards_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(matches!(reason(Checkpoint::open(path)), Error::NoSuchFile { .. }));
    shard(path, "model-1.safetensors", &["a"]);
    index(path, &[("a", "model-1.safetensors"), ("b", "model-2.safetensors")]);
    let missing = reason(Checkpoint::open(path));
    assert!(
        matches!(&missing, Error::MissingShard { shard, tensor_count: 1 } if shard == "model-2.safetensors")
    );
    shard(path, "model-2.safetensors", &["c"]);
    assert!(matches!(reason(Checkpoint::open(path)), Error::NotInShard { .. }));
    shard(path, "model-2.safetensors", &["a", "b"]);
    assert!(matches!(reason(Checkpoint::open(path)), Error::Duplicate { .. }));
    for outside in ["../model-1.safetensors", "/etc/passwd", "", ".", "a/b", "a\\b"] {
        index(path, &[("a", outside)]);
        assert!(matches!(reason(Checkpoint::open(path)), Error::ShardPath { .. }), "{outside}");
    }
    fs_err::write(path.join("model.safetensors.index.json"), "{}").unwrap();
    assert!(matches!(reason(Checkpoint::open(path)), Error::Json { .. }));
}

#[test]
fn folders_and_pickles_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(matches!(reason(Checkpoint::open(path.join("absent.safetensors"))), Error::Io(_)));
    assert!(matches!(reason(Gguf::open(path)), Error::NotAFile | Error::Io(_)));
    fs_err::write(path.join("pytorch_model.bin"), "PK").unwrap();
    assert!(matches!(reason(Checkpoint::open(path)), Error::Pickle { .. }));
    let config = r#"{"peft_type":"LORA","r":8,"target_modules":["q_proj"]}"#;
    fs_err::write(path.join("adapter_config.json"), config).unwrap();
    fs_err::write(path.join("adapter_model.bin"), "PK").unwrap();
    let pickle = reason(peft::read(path));
    assert!(pickle.hint().unwrap().contains("save_file"), "{pickle}");
    assert!(matches!(pickle, Error::Pickle { .. }));
}

#[test]
fn nothing_is_written_where_a_tensor_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let tensor = |name, dtype, size: usize| TensorData {
        name,
        dtype,
        shape: &[2],
        bytes: vec![0; size].into(),
    };
    let metadata = std::collections::BTreeMap::new();
    let case = |tensors: &[TensorData<'_>]| reason(write(&path, tensors, &metadata));
    let short = [tensor("a", Dtype::F32, 7)];
    assert!(matches!(case(&short), Error::TensorSize { wanted: 8, found: 7, .. }));
    let twice = [tensor("a", Dtype::F32, 8), tensor("a", Dtype::F16, 4)];
    assert!(matches!(case(&twice), Error::Duplicate { .. }));
    assert!(matches!(case(&[tensor("__metadata__", Dtype::F32, 8)]), Error::Duplicate { .. }));
    assert!(matches!(case(&[tensor("a", Dtype::Q8_0, 8)]), Error::UnknownDtype { .. }));
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    // A file that is there stays as it was.
    write(&path, &[tensor("a", Dtype::F32, 8)], &metadata).unwrap();
    let before = fs_err::read(&path).unwrap();
    assert!(write(&path, &short, &metadata).is_err());
    assert_eq!(fs_err::read(&path).unwrap(), before);
}

/// Builds GGUF files, right and wrong.
#[derive(Clone, Default)]
struct Builder(Vec<u8>);

impl Builder {
    fn new(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(mut self, text: &[u8]) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend_from_slice(text);
        self
    }

    fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let this = self.text(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(this, |this, &dim| this.u64(dim)).u32(kind).u64(offset)
    }

    /// Pads to 32 bytes and adds data.
    fn data(mut self, bytes: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + bytes, 0);
        self
    }

    fn open(self) -> Result<Gguf> {
        Gguf::from_bytes("a.gguf", self.0)
    }

    fn reason(self) -> Error {
        reason(self.open())
    }
}

#[test]
fn gguf_counts_that_lie_are_refused() {
    assert!(matches!(Builder::new(1 << 60, 0).reason(), Error::Count { .. }));
    assert!(matches!(Builder::new(0, u64::MAX).reason(), Error::Count { .. }));
    assert!(matches!(Builder::new(0, 1).reason(), Error::Count { .. }));
    let key = || Builder::new(0, 1).text(b"a.key");
    assert!(matches!(key().u32(8).u64(u64::MAX).reason(), Error::Truncated { end: u64::MAX, .. }));
    assert!(matches!(key().u32(9).u32(4).u64(1 << 62).reason(), Error::Truncated { .. }));
    assert!(matches!(key().u32(9).u32(8).u64(1 << 61).reason(), Error::Count { .. }));
    assert!(matches!(key().u32(9).u32(9).u64(1 << 61).reason(), Error::Count { .. }));
    assert!(matches!(key().u32(13).u64(0).reason(), Error::ValueType { id: 13, .. }));
    assert!(matches!(key().u32(9).u32(77).u64(0).reason(), Error::ValueType { id: 77, .. }));
    let deep = (0..50).fold(key().u32(9), |this, _| this.u32(9).u64(1));
    assert!(matches!(deep.reason(), Error::Depth { .. }));
    assert!(matches!(
        Builder::new(0, 1).text(b"\xff\xfe").u32(0).u32(0).reason(),
        Error::NotUtf8 { .. }
    ));
    assert!(matches!(key().u32(8).text(b"\xff").reason(), Error::NotUtf8 { .. }));
    let twice = Builder::new(0, 2).text(b"k").u32(4).u32(1).text(b"k").u32(4).u32(1);
    assert!(matches!(twice.reason(), Error::Duplicate { .. }));
    for alignment in [0, 3, 31] {
        let file = Builder::new(0, 1).text(b"general.alignment").u32(4).u32(alignment);
        assert!(matches!(file.reason(), Error::Alignment { .. }), "{alignment}");
    }
    let file = Builder::new(0, 1).text(b"general.alignment").u32(8).text(b"32");
    assert!(matches!(file.reason(), Error::KeyType { .. }));
}

#[test]
fn gguf_tensors_that_lie_are_refused() {
    let one = |dims: &[u64], kind, offset| Builder::new(1, 0).tensor("t", dims, kind, offset);
    assert!(one(&[4, 2], 0, 0).data(32).open().is_ok());
    assert!(matches!(one(&[4, 2], 0, 0).data(31).reason(), Error::Truncated { .. }));
    assert!(matches!(one(&[4, 2], 0, 32).data(32).reason(), Error::Truncated { .. }));
    assert!(matches!(one(&[4, 2], 0, 4).data(64).reason(), Error::Misaligned { offset: 4, .. }));
    assert!(matches!(one(&[4], 0, u64::MAX - 31).data(64).reason(), Error::Truncated { .. }));
    assert!(matches!(one(&[1; 5], 0, 0).data(32).reason(), Error::Dimensions { count: 5, .. }));
    assert!(matches!(one(&[33], 2, 0).data(64).reason(), Error::PartialBlock { cols: 33, .. }));
    let huge = one(&[1 << 40, 1 << 40], 0, 0);
    assert!(matches!(huge.data(32).reason(), Error::ShapeOverflow { .. }));
    let two = |first: u64, second: u64| {
        Builder::new(2, 0).tensor("a", &[16], 0, first).tensor("b", &[16], 0, second).data(128)
    };
    assert!(two(0, 64).open().is_ok());
    assert!(matches!(two(0, 32).reason(), Error::Overlap { at: 32, .. }));
    assert!(matches!(two(64, 64).reason(), Error::Overlap { .. }));
    let twice = Builder::new(2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).data(64);
    assert!(matches!(twice.reason(), Error::Duplicate { .. }));
}

#[test]
fn gguf_tensors_without_numbers_are_fine() {
    let file = Builder::new(2, 0).tensor("none", &[0, 4], 0, 64).tensor("one", &[], 0, 0);
    let gguf = file.data(4).open().unwrap();
    assert!(gguf.tensor("none").unwrap().to_f32().unwrap().is_empty());
    assert_eq!(gguf.tensor("none").unwrap().shape, [4, 0]);
    assert_eq!(gguf.tensor("one").unwrap().value_count(), 1);
    assert!(Builder::new(0, 0).open().unwrap().is_empty());
}

#[test]
fn gguf_of_another_kind_is_named() {
    let version = |version| Builder(b"GGUF".to_vec()).u32(version).u64(0).u64(0);
    assert!(version(2).open().is_ok());
    assert!(matches!(version(1).reason(), Error::GgufVersion { version: 1 }));
    let swapped = version(3 << 24).reason();
    assert!(swapped.hint().unwrap().contains("big-endian"));
    let mut empty = Builder::default();
    assert!(matches!(empty.clone().reason(), Error::WrongFormat { found: Signature::Empty, .. }));
    empty.0 = b"GGUF\x03".to_vec();
    assert!(matches!(empty.reason(), Error::Truncated { .. }));
    let foreign = Builder::new(1, 0).tensor("t", &[256], 10, 0).data(84).open().unwrap();
    let error = reason(foreign.tensor("t"));
    assert!(matches!(error, Error::UnknownDtype { dtype, .. } if dtype == "Q2_K"));
    let foreign = Builder::new(1, 0).tensor("t", &[256], 4711, 0).data(84).open().unwrap();
    let error = reason(foreign.tensor("t"));
    assert!(matches!(error, Error::UnknownDtype { dtype, .. } if dtype == "type 4711"));
}

#[test]
fn tokenizer_tables_that_do_not_fit_are_refused() {
    let texts = |this: Builder, key: &[u8], texts: &[&[u8]]| {
        let this = this.text(key).u32(9).u32(8).u64(texts.len() as u64);
        texts.iter().fold(this, |this, text| this.text(text))
    };
    let base = |keys| {
        let this = Builder::new(0, keys).text(b"tokenizer.ggml.model").u32(8).text(b"gpt2");
        texts(this, b"tokenizer.ggml.tokens", &[b"a", b"b"])
    };
    let case = |this: Builder| reason(this.open().unwrap().tokenizer());
    assert!(base(2).open().unwrap().tokenizer().is_ok());
    let types = base(3).text(b"tokenizer.ggml.token_type").u32(9).u32(5).u64(1).u32(1);
    assert!(matches!(case(types), Error::TokenizerTable { found: 1, tokens: 2, .. }));
    let scores = base(3).text(b"tokenizer.ggml.scores").u32(9).u32(6).u64(3).u64(0).u32(0);
    assert!(matches!(case(scores), Error::TokenizerTable { found: 3, .. }));
    let id = |id| base(3).text(b"tokenizer.ggml.eos_token_id").u32(4).u32(id);
    assert_eq!(id(1).open().unwrap().tokenizer().unwrap().eos, Some(1));
    assert_eq!(id(u32::MAX).open().unwrap().tokenizer().unwrap().eos, None);
    assert!(matches!(case(id(2)), Error::SpecialToken { id: 2, tokens: 2, .. }));
    for merge in [&b"ab"[..], b"", b" ", b"a ", "é".as_bytes()] {
        let file = texts(base(3), b"tokenizer.ggml.merges", &[merge]);
        assert!(matches!(case(file), Error::Merge { index: 0, .. }), "{merge:?}");
    }
    assert!(matches!(case(Builder::new(0, 0)), Error::MissingKey { .. }));
}
