//! `trueup compare`: what several runs came to, side by side.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use report::History;

use crate::{args::Compare, failure::Failure, terminal::Terminal};

/// What is shown of a run: a heading, and the event's value.
const COLUMNS: [(&str, &str); 5] = [
    ("loss", "loss"),
    ("margin", "rewards/margins"),
    ("accuracy", "accuracy_half_ties"),
    ("logp chosen", "logps/chosen"),
    ("logp rejected", "logps/rejected"),
];

/// Shows runs, those below a folder too, and draws their curves.
pub(super) fn run(args: &Compare, terminal: &Terminal) -> Result<(), Failure> {
    let histories = named(report::histories(&args.runs)?);
    table(&histories, terminal)?;
    if !args.no_curves {
        report::write(&args.output, &report::picture(&histories))?;
        terminal.print(&format!("curves: {}\n", args.output.display()));
    }
    Ok(())
}

/// Shows the runs of these folders in a table.
pub(super) fn show(folders: &[PathBuf], terminal: &Terminal) -> Result<(), Failure> {
    table(&named(report::of_folders(folders)?), terminal)
}

/// Runs under the names that their recipes give them, where these tell them apart.
fn named(mut histories: Vec<History>) -> Vec<History> {
    let given: Vec<_> = histories.iter().map(|history| given_name(&history.folder)).collect();
    for (history, name) in histories.iter_mut().zip(&given) {
        let is_its_own = given.iter().filter(|other| *other == name).count() == 1;
        if let Some(name) = name.as_ref().filter(|_| is_its_own) {
            history.name.clone_from(name);
        }
    }
    histories
}

fn given_name(folder: &Path) -> Option<String> {
    let checked = train::recipe::read(&run::recipe_path(folder), None, &[], "").ok()?;
    checked.recipe.alignment.run_name
}

/// A line for each run: its last evaluation, or its last step where nothing is evaluated.
fn table(histories: &[History], terminal: &Terminal) -> Result<(), Failure> {
    let width = histories.iter().map(|run| run.name.chars().count()).max().unwrap_or(0).max(3);
    let mut text = format!("{:width$}  {:>6}  {:5}", "run", "steps", "on");
    for (heading, _) in COLUMNS {
        let _ = write!(text, "  {heading:>13}");
    }
    text.push('\n');
    for history in histories {
        let evaluated = history.last_evaluation();
        let last = evaluated.or(history.events.last());
        let steps = history.events.last().map_or(0, |event| event.step);
        let (on, prefix) = if evaluated.is_some() { ("eval", "eval_") } else { ("train", "") };
        let _ = write!(text, "{:width$}  {steps:>6}  {on:5}", history.name);
        for (_, key) in COLUMNS {
            let value = last.and_then(|event| event.get(&format!("{prefix}{key}")));
            let cell = value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
            let _ = write!(text, "  {cell:>13}");
        }
        text.push('\n');
    }
    terminal.data(&text)
}
