//! Kahneman-Tversky optimization on unpaired rows (Ethayarajh et al. 2024, arXiv:2402.01306).

use crate::{
    apo_zero::{falling, rising},
    loss::Shared,
    pair::{Dual, Pair},
};

/// What rows of either kind count for.
///
/// ```text
/// u    = policy - reference
/// kl   = max(0, mean of u over completions of other prompts)          (no gradient)
/// loss = desirable_weight   * (1 - sigmoid(beta * (u - kl)))          for a desirable row
///        undesirable_weight * (1 - sigmoid(beta * (kl - u)))          for an undesirable one
/// ```
///
/// Eq. 7 of the paper, for `kto`; `apo_zero_unpaired` has a `kl` of 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kto {
    /// Weight of a desirable row; at least 0, usually 1.
    pub desirable_weight: f64,
    /// Weight of an undesirable row; at least 0, usually 1.
    pub undesirable_weight: f64,
}

impl Kto {
    pub(crate) fn score_all(self, pairs: &[Pair], shared: Shared) -> Vec<Dual> {
        let kl = divergence(pairs);
        pairs.iter().map(|pair| self.score(pair, shared, kl)).collect()
    }

    /// The loss of one row, whose rewards are compared with that of `kl`.
    pub(crate) fn score(self, pair: &Pair, Shared { beta, .. }: Shared, kl: f64) -> Dual {
        let x = beta * (pair.chosen.log_ratio() - kl);
        let (weight, (value, chosen)) = match pair.desirable {
            Some(true) => (self.desirable_weight, falling(x, beta)),
            Some(false) => (self.undesirable_weight, rising(x, beta)),
            None => (f64::NAN, (0.0, 0.0)),
        };
        Dual { value, chosen, rejected: 0.0 }.times(weight)
    }
}

/// How far the policy is from the reference, by completions of other prompts; at least 0, in nats.
pub(crate) fn divergence(pairs: &[Pair]) -> f64 {
    let known: Vec<f64> = pairs.iter().filter_map(|pair| pair.mismatched).collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    // `max` would hide a mean that is not a number.
    mean.clamp(0.0, f64::INFINITY)
}
