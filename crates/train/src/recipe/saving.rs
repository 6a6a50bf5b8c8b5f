//! What evaluations are for: choosing a checkpoint and stopping early.

use super::{
    problem::What,
    read::{Section, Words},
};

/// What evaluations are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Steps between evaluations; at least 1.
    pub eval_steps: u64,
    /// Whether the run ends with the best evaluated weights.
    pub load_best_model_at_end: bool,
    /// What says which checkpoint is best.
    pub metric_for_best_model: Metric,
    /// Evaluations without improvement before the run ends; at least 1.
    pub early_stopping_patience: Option<u64>,
}

/// A metric that can choose a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The objective.
    Loss,
    /// How often the chosen reward is the larger one.
    Accuracies,
    /// The same, ties counted as one half.
    AccuracyHalfTies,
    /// By how much the chosen reward is the larger one.
    Margins,
    /// How often the chosen completion is likelier a token.
    Likelier,
}

impl Metric {
    pub(super) const WORDS: Words<Self> = &[
        ("eval_loss", Self::Loss),
        ("eval_rewards/accuracies", Self::Accuracies),
        ("eval_accuracy_half_ties", Self::AccuracyHalfTies),
        ("eval_rewards/margins", Self::Margins),
        ("eval_likelier", Self::Likelier),
    ];

    /// Its name in events.
    pub fn name(self) -> &'static str {
        super::render::word(Self::WORDS, self)
    }

    /// Whether it compares the completions of a pair.
    fn needs_pairs(self) -> bool {
        matches!(self, Self::Accuracies | Self::AccuracyHalfTies | Self::Likelier)
    }

    /// Whether `new` is better than `old`; a value that is not a number never is.
    pub fn improves(self, new: f64, old: f64) -> bool {
        match self {
            Self::Loss => new < old,
            _ => old < new,
        }
    }
}

/// Reads what evaluations are for, from the section `alignment`; `unpaired` is the name of a loss
/// over rows of one completion.
pub(super) fn read(
    section: &mut Section<'_>,
    has_evaluation: bool,
    unpaired: Option<&'static str>,
    save_steps: u64,
) -> Option<Evaluation> {
    let evaluation = Evaluation {
        eval_steps: section.count("eval_steps", 1).unwrap_or(save_steps),
        load_best_model_at_end: section.flag("load_best_model_at_end").unwrap_or(false),
        metric_for_best_model: section
            .word("metric_for_best_model", "metric", Metric::WORDS)
            .unwrap_or(Metric::Loss),
        early_stopping_patience: section.count("early_stopping_patience", 1),
    };
    if !has_evaluation {
        let when = "without evaluation data";
        let hint = "set `dataset.eval_fraction`, `eval_split` or `eval_path`, or remove it";
        if evaluation.load_best_model_at_end {
            section.refuse("load_best_model_at_end", when, hint);
        }
        for key in ["eval_steps", "metric_for_best_model", "early_stopping_patience"] {
            section.refuse(key, when, hint);
        }
        return None;
    }
    let metric = evaluation.metric_for_best_model;
    // Its name would be in no evaluation, and no checkpoint the best one.
    if let Some(loss) = unpaired.filter(|_| metric.needs_pairs()) {
        let first = format!("`metric_for_best_model: {}`", metric.name());
        let second = format!("`loss_type: {loss}`");
        let hint = "its rows are no pairs to compare: use `eval_loss` or `eval_rewards/margins`";
        let what = What::Conflict { first, second, hint: hint.into() };
        section.report("metric_for_best_model", what);
    }
    Some(evaluation)
}
