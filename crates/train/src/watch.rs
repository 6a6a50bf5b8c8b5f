//! How a run talks to whoever watches it; the terminal is one such watcher, a test another.

use crate::watching::Warning;

/// Receives notes and progress, and may ask a run to stop.
pub trait Watch {
    /// Something the user should know, said once.
    fn note(&mut self, text: &str);
    /// Something that may make the result other than the user wants: what, why and how to help.
    fn warn(&mut self, warning: &Warning) {
        self.note(&warning.to_string());
    }
    /// How far the run is.
    fn progress(&mut self, progress: &Progress);
    /// Whether the run should save and stop; asked after every micro-batch.
    fn interrupted(&self) -> bool;
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The reference scores pairs.
    Reference {
        /// Pairs scored.
        done: usize,
        /// Pairs to score.
        total: usize,
    },
    /// The policy scores held-out pairs.
    Evaluation {
        /// Pairs scored.
        done: usize,
        /// Pairs to score.
        total: usize,
    },
    /// An optimizer step is over.
    Step(StepProgress),
}

/// The numbers of a step that a progress line shows.
#[derive(Clone, Debug, PartialEq)]
pub struct StepProgress {
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps of the run.
    pub total_steps: u64,
    /// Passes over the data done, with the fraction of the current one.
    pub epoch: f64,
    /// Passes over the data of the run, rounded up.
    pub epochs: u64,
    /// The total loss.
    pub loss: f64,
    /// The pair term of the loss.
    pub policy_loss: f64,
    /// Mean of chosen minus rejected reward.
    pub margin: f64,
    /// Share of pairs whose chosen reward is the larger one.
    pub accuracy: f64,
    /// Share of tokens that were the most likely ones; only where completions are learned as they
    /// are, without pairs.
    pub token_accuracy: Option<f64>,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// The rate of the step.
    pub learning_rate: f64,
    /// Real tokens that went through the policy in this step.
    pub tokens: u64,
}
