//! What is trained on, and how.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// A training to be timed: LoRA on all linears, one epoch, rows in the order of the file.
#[derive(Clone, Debug)]
pub struct Work {
    /// A folder in the layout of Hugging Face.
    pub model: PathBuf,
    /// Pairs.
    pub data: PathBuf,
    /// The first so many rows; all if absent.
    pub pairs: Option<usize>,
    /// Pairs a micro-batch in TRL's sense, and micro-batches a step.
    pub batch: (usize, usize),
    /// Tokens of a prompt with its completion.
    pub max_length: usize,
    /// Rank of the adapters.
    pub rank: usize,
    /// `bf16` or `f32`, of ours.
    pub precision: &'static str,
    /// Of each program.
    pub threads: usize,
    /// Runs of ours of which the median counts; TRL's are half as many, rounded up.
    pub runs: usize,
    /// Which ways of TRL's to run.
    pub trl: &'static [&'static str],
}

impl Work {
    /// Reads the options that follow model and data; those about TRL only where it runs too.
    ///
    /// # Errors
    ///
    /// If an option is not known, has no such value, or would do nothing.
    pub fn new(model: &str, data: &str, options: &[&str], is_beside: bool) -> anyhow::Result<Self> {
        let mut work = Self {
            model: fs_err::canonicalize(model)?,
            data: fs_err::canonicalize(data)?,
            pairs: None,
            batch: (2, 4),
            max_length: 1024,
            rank: 32,
            precision: "bf16",
            threads: 2,
            runs: 5,
            trl: &["default", "tuned"],
        };
        for option in options.chunks(2) {
            match *option {
                ["--pairs", value] => work.pairs = Some(value.parse()?),
                ["--batch", value] => {
                    let (size, steps) = value.split_once('x').context("a batch is like `2x4`")?;
                    work.batch = (size.parse()?, steps.parse()?);
                }
                ["--max-length", value] => work.max_length = value.parse()?,
                ["--rank", value] => work.rank = value.parse()?,
                ["--precision", "bf16"] => work.precision = "bf16",
                ["--precision", "f32"] => work.precision = "f32",
                ["--threads", value] => work.threads = value.parse()?,
                ["--runs", value] if is_beside => work.runs = value.parse()?,
                ["--trl", "default"] if is_beside => work.trl = &["default"],
                ["--trl", "tuned"] if is_beside => work.trl = &["tuned"],
                _ => bail!("`bench` has no option `{}`", option.join(" ")),
            }
        }
        ensure!(0 < work.runs, "`--runs` is at least 1");
        Ok(work)
    }

    /// The rows to train on as a file of their own in a folder, if not all are taken.
    pub(super) fn rows(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let Some(pairs) = self.pairs else { return Ok(self.data.clone()) };
        let text = fs_err::read_to_string(&self.data)?;
        let rows = text.lines().filter(|line| !line.trim().is_empty()).take(pairs);
        let path = folder.join("rows.jsonl");
        fs_err::write(&path, rows.collect::<Vec<_>>().join("\n") + "\n")?;
        Ok(path)
    }

    /// Our recipe, from a fresh adapter or from a given one.
    pub(super) fn recipe(&self, data: &Path, adapter: Option<&Path>, folder: &Path) -> Value {
        let mut model = json!({ "path": self.model, "precision": self.precision });
        let mut alignment = json!({
            "output_dir": folder.join("run"),
            "learning_rate": RATE,
            "lr_scheduler_type": "linear",
            "warmup_ratio": 0.0,
            "weight_decay": 0.0,
            "shuffle_dataset": false,
            "batch_size": self.batch.0,
            "gradient_accumulation_steps": self.batch.1,
            "num_epochs": 1,
        });
        if let Some(adapter) = adapter {
            model["adapter"] = json!(adapter);
            model["reference"] = json!("base");
        } else {
            alignment["lora_r"] = json!(self.rank);
            alignment["lora_alpha"] = json!(self.rank);
            alignment["target_modules"] = json!("all-linear");
        }
        let dataset =
            json!({ "path": data, "max_length": self.max_length, "on_duplicate": "keep" });
        json!({ "model": model, "dataset": dataset, "alignment": alignment, "threads": self.threads })
    }

    /// TRL's settings: as it comes, or at its best on a CPU.
    pub(super) fn settings(&self, way: &str) -> Value {
        let is_tuned = way == "tuned";
        json!({
            "model": self.model,
            "data": self.data,
            "pairs": self.pairs,
            "max_length": self.max_length,
            "lora_r": self.rank,
            "lora_alpha": self.rank,
            "learning_rate": RATE,
            "batch_size": self.batch.0,
            "gradient_accumulation_steps": self.batch.1,
            "precision": if is_tuned { "bf16" } else { "autocast" },
            "gradient_checkpointing": !is_tuned,
            "precompute_ref_log_probs": is_tuned,
            "threads": self.threads,
            // Neither without effect nor so large that the model says nothing sensible any more.
            "initial_b": 0.005,
        })
    }
}

/// The learning rate at the start.
const RATE: f64 = 5e-5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_others_refused() {
        let here = env!("CARGO_MANIFEST_DIR");
        let work = Work::new(here, here, &["--batch", "4x8", "--pairs", "32"], false).unwrap();
        assert_eq!((work.batch, work.pairs), ((4, 8), Some(32)));
        let recipe = work.recipe(Path::new("/rows"), None, Path::new("/out"));
        assert_eq!(recipe["alignment"]["gradient_accumulation_steps"], 8);
        assert_eq!(recipe["alignment"]["lora_r"], 32);
        let recipe = work.recipe(Path::new("/rows"), Some(Path::new("/start")), Path::new("/out"));
        assert_eq!(recipe["model"]["adapter"], "/start");
        assert_eq!(recipe["alignment"].get("lora_r"), None);
        assert_eq!(work.settings("tuned")["precision"], "bf16");
        assert_eq!(work.settings("default")["gradient_checkpointing"], true);
        for options in [["--runs", "3"], ["--trl", "tuned"]] {
            assert!(Work::new(here, here, &options, true).is_ok(), "{options:?}");
            assert!(Work::new(here, here, &options, false).is_err(), "{options:?} does nothing");
        }
        for options in [["--batch", "4"], ["--speed", "1"], ["--precision", "f64"], ["--runs", "0"]]
        {
            assert!(Work::new(here, here, &options, true).is_err(), "{options:?}");
        }
    }
}
