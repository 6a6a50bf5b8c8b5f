//! `trueup compare`: what several runs came to, side by side.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use run::Event;

use crate::{args::Compare, failure::Failure, terminal::Terminal};

/// What is shown of a run: a heading, and the event's value.
const COLUMNS: [(&str, &str); 5] = [
    ("loss", "loss"),
    ("margin", "rewards/margins"),
    ("accuracy", "accuracy_half_ties"),
    ("logp chosen", "logps/chosen"),
    ("logp rejected", "logps/rejected"),
];

/// Shows runs, those below a folder too.
pub(super) fn run(args: &Compare, terminal: &Terminal) -> Result<(), Failure> {
    let mut folders = Vec::new();
    for path in &args.runs {
        let found = runs_of(path)?;
        if found.is_empty() {
            return Err(Failure::NoRuns { path: path.clone() });
        }
        folders.extend(found);
    }
    show(&folders, terminal)
}

/// A line for each run: its last evaluation, or its last step where nothing is evaluated.
pub(super) fn show(folders: &[PathBuf], terminal: &Terminal) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for folder in folders {
        lines.push(line(folder)?);
    }
    let width = lines.iter().map(|cells| cells[0].chars().count()).max().unwrap_or(0).max(3);
    let mut text = format!("{:width$}  {:>6}  {:5}", "run", "steps", "on");
    for (heading, _) in COLUMNS {
        let _ = write!(text, "  {heading:>13}");
    }
    text.push('\n');
    for cells in lines {
        let _ = write!(text, "{:width$}  {:>6}  {:5}", cells[0], cells[1], cells[2]);
        for cell in &cells[3..] {
            let _ = write!(text, "  {cell:>13}");
        }
        text.push('\n');
    }
    terminal.data(&text)
}

fn line(folder: &Path) -> Result<Vec<String>, Failure> {
    let name = name(folder);
    let events = events(folder)?;
    let evaluated = events.iter().rev().find(|event| event.is_evaluation());
    let last = evaluated.or(events.last());
    let steps = events.last().map_or_else(|| "0".into(), |event| event.step.to_string());
    let (on, prefix) = if evaluated.is_some() { ("eval", "eval_") } else { ("train", "") };
    let mut cells = vec![name, steps, on.to_owned()];
    cells.extend(COLUMNS.map(|(_, key)| {
        let value = last.and_then(|event| event.get(&format!("{prefix}{key}")));
        value.map_or_else(|| "-".into(), |value| format!("{value:.4}"))
    }));
    Ok(cells)
}

/// The events of a run; none where it did not get that far.
fn events(folder: &Path) -> Result<Vec<Event>, Failure> {
    let path = folder.join("events.jsonl");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    Ok(run::read_events(&path)?)
}

/// The path itself if it is a run, else the runs right below it, by name.
fn runs_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_run = |path: &Path| path.join("events.jsonl").is_file();
    if is_run(path) {
        return Ok(vec![path.to_owned()]);
    }
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs_err::read_dir(path)? {
        let path = entry?.path();
        if is_run(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What the run's recipe calls it, else the name of its folder.
fn name(folder: &Path) -> String {
    let recipe = train::recipe::read(&folder.join("recipe.yaml"), &[], "");
    let given = recipe.ok().and_then(|checked| checked.recipe.alignment.run_name);
    given.unwrap_or_else(|| {
        folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned()
    })
}
