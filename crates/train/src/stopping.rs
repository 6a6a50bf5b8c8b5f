//! Guards that end a run: bounds on what it measures, from the recipe's `stop_when`.
//!
//! A guard is judged from the events alone, so that a resumed run stops where the whole one does.

use std::fmt;

use run::Event;

use crate::{history::History, watching::mean_of_last};

/// Steps whose mean a guard looks at where there is no evaluation.
pub const GUARD_STEPS: usize = 5;

/// What a guard looks at, and on which side of its bound it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The mean of chosen minus rejected reward is above the bound.
    RewardMarginAbove,
    /// The share of pairs whose chosen reward is the larger one reaches the bound.
    AccuracyAtLeast,
    /// The mean reward of chosen completions is below the bound.
    ChosenRewardBelow,
    /// The loss is above the bound.
    LossAbove,
}

impl Guard {
    /// All guards, in the order in which they are judged and written.
    pub const ALL: [Self; 4] =
        [Self::RewardMarginAbove, Self::AccuracyAtLeast, Self::ChosenRewardBelow, Self::LossAbove];

    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::RewardMarginAbove => "reward_margin_above",
            Self::AccuracyAtLeast => "accuracy_at_least",
            Self::ChosenRewardBelow => "chosen_reward_below",
            Self::LossAbove => "loss_above",
        }
    }

    /// The metric of steps that it looks at; with `eval_` before it, that of evaluations.
    pub fn metric(self) -> &'static str {
        match self {
            Self::RewardMarginAbove => "rewards/margins",
            Self::AccuracyAtLeast => "rewards/accuracies",
            Self::ChosenRewardBelow => "rewards/chosen",
            Self::LossAbove => "loss",
        }
    }

    /// Whether it fires; a value that is not a number fires nothing.
    fn fires(self, value: f64, bound: f64) -> bool {
        match self {
            Self::RewardMarginAbove | Self::LossAbove => bound < value,
            Self::AccuracyAtLeast => bound <= value,
            Self::ChosenRewardBelow => value < bound,
        }
    }
}

/// Guards with their bounds, each at most once.
pub type StopWhen = Vec<(Guard, f64)>;

/// A guard that fired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stop {
    /// The guard.
    pub guard: Guard,
    /// Its bound.
    pub bound: f64,
    /// The value that fired it.
    pub value: f64,
    /// The step after which it fired.
    pub step: u64,
    /// Whether an evaluation measured the value; else it is the mean of [`GUARD_STEPS`] steps.
    pub is_evaluated: bool,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guard, bound, value, step, is_evaluated } = self;
        let (name, metric) = (guard.name(), guard.metric());
        write!(f, "stopped after step {step} by `stop_when.{name}: {bound}`: ")?;
        if *is_evaluated {
            write!(f, "`eval_{metric}` is {value:.4}")
        } else {
            write!(f, "`{metric}` is {value:.4} over the last {GUARD_STEPS} steps")
        }
    }
}

/// The first guard that fires after the last event: on the last evaluation if the run has any, else
/// on the mean of the last steps.
pub fn judge(stop_when: &StopWhen, history: &History, has_evaluation: bool) -> Option<Stop> {
    let last = history.events().last()?;
    if last.is_evaluation() != has_evaluation {
        return None;
    }
    stop_when.iter().find_map(|(guard, bound)| {
        let value = if has_evaluation {
            last.get(&format!("eval_{}", guard.metric()))?
        } else {
            let steps = history.events().iter().rev().filter(|event| !event.is_evaluation());
            let values: Vec<f64> = steps
                .take(GUARD_STEPS)
                .filter_map(|event: &Event| event.get(guard.metric()))
                .collect();
            mean_of_last(&values, GUARD_STEPS)?
        };
        let stop = Stop {
            guard: *guard,
            bound: *bound,
            value,
            step: last.step,
            is_evaluated: has_evaluation,
        };
        guard.fires(value, *bound).then_some(stop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(margins: &[f64]) -> History {
        let event = |(index, margin): (usize, &f64)| {
            Event::new(index as u64 + 1).with("rewards/margins", *margin).with("loss", 0.5)
        };
        History::new(margins.iter().enumerate().map(event).collect())
    }

    #[test]
    fn a_guard_looks_at_the_mean_of_the_last_steps() {
        let guards = vec![(Guard::RewardMarginAbove, 2.0)];
        assert_eq!(judge(&guards, &steps(&[9.0; 4]), false), None, "too few steps");
        assert_eq!(judge(&guards, &steps(&[9.0, 2.0, 2.0, 2.0, 2.0, 2.0]), false), None);
        let stop = judge(&guards, &steps(&[0.0, 2.0, 2.0, 2.0, 2.0, 3.0]), false).unwrap();
        assert_eq!((stop.step, stop.is_evaluated), (6, false));
        assert_eq!(
            stop.to_string(),
            "stopped after step 6 by `stop_when.reward_margin_above: 2`: `rewards/margins` is \
             2.2000 over the last 5 steps"
        );
        assert_eq!(judge(&guards, &steps(&[f64::NAN; 6]), false), None);
    }

    #[test]
    fn with_evaluation_only_evaluations_count() {
        let guards = vec![
            (Guard::AccuracyAtLeast, 0.9),
            (Guard::ChosenRewardBelow, -3.0),
            (Guard::LossAbove, 1.0),
        ];
        let mut history = steps(&[9.0; 6]);
        assert_eq!(judge(&guards, &history, true), None);
        for (accuracy, chosen, loss, wanted) in [
            (0.89, -3.0, 1.0, None),
            (0.9, -4.0, 2.0, Some(Guard::AccuracyAtLeast)),
            (0.0, -3.1, 2.0, Some(Guard::ChosenRewardBelow)),
            (0.0, 0.0, 1.1, Some(Guard::LossAbove)),
        ] {
            history.push(
                Event::new(6)
                    .with("eval_loss", loss)
                    .with("eval_rewards/accuracies", accuracy)
                    .with("eval_rewards/chosen", chosen),
            );
            let stop = judge(&guards, &history, true);
            assert_eq!(stop.map(|stop| stop.guard), wanted);
            assert!(stop.is_none_or(|stop| stop.is_evaluated));
        }
    }
}
