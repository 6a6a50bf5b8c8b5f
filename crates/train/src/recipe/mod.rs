//! Recipes: the YAML file that says everything about a run.
//!
//! A recipe is read in one place and checked once: [`check`] gives a [`Recipe`] that cannot be
//! wrong, or every problem of the file with its line. [`KEYS`] lists all keys. A resolved recipe
//! is written by [`Recipe::render`] and reads back to itself.

mod aixpert;
mod alignment;
mod dataset;
mod difference;
mod guards;
mod keys;
mod model;
mod objective;
mod overrides;
mod peers;
mod problem;
mod read;
mod render;
mod saving;
mod sweep;
mod tree;
mod tuning;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use fs_err as fs;

pub use alignment::{Alignment, Rates, TOKENS_PER_MICRO_BATCH, Tuning};
pub use dataset::{Dataset, Source};
pub use difference::Difference;
pub use keys::{KEYS, Key, SECTIONS};
pub use model::{Model, Precision, Reference};
pub use overrides::Override;
pub use problem::{Note, Place, Problem, Problems, What};
pub use saving::{Evaluation, Metric};
pub use sweep::{SweepRun, check_sweep, read_sweep};

use crate::Error;
use problem::What::{NotASection, NotYet};
use read::{Section, Words};
use tree::{Entry, Node, Value};

/// Everything about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Which weights are trained, and what they are held to.
    pub model: Model,
    /// Which records to learn from.
    pub dataset: Dataset,
    /// How the policy is trained.
    pub alignment: Alignment,
    /// Where it is trained.
    pub device: Device,
    /// Threads of the processor; all cores if absent.
    pub threads: Option<usize>,
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
/// `overrides` come from the command line and go before the file; `timestamp` ends the default
/// `output_dir`.
///
/// # Errors
///
/// [`Error::RecipeNotFound`], [`Error::Io`], [`Error::Recipe`] with every problem.
pub fn read(file: &Path, overrides: &[Override], timestamp: &str) -> Result<Checked, Error> {
    if !file.is_file() {
        return Err(Error::RecipeNotFound { path: file.to_owned() });
    }
    let text = fs::read_to_string(file)?;
    check(&text, overrides, timestamp)
        .map_err(|list| Error::Recipe(Problems { file: file.to_owned(), list }))
}

/// Checks a recipe's text; see [`read`](fn@read).
///
/// # Errors
///
/// Every problem, in the order of their lines; never an empty list.
pub fn check(text: &str, overrides: &[Override], timestamp: &str) -> Result<Checked, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let recipe = tree::parse(text, &Place::Line, &mut problems)
        .and_then(|root| from_tree(root, overrides, timestamp, (&mut problems, &mut notes)));
    problems.sort_by(|left, right| left.place.cmp(&right.place));
    problems.dedup();
    match recipe {
        Some(recipe) if problems.is_empty() => Ok(Checked { recipe, notes }),
        _ => Err(problems),
    }
}

fn from_tree(
    root: Node,
    overrides: &[Override],
    timestamp: &str,
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
    if let Some(dialect) = dialect(&entries) {
        problems.push(dialect);
        return None;
    }
    overrides::apply(&mut entries, overrides, problems);

    let mut at_root = Section::new("", &entries, problems);
    let device = at_root.word("device", "device", Device::WORDS).unwrap_or(Device::Auto);
    let threads = at_root.count("threads", 1).map(|threads| threads as usize);

    let model = section("model", &entries, problems, model::read);
    let dataset = section("dataset", &entries, problems, dataset::read);
    let output_dir = default_output_dir(model.as_ref(), timestamp);
    let around = alignment::Around { model: model.as_ref(), dataset: dataset.as_ref(), output_dir };
    let alignment =
        section("alignment", &entries, problems, |section| alignment::read(section, around, notes));
    if alignment.as_ref().is_some_and(|alignment| alignment.objective.gdpo.is_none()) {
        let _ = section("dataset", &entries, problems, |section| {
            let hint = "remove it, or use `method: gdpo`";
            section.refuse("group_by_prompt", "with `method: dpo`", hint);
            Some(())
        });
    }
    if alignment.as_ref().is_some_and(|alignment| !alignment.objective.needs_reference()) {
        let _ = section("model", &entries, problems, |section| {
            let hint = "remove it, or use a loss that is held to a reference";
            section.refuse("reference", "with a loss that has no reference", hint);
            Some(())
        });
    }
    if alignment.as_ref().is_some_and(|it| it.sync.is_some() && !it.objective.needs_reference()) {
        let _ = section("alignment", &entries, problems, |section| {
            let hint = "remove it, or use a loss that is held to a reference";
            section.refuse("sync_ref_model", "with a loss that has no reference", hint);
            Some(())
        });
    }
    if alignment.as_ref().is_some_and(|alignment| alignment.tuning == Tuning::Full)
        && model.as_ref().is_some_and(|model| model.load_in_4bit)
    {
        let _ = section("model", &entries, problems, |section| {
            let hint = "remove it: weights that are trained are kept in 32 bits";
            section.refuse("load_in_4bit", "with `alignment.use_lora: false`", hint);
            Some(())
        });
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

/// Files of other shapes that people have, recognised by their root keys.
fn dialect(entries: &[Entry]) -> Option<Problem> {
    entries.iter().find_map(|entry| {
        let (what, hint) = match (&*entry.key, &entry.node.value) {
            ("models" | "original_dpo" | "modified_dpo" | "factual_dpo", _) => (
                format!("a sweep (`{}:`) with `trueup align`", entry.key),
                "run `trueup sweep --config` on this file",
            ),
            ("sweep", _) => (
                "a sweep with `trueup align`".into(),
                "run `trueup sweep --config` on this file",
            ),
            ("training", _) => (
                "fine-tuning (`training:`)".into(),
                "write `alignment:` to train on preferences with `trueup align`",
            ),
            ("model", Value::Scalar(_)) => (
                "a flat recipe (`model:` with a text)".into(),
                "write `model:` with `path:` below it, `dataset:` with `path:`, and the rest below `alignment:`",
            ),
            _ => return None,
        };
        Some(Problem::new(entry.place.clone(), NotYet { what, hint }))
    })
}

fn default_output_dir(model: Option<&Model>, timestamp: &str) -> PathBuf {
    let path = model.map_or("model", |model| model.path.trim_end_matches('/'));
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let name = name.strip_suffix(".gguf").unwrap_or(name);
    PathBuf::from(format!("./checkpoints/{name}-aligned-{timestamp}"))
}
