//! A recipe with a table `sweep`: many runs from one file.
//!
//! The table is a mapping of keys to lists, of which every combination is run, or a list of
//! mappings, each of which is run. AIXpert's file of models and margins is a sweep as it stands.

use std::path::Path;

use fs_err as fs;

use super::{
    Checked, Given, Note, Override, Place, Problem, Problems, Purpose, What, aixpert, from_tree,
    mlx, overrides,
    tree::{self, Entry, Node, Value},
};
use crate::Error;

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRun {
    /// What sets it apart, and the name of its folder.
    pub name: String,
    /// Its recipe.
    pub checked: Checked,
}

/// Reads the recipe of a sweep.
///
/// Each run gets a folder of its own below `alignment.output_dir`, which must be there, so that an
/// interrupted sweep finds its runs again.
///
/// # Errors
///
/// As [`super::read`], and a file without runs.
pub fn read_sweep(file: &Path, overrides: &[Override]) -> Result<Vec<SweepRun>, Error> {
    if !file.is_file() {
        return Err(Error::RecipeNotFound { path: file.to_owned() });
    }
    let text = fs::read_to_string(file)?;
    check_sweep(&text, overrides)
        .map_err(|list| Error::Recipe(Problems { file: file.to_owned(), list }))
}

/// Checks the text of a sweep's recipe; see [`read_sweep`].
///
/// # Errors
///
/// Every problem of the first run that has any.
pub fn check_sweep(text: &str, given: &[Override]) -> Result<Vec<SweepRun>, Vec<Problem>> {
    let mut problems = Vec::new();
    let root = tree::parse(text, &Place::Line, &mut problems);
    let Some(Node { value: Value::Map(entries), place }) = root else {
        problems.push(Problem::new(Place::File, missing()));
        return Err(problems);
    };
    let drafts = if aixpert::is_here(&entries) {
        of_models(&entries, given, &mut problems)
    } else {
        of_table(entries, given, &mut problems)
    };
    problems.sort_by(|left, right| left.place.cmp(&right.place));
    problems.dedup();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut runs = Vec::with_capacity(drafts.len());
    for Draft { name, entries, mut notes } in drafts {
        let root = Node { place: place.clone(), value: Value::Map(entries) };
        let given = Given { purpose: Some(Purpose::Align), overrides: &[], timestamp: "" };
        let recipe = from_tree(root, &given, (&mut problems, &mut notes));
        problems.sort_by(|left, right| left.place.cmp(&right.place));
        problems.dedup();
        let Some(recipe) = recipe.filter(|_| problems.is_empty()) else { return Err(problems) };
        runs.push(SweepRun { name, checked: Checked { recipe, notes } });
    }
    same_names(&runs)?;
    Ok(by_model(runs))
}

/// A run before its keys are checked.
struct Draft {
    name: String,
    entries: Vec<Entry>,
    notes: Vec<Note>,
}

/// The runs of AIXpert's file.
fn of_models(root: &[Entry], given: &[Override], problems: &mut Vec<Problem>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for draft in aixpert::drafts(root, problems) {
        let mut entries = Vec::new();
        for (key, node) in draft.entries {
            let place = node.place.clone();
            overrides::put(&mut entries, &key, node, &place);
        }
        overrides::apply(&mut entries, given, problems);
        drafts.push(Draft { name: draft.name, entries, notes: draft.notes });
    }
    drafts
}

/// The runs of a recipe with a table.
fn of_table(
    mut entries: Vec<Entry>,
    given: &[Override],
    problems: &mut Vec<Problem>,
) -> Vec<Draft> {
    let Some(at) = entries.iter().position(|entry| entry.key == SWEEP) else {
        problems.push(Problem::new(Place::File, missing()));
        return Vec::new();
    };
    let table = entries.remove(at).node;
    let place = table.place.clone();
    let choices = choices(table, problems);
    let mut notes = Vec::new();
    if mlx::is_here(&entries) {
        let Some(recipe) = mlx::recipe(&entries, problems, &mut notes) else { return Vec::new() };
        entries = recipe;
    }
    overrides::apply(&mut entries, given, problems);
    let Some(output_dir) = output_dir(&entries) else {
        let example = "output_dir: ./runs/sweep";
        let what = What::Missing { key: "alignment.output_dir".into(), example };
        problems.push(Problem::new(Place::File, what));
        return Vec::new();
    };
    let draft = |choice: Vec<Entry>| {
        let mut entries = entries.clone();
        let name = name(&choice);
        for entry in choice.into_iter().filter(|entry| entry.key != NAME) {
            overrides::put(&mut entries, &entry.key, entry.node, &entry.place);
        }
        let folder = Path::new(&output_dir).join(&name).to_string_lossy().into_owned();
        let folder = Node { place: place.clone(), value: Value::Scalar(folder) };
        overrides::put(&mut entries, "alignment.output_dir", folder, &place);
        Draft { name, entries, notes: notes.clone() }
    };
    choices.into_iter().map(draft).collect()
}

/// The runs of one model after those of the other, so that each is loaded once.
fn by_model(runs: Vec<SweepRun>) -> Vec<SweepRun> {
    let path = |run: &SweepRun| run.checked.recipe.model.path.clone();
    let mut models: Vec<String> = Vec::new();
    for run in &runs {
        if !models.contains(&path(run)) {
            models.push(path(run));
        }
    }
    let mut runs = runs;
    runs.sort_by_key(|run| models.iter().position(|model| *model == path(run)));
    runs
}

const SWEEP: &str = "sweep";

/// The key of an item that is no key of a recipe: what its run is called.
const NAME: &str = "name";

fn missing() -> What {
    What::Missing { key: SWEEP.into(), example: "sweep: {alignment.beta: [0.1, 0.3]}" }
}

/// The settings of each run.
fn choices(table: Node, problems: &mut Vec<Problem>) -> Vec<Vec<Entry>> {
    let wrong = |place: &Place, value: &Value| {
        let wanted = "a mapping of keys to lists, or a list of mappings";
        Problem::new(place.clone(), What::WrongKind { key: SWEEP, wanted, got: value.describe() })
    };
    let choices = match table.value {
        Value::Map(grid) if grid.is_empty() => Vec::new(),
        Value::Map(grid) => product(grid, problems),
        Value::List(items) => {
            let mut runs = Vec::with_capacity(items.len());
            for item in items {
                match item.value {
                    Value::Map(entries) => runs.push(entries),
                    other => problems.push(wrong(&item.place, &other)),
                }
            }
            runs
        }
        other => {
            problems.push(wrong(&table.place, &other));
            return Vec::new();
        }
    };
    if choices.is_empty() && problems.is_empty() {
        problems.push(Problem::new(table.place, missing()));
    }
    choices
}

/// Every combination, the last key changing fastest.
fn product(grid: Vec<Entry>, problems: &mut Vec<Problem>) -> Vec<Vec<Entry>> {
    let mut runs = vec![Vec::new()];
    for Entry { key, place, node } in grid {
        let Value::List(values) = node.value else {
            let (wanted, got) = ("a list of values for each key", node.value.describe());
            problems.push(Problem::new(place, What::WrongKind { key: SWEEP, wanted, got }));
            continue;
        };
        let with = |run: &Vec<Entry>, node: &Node| {
            let mut run = run.clone();
            run.push(Entry { key: key.clone(), place: place.clone(), node: node.clone() });
            run
        };
        runs = runs.iter().flat_map(|run| values.iter().map(move |node| with(run, node))).collect();
    }
    runs
}

fn output_dir(entries: &[Entry]) -> Option<String> {
    let alignment = entries.iter().find(|entry| entry.key == "alignment")?;
    let Value::Map(keys) = &alignment.node.value else { return None };
    match &keys.iter().find(|entry| entry.key == "output_dir")?.node.value {
        Value::Scalar(path) if !path.trim().is_empty() => Some(path.clone()),
        _ => None,
    }
}

/// Keys and values, as a folder can be named: `beta0.1-seed1`.
fn name(choice: &[Entry]) -> String {
    let given = choice.iter().find(|entry| entry.key == NAME);
    let part = |entry: &Entry| {
        let key = entry.key.rsplit('.').next().unwrap_or(&entry.key);
        format!("{key}{}", shown(&entry.node.value))
    };
    let joined = match given {
        Some(given) => shown(&given.node.value),
        None => choice.iter().map(part).collect::<Vec<_>>().join("-"),
    };
    joined
        .chars()
        .map(|c| if c.is_alphanumeric() || "._-+".contains(c) { c } else { '_' })
        .collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "default".into(),
        // A path by its last part.
        Value::Scalar(text) => {
            let text = text.trim_end_matches('/');
            text.rsplit('/').next().unwrap_or(text).to_owned()
        }
        Value::List(items) => {
            items.iter().map(|item| shown(&item.value)).collect::<Vec<_>>().join("+")
        }
        Value::Map(entries) => name(entries),
    }
}

fn same_names(runs: &[SweepRun]) -> Result<(), Vec<Problem>> {
    for (index, run) in runs.iter().enumerate() {
        if runs[..index].iter().any(|other| other.name == run.name) {
            let key = format!("{SWEEP} {}", run.name);
            return Err(vec![Problem::new(Place::File, What::Duplicate { key })]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "model: {path: m}\ndataset: {path: d}\nalignment: {output_dir: out}\n";

    fn names(table: &str) -> Vec<String> {
        let runs = check_sweep(&format!("{BASE}{table}"), &[]).unwrap();
        runs.into_iter().map(|run| run.name).collect()
    }

    #[test]
    fn a_grid_is_every_combination_and_a_list_is_itself() {
        assert_eq!(
            names("sweep: {alignment.beta: [0.1, 0.3], alignment.seed: [1, 2]}"),
            ["beta0.1-seed1", "beta0.1-seed2", "beta0.3-seed1", "beta0.3-seed2"]
        );
        assert_eq!(
            names("sweep:\n- {alignment.loss_type: ipo}\n- {alignment.loss_type: [sigmoid, sft]}"),
            ["loss_typeipo", "loss_typesigmoid+sft"]
        );
        assert_eq!(
            names("sweep: [{name: plain, alignment.beta: 0.3}, {alignment.beta: 0.5}]"),
            ["plain", "beta0.5"]
        );
    }

    #[test]
    fn the_runs_of_a_model_come_together() {
        let table = "sweep: {alignment.seed: [1, 2], model.path: [a, b/c]}";
        assert_eq!(names(table), ["seed1-patha", "seed2-patha", "seed1-pathc", "seed2-pathc"]);
    }

    #[test]
    fn each_run_has_its_settings_and_its_folder() {
        let text = format!("{BASE}sweep: {{alignment.beta: [0.5]}}");
        let runs = check_sweep(&text, &[Override::set("alignment.seed=7")]).unwrap();
        let alignment = &runs[0].checked.recipe.alignment;
        assert_eq!(alignment.output_dir, Path::new("out/beta0.5"));
        assert_eq!((alignment.objective.beta.to_bits(), alignment.seed), (0.5_f64.to_bits(), 7));
    }

    #[test]
    fn a_table_that_says_nothing_or_nonsense_is_refused() {
        for table in [
            "",
            "sweep: {}",
            "sweep: []",
            "sweep: 3",
            "sweep: {alignment.beta: 0.1}",
            "sweep: [3]",
            "sweep: {alignment.bta: [1]}",
            "sweep: {alignment.beta: [-1]}",
            "sweep: {alignment.seed: [1, 1]}",
        ] {
            assert!(check_sweep(&format!("{BASE}{table}"), &[]).is_err(), "{table}");
        }
        let without_folder = "model: {path: m}\ndataset: {path: d}\nsweep: {alignment.beta: [1]}";
        assert!(check_sweep(without_folder, &[]).is_err());
    }
}
