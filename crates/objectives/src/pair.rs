//! What the losses over pairs see: two sides, and a number with its slopes by both.

use crate::{Completion, FDivergence, Group};

/// One completion as the losses see it: what its tokens count for is settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    pub(crate) policy: f64,
    pub(crate) reference: f64,
    /// At least 1.
    pub(crate) tokens: f64,
    /// The row's number for it; not a number where the row has none.
    pub(crate) score: f64,
    /// The policy's sum without the weights of LD-DPO.
    pub(crate) likelihood: f64,
}

impl Side {
    pub(crate) fn new(completion: &Completion, ld_alpha: Option<f64>) -> Self {
        let (policy, reference) = completion.weighted(ld_alpha);
        Self {
            policy,
            reference,
            tokens: completion.tokens(),
            score: completion.score.unwrap_or(f64::NAN),
            likelihood: completion.policy_logp,
        }
    }

    pub(crate) fn log_ratio(self) -> f64 {
        self.policy - self.reference
    }

    /// The policy's log-probability a token.
    pub(crate) fn mean(self) -> f64 {
        self.policy / self.tokens
    }
}

/// A pair, or an unpaired row as a pair with itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) chosen: Side,
    pub(crate) rejected: Side,
    /// Taken off the margin before `beta`, in nats.
    pub(crate) shift: f64,
    pub(crate) divergence: FDivergence,
    pub(crate) desirable: Option<bool>,
    /// The log-ratio of a completion of another prompt.
    pub(crate) mismatched: Option<f64>,
}

impl Pair {
    /// The first completion of a group against its last; nothing for an empty group.
    pub(crate) fn of(
        group: &Group,
        divergence: FDivergence,
        ld_alpha: Option<f64>,
        shift: f64,
    ) -> Option<Self> {
        let side = |completion| Side::new(completion, ld_alpha);
        Some(Self {
            chosen: side(group.completions.first()?),
            rejected: side(group.completions.last()?),
            shift,
            divergence,
            desirable: group.desirable,
            mismatched: group.mismatched.map(|scored| scored.policy_logp - scored.reference_logp),
        })
    }

    /// The pair as if its label were the other way round; only for pairs without a shift.
    pub(crate) fn swapped(self) -> Self {
        Self { chosen: self.rejected, rejected: self.chosen, ..self }
    }

    /// How much further the policy moved the chosen completion, in nats.
    pub(crate) fn margin(&self) -> Dual {
        let chosen = self.divergence.score(self.chosen.log_ratio());
        let rejected = self.divergence.score(self.rejected.log_ratio());
        Dual { value: chosen.0 - rejected.0 - self.shift, chosen: chosen.1, rejected: -rejected.1 }
    }

    /// The log-ratios as they are, whatever the divergence.
    pub(crate) fn log_ratios(&self) -> (f64, f64) {
        (self.chosen.log_ratio(), self.rejected.log_ratio())
    }

    /// The difference of the log-probabilities a token, without a reference.
    pub(crate) fn mean_gap(&self) -> Dual {
        Dual {
            value: self.chosen.mean() - self.rejected.mean(),
            chosen: 1.0 / self.chosen.tokens,
            rejected: -1.0 / self.rejected.tokens,
        }
    }
}

/// A number with its slopes by the policy's log-probabilities of both sides.
///
/// A loss over pairs is one; so is a margin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Dual {
    pub(crate) value: f64,
    pub(crate) chosen: f64,
    pub(crate) rejected: f64,
}

impl Dual {
    /// A function of the number; it gives its value and its slope.
    pub(crate) fn then(self, function: impl Fn(f64) -> (f64, f64)) -> Self {
        let (value, slope) = function(self.value);
        Self { value, chosen: slope * self.chosen, rejected: slope * self.rejected }
    }

    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            value: self.value * factor,
            chosen: self.chosen * factor,
            rejected: self.rejected * factor,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            chosen: self.chosen + other.chosen,
            rejected: self.rejected + other.rejected,
        }
    }
}

/// A loss that is a sum of a function of each side, given with their slopes.
pub(crate) fn side_by_side(chosen: (f64, f64), rejected: (f64, f64)) -> Dual {
    Dual { value: chosen.0 + rejected.0, chosen: chosen.1, rejected: rejected.1 }
}

/// The logistic loss with its slope; `s` of the labels are taken to be flipped.
pub(crate) fn smoothed(s: f64) -> impl Fn(f64) -> (f64, f64) {
    use crate::stable::{log_sigmoid, sigmoid};
    move |x| {
        let loss = -(1.0 - s) * log_sigmoid(x) - s * log_sigmoid(-x);
        (loss, s * sigmoid(x) - (1.0 - s) * sigmoid(-x))
    }
}
