//! Runs that must end with the same bytes, however they got there.

use std::{
    env,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use fs_err as fs;
use serde_json::Value;

use crate::home::Home;

/// Names a model for the long form of these tests.
const MODEL: &str = "TRUEUP_TEST_MODEL";

/// Kills at random moments in the long form.
const MANY_KILLS: u32 = 8;

/// Two epochs with evaluation and a short last step each, and a checkpoint every other step.
const RECIPE: &str = "
dataset: {path: pairs.jsonl, eval_fraction: 0.2, max_length: 256}
alignment:
  save_steps: 2
  eval_steps: 3
  batch_size: 2
  gradient_accumulation_steps: 2
  num_epochs: 2
  lora_r: 4
  learning_rate: 1e-3
  tokens_per_micro_batch: 512
";

/// 19 pairs over the same subjects, of different lengths.
fn pairs() -> Vec<String> {
    let subjects = ["a red ball", "the park", "my mother", "a small dog", "rain", "two boats"];
    (0..19)
        .map(|number| {
            let subject = subjects[number % subjects.len()];
            let more = " and then some more".repeat(number % 4);
            serde_json::json!({
                "prompt": format!("Story {number}. Once upon a time there was {subject}"),
                "chosen": format!(". They liked {subject}{more}. The end."),
                "rejected": format!(" that nobody liked at all{more}, and number {number} left."),
            })
            .to_string()
        })
        .collect()
}

struct Case {
    home: Home,
    /// What every run of the case is told.
    settings: Vec<String>,
}

impl Case {
    fn new(model: &Path, settings: &[&str]) -> Self {
        let recipe = format!("model: {{path: \"{}\"}}\n{RECIPE}", model.display());
        let settings = settings.iter().flat_map(|set| ["--set".into(), (*set).into()]).collect();
        Self { home: Home::new(&pairs(), &recipe), settings }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.settings.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }

    fn finish(&self, root: &str, more: &[&str]) {
        let output = self.home.output(root, &self.arguments(more));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{root}: {told}");
    }

    /// Kills the run as soon as something holds, and resumes it; says whether it came to that.
    fn kill_when(&self, root: &str, holds: impl Fn(&Home) -> bool) -> bool {
        let mut child = self.home.start(root, &self.arguments(&["--resume", "auto"]));
        let held = self.home.wait_until(&mut child, holds);
        child.kill().unwrap();
        child.wait().unwrap();
        self.finish(root, &["--resume", "auto"]);
        self.home.assert_same("whole", root);
        held
    }
}

/// Threads, caches and recomputation move no bit.
fn assert_same_bytes_in_any_setting(case: &Case) {
    case.finish("whole", &[]);
    let steps: Vec<Value> = case.home.events("whole");
    assert!(steps.iter().any(|event| event.get("eval_loss").is_some()), "it evaluates");
    for (root, more) in [
        ("one-thread", &["--set", "threads=1"][..]),
        ("two-threads", &["--set", "threads=2"]),
        ("live-reference", &["--no-cache"]),
        ("recomputed", &["--set", "alignment.gradient_checkpointing=true"]),
        ("kept", &["--set", "alignment.gradient_checkpointing=false"]),
    ] {
        case.finish(root, more);
        case.home.assert_same("whole", root);
    }
    // A second run finds the reference of the first and adds nothing to it.
    fs::rename(case.home.path("caches/whole"), case.home.path("caches/cached")).unwrap();
    let segments = || files(&case.home.path("caches/cached/reference"));
    let before = segments();
    case.finish("cached", &[]);
    assert!(!before.is_empty() && before == segments(), "the reference is not computed again");
    case.home.assert_same("whole", "cached");
}

/// Kills in the reference pass, in an evaluation and while a checkpoint is written.
fn assert_same_bytes_after_kills(case: &Case) {
    assert!(case.kill_when("in-reference", |home| {
        !files(&home.path("caches/in-reference/reference")).is_empty()
            && !home.path("in-reference/events.jsonl").exists()
    }));
    assert!(case.kill_when("in-evaluation", |home| {
        let text = fs::read_to_string(home.path("in-evaluation/events.jsonl"));
        text.is_ok_and(|text| text.lines().count() == 3)
    }));
    assert!(case.kill_when("in-checkpoint", |home| {
        files(&home.path("in-checkpoint")).iter().any(|path| {
            let mut parts = path.components();
            parts.any(|part| part.as_os_str().to_string_lossy().starts_with(run::atomic::TEMPORARY))
        })
    }));
}

/// Kills at moments spread over the whole length of a run, some of them several in one run.
fn assert_same_bytes_after_random_kills(case: &Case, kills: u32) {
    let began = Instant::now();
    case.finish("timed", &[]);
    let length = began.elapsed();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for number in 0..kills {
        let root = format!("random-{number}");
        for _ in 0..=number % 3 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let share = (random >> 33) as f64 / f64::from(1_u32 << 31);
            let mut child = case.home.start(&root, &case.arguments(&["--resume", "auto"]));
            thread::sleep(Duration::from_secs_f64(share * length.as_secs_f64()));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        case.finish(&root, &["--resume", "auto"]);
        case.home.assert_same("whole", &root);
        fs::remove_dir_all(case.home.path(&root)).unwrap();
    }
}

/// How a step is cut into micro-batches moves no bit either; only the fraction of an epoch, which
/// is counted in micro-batches, is another.
fn assert_same_bytes_in_other_micro_batches(case: &Case) {
    // Pairs one by one, and all pairs of a step at once.
    let size = |tokens: u32| format!("alignment.tokens_per_micro_batch={tokens}");
    let (one, all) = (size(1), size(100_000));
    let eight = "alignment.gradient_accumulation_steps=8";
    case.finish("1x8", &["--set", &one, "--set", "alignment.batch_size=1", "--set", eight]);
    let alone = "alignment.gradient_accumulation_steps=1";
    case.finish("8x1", &["--set", &all, "--set", "alignment.batch_size=8", "--set", alone]);
    let [mut left, mut right] = ["1x8", "8x1"].map(|root| case.home.events(root));
    for event in left.iter_mut().chain(&mut right) {
        event.as_object_mut().unwrap().remove("epoch");
    }
    assert_eq!(left, right);
    let adapter =
        |root: &str| fs::read(case.home.path(root).join("adapter_model.safetensors")).unwrap();
    assert!(adapter("1x8") == adapter("8x1"), "the adapters differ");
}

/// All files below a folder that hold anything.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if entry.metadata().is_ok_and(|metadata| 0 < metadata.len()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The small trained model, if the real data is there; else the tiny random one.
fn small_model() -> PathBuf {
    let trained = testkit::shared_data().map(|data| data.join("stories260K/stories260K.gguf"));
    trained.unwrap_or_else(|| testkit::golden("trl/chat"))
}

fn assert_equivalent(model: &Path, precision: &str, random_kills: u32) {
    let case = Case::new(model, &[&format!("model.precision={precision}")]);
    assert_same_bytes_in_any_setting(&case);
    assert_same_bytes_in_other_micro_batches(&case);
    assert_same_bytes_after_kills(&case);
    assert_same_bytes_after_random_kills(&case, random_kills);
}

#[test]
fn runs_in_f32_are_equivalent() {
    assert_equivalent(&small_model(), "f32", 3);
}

#[test]
fn runs_in_bf16_are_equivalent() {
    assert_equivalent(&small_model(), "bf16", 3);
}

/// Runs of the model that [`MODEL`] names; without one, says that it skips.
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
fn assert_given_model_equivalent(precision: &str) {
    match env::var_os(MODEL) {
        Some(model) => assert_equivalent(Path::new(&model), precision, MANY_KILLS),
        None => eprintln!("skipped: {MODEL} names no model"),
    }
}

/// Run with `TRUEUP_TEST_MODEL=<folder or GGUF> cargo test --release -p cli`; it takes minutes.
#[test]
fn runs_of_a_given_model_in_f32_are_equivalent() {
    assert_given_model_equivalent("f32");
}

/// As the test before it.
#[test]
fn runs_of_a_given_model_in_bf16_are_equivalent() {
    assert_given_model_equivalent("bf16");
}
