//! Less weight for preferences that the policy does not share, and a warm-up for all of them.

use crate::{Error, error::check, stable::log_sum_exp};

/// A weight for each row: how sure the policy is of the chosen completion among the group's.
///
/// ```text
/// weight = softmax(rewards)(chosen), from floor to 1                  (no gradient)
/// ```
///
/// A guess at which labels are wrong, made from one look. RE-PO estimates it, see
/// [`crate::Reliability`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// The least weight of a row; from 0 to 1, usually 0.2.
    pub floor: f64,
}

impl Default for Confidence {
    fn default() -> Self {
        Self { floor: 0.2 }
    }
}

impl Confidence {
    pub(crate) fn check(self) -> Result<(), Error> {
        let inside = (0.0..=1.0).contains(&self.floor);
        check("confidence_floor", self.floor, inside, "from 0 to 1")
    }

    pub(crate) fn weight(self, rewards: &[f64]) -> f64 {
        let (_, shares) = log_sum_exp(rewards);
        shares.first().map_or(1.0, |share| share.clamp(self.floor, 1.0))
    }
}

/// What the preference part counts for in a warm-up of some passes over the data: up to 1.
pub(crate) fn warm_up(epoch: f64, warmup_epochs: f64) -> f64 {
    if 0.0 < warmup_epochs { (epoch / warmup_epochs).clamp(0.0, 1.0) } else { 1.0 }
}
