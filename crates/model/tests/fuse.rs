//! Adapters put into weights: against PEFT, against the adapter beside its base, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test that skips says so")]

use std::{collections::BTreeMap, path::Path};

use formats::{
    Dtype,
    peft::{self, Adapter, Half, Patterns},
    safetensors,
};
use kernels::{Device, Precision};
use model::{Checkpoint, Error, FuseOptions, Fused, MicroBatch, Policy, Sequence, Training, fuse};
use serde::Deserialize;
use testkit::tolerance;

const ASKED: FuseOptions<'_> = FuseOptions { dtype: None, shard_bytes: None, stop: &|| false };

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    settings: Settings,
    tensors: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Settings {
    use_rslora: bool,
    alpha_pattern: BTreeMap<String, f64>,
}

fn chat() -> Checkpoint {
    Checkpoint::open(&testkit::golden("trl/chat")).unwrap()
}

fn adapter() -> Adapter {
    peft::read(testkit::golden("trl/adapter")).unwrap()
}

fn fused(base: &Checkpoint, options: &FuseOptions<'_>, folder: &Path) -> Fused {
    fuse(base, &adapter(), Path::new("adapter"), options, folder).unwrap()
}

/// The base with all its tensors in another type, in files of at most `shard_bytes`.
fn stored_as(dtype: Dtype, shard_bytes: Option<u64>, folder: &Path) -> Checkpoint {
    let mut nothing = adapter();
    nothing.tensors.values_mut().for_each(|(_, values)| values.fill(0.0));
    let options = FuseOptions { dtype: Some(dtype), shard_bytes, ..ASKED };
    fuse(&chat(), &nothing, Path::new("adapter"), &options, folder).unwrap();
    Checkpoint::open(folder).unwrap()
}

fn logps(checkpoint: &Checkpoint, training: &Training) -> Vec<f64> {
    let policy = Policy::load(checkpoint, &Device::cpu(), Precision::F32, training).unwrap();
    let completions: [&[u32]; 2] = [&[44, 7, 90, 200, 2], &[13, 14, 15]];
    let sequence = Sequence {
        prompt: &[1, 70, 71, 72, 9],
        completions: completions.iter().map(|ids| (*ids, 0)).collect(),
        spans: &[],
    };
    let scores = policy.score(&MicroBatch::new(&[sequence]), true).unwrap();
    scores.completions.iter().map(|score| score.logp).collect()
}

fn assert_near(got: &[f64], want: &[f64], tolerance: f64, at: &str) {
    for (got, want) in got.iter().zip(want) {
        let off = (got - want).abs() / want.abs();
        assert!(off < tolerance, "{at}: {got} for {want}, off {off:e}");
    }
}

#[test]
fn weights_are_those_that_peft_merges() {
    let text = fs_err::read_to_string(testkit::golden("fuse/merged.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    assert_eq!(golden.cases.len(), 2);
    for case in golden.cases {
        let mut adapter = adapter();
        adapter.config.use_rslora = case.settings.use_rslora;
        adapter.config.alpha_pattern = Patterns(case.settings.alpha_pattern.into_iter().collect());
        let home = tempfile::tempdir().unwrap();
        let done = fuse(&chat(), &adapter, Path::new("adapter"), &ASKED, home.path()).unwrap();
        assert_eq!((done.modules, done.files, done.dtypes), (14, 1, vec![Dtype::F32]));
        let files = safetensors::Checkpoint::open(home.path()).unwrap();
        for (name, want) in case.tensors {
            let got = files.tensor(&name).unwrap().to_f32().unwrap();
            assert_eq!(got.len(), want.len());
            let largest = want.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            for (got, want) in got.iter().zip(&want) {
                let off = f64::from((got - want).abs() / largest);
                assert!(off < tolerance::F32_GOLDEN, "{} {name}: {got} for {want}", case.name);
            }
        }
    }
}

#[test]
fn untouched_tensors_and_companions_keep_their_bytes() {
    let home = tempfile::tempdir().unwrap();
    fused(&chat(), &ASKED, home.path());
    let (from, to) = (testkit::golden("trl/chat"), home.path());
    let files = ["config.json", "generation_config.json", "tokenizer.json"];
    for name in files.iter().chain(&["tokenizer_config.json", "chat_template.jinja"]) {
        assert!(fs_err::read(from.join(name)).unwrap() == fs_err::read(to.join(name)).unwrap());
    }
    let [base, done] = [from.as_path(), to].map(|at| safetensors::Checkpoint::open(at).unwrap());
    assert!(base.names().eq(done.names()));
    let changed = base
        .names()
        .filter(|name| base.tensor(name).unwrap().bytes != done.tensor(name).unwrap().bytes);
    assert!(changed.eq(base.names().filter(|name| name.contains("_proj"))));
}

#[test]
fn the_fused_model_says_what_base_and_adapter_say() {
    let want = logps(&chat(), &Training::Lora(Box::new(adapter())));
    let alone = logps(&chat(), &Training::Nothing);
    assert!((want[0] - alone[0]).abs() > 0.01, "the adapter changes too little to be seen");
    let home = tempfile::tempdir().unwrap();
    for (dtype, off) in [
        (Dtype::F32, tolerance::MODEL_F32_LOGP),
        (Dtype::F16, tolerance::FUSED_F16_LOGP),
        (Dtype::Bf16, tolerance::FUSED_BF16_LOGP),
    ] {
        let folder = home.path().join(dtype.name());
        fs_err::create_dir(&folder).unwrap();
        let done = fused(&chat(), &FuseOptions { dtype: Some(dtype), ..ASKED }, &folder);
        assert_eq!(done.dtypes, [dtype]);
        let got = logps(&Checkpoint::open(&folder).unwrap(), &Training::Nothing);
        assert_near(&got, &want, off, dtype.name());
        let config = fs_err::read_to_string(folder.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let names = ["float32", "float16", "bfloat16"];
        assert!(names[done.dtypes[0] as usize] == config["dtype"], "{config}");
    }
}

#[test]
fn a_bf16_base_stays_bf16_and_the_loss_is_told() {
    let home = tempfile::tempdir().unwrap();
    let (low, narrow, wide) = (home.path().join("a"), home.path().join("b"), home.path().join("c"));
    for folder in [&low, &narrow, &wide] {
        fs_err::create_dir(folder).unwrap();
    }
    let base = stored_as(Dtype::Bf16, None, &low);
    let told = fused(&base, &ASKED, &narrow);
    assert_eq!(told.dtypes, [Dtype::Bf16]);
    assert!(told.rounding.cosine() < 1.0 && told.rounding.cosine() > 0.9, "{told:?}");
    let told = fused(&base, &FuseOptions { dtype: Some(Dtype::F32), ..ASKED }, &wide);
    assert!((told.rounding.kept() - 1.0).abs() < tolerance::F32_GOLDEN, "{told:?}");

    // An update far below the last place of every weight is erased.
    let mut small = adapter();
    small.config.lora_alpha = 1e-6;
    let folder = home.path().join("d");
    fs_err::create_dir(&folder).unwrap();
    let told = fuse(&base, &small, Path::new("adapter"), &ASKED, &folder).unwrap();
    assert!(told.rounding.norm_share() < 0.1, "{told:?}");
}

#[test]
fn shards_stay_or_are_cut_anew() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = home.path().join(name);
        fs_err::create_dir(&path).unwrap();
        path
    };
    let names = |folder: &Path| -> Vec<String> {
        let files = safetensors::Checkpoint::open(folder).unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        files.shards().map(|(path, tensors)| format!("{} {tensors:?}", name(path))).collect()
    };
    let cut = at("cut");
    let base = stored_as(Dtype::F32, Some(30_000), &cut);
    assert_eq!(names(&cut).len(), 4);
    let kept = at("kept");
    assert_eq!(fused(&base, &ASKED, &kept).files, 4);
    assert_eq!(names(&kept), names(&cut));
    let index = safetensors::INDEX_FILE;
    assert!(fs_err::read(cut.join(index)).unwrap() == fs_err::read(kept.join(index)).unwrap());
    let whole = at("whole");
    let options = FuseOptions { shard_bytes: Some(1 << 20), ..ASKED };
    assert_eq!(fused(&base, &options, &whole).files, 1);
    assert!(!whole.join(index).exists());
    // A tensor that is larger than the limit has a file of its own.
    let single = at("single");
    let options = FuseOptions { shard_bytes: Some(1), ..ASKED };
    assert_eq!(fused(&base, &options, &single).files, 20);
    for folder in [&whole, &single] {
        let [got, want] = [folder, &kept].map(|at| safetensors::Checkpoint::open(at).unwrap());
        assert!(got.names().eq(want.names()));
        for name in got.names() {
            assert!(got.tensor(name).unwrap().bytes == want.tensor(name).unwrap().bytes, "{name}");
        }
    }
}

#[test]
fn what_cannot_be_fused_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let refused = |module: &str, dims: [usize; 2]| {
        let mut adapter = adapter();
        adapter.tensors.clear();
        for (half, shape) in [(Half::A, vec![4, dims[1]]), (Half::B, vec![dims[0], 4])] {
            let values = vec![0.5; shape.iter().product()];
            adapter.tensors.insert(peft::name_of(module, half), (shape, values));
        }
        fuse(&chat(), &adapter, Path::new("adapter"), &ASKED, home.path()).unwrap_err()
    };
    assert!(matches!(refused("lm_head", [290, 32]), Error::TiedHead { .. }));
    for (module, dims, told) in [
        ("model.embed_tokens", [290, 32], "no module `model.embed_tokens`"),
        ("model.layers.2.mlp.up_proj", [48, 32], "no module `model.layers.2.mlp.up_proj`"),
        ("model.layers.0.mlp.up_proj", [32, 48], "is [32, 48] there and [48, 32] in the model"),
    ] {
        let text = refused(module, dims).to_string();
        assert!(text.contains(told), "{text}");
    }
    // Beyond what f16 holds, and no number at all.
    for (alpha, is_overflow) in [(1e9, true), (f64::INFINITY, false)] {
        let mut adapter = adapter();
        adapter.config.lora_alpha = alpha;
        let options = FuseOptions { dtype: Some(Dtype::F16), ..ASKED };
        let error = fuse(&chat(), &adapter, Path::new("a"), &options, home.path()).unwrap_err();
        match error {
            Error::Overflow { dtype: Dtype::F16, .. } => assert!(is_overflow),
            Error::NotFinite { .. } => assert!(!is_overflow),
            other => panic!("{other}"),
        }
    }
    let stopped = FuseOptions { stop: &|| true, ..ASKED };
    let error = fuse(&chat(), &adapter(), Path::new("a"), &stopped, home.path()).unwrap_err();
    assert!(matches!(error, Error::Stopped));
}

#[test]
fn a_gguf_file_becomes_a_folder() {
    let Some(data) = testkit::shared_data() else {
        eprintln!("skipped: no shared data");
        return;
    };
    let base = Checkpoint::open(&data.join("stories260K/stories260K.gguf")).unwrap();
    let settings = model::LoraSettings {
        r: 2,
        lora_alpha: 4.0,
        use_rslora: false,
        targets: model::Targets::AllLinear,
        layers: model::Layers::All,
    };
    let mut adapter = settings.fresh(base.config(), 1).unwrap();
    for (index, (_, values)) in adapter.tensors.values_mut().enumerate() {
        for (at, value) in values.iter_mut().enumerate() {
            *value = ((at * 37 + index * 11) % 17) as f32 / 100.0 - 0.08;
        }
    }
    let want = logps(&base, &Training::Lora(Box::new(adapter.clone())));
    let alone = logps(&base, &Training::Nothing);
    assert!((want[0] - alone[0]).abs() > 0.01, "the adapter changes too little to be seen");
    let home = tempfile::tempdir().unwrap();
    let done = fuse(&base, &adapter, Path::new("adapter"), &ASKED, home.path()).unwrap();
    assert_eq!(done.dtypes, [Dtype::F32]);
    let got = Checkpoint::open(home.path()).unwrap();
    assert_near(&logps(&got, &Training::Nothing), &want, tolerance::MODEL_F32_LOGP, "gguf");
}
