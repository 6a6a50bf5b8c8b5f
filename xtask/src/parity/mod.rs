//! The same training run by TRL and by this program, step by step, and the weights of both loaded
//! by transformers and PEFT.
//!
//! Before that the chat templates of published models are rendered by both, a given model writes
//! on from prompts in both, and the losses alone are compared, on log-probabilities that both are
//! given. `--only server` asks the server with the client of those who made its interface.
//!
//! TRL goes first and leaves its token ids, its starting adapter and its metrics; it is not run
//! again while settings, data and model stay as they are. The program then starts from the same
//! point with `trueup align`. The cases are in `goldens/parity/cases.json`, what must agree and how
//! closely in `report`.
//!
//! If asked to, GGUF files that this program writes are read by llama.cpp; see `gguf`.

mod cases;
mod check;
mod gguf;
mod greedy;
mod likelihood;
mod objectives;
mod programs;
mod report;
mod server;
mod templates;

use std::path::Path;

use anyhow::ensure;

use crate::run::{Job, say};
use cases::{Case, Model};
use programs::Programs;
use report::{Report, Rounding};

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Losses from the same log-probabilities.
    Objectives,
    /// Chat templates of published models.
    Templates,
    /// What a given model writes.
    Greedy,
    /// How likely a given model finds texts.
    Likelihood,
    /// Whole runs.
    Training,
    /// GGUF files in llama.cpp; only where it is asked for.
    Gguf,
    /// The server, asked by another client; runs only where it is named, since that client is no
    /// part of the other stages.
    Server,
}

/// What to compare; `None` means all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// One stage.
    pub stage: Option<Stage>,
    /// A folder of the Hugging Face layout, in place of the tiny models; for likelihoods a GGUF file
    /// too.
    pub model: Option<&'a Path>,
    /// Pairs to train that model on, in place of the short ones in `goldens/trl`.
    pub data: Option<&'a Path>,
    /// A folder of chat templates beside TRL's.
    pub templates: Option<&'a Path>,
    /// One case.
    pub case: Option<&'a str>,
}

/// What must agree in f32, relative or absolute, and how closely.
pub fn limits() -> impl Iterator<Item = (&'static str, &'static str, f64)> {
    report::limits()
}

/// What GGUF files must agree in, and how closely, as text.
pub fn gguf_limits() -> String {
    gguf::limits()
}

/// Runs the stages and the cases that are asked for.
///
/// # Errors
///
/// If a program fails, or the two disagree.
pub fn compare(root: &Path, python: &Job, asked: Asked<'_>) -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    if asked.stage == Some(Stage::Server) {
        complaints.extend(server::compare(root, python)?);
    }
    let is_asked = |stage: Stage| asked.stage.is_none_or(|asked| asked == stage);
    if is_asked(Stage::Templates) {
        complaints.extend(templates::compare(root, python, asked.templates)?);
    }
    // The tiny models write noise; only a given one says something.
    if let Some(folder) = asked.model.filter(|_| is_asked(Stage::Greedy)) {
        complaints.extend(greedy::compare(root, python, folder)?);
    }
    if let Some(path) = asked.model.filter(|_| is_asked(Stage::Likelihood)) {
        complaints.extend(likelihood::compare(root, python, path)?);
    }
    if is_asked(Stage::Objectives) {
        complaints.extend(objectives::compare(root, python, &crate::run::target(root)?)?);
    }
    if is_asked(Stage::Training) {
        complaints.extend(compare_training(root, python, asked)?);
    }
    // Written by ours and read by a program that the others do not need.
    if asked.stage == Some(Stage::Gguf) {
        complaints.extend(compare_files(root, python, asked)?);
    }
    for complaint in &complaints {
        say(complaint);
    }
    ensure!(complaints.is_empty(), "{} values are too far apart", complaints.len());
    say("both programs agree");
    Ok(())
}

/// Writes files of a model for llama.cpp, and returns what is off.
fn compare_files(root: &Path, python: &Job, asked: Asked<'_>) -> anyhow::Result<Vec<String>> {
    let programs = Programs::build(root, python)?;
    let model = match asked.model {
        Some(folder) => Model::given(root, folder, None)?,
        None => Model::chat(root),
    };
    gguf::compare(&programs, &model)
}

/// Trains with both, and returns what is off.
fn compare_training(root: &Path, python: &Job, asked: Asked<'_>) -> anyhow::Result<Vec<String>> {
    let programs = Programs::build(root, python)?;
    let out = programs.target.join("parity");
    let models = match asked.model {
        Some(folder) => vec![Model::given(root, folder, asked.data)?],
        None => Model::tiny(root, &out)?,
    };
    let mut cases = Vec::new();
    for model in &models {
        cases.extend(Case::all(root, &out, model)?);
    }
    if let Some(name) = asked.case {
        let beside: Vec<_> = cases
            .iter()
            .filter(|case| case.name == name)
            .filter_map(|c| c.beside.clone())
            .collect();
        cases.retain(|case| case.name == name || beside.contains(&case.folder));
    }
    ensure!(!cases.is_empty(), "no case has that name");

    programs.run_trl(&cases)?;
    let mut complaints = Vec::new();
    let mut rounding = Rounding::default();
    for model in &models {
        let cases: Vec<&Case> = cases.iter().filter(|case| case.model == model.name).collect();
        for case in &cases {
            say(&format!("{}: training", case.label()));
            programs.run_ours(case)?;
        }
        let found = check::ask(&programs, &cases, &out.join(&model.name))?;
        for (case, found) in cases.iter().zip(&found) {
            let mut report = Report::new(&case.label());
            check::steps_agree(case, &mut report, &mut rounding)?;
            check::weights_agree(found, &mut report)?;
            report.say();
            complaints.extend(report.complaints);
        }
    }
    complaints.extend(rounding.complaints());
    Ok(complaints)
}
