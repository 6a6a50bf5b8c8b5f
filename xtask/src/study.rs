//! What the methods that promise something about facts and about wrong labels do on real data.
//!
//! A study splits its pairs by question, trains one run for each method and seed with
//! `trueup sweep`, and prints the held-out accuracies as a table of Markdown. The same command goes
//! on where it was stopped, because the sweep does.

mod pairs;
mod table;

use std::path::Path;

use anyhow::bail;
use fs_err as fs;

use crate::run::{Job, cargo, say};
use pairs::Pair;
use table::Measured;

/// The seeds of every study: of the split, of the order, of the adapter and of the wrong labels.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Share of the questions that is held out.
const HELD_OUT: f64 = 0.25;

/// Share of the training labels that the study of noise turns around.
const FLIPPED: f64 = 0.3;

/// A study: its name, its methods, and the pairs it uses.
struct Study {
    name: &'static str,
    /// Name of a method, and the keys of its recipe below `alignment`.
    methods: &'static [(&'static str, &'static str)],
    epochs: u64,
    learning_rate: &'static str,
    /// The part of the pairs that is trained on, given all and a seed.
    training: fn(Vec<Pair>, u64) -> Vec<Pair>,
    /// The part of the held-out pairs that is judged.
    judged: fn(Vec<Pair>) -> Vec<Pair>,
}

const STUDIES: [Study; 2] = [
    Study {
        name: "factual",
        methods: &[
            ("delta 0", "delta: 0, flip: true"),
            ("delta 10", "delta: 10, flip: true"),
            ("delta 50", "delta: 50, flip: true"),
        ],
        epochs: 1,
        learning_rate: "5e-5",
        training: |all, _| all,
        judged: pairs::factual,
    },
    Study {
        name: "noise",
        methods: &[
            ("sigmoid", "loss_type: sigmoid"),
            ("cDPO", "loss_type: sigmoid, label_smoothing: 0.3"),
            ("robust", "loss_type: robust, label_smoothing: 0.3"),
            ("RE-PO", "loss_type: sigmoid, reliability: 0.9"),
        ],
        epochs: 2,
        learning_rate: "1e-4",
        training: |all, seed| pairs::mislabelled(pairs::factual(all), FLIPPED, seed),
        judged: pairs::factual,
    },
];

/// Runs a study over a file of pairs with labels of factuality and a `qid`, and prints its table.
///
/// # Errors
///
/// If there is no such study, the data cannot be used, or a run fails.
pub fn run(root: &Path, name: &str, model: &Path, data: &Path) -> anyhow::Result<()> {
    let Some(study) = STUDIES.iter().find(|study| study.name == name) else {
        let names: Vec<&str> = STUDIES.iter().map(|study| study.name).collect();
        bail!("`{name}` is not a study; there are {}", names.join(" and "));
    };
    cargo(root, ["build", "--release", "--quiet", "--package", "cli"]).run()?;
    let target = crate::run::target(root)?;
    let program = Job::new(target.join("release/trueup"));
    let all = pairs::read(data)?;
    let mut measured = Vec::new();
    for seed in SEEDS {
        let folder = target.join("study").join(name).join(format!("seed{seed}"));
        let counts = study.prepare(&all, seed, (model, &folder))?;
        say(&format!("{name}, seed {seed}: {} pairs to train on, {} held out", counts.0, counts.1));
        program.clone().args(["sweep", "--config", "sweep.yaml"]).folder(&folder).run()?;
        for (method, keys) in study.methods {
            let run = folder.join("runs").join(run_name(keys));
            measured.push(Measured::read(method, &run, &folder.join("train.jsonl"))?);
        }
    }
    say(&table::markdown(&measured));
    Ok(())
}

impl Study {
    /// Writes the data and the recipe of one seed; the numbers of pairs.
    fn prepare(
        &self,
        all: &[Pair],
        seed: u64,
        (model, folder): (&Path, &Path),
    ) -> anyhow::Result<(usize, usize)> {
        let (train, held_out) = pairs::split(all, HELD_OUT, seed);
        let (train, held_out) = ((self.training)(train, seed), (self.judged)(held_out));
        fs::create_dir_all(folder)?;
        pairs::write(&folder.join("train.jsonl"), &train)?;
        pairs::write(&folder.join("held_out.jsonl"), &held_out)?;
        let model = std::path::absolute(model)?;
        fs::write(folder.join("sweep.yaml"), self.recipe(&model, seed))?;
        Ok((train.len(), held_out.len()))
    }

    fn recipe(&self, model: &Path, seed: u64) -> String {
        let runs = self.methods.iter().map(|(_, keys)| {
            let keys = keys.split(", ").map(|key| format!("alignment.{key}"));
            format!("- {{{}}}\n", keys.collect::<Vec<_>>().join(", "))
        });
        format!(
            "model: {{path: {}}}\n\
             dataset: {{path: train.jsonl, eval_path: held_out.jsonl, on_duplicate: keep}}\n\
             alignment: {{output_dir: runs, beta: 0.1, batch_size: 2, gradient_accumulation_steps: 8, \
             num_epochs: {}, learning_rate: {}, lora_r: 16, save_steps: 1000, seed: {seed}}}\n\
             sweep:\n{}",
            model.display(),
            self.epochs,
            self.learning_rate,
            runs.collect::<String>()
        )
    }
}

/// The name that a sweep gives a run with these keys.
fn run_name(keys: &str) -> String {
    keys.replace(": ", "").replace(", ", "-")
}
