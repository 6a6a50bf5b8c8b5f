//! `trueup sweep`: many runs from one recipe, one after the other.
//!
//! Runs share the caches of tokens and of reference log-probabilities, so what one has computed
//! the next ones find. A finished run is passed over, an interrupted one goes on, and one that
//! fails does not stop the others.

use std::fmt::Write as _;

use train::{
    Session,
    recipe::{self, Override, SweepRun},
    resume::Resume,
};

use super::{align, sweep_margins, sweep_plan};
use crate::{
    args::{Align, Sweep},
    environment,
    failure::Failure,
    terminal::Terminal,
};

/// Runs what the table says.
pub(super) fn run(args: &Sweep, terminal: &mut Terminal) -> Result<(), Failure> {
    let overrides: Vec<Override> = args.set.iter().map(|text| Override::set(text)).collect();
    let all = recipe::read_sweep(&args.config, &overrides)?;
    if let Some(name) = args.only.iter().find(|name| all.iter().all(|run| run.name != **name)) {
        let known = all.into_iter().map(|run| run.name).collect();
        return Err(Failure::NoSuchRun { name: name.clone(), known });
    }
    let is_wanted = |run: &SweepRun| args.only.is_empty() || args.only.contains(&run.name);
    let runs: Vec<SweepRun> = all.into_iter().filter(is_wanted).collect();
    terminal.print(&sweep_margins::text(&runs));
    if args.dry_run {
        return sweep_plan::show(args, &runs, terminal);
    }
    let mut session = Session::default();
    let mut failures = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        terminal.print(&format!("run {}/{}: {}\n", index + 1, runs.len(), run.name));
        match one(args, run, &mut session, terminal) {
            Ok(()) => {}
            Err(Failure::Stopped { signal, checkpoint, .. }) => {
                let resume = same_command(args);
                return Err(Failure::Stopped { signal, checkpoint, resume });
            }
            Err(Failure::Pipe) => return Err(Failure::Pipe),
            Err(failure) => {
                terminal.print(&failure.render());
                failures.push((run.name.clone(), failure.exit_code()));
            }
        }
    }
    let folders: Vec<_> =
        runs.iter().map(|run| run.checked.recipe.alignment.output_dir.clone()).collect();
    super::compare::show(&folders, terminal)?;
    match failures.first() {
        None => Ok(()),
        Some((_, code)) => {
            let (code, of) = (*code, runs.len());
            let names = failures.into_iter().map(|(name, _)| name).collect();
            Err(Failure::RunsFailed { names, of, code })
        }
    }
}

/// The command that goes on with the sweep.
fn same_command(args: &Sweep) -> String {
    let mut command = format!("trueup sweep --config {}", args.config.display());
    for (flag, values) in [("--only", &args.only), ("--set", &args.set)] {
        for value in values {
            let _ = write!(command, " {flag} {value}");
        }
    }
    command
}

fn one(
    args: &Sweep,
    run: &SweepRun,
    session: &mut Session,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let flags = flags(args);
    for note in &run.checked.notes {
        terminal.note(&note.to_string());
    }
    let order =
        align::Order { args: &flags, resume: &Resume::Auto, now: environment::unix_seconds() };
    align::train(&order, run.checked.recipe.clone(), session, terminal)
}

/// The flags with which `trueup align` would do a run.
pub(super) fn flags(args: &Sweep) -> Align {
    Align {
        config: args.config.clone(),
        resume: Some("auto".into()),
        device: None,
        dry_run: false,
        verbose: args.verbose,
        set: args.set.clone(),
        no_cache: false,
        profile: false,
    }
}
