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
    /// How often the most likely token is the one that was written.
    TokenAccuracy,
}

/// What rows are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// The completions of a pair.
    Pairs,
    /// Good and bad rows as a whole, by this loss.
    Sides(&'static str),
    /// Completions are learned as they are.
    Nothing,
}

impl Metric {
    pub(super) const WORDS: Words<Self> = &[
        ("eval_loss", Self::Loss),
        ("eval_rewards/accuracies", Self::Accuracies),
        ("eval_accuracy_half_ties", Self::AccuracyHalfTies),
        ("eval_rewards/margins", Self::Margins),
        ("eval_likelier", Self::Likelier),
        ("eval_mean_token_accuracy", Self::TokenAccuracy),
    ];

    /// Its name in events.
    pub fn name(self) -> &'static str {
        super::render::word(Self::WORDS, self)
    }

    /// Whether there is such a number where rows are compared so.
    fn exists(self, compared: Compared) -> bool {
        match self {
            Self::Loss | Self::TokenAccuracy => true,
            Self::Margins => compared != Compared::Nothing,
            Self::Accuracies | Self::AccuracyHalfTies | Self::Likelier => {
                compared == Compared::Pairs
            }
        }
    }

    /// Whether `new` is better than `old`; a value that is not a number never is.
    pub fn improves(self, new: f64, old: f64) -> bool {
        match self {
            Self::Loss => new < old,
            _ => old < new,
        }
    }
}

/// Reads what evaluations are for.
pub(super) fn read(
    section: &mut Section<'_>,
    has_evaluation: bool,
    compared: &Compared,
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
    if !metric.exists(*compared) {
        let first = format!("`metric_for_best_model: {}`", metric.name());
        let (second, hint) = match compared {
            Compared::Nothing => {
                ("fine-tuning".into(), "use `eval_loss` or `eval_mean_token_accuracy`")
            }
            Compared::Sides(loss) => (
                format!("`loss_type: {loss}`"),
                "its rows are no pairs to compare: use `eval_loss` or `eval_rewards/margins`",
            ),
            Compared::Pairs => (String::new(), ""),
        };
        let what = What::Conflict { first, second, hint: hint.into() };
        section.report("metric_for_best_model", what);
    }
    Some(evaluation)
}
