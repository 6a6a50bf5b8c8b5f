//! Looks at what a run measures and warns of what goes wrong: what it is, why, and how to help.
//!
//! A pure function of the events and of the pairs' lengths: a resumed run is shown the events that
//! it kept and is then as wise as the whole one. `docs/guides/watching.md` says where the numbers
//! come from.

mod signs;

use std::fmt;

use data::tokenize::Example;
use objectives::{Loss, Objective};

pub use signs::State;
pub(crate) use signs::mean_of_last;

use crate::{batches::Batches, cues, history::History, trainer::Trainer};

/// What can be warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The chosen completions lose likelihood together with the rejected ones.
    Displaced,
    /// The margin is far beyond what the loss looks at.
    MarginExploded,
    /// Loss and gradient are next to nothing.
    Saturated,
    /// The loss is above that of the start.
    LossRose,
    /// The margin follows the difference in length.
    FollowsLength,
    /// All pairs are right though none was seen before.
    Separable,
    /// The margin stays where it was.
    LearnsNothing,
}

/// A warning: what, why, and how to help.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// What it is about.
    pub kind: Kind,
    /// The step after which it was found.
    pub step: u64,
    /// What was seen, with its numbers.
    pub what: String,
    /// What it means.
    pub why: String,
    /// What to do about it.
    pub how: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, what, why, how, .. } = self;
        write!(f, "step {step}: {what}\n  because: {why}\nhint: {how}")
    }
}

/// What the run is, as far as warnings depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Whether rewards are measured against a reference, so that they start at 0.
    pub has_reference: bool,
    /// Whether the reference follows the policy, so that rewards start at 0 again and again.
    pub is_reference_moving: bool,
    /// What bounds on rewards are multiplied by: 1, or the mean length of a completion where the
    /// loss divides by it and the rewards do not.
    pub scale: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Passes over the data in which the preference part grows.
    pub warmup_epochs: f64,
    /// Steps of the run.
    pub total_steps: u64,
    /// The peak of the learning rate.
    pub learning_rate: f64,
    /// Whether an adapter is trained.
    pub has_adapter: bool,
    /// Held-out pairs.
    pub eval_pairs: usize,
    /// What tells the sides apart without reading them.
    pub cue: Option<String>,
}

impl Setting {
    fn new(trainer: &Trainer) -> Self {
        Self {
            has_reference: trainer.objective.needs_reference(),
            is_reference_moving: trainer.moving.is_some(),
            scale: scale(&trainer.objective, &trainer.train),
            warmup_steps: trainer.schedule.warmup_steps(),
            warmup_epochs: trainer.objective.modifiers.warmup_epochs,
            total_steps: trainer.total_steps(),
            learning_rate: trainer.schedule.peak(),
            has_adapter: trainer.policy.adapter_config().is_some(),
            eval_pairs: trainer.held_out.len(),
            cue: cues::separating(&trainer.train),
        }
    }
}

fn scale(objective: &Objective, examples: &[Example]) -> f64 {
    let mut terms = objective.terms.iter();
    if !terms.any(|term| matches!(term.loss, Loss::Ipo | Loss::SigmoidNorm)) {
        return 1.0;
    }
    let lengths = examples.iter().flat_map(|example| &example.completions).map(Vec::len);
    let (count, sum) = lengths.fold((0_usize, 0), |(count, sum), length| (count + 1, sum + length));
    (sum as f64 / count.max(1) as f64).max(1.0)
}

/// What is known of a step's rows beside what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows {
    /// How many there are.
    pub count: usize,
    /// By how many tokens the chosen completions are longer on average; not a number without pairs.
    pub longer_by: f64,
}

/// The rows of every step, an epoch at a time.
struct Lengths {
    batches: Batches,
    differences: Vec<f64>,
    epoch: Option<usize>,
    steps: Vec<Rows>,
}

impl Lengths {
    fn new(trainer: &Trainer) -> Self {
        let difference = |example| cues::longer_by(example).unwrap_or(f64::NAN);
        let differences = trainer.train.iter().map(difference).collect();
        Self { batches: trainer.batches.clone(), differences, epoch: None, steps: Vec::new() }
    }

    fn of_step(&mut self, step: u64) -> Option<Rows> {
        let (epoch, index) = self.batches.place(step);
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            let rows = |rows: Vec<usize>| Rows {
                count: rows.len(),
                longer_by: rows.iter().map(|row| self.differences[*row]).sum::<f64>()
                    / rows.len() as f64,
            };
            self.steps = self.batches.of_epoch(epoch).into_iter().map(rows).collect();
        }
        self.steps.get(index).copied()
    }
}

/// Follows the events of a run.
pub struct Watching {
    state: State,
    lengths: Lengths,
    seen: usize,
}

impl Watching {
    /// A watcher of a run that has seen nothing yet.
    pub fn new(trainer: &Trainer) -> Self {
        Self { state: State::new(Setting::new(trainer)), lengths: Lengths::new(trainer), seen: 0 }
    }

    /// Looks at the events that are new in a history.
    pub fn catch_up(&mut self, history: &History) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for event in &history.events()[self.seen..] {
            if event.is_evaluation() {
                warnings.extend(self.state.evaluation(event));
            } else {
                let rows = self.lengths.of_step(event.step);
                warnings.extend(self.state.step(event, rows));
            }
        }
        self.seen = history.events().len();
        warnings
    }
}

#[cfg(test)]
mod tests;
