//! Alignment via optimal transport, paired (Melnyk et al. 2024, arXiv:2406.05882).
//!
//! ```text
//! policy(i)    = policy(chosen i) - policy(rejected i), sorted over the call
//! reference(i) = reference(chosen i) - reference(rejected i), sorted over the call
//! x(i)         = beta * (policy(i) - reference(i))
//! loss         = -(1 - s) * ln sigmoid(x(i)) - s * ln sigmoid(-x(i))
//! ```
//!
//! Each pair is charged for the place that its policy's difference takes.

use crate::{
    loss::Shared,
    pair::{Dual, Pair, smoothed},
};

pub(crate) fn score_all(pairs: &[Pair], shared: Shared) -> Vec<Dual> {
    let policy: Vec<f64> = pairs.iter().map(|p| p.chosen.policy - p.rejected.policy).collect();
    let reference = pairs.iter().map(|p| p.chosen.reference - p.rejected.reference);
    let reference: Vec<f64> = reference.collect();
    let places = order(&policy).into_iter().zip(order(&reference));
    let mut losses = vec![Dual::default(); pairs.len()];
    for (mine, theirs) in places {
        let apart = Dual { value: policy[mine] - reference[theirs], chosen: 1.0, rejected: -1.0 };
        losses[mine] = apart.times(shared.beta).then(smoothed(shared.label_smoothing));
    }
    losses
}

/// The places of the numbers from the smallest to the largest; equal ones keep their order.
pub(crate) fn order(numbers: &[f64]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..numbers.len()).collect();
    places.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    places
}
