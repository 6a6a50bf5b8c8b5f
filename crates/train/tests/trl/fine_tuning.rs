//! Fine-tuning against TRL's, from the same rows: what is learned of each kind of row, and how.

use std::{fmt::Write as _, path::Path};

use kernels::Device;
use serde::Deserialize;
use serde_json::Value;
use testkit::tolerance;

use super::{Run, distance, train};

#[derive(Deserialize)]
struct Golden {
    settings: Value,
    steps: Vec<Value>,
    rows: Vec<Value>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let path = testkit::golden(&format!("trl/sft-{name}.json"));
        serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
    }

    fn is_full(&self) -> bool {
        self.settings["full"] == true
    }

    /// The recipe of the run; `extra` are lines under `training`.
    fn recipe(&self, (rows, out): (&Path, &Path), extra: &str) -> String {
        let (chat, adapter) = (testkit::golden("trl/chat"), testkit::golden("trl/adapter"));
        let mut text = format!("model:\n  path: {}\n  precision: f32\n", chat.display());
        if !self.is_full() {
            writeln!(text, "  adapter: {}", adapter.display()).unwrap();
        }
        writeln!(text, "dataset:\n  path: {}", rows.display()).unwrap();
        let method = if self.is_full() { "full" } else { "lora\n  lora_dropout: 0" };
        writeln!(text, "training:\n  output_dir: {}\n  method: {method}", out.display()).unwrap();
        write!(text, "  shuffle_dataset: false\n  warmup_steps: 0\n{extra}").unwrap();
        for key in [
            "batch_size",
            "gradient_accumulation_steps",
            "max_steps",
            "learning_rate",
            "lr_scheduler_type",
            "max_seq_length",
            "max_grad_norm",
            "weight_decay",
            "completion_only_loss",
            "assistant_only_loss",
        ] {
            // What is not set would do nothing beside the other.
            if self.settings[key].is_null() {
                continue;
            }
            writeln!(text, "  {key}: {}", self.settings[key].to_string().trim_matches('"'))
                .unwrap();
        }
        text
    }

    fn run(&self, extra: &str) -> Run {
        train(&self.rows, Device::cpu(), |rows, out| self.recipe((rows, out), extra))
    }
}

#[test]
fn completions_are_learned_as_in_trl() {
    for name in ["text", "strings", "chat", "talks", "talks-answers", "strings-whole", "text-full"]
    {
        let golden = Golden::read(name);
        let run = golden.run("");
        assert_eq!(run.events.len(), golden.steps.len(), "{name}");
        // TRL's is a mean over micro-batches, ours over a step's tokens. Its entropy has the tokens
        // that are not learned in it, ours has not.
        let is_one = golden.settings["gradient_accumulation_steps"] == 1;
        let of_tokens: &[&str] = if is_one { &["mean_token_accuracy"] } else { &[] };
        for (event, want) in run.events.iter().zip(&golden.steps) {
            let value = |key: &str| event.get(key).unwrap_or_else(|| panic!("{key}"));
            let want = |key: &str| want[key].as_f64().unwrap();
            for key in ["loss", "grad_norm"].iter().chain(of_tokens) {
                let off = (value(key) - want(key)).abs();
                let limit = tolerance::TRL_RELATIVE * want(key).abs();
                let at = format!("{name} step {} {key}", event.step);
                assert!(off <= limit, "{at}: {} for {}", value(key), want(key));
            }
            for key in ["learning_rate", "epoch", "num_tokens"] {
                let off = (value(key) - want(key)).abs();
                let at = format!("{name} step {} {key}", event.step);
                assert!(off <= 1e-7 * want(key).abs(), "{at}: {} for {}", value(key), want(key));
            }
        }
        let file = if golden.is_full() { "model" } else { "adapter_model" };
        let theirs = format!("trl/sft-{name}.safetensors");
        let off = distance(&run.out, &format!("{file}.safetensors"), &theirs);
        assert!(off < tolerance::TRL_WEIGHTS, "{name}: weights differ by {off:e}");
    }
}

fn bytes(run: &Run) -> [Vec<u8>; 2] {
    ["events.jsonl", "adapter_model.safetensors"].map(|it| fs_err::read(run.out.join(it)).unwrap())
}

/// What is dropped is a function of the row, so that memory decides nothing.
#[test]
fn dropout_depends_on_rows_alone() {
    let golden = Golden::read("strings");
    let dropping = |extra: &str| {
        let text = |rows: &Path, out: &Path| {
            golden.recipe((rows, out), extra).replace("lora_dropout: 0\n", "lora_dropout: 0.3\n")
        };
        train(&golden.rows, Device::cpu(), text)
    };
    let once = dropping("  gradient_checkpointing: false\n");
    assert!(bytes(&once) == bytes(&dropping("  gradient_checkpointing: true\n")), "recomputed");
    assert!(bytes(&once) != bytes(&golden.run("")), "without dropout");
    assert!(bytes(&once) != bytes(&dropping("  seed: 43\n")), "another seed");
    let cut = dropping("  tokens_per_micro_batch: 60\n");
    for (a, b) in once.events.iter().zip(&cut.events) {
        for key in ["loss", "grad_norm"] {
            let off = (a.get(key).unwrap() / b.get(key).unwrap() - 1.0).abs();
            assert!(off < tolerance::MICRO_BATCHES, "{key} at step {}: {off:e}", a.step);
        }
    }
}

/// Rows that are packed attend to themselves alone, and count as one row together.
#[test]
fn packed_rows_are_a_batch_of_their_own() {
    let golden = Golden::read("text");
    let packed = golden.run("  packing: true\n");
    let rows = golden.rows.len() as f64;
    let tokens = packed.events[0].get("num_tokens").unwrap();
    // Four packs of up to 64 tokens.
    assert!((150.0..=256.0).contains(&tokens), "{tokens}");
    let epoch = packed.events[0].get("epoch").unwrap();
    assert!(4.0 / rows < epoch, "{epoch}");
    // A step over all rows is the same, packed or not.
    let all = "  batch_size: 1000\n  gradient_accumulation_steps: 1\n  max_steps: 1\n";
    let of_all = |extra: &str| {
        let text = |rows: &Path, out: &Path| {
            let text = golden.recipe((rows, out), extra);
            let keys = ["batch_size", "gradient_accumulation_steps", "max_steps"];
            let line =
                |line: &&str| !keys.iter().any(|key| line.trim().starts_with(&format!("{key}:")));
            let rest: Vec<&str> = text.lines().filter(line).collect();
            format!("{}\n{all}", rest.join("\n"))
        };
        train(&golden.rows, Device::cpu(), text)
    };
    let (plain, packed) = (of_all(""), of_all("  packing: true\n"));
    for key in ["loss", "grad_norm", "num_tokens"] {
        let (a, b) = (plain.events[0].get(key).unwrap(), packed.events[0].get(key).unwrap());
        assert!((a / b - 1.0).abs() < tolerance::MICRO_BATCHES, "{key}: {a} {b}");
    }
}
