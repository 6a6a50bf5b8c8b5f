//! Models and adapters as GGUF files: what was written is read back and says the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use formats::{
    Dtype,
    gguf::{FileType, Gguf, Value},
    peft::{self, Adapter, Patterns},
};
use kernels::{Device, Precision};
use model::{
    Checkpoint, Config, Error, FuseOptions, FusedGguf, GgufOptions, MicroBatch, Policy,
    RopeScaling, RopeShape, Sequence, Training, fuse, fuse_gguf, write_gguf_adapter,
};
use testkit::tolerance;

/// Models whose files differ in every way that there is: biases, heads, ties, rotation, odd sizes.
const MODELS: [&str; 9] = [
    "trl/chat",
    "model/qwen2",
    "model/qwen3",
    "model/biased",
    "model/gqa",
    "model/odd",
    "model/rope-linear",
    "model/rope-llama3",
    "model/tied",
];

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&testkit::golden(name)).unwrap()
}

fn chat_adapter() -> Adapter {
    peft::read(testkit::golden("trl/adapter")).unwrap()
}

fn written(
    base: &Checkpoint,
    adapter: Option<&Adapter>,
    file_type: Option<FileType>,
    path: &Path,
) -> FusedGguf {
    let options = GgufOptions { file_type, metadata: &[], stop: &|| false };
    let adapter = adapter.map(|adapter| (adapter, Path::new("adapter")));
    fuse_gguf(base, adapter, &options, path).unwrap()
}

fn logps(checkpoint: &Checkpoint, training: &Training) -> Vec<f64> {
    let policy = Policy::load(checkpoint, &Device::cpu(), Precision::F32, training).unwrap();
    let vocabulary = checkpoint.config().vocabulary as u32;
    let ids = |seed: u32, count: u32| (0..count).map(|i| (seed + 7 * i) % vocabulary).collect();
    let (prompt, first, second): (Vec<u32>, Vec<u32>, Vec<u32>) =
        (ids(1, 6), ids(3, 5), ids(11, 3));
    let completions = vec![(first.as_slice(), 0), (second.as_slice(), 0)];
    let sequence = Sequence { prompt: &prompt, spans: &[], completions };
    let scores = policy.score(&MicroBatch::new(&[sequence]), true).unwrap();
    scores.completions.iter().map(|score| score.logp).collect()
}

fn off(got: &[f64], want: &[f64]) -> f64 {
    let pairs = got.iter().zip(want).map(|(got, want)| (got - want).abs() / want.abs());
    pairs.fold(0.0, f64::max)
}

#[test]
fn a_written_model_is_read_back_and_says_the_same() {
    let home = tempfile::tempdir().unwrap();
    for name in MODELS {
        let base = open(name);
        let want = logps(&base, &Training::Nothing);
        for (file_type, most) in [
            (None, tolerance::MODEL_F32_LOGP),
            (Some(FileType::F16), tolerance::FUSED_F16_LOGP),
            (Some(FileType::Bf16), tolerance::FUSED_BF16_LOGP),
            (Some(FileType::Q8_0), tolerance::FUSED_BF16_LOGP),
        ] {
            let path = home.path().join("model.gguf");
            let done = written(&base, None, file_type, &path);
            assert!(file_type.is_none_or(|asked| asked == done.file_type), "{name}");
            let read = Checkpoint::open(&path).unwrap();
            let found = off(&logps(&read, &Training::Nothing), &want);
            assert!(found < most, "{name} {file_type:?}: off {found:e}");
            let file = read.gguf().unwrap();
            assert_eq!(file.get_u32("general.file_type").unwrap(), done.file_type.id());
            let plain = |config: &Config| {
                let ropes = config
                    .ropes
                    .iter()
                    .map(|rope| RopeShape { scaling: RopeScaling::None, ..rope.clone() });
                let ropes = ropes.collect();
                Config { ropes, bos: None, eos: Vec::new(), ..config.clone() }
            };
            let [read, base] = [read.config(), base.config()].map(plain);
            assert_eq!(read, base, "{name}");
        }
    }
}

/// Their files would need keys or rows that are not written; nothing is begun.
#[test]
fn families_without_a_file_are_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model.gguf");
    for name in ["mistral", "gemma2", "gemma3", "phi3", "gpt2", "granite", "smollm3"] {
        let base = open(&format!("model/{name}"));
        let options =
            GgufOptions { file_type: Some(FileType::F32), metadata: &[], stop: &|| false };
        let error = fuse_gguf(&base, None, &options, &path).unwrap_err();
        assert!(matches!(error, Error::NoGguf { .. }), "{name}: {error}");
        assert!(!path.exists());
    }
}

#[test]
fn rotary_factors_and_biases_are_in_the_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model.gguf");
    let file = |name: &str| {
        written(&open(name), None, None, &path);
        Gguf::open(&path).unwrap()
    };
    let llama3 = file("model/rope-llama3");
    let factors = llama3.tensor("rope_freqs.weight").unwrap().to_f32().unwrap();
    assert!(
        factors.iter().any(|it| *it > 1.5) && factors.iter().any(|it| *it < 1.01),
        "{factors:?}"
    );
    let linear = file("model/rope-linear");
    assert_eq!(linear.get_str("llama.rope.scaling.type").unwrap(), "linear");
    assert!(!linear.contains("rope_freqs.weight"));
    assert!(file("model/biased").contains("blk.0.attn_q.bias"));
    assert!(!file("model/tied").contains("output.weight"));
    assert!(file("model/gqa").contains("output.weight") != open("model/gqa").config().tied);
}

#[test]
fn an_adapter_in_a_gguf_file_says_what_base_and_adapter_say() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model.gguf");
    let cases = [
        ("trl/chat", chat_adapter()),
        ("model/biased", peft::read(testkit::golden("model/biased/adapter-r4")).unwrap()),
        ("model/gqa", peft::read(testkit::golden("model/gqa/adapter-r3")).unwrap()),
    ];
    for (name, adapter) in cases {
        let base = open(name);
        let want = logps(&base, &Training::Lora(Box::new(adapter.clone())));
        assert!(off(&logps(&base, &Training::Nothing), &want) > 1e-4, "{name}: nothing changes");
        let done = written(&base, Some(&adapter), Some(FileType::F32), &path);
        assert_eq!(done.modules, adapter.modules().unwrap().len());
        assert!((done.rounding.kept() - 1.0).abs() < tolerance::F32_GOLDEN, "{:?}", done.rounding);
        let fused = Checkpoint::open(&path).unwrap();
        let found = off(&logps(&fused, &Training::Nothing), &want);
        assert!(found < tolerance::MODEL_F32_LOGP, "{name}: off {found:e}");
        // The same out of a GGUF file, whose rows lie in another order.
        written(&base, None, None, &path);
        let again = home.path().join("again.gguf");
        let base = Checkpoint::open(&path).unwrap();
        written(&base, Some(&adapter), None, &again);
        let fused = Checkpoint::open(&again).unwrap();
        let found = off(&logps(&fused, &Training::Nothing), &want);
        assert!(found < tolerance::MODEL_F32_LOGP, "{name} of a GGUF file: off {found:e}");
    }
}

#[test]
fn the_weights_are_those_of_the_fused_folder() {
    let home = tempfile::tempdir().unwrap();
    let (folder, path) = (home.path().join("folder"), home.path().join("model.gguf"));
    fs_err::create_dir(&folder).unwrap();
    let base = open("trl/chat");
    for (dtype, file_type) in [(Dtype::F16, FileType::F16), (Dtype::Bf16, FileType::Bf16)] {
        let options = FuseOptions { dtype: Some(dtype), shard_bytes: None, stop: &|| false };
        fuse(&base, &chat_adapter(), Path::new("adapter"), &options, &folder).unwrap();
        written(&base, Some(&chat_adapter()), Some(file_type), &path);
        let [folder, file] = [&folder, &path].map(|path| {
            let read = Checkpoint::open(path).unwrap();
            let back = home.path().join("back");
            let _ = fs_err::remove_dir_all(&back);
            fs_err::create_dir(&back).unwrap();
            // Both as folders of f32, where rows lie in one order.
            let mut nothing = chat_adapter();
            nothing.tensors.values_mut().for_each(|(_, values)| values.fill(0.0));
            let options =
                FuseOptions { dtype: Some(Dtype::F32), shard_bytes: None, stop: &|| false };
            fuse(&read, &nothing, Path::new("adapter"), &options, &back).unwrap();
            let files = formats::safetensors::Checkpoint::open(&back).unwrap();
            let matrices = files.names().filter(|name| name.contains("_proj"));
            matrices.map(|name| files.tensor(name).unwrap().to_f32().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(folder.len(), 14);
        assert!(folder == file, "{dtype}");
    }
}

#[test]
fn a_gguf_base_keeps_what_it_says_and_what_is_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let (first, second) = (home.path().join("a.gguf"), home.path().join("b.gguf"));
    let text = |text: &str| Value::String(text.into());
    let given = [
        ("general.name".to_owned(), text("First")),
        ("general.license".to_owned(), text("mit")),
        ("tokenizer.ggml.model".to_owned(), text("gpt2")),
    ];
    let base = open("trl/chat");
    let options =
        GgufOptions { file_type: Some(FileType::Bf16), metadata: &given, stop: &|| false };
    fuse_gguf(&base, None, &options, &first).unwrap();
    let renamed = [("general.name".to_owned(), text("Second"))];
    let options = GgufOptions { file_type: None, metadata: &renamed, stop: &|| false };
    let base = Checkpoint::open(&first).unwrap();
    let done = fuse_gguf(&base, None, &options, &second).unwrap();
    assert_eq!(done.file_type, FileType::Bf16);
    let [first, second] = [first, second].map(|path| Gguf::open(path).unwrap());
    for (key, value) in first.metadata() {
        let same = second.metadata().get(key) == Some(value);
        assert_eq!(same, key != "general.name", "{key}");
    }
    assert_eq!(second.get_str("general.name").unwrap(), "Second");
    assert_eq!(second.metadata().len(), first.metadata().len());
    for name in first.names() {
        assert_eq!(first.tensor(name).unwrap(), second.tensor(name).unwrap());
    }
}

#[test]
fn mixes_and_rows_that_do_not_fit_are_told() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model.gguf");
    // Rows of 32 and 48: no K blocks, and what leads out of the feed-forward has no blocks at all.
    let done = written(&open("trl/chat"), None, Some(FileType::Q4KM), &path);
    assert_eq!(done.replaced.values().sum::<usize>(), 15);
    assert_eq!(done.replaced[&Dtype::F16], 2);
    assert_eq!(done.matrices, done.replaced);
    assert!(done.rounding.error_share() > 0.001 && done.rounding.error_share() < 0.1);
    let read = Checkpoint::open(&path).unwrap();
    assert_eq!(read.gguf().unwrap().get_u32("general.file_type").unwrap(), 15);
    let norm = read.gguf().unwrap().tensor("output_norm.weight").unwrap().dtype;
    assert_eq!(norm, Dtype::F32);
    let done = written(&open("trl/chat"), None, Some(FileType::Q8_0), &path);
    assert_eq!((done.matrices[&Dtype::Q8_0], done.replaced[&Dtype::F16]), (13, 2));
}

#[test]
fn an_update_is_erased_where_the_base_lies_on_the_same_grid() {
    let home = tempfile::tempdir().unwrap();
    let (grid, path) = (home.path().join("grid.gguf"), home.path().join("model.gguf"));
    let mut small = chat_adapter();
    small.config.lora_alpha /= 30.0;
    let base = open("trl/chat");
    written(&base, None, Some(FileType::Q4_0), &grid);
    let on_grid = Checkpoint::open(&grid).unwrap();
    let erased = written(&on_grid, Some(&small), Some(FileType::Q4_0), &path).rounding;
    assert!(erased.kept().abs() < 0.5, "{erased:?}");
    let kept = written(&on_grid, Some(&small), Some(FileType::F32), &path).rounding;
    assert!((kept.kept() - 1.0).abs() < tolerance::F32_GOLDEN, "{kept:?}");
    // A base of full precision lies anywhere between the steps.
    let moved = written(&base, Some(&small), Some(FileType::Q4_0), &path).rounding;
    assert!(moved.kept() > 0.5 && moved.cosine() < 0.5, "{moved:?}");
    assert!(moved.noise_share() > 2.0, "{moved:?}");
}

#[test]
fn an_adapter_alone_makes_the_weights_of_the_fused_file() {
    let home = tempfile::tempdir().unwrap();
    let (alone, fused) = (home.path().join("adapter.gguf"), home.path().join("fused.gguf"));
    let plain = home.path().join("plain.gguf");
    let base = open("trl/chat");
    written(&base, None, Some(FileType::F32), &plain);
    let mut scaled = chat_adapter();
    scaled.config.use_rslora = true;
    scaled.config.alpha_pattern = Patterns(vec![("up_proj".into(), 3.0), ("v_proj".into(), 40.0)]);
    for adapter in [chat_adapter(), scaled] {
        let given = [("general.name".to_owned(), Value::String("mine".into()))];
        let from = (&adapter, Path::new("adapter"));
        let modules = write_gguf_adapter(&base, from, Dtype::F32, &given, &alone).unwrap();
        assert_eq!(modules, 14);
        written(&base, Some(&adapter), Some(FileType::F32), &fused);
        let [alone, fused, plain] = [&alone, &fused, &plain].map(|path| Gguf::open(path).unwrap());
        assert_eq!(alone.get_str("general.type").unwrap(), "adapter");
        assert_eq!(alone.get_str("general.architecture").unwrap(), "llama");
        assert_eq!(alone.get_str("adapter.type").unwrap(), "lora");
        let alpha = f64::from(alone.get_f32("adapter.lora.alpha").unwrap());
        let linears = plain.names().filter(|name| name.contains("attn_") || name.contains("ffn_"));
        for name in linears.filter(|name| !name.contains("norm")) {
            let read = |file: &Gguf, name: &str| file.tensor(name).unwrap().to_f32().unwrap();
            let shape = alone.tensor(&format!("{name}.lora_a")).unwrap().shape;
            let (rank, inputs) = (shape[0], shape[1]);
            let [a, b] = ["lora_a", "lora_b"].map(|half| read(&alone, &format!("{name}.{half}")));
            let (plain, fused) = (read(&plain, name), read(&fused, name));
            let largest = fused.iter().fold(0.0, |most: f32, it| most.max(it.abs()));
            for (at, (plain, fused)) in plain.iter().zip(&fused).enumerate() {
                let (row, col) = (at / inputs, at % inputs);
                let product: f64 = (0..rank)
                    .map(|r| f64::from(b[row * rank + r]) * f64::from(a[r * inputs + col]))
                    .sum();
                let want = f64::from(*plain) + alpha / rank as f64 * product;
                let off = (want - f64::from(*fused)).abs() / f64::from(largest);
                assert!(off < tolerance::F32_GOLDEN, "{name}: {fused} for {want}");
            }
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let path: PathBuf = home.path().join("a.gguf");
    let base = open("trl/chat");
    let adapter = chat_adapter();
    let from = Some((&adapter, Path::new("adapter")));
    let stopped = GgufOptions { file_type: None, metadata: &[], stop: &|| true };
    assert!(matches!(fuse_gguf(&base, from, &stopped, &path), Err(Error::Stopped)));
    let other = open("model/odd");
    let options = GgufOptions { file_type: None, metadata: &[], stop: &|| false };
    let error = fuse_gguf(&other, from, &options, &path).unwrap_err();
    assert!(matches!(error, Error::AdapterMismatch { .. }), "{error}");
    let mut huge = chat_adapter();
    huge.config.lora_alpha = 1e9;
    let from = (&huge, Path::new("adapter"));
    let options = GgufOptions { file_type: Some(FileType::Q4_0), metadata: &[], stop: &|| false };
    let error = fuse_gguf(&base, Some(from), &options, &path).unwrap_err();
    assert!(matches!(error, Error::Overflow { dtype: Dtype::Q4_0, .. }), "{error}");
    let mut huge = chat_adapter();
    huge.config.alpha_pattern = Patterns(vec![("layers.0.mlp.down_proj".into(), 1e-30)]);
    let from = (&huge, Path::new("adapter"));
    let error = write_gguf_adapter(&base, from, Dtype::F16, &[], &path).unwrap_err();
    assert!(matches!(error, Error::Overflow { dtype: Dtype::F16, .. }), "{error}");
    assert_eq!(fs_err::read_dir(home.path()).unwrap().count(), 0);
}
