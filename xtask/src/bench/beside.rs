//! Training beside TRL: the same token ids, starting adapter, order of pairs and settings, in turns
//! within one sitting.
//!
//! TRL is taken as it comes (f32 weights under bf16 autocast, the reference asked in every step,
//! activations computed twice) and at its best on a CPU (bf16 weights, the reference asked once
//! before, everything kept). Nothing is told unless all programs computed the same first step.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{
    ours::{Ours, Run},
    work::Work,
};
use crate::{
    run::{Job, say},
    speed::median,
};

/// What every program says of the first step, and how far it may lie apart, relatively: bf16 rounds to
/// 3 digits, each program at other places, and sums over tokens even that out. (The loss is no such
/// number: margins are small differences of such sums.)
const SAME: [(&str, f64); 3] =
    [("logps/chosen", 2e-3), ("logps/rejected", 2e-3), ("entropy", 5e-3)];

/// One way of TRL's.
struct Trl {
    way: &'static str,
    folder: PathBuf,
    reports: Vec<Value>,
}

/// What is compared, in seconds a pair.
struct Figures {
    pairs: f64,
    tokens: f64,
    runs: Vec<Run>,
    trl: Vec<Trl>,
}

/// Trains with both programs and prints a table of Markdown.
///
/// # Errors
///
/// If a program cannot be built or fails, or if they do not compute the same.
pub fn beside(root: &Path, python: &Job, work: &Work) -> anyhow::Result<()> {
    let ours = Ours::build(root, "bench/beside")?;
    let python = python.clone().with("OMP_WAIT_POLICY", "passive");
    let trl = |way: &'static str| Trl { way, folder: ours.folder().join(way), reports: Vec::new() };
    let mut trl: Vec<Trl> = work.trl.iter().map(|way| trl(way)).collect();
    let first = trl.first().context("no way of TRL's is asked for")?.folder.clone();
    let mut runs = Vec::new();
    for round in 0..work.runs {
        if round < work.runs.div_ceil(2) {
            for one in &mut trl {
                one.run(root, &python, work, &first)?;
            }
        }
        ours.forget()?;
        let recipe =
            work.recipe(&first.join("tokens.jsonl"), Some(&first.join("initial")), ours.folder());
        let run = ours.align(&recipe, "run")?;
        for one in &trl {
            one.check(&run)?;
        }
        say(&format!("ours: {:.1} s, of which steps {:.1} s", run.seconds, run.step_seconds()));
        runs.push(run);
    }
    let (pairs, tokens) = size(&first.join("tokens.jsonl"))?;
    say(&Figures { pairs, tokens, runs, trl }.table());
    Ok(())
}

/// The pairs of a file, and the tokens of their sequences, prompts counted twice.
fn size(path: &Path) -> anyhow::Result<(f64, f64)> {
    let text = fs_err::read_to_string(path)?;
    let mut size = (0.0, 0.0);
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)?;
        let count = |name: &str| row[name].as_array().map_or(0, Vec::len) as f64;
        size.0 += 1.0;
        size.1 += 2.0 * count("prompt_ids") + count("chosen_ids") + count("rejected_ids");
    }
    Ok(size)
}

impl Trl {
    /// Trains once; all but the very first run start where that one did.
    fn run(&mut self, root: &Path, python: &Job, work: &Work, first: &Path) -> anyhow::Result<()> {
        fs_err::create_dir_all(&self.folder)?;
        let mut settings = work.settings(self.way);
        let start = first.parent().context("no folder")?.join("start");
        if start.exists() {
            settings["adapter"] = json!(start);
        }
        let path = self.folder.join("settings.json");
        fs_err::write(&path, serde_json::to_string(&settings)?)?;
        let script = root.join("goldens/parity/trl_run.py");
        python.clone().args([&script, &path, &self.folder]).output()?;
        if !start.exists() {
            fs_err::create_dir_all(&start)?;
            for entry in fs_err::read_dir(self.folder.join("initial"))? {
                let entry = entry?;
                fs_err::copy(entry.path(), start.join(entry.file_name()))?;
            }
        }
        let report = fs_err::read_to_string(self.folder.join("steps.json"))?;
        self.reports.push(serde_json::from_str(&report)?);
        say(&format!("TRL {}: {:.1} s", self.way, self.median("train_seconds")));
        Ok(())
    }

    /// Whether a run of ours began with the step that TRL began with.
    fn check(&self, run: &Run) -> anyhow::Result<()> {
        let theirs = self.reports.last().map(|report| &report["steps"][0]);
        let (Some(theirs), Some(ours)) = (theirs, run.events.first()) else { return Ok(()) };
        for (name, apart) in SAME {
            let number = |from: &Value| from[name].as_f64().with_context(|| format!("no `{name}`"));
            let (a, b) = (number(ours)?, number(theirs)?);
            ensure!(
                (a - b).abs() <= apart * b.abs(),
                "`{name}` of the first step is {a} here and {b} in TRL {}: not the same work",
                self.way
            );
        }
        Ok(())
    }

    fn median(&self, name: &str) -> f64 {
        median(self.reports.iter().filter_map(|report| report[name].as_f64()))
    }
}

impl Figures {
    fn table(&self) -> String {
        let of = |get: fn(&Run) -> f64| median(self.runs.iter().map(get));
        let (step, whole) = (of(Run::step_seconds), of(|run| run.seconds));
        let peak = of(|run| run.peak as f64);
        let mut text = format!(
            "{} pairs of {:.0} tokens; medians of {} runs of ours\n\n\
             | program | seconds a pair | tokens a second | peak memory | set-up | ours is |\n\
             |---|---:|---:|---:|---:|---:|\n",
            self.pairs,
            self.tokens / self.pairs,
            self.runs.len()
        );
        let mut row = |name: &str, (seconds, peak): (f64, f64), rest: [String; 2]| {
            // Writing to a text cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {:.2} | {:.0} | {:.2} GB | {} | {} |",
                seconds / self.pairs,
                self.tokens / seconds,
                peak / 1e9,
                rest[0],
                rest[1],
            );
        };
        let rest = format!("{:.1} s with the reference", whole - step);
        row("ours, steps", (step, peak), [rest, String::new()]);
        row("ours, whole process", (whole, peak), [String::new(), String::new()]);
        for one in &self.trl {
            let seconds = one.median("train_seconds");
            let beside = if one.way == "tuned" { step } else { whole };
            row(
                &format!("TRL {}, training", one.way),
                (seconds, one.median("peak_rss_bytes")),
                [
                    format!("{:.1} s", one.median("setup_seconds")),
                    format!("{:.2} times as fast", seconds / beside),
                ],
            );
        }
        text + "\nTRL's set-up holds what it computes of the reference before, when it does."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(chosen: f64) -> Value {
        json!({ "loss": 0.7, "logps/chosen": chosen, "logps/rejected": -90.0, "entropy": 2.0 })
    }

    fn run(seconds: f64, chosen: f64) -> Run {
        Run {
            seconds,
            peak: 1_000_000_000,
            timings: vec![json!({ "step_secs": seconds / 2.0 })],
            events: vec![step(chosen)],
        }
    }

    fn trl(way: &'static str, seconds: f64) -> Trl {
        let steps = json!([step(-100.0)]);
        let report = json!({
            "train_seconds": seconds, "setup_seconds": 1.0, "peak_rss_bytes": 4e9, "steps": steps,
        });
        Trl { way, folder: "/x".into(), reports: vec![report] }
    }

    #[test]
    fn steps_stand_beside_the_tuned_way_and_whole_runs_beside_the_default() {
        let figures = Figures {
            pairs: 2.0,
            tokens: 100.0,
            runs: [4.0, 8.0, 6.0].map(|seconds| run(seconds, -100.0)).into(),
            trl: vec![trl("default", 30.0), trl("tuned", 12.0)],
        };
        let text = figures.table();
        assert!(text.contains("| ours, steps | 1.50 | 33 | 1.00 GB |"), "{text}");
        assert!(
            text.contains("| TRL default, training | 15.00 | 3 | 4.00 GB | 1.0 s | 5.00"),
            "{text}"
        );
        assert!(
            text.contains("| TRL tuned, training | 6.00 | 8 | 4.00 GB | 1.0 s | 4.00"),
            "{text}"
        );
    }

    #[test]
    fn other_work_is_not_compared() {
        assert!(trl("tuned", 1.0).check(&run(1.0, -100.1)).is_ok());
        let told = trl("tuned", 1.0).check(&run(1.0, -101.0)).unwrap_err().to_string();
        assert!(told.contains("`logps/chosen`"), "{told}");
    }
}
