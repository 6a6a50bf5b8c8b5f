//! Recipes: the YAML file that says everything about a run.
//!
//! A recipe is read in one place and checked once: [`check`] gives a [`Recipe`] that cannot be
//! wrong, or every problem of the file with its line. [`KEYS`] lists all keys. A resolved recipe
//! is written by [`Recipe::render`] and reads back to itself.

mod aixpert;
mod alignment;
mod dataset;
mod dialect;
mod difference;
mod finetuning;
mod guards;
mod keys;
mod mlx;
mod model;
mod objective;
mod overrides;
mod peers;
mod problem;
mod read;
mod render;
mod saving;
mod sweep;
mod together;
mod tree;
mod tuning;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use fs_err as fs;

pub use alignment::{Alignment, Rates, TOKENS_PER_MICRO_BATCH, Tuning};
pub use dataset::{Dataset, Source};
pub use difference::Difference;
pub use finetuning::Finetuning;
pub use keys::{KEYS, Key, SECTIONS};
pub use model::{Dequantize, Model, Precision, Reference};
pub use overrides::Override;
pub use problem::{Note, Place, Problem, Problems, What};
pub use saving::{Evaluation, Metric};
pub use sweep::{SweepRun, check_sweep, read_sweep};

use crate::Error;
use problem::What::{Conflict, NotASection, OtherCommand};
use read::{Section, Words};
use tree::{Entry, Node, Value};

/// Everything about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Which weights are trained, and what they are held to.
    pub model: Model,
    /// Which records to learn from.
    pub dataset: Dataset,
    /// How the policy is trained, be it by preferences or by completions.
    pub alignment: Alignment,
    /// Where it is trained.
    pub device: Device,
    /// Threads of the processor; all cores if absent.
    pub threads: Option<usize>,
}

impl Recipe {
    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        match self.alignment.finetuning {
            Some(_) => Purpose::Finetune,
            None => Purpose::Align,
        }
    }
}

/// What a recipe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Preferences: the section `alignment`.
    Align,
    /// Completions: the section `training`.
    Finetune,
}

impl Purpose {
    /// The section that says how.
    fn section(self) -> &'static str {
        match self {
            Self::Align => "alignment",
            Self::Finetune => "training",
        }
    }

    /// The command that takes it.
    pub fn command(self) -> &'static str {
        match self {
            Self::Align => "align",
            Self::Finetune => "finetune",
        }
    }
}

/// Where a run computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The best one there is.
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Device {
    const WORDS: Words<Self> = &[("auto", Self::Auto), ("cpu", Self::Cpu), ("cuda", Self::Cuda)];
}

/// A recipe, and what its reader should tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The recipe.
    pub recipe: Recipe,
    /// Keys that are accepted and do nothing.
    pub notes: Vec<Note>,
}

/// Reads and checks a recipe's file.
///
/// `purpose` is the one that it must be for, if there is one; `overrides` come from the command
/// line and go before the file; `timestamp` ends the default `output_dir`.
///
/// # Errors
///
/// [`Error::RecipeNotFound`], [`Error::Io`], [`Error::Recipe`] with every problem.
pub fn read(
    file: &Path,
    purpose: Option<Purpose>,
    overrides: &[Override],
    timestamp: &str,
) -> Result<Checked, Error> {
    if !file.is_file() {
        return Err(Error::RecipeNotFound { path: file.to_owned() });
    }
    let text = fs::read_to_string(file)?;
    check_for(purpose, &text, overrides, timestamp)
        .map_err(|list| Error::Recipe(Problems { file: file.to_owned(), list }))
}

/// Checks a recipe's text; see [`read`](fn@read).
///
/// # Errors
///
/// Every problem, in the order of their lines; never an empty list.
pub fn check(text: &str, overrides: &[Override], timestamp: &str) -> Result<Checked, Vec<Problem>> {
    check_for(None, text, overrides, timestamp)
}

fn check_for(
    purpose: Option<Purpose>,
    text: &str,
    overrides: &[Override],
    timestamp: &str,
) -> Result<Checked, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let recipe = tree::parse(text, &Place::Line, &mut problems).and_then(|root| {
        let given = Given { purpose, overrides, timestamp };
        from_tree(root, &given, (&mut problems, &mut notes))
    });
    problems.sort_by(|left, right| left.place.cmp(&right.place));
    problems.dedup();
    match recipe {
        Some(recipe) if problems.is_empty() => Ok(Checked { recipe, notes }),
        _ => Err(problems),
    }
}

/// What is known beside the file.
struct Given<'a> {
    purpose: Option<Purpose>,
    overrides: &'a [Override],
    timestamp: &'a str,
}

fn from_tree(
    root: Node,
    given: &Given<'_>,
    (problems, notes): (&mut Vec<Problem>, &mut Vec<Note>),
) -> Option<Recipe> {
    let mut entries = match root.value {
        Value::Map(entries) => entries,
        Value::Null => Vec::new(),
        other => {
            let what = NotASection { section: "model".into(), got: other.describe() };
            problems.push(Problem::new(root.place, what));
            return None;
        }
    };
    if mlx::is_here(&entries) && of_sweep(&entries).is_none() {
        if given.purpose == Some(Purpose::Finetune) {
            let what = OtherCommand { section: "data".into(), command: Purpose::Align.command() };
            problems.push(Problem::new(root.place, what));
            return None;
        }
        entries = mlx::recipe(&entries, problems, notes)?;
    }
    overrides::apply(&mut entries, given.overrides, problems);
    let purpose = match purpose(&entries, given.purpose) {
        Ok(purpose) => purpose,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut at_root = Section::new("", &entries, problems);
    let device = at_root.word("device", "device", Device::WORDS).unwrap_or(Device::Auto);
    let threads = at_root.count("threads", 1).map(|threads| threads as usize);

    let mut model = section("model", &entries, problems, model::read);
    let mut dataset = section("dataset", &entries, problems, dataset::read);
    let output_dir = default_output_dir(model.as_ref(), purpose, given.timestamp);
    let around = alignment::Around { model: model.as_ref(), dataset: dataset.as_ref(), output_dir };
    let mut is_quantized = false;
    let alignment = match purpose {
        Purpose::Align => {
            section("alignment", &entries, problems, |it| alignment::read(it, around, notes))
        }
        Purpose::Finetune => {
            let read = section("training", &entries, problems, |it| {
                Some(finetuning::read(it, around, notes))
            });
            read.map(|read| {
                if let Some(dataset) = &mut dataset {
                    dataset.lengths.max_length = Some(read.max_length);
                }
                is_quantized = read.is_quantized;
                read.alignment
            })
        }
    };
    if let Some(alignment) = &alignment {
        together::check(alignment, model.as_ref(), &entries, problems);
    }
    if let Some(model) = &mut model {
        model.load_in_4bit |= is_quantized;
    }
    Some(Recipe { model: model?, dataset: dataset?, alignment: alignment?, device, threads })
}

/// Reads one section; one that is not there has no keys.
fn section<T>(
    name: &'static str,
    entries: &[Entry],
    problems: &mut Vec<Problem>,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Option<T> {
    let node = entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node);
    let inside = match node.map(|node| (&node.value, &node.place)) {
        None | Some((Value::Null, _)) => &[][..],
        Some((Value::Map(inside), _)) => inside,
        Some((other, place)) => {
            let what = NotASection { section: name.into(), got: other.describe() };
            problems.push(Problem::new(place.clone(), what));
            return None;
        }
    };
    read(&mut Section::new(name, inside, problems))
}

/// What a recipe is for, by its sections; a problem if it is for something else than asked for.
fn purpose(entries: &[Entry], wanted: Option<Purpose>) -> Result<Purpose, Problem> {
    if let Some(problem) = of_sweep(entries) {
        return Err(problem);
    }
    let find = |purpose: Purpose| entries.iter().find(|entry| entry.key == purpose.section());
    let (align, finetune) = (find(Purpose::Align), find(Purpose::Finetune));
    if let (Some(_), Some(entry)) = (align, finetune) {
        let (first, second) = ("`training:`".into(), "`alignment:`".into());
        let hint = "write two recipes, one for `trueup finetune` and one for `trueup align`".into();
        return Err(Problem::new(entry.place.clone(), Conflict { first, second, hint }));
    }
    let is = match (finetune, wanted) {
        (Some(_), _) => Purpose::Finetune,
        // A recipe without either section leaves everything open.
        (None, Some(wanted)) if align.is_none() => wanted,
        (None, _) => Purpose::Align,
    };
    match (wanted, align.or(finetune)) {
        (Some(wanted), Some(entry)) if wanted != is => {
            let (section, command) = (is.section().into(), is.command());
            Err(Problem::new(entry.place.clone(), OtherCommand { section, command }))
        }
        _ => Ok(is),
    }
}

/// Files of many runs, recognised by their root keys.
fn of_sweep(entries: &[Entry]) -> Option<Problem> {
    const KEYS: [&str; 5] = ["models", "original_dpo", "modified_dpo", "factual_dpo", "sweep"];
    let entry = entries.iter().find(|entry| KEYS.contains(&&*entry.key))?;
    let what = OtherCommand { section: entry.key.clone(), command: "sweep" };
    Some(Problem::new(entry.place.clone(), what))
}

fn default_output_dir(model: Option<&Model>, purpose: Purpose, timestamp: &str) -> PathBuf {
    let path = model.map_or("model", |model| model.path.trim_end_matches('/'));
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let name = name.strip_suffix(".gguf").unwrap_or(name);
    let done = match purpose {
        Purpose::Align => "aligned",
        Purpose::Finetune => "finetuned",
    };
    PathBuf::from(format!("./checkpoints/{name}-{done}-{timestamp}"))
}
