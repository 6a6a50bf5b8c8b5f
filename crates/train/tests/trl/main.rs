//! Whole training runs against TRL's, from the same tokens, order and initial adapter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fine_tuning;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use data::template::Moment;
use formats::safetensors;
use kernels::Device;
use run::{Event, RunFolder};
use serde::Deserialize;
use serde_json::Value;
use testkit::tolerance;
use train::{
    Progress, Session, Watch,
    align::{Prepared, Setting, Start},
    recipe,
};

#[derive(Deserialize)]
struct Golden {
    settings: Value,
    steps: Vec<Value>,
    tokens: Vec<Value>,
}

struct Silent;

impl Watch for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn interrupted(&self) -> bool {
        false
    }
}

fn golden(name: &str) -> Golden {
    let text = fs_err::read_to_string(testkit::golden(&format!("trl/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The recipe of a golden run; `extra` are lines under `alignment`.
fn recipe_text(golden: &Golden, rows: &Path, out: &Path, extra: &str) -> String {
    let set = |key: &str| golden.settings[key].clone();
    let chat = testkit::golden("trl/chat");
    let adapter = testkit::golden("trl/adapter");
    let mut text = format!("model:\n  path: {}\n  precision: f32\n", chat.display());
    if set("full") == true {
        text += "  reference: base\n";
    } else {
        let reference = set("reference").as_str().unwrap().to_owned();
        writeln!(text, "  adapter: {}\n  reference: {reference}", adapter.display()).unwrap();
    }
    writeln!(text, "dataset:\n  path: {}\n  max_length: {}", rows.display(), set("max_length"))
        .unwrap();
    writeln!(text, "alignment:\n  output_dir: {}", out.display()).unwrap();
    write!(text, "  shuffle_dataset: false\n{extra}").unwrap();
    if set("full") == true {
        text += "  use_lora: false\n";
    }
    if set("sync_ref_model") == true {
        for key in ["sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"] {
            writeln!(text, "  {key}: {}", set(key)).unwrap();
        }
    }
    for key in [
        "beta",
        "loss_type",
        "learning_rate",
        "lr_scheduler_type",
        "warmup_ratio",
        "batch_size",
        "gradient_accumulation_steps",
        "num_epochs",
        "weight_decay",
        "max_grad_norm",
    ] {
        writeln!(text, "  {key}: {}", set(key).to_string().trim_matches('"')).unwrap();
    }
    match set("max_steps").as_i64().unwrap() {
        steps if steps > 0 => text + &format!("  max_steps: {steps}\n"),
        _ => text,
    }
}

struct Run {
    _home: tempfile::TempDir,
    out: PathBuf,
    events: Vec<Event>,
}

fn run(golden: &Golden, device: Device, extra: &str) -> Run {
    train(&golden.tokens, device, |rows, out| recipe_text(golden, rows, out, extra))
}

/// Trains on rows as the recipe of a file of rows and a run folder says.
fn train(rows: &[Value], device: Device, recipe: impl Fn(&Path, &Path) -> String) -> Run {
    let home = tempfile::tempdir().unwrap();
    let (file, out) = (home.path().join("rows.jsonl"), home.path().join("out"));
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs_err::write(&file, lines.join("\n")).unwrap();
    let text = recipe(&file, &out);
    let recipe =
        recipe::check(&text, &[], "now").unwrap_or_else(|e| panic!("{e:?}\n{text}")).recipe;
    let setting = Setting {
        device,
        model: testkit::golden("trl/chat"),
        tokenizer: None,
        caches: None,
        memory: 1 << 30,
        datasets: std::collections::BTreeMap::new(),
        today: Moment::date(2026, 1, 2).unwrap(),
        profile: false,
    };
    let mut session = Session::default();
    let prepared = Prepared::new(recipe, setting, &mut session).unwrap();
    let folder = RunFolder::create(&out).unwrap();
    prepared.run(folder, &Start::Fresh, &mut session, &mut Silent).unwrap();
    let events = run::events::read(&out.join("events.jsonl")).unwrap();
    Run { _home: home, out, events }
}

fn check_steps(name: &str, events: &[Event], golden: &Golden) {
    assert_eq!(events.len(), golden.steps.len(), "{name}");
    for (event, want) in events.iter().zip(&golden.steps) {
        let value = |key: &str| event.get(key).unwrap_or_else(|| panic!("{key}"));
        let want = |key: &str| want[key].as_f64().unwrap();
        let at = format!("{name} step {}", event.step);
        // Ours are means over a step's tokens, TRL's over its micro-batches: one and the same where
        // a step is one micro-batch.
        let is_one = golden.settings["gradient_accumulation_steps"] == 1;
        let entropy: &[&str] = if is_one { &["entropy"] } else { &[] };
        let logits: &[&str] = if is_one { &["logits/chosen", "logits/rejected"] } else { &[] };
        for key in ["loss", "grad_norm", "logps/chosen", "logps/rejected"].iter().chain(entropy) {
            let off = (value(key) / want(key) - 1.0).abs();
            assert!(off < tolerance::TRL_RELATIVE, "{at} {key}: {} for {}", value(key), want(key));
        }
        for key in ["rewards/margins", "rewards/chosen", "rewards/rejected"].iter().chain(logits) {
            let off = (value(key) - want(key)).abs();
            assert!(off < tolerance::TRL_MARGIN, "{at} {key}: {} for {}", value(key), want(key));
        }
        for key in ["learning_rate", "epoch", "num_tokens", "rewards/accuracies"] {
            let off = (value(key) - want(key)).abs();
            assert!(off <= 1e-7 * want(key).abs(), "{at} {key}: {} for {}", value(key), want(key));
        }
    }
}

/// The relative distance of the trained tensors from TRL's, over those that the golden holds.
fn distance(folder: &Path, file: &str, golden: &str) -> f64 {
    let ours = safetensors::Checkpoint::open(folder.join(file)).unwrap();
    let theirs = safetensors::Checkpoint::open(testkit::golden(golden)).unwrap();
    let (mut off, mut norm) = (0.0, 0.0);
    for name in theirs.names() {
        let ours = ours.tensor(name).unwrap().to_f32().unwrap();
        for (a, b) in ours.iter().zip(theirs.tensor(name).unwrap().to_f32().unwrap()) {
            off += f64::from(a - b).powi(2);
            norm += f64::from(b).powi(2);
        }
    }
    (off / norm).sqrt()
}

#[test]
fn adapters_train_as_in_trl() {
    for name in ["sigmoid", "cosine", "hinge", "ipo", "continued"] {
        let golden = golden(name);
        let run = run(&golden, Device::cpu(), "");
        check_steps(name, &run.events, &golden);
        let off =
            distance(&run.out, "adapter_model.safetensors", &format!("trl/{name}.safetensors"));
        assert!(off < tolerance::TRL_WEIGHTS, "{name}: adapters differ by {off:e}");
    }
}

#[test]
fn whole_models_train_as_in_trl() {
    for name in ["full", "synced"] {
        let golden = golden(name);
        let run = run(&golden, Device::cpu(), "");
        check_steps(name, &run.events, &golden);
        let off = distance(&run.out, "model.safetensors", &format!("trl/{name}.safetensors"));
        assert!(off < tolerance::TRL_WEIGHTS, "{name}: weights differ by {off:e}");
    }
}

#[test]
fn micro_batches_change_rounding_alone() {
    let golden = golden("cosine");
    let whole = run(&golden, Device::cpu(), "  tokens_per_micro_batch: 100000\n");
    for tokens in [1, 60, 150] {
        let cut = run(&golden, Device::cpu(), &format!("  tokens_per_micro_batch: {tokens}\n"));
        for (a, b) in whole.events.iter().zip(&cut.events) {
            let value = |event: &Event, key: &str| event.get(key).unwrap();
            for key in ["loss", "grad_norm"] {
                let off = (value(a, key) / value(b, key) - 1.0).abs();
                assert!(
                    off < tolerance::MICRO_BATCHES,
                    "{tokens} {key} at step {}: {off:e}",
                    a.step
                );
            }
            let off = (value(a, "rewards/margins") - value(b, "rewards/margins")).abs();
            assert!(off < tolerance::MICRO_BATCHES, "{tokens} margins at step {}: {off:e}", a.step);
        }
    }
}

#[test]
fn recomputation_changes_no_byte() {
    let golden = golden("sigmoid");
    let plain = run(&golden, Device::cpu(), "  gradient_checkpointing: false\n");
    let again = run(&golden, Device::cpu(), "  gradient_checkpointing: true\n");
    for file in ["events.jsonl", "adapter_model.safetensors"] {
        let read = |run: &Run| fs_err::read(run.out.join(file)).unwrap();
        assert!(read(&plain) == read(&again), "{file}");
    }
}
