//! What a sweep would do: each run with its state, its size and its time, and their sum.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use data::tokenize::Example;
use train::{
    Session,
    align::Prepared,
    recipe::{self, Recipe, SweepRun},
    reference::EntryKey,
    rows,
};

use super::{align, plan, size};
use crate::{
    args::{Align, Sweep},
    environment,
    failure::Failure,
    terminal::Terminal,
};

/// A run that could be prepared.
struct Planned {
    pairs: usize,
    steps: u64,
    memory: u64,
    /// Seconds that it takes after the runs before it.
    seconds: f64,
    /// Seconds that it would take with a reference pass of its own.
    alone: f64,
}

/// What is known of references so far: a model and how it is used, and what it has scored.
type Scored = Vec<(recipe::Model, BTreeSet<EntryKey>)>;

/// Prints the plan; nothing is trained.
pub(super) fn show(
    args: &Sweep,
    runs: &[SweepRun],
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let mut planner = Planner { session: Session::default(), scored: Vec::new(), rate: None };
    let width = runs.iter().map(|run| run.name.len()).max().unwrap_or(0).max(3);
    let mut text = format!(
        "{:width$}  {:8}  {:>7}  {:>6}  {:>9}  {:>12}  folder\n",
        "run", "state", "pairs", "steps", "memory", "time"
    );
    let (mut together, mut alone, mut unknown) = (0.0, 0.0, Vec::new());
    for run in runs {
        let folder = &run.checked.recipe.alignment.output_dir;
        let state = state(folder);
        let cells = match planner.plan(&super::sweep::flags(args), &run.checked.recipe, terminal) {
            Ok(planned) => {
                if state != FINISHED {
                    together += planned.seconds;
                    alone += planned.alone;
                }
                let Planned { pairs, steps, memory, seconds, .. } = planned;
                let (memory, time) = (size(memory), plan::rounded(seconds));
                format!("{pairs:>7}  {steps:>6}  {memory:>9}  {time:>12}")
            }
            Err(failure) => {
                unknown.push(format!("{}: {failure}", run.name));
                format!("{:>7}  {:>6}  {:>9}  {:>12}", "?", "?", "?", "?")
            }
        };
        let _ = writeln!(text, "{:width$}  {state:8}  {cells}  {}", run.name, folder.display());
    }
    terminal.data(&text)?;
    for line in unknown {
        terminal.note(&format!("no plan for {line}"));
    }
    if 0.0 < together {
        terminal.print(&format!(
            "about {} in all without evaluation; {} with a reference pass for each run\n",
            plan::rounded(together),
            plan::rounded(alone)
        ));
    }
    Ok(())
}

const FINISHED: &str = "finished";

/// How far the run in a folder is.
fn state(folder: &Path) -> &'static str {
    if run::is_finished(folder) {
        FINISHED
    } else if run::events_path(folder).is_file() {
        "begun"
    } else {
        "new"
    }
}

/// Prepares runs one after the other, and remembers what they share.
struct Planner {
    session: Session,
    scored: Scored,
    /// Products a second, once measured.
    rate: Option<f64>,
}

impl Planner {
    fn plan(
        &mut self,
        flags: &Align,
        recipe: &Recipe,
        terminal: &Terminal,
    ) -> Result<Planned, Failure> {
        let now = environment::unix_seconds();
        let setting = align::setting(flags.no_cache, recipe, now, terminal)?;
        let prepared = Prepared::new(recipe.clone(), setting, &mut self.session)?;
        let rate =
            *self.rate.get_or_insert_with(|| plan::products_per_second(prepared.precision()));
        let (own, missing) = self.reference_tokens(&prepared);
        Ok(Planned {
            pairs: prepared.pairs().reports.train_pairs,
            steps: prepared.batches().total_steps(),
            memory: prepared.memory().total(),
            seconds: plan::seconds(&prepared, missing, rate),
            alone: plan::seconds(&prepared, own, rate),
        })
    }

    /// Tokens that the reference must score for a run alone, and after the runs before it.
    fn reference_tokens(&mut self, prepared: &Prepared) -> (usize, usize) {
        if !prepared.recipe().alignment.objective.needs_reference() {
            return (0, 0);
        }
        let model = &prepared.recipe().model;
        if !self.scored.iter().any(|(known, _)| known == model) {
            self.scored.push((model.clone(), BTreeSet::new()));
        }
        let known = self.scored.iter_mut().find(|(known, _)| known == model);
        let Some((_, known)) = known else { return (0, 0) };
        let pairs = prepared.pairs();
        let (mut own, mut missing) = (0, 0);
        for example in pairs.train.iter().chain(&pairs.held_out) {
            let tokens = Example::token_count(example);
            own += tokens;
            let mut is_new = false;
            for key in rows::entry_keys(example) {
                is_new |= known.insert(key);
            }
            missing += if is_new { tokens } else { 0 };
        }
        (own, missing)
    }
}
