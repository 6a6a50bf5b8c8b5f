//! Alignment via optimal transport, unpaired (Melnyk et al. 2024, arXiv:2406.05882).
//!
//! ```text
//! chosen(i)   = (policy - reference)(chosen i), sorted over the call
//! rejected(i) = (policy - reference)(rejected i), sorted over the call
//! x(i)        = beta * (chosen(i) - rejected(i))
//! loss        = -(1 - s) * ln sigmoid(x(i)) - s * ln sigmoid(-x(i))
//! ```
//!
//! Each pair is charged for the place that its chosen completion takes; the rejected completion at
//! that place may be another pair's.

use crate::{
    aot::order,
    loss::Shared,
    pair::{Dual, Pair, smoothed},
};

pub(crate) fn score_all(pairs: &[Pair], shared: Shared) -> Vec<Dual> {
    let chosen: Vec<f64> = pairs.iter().map(|pair| pair.chosen.log_ratio()).collect();
    let rejected: Vec<f64> = pairs.iter().map(|pair| pair.rejected.log_ratio()).collect();
    let mut losses = vec![Dual::default(); pairs.len()];
    for (mine, theirs) in order(&chosen).into_iter().zip(order(&rejected)) {
        let apart = Dual { value: chosen[mine] - rejected[theirs], chosen: 1.0, rejected: -1.0 };
        let loss = apart.times(shared.beta).then(smoothed(shared.label_smoothing));
        losses[mine].value = loss.value;
        losses[mine].chosen = loss.chosen;
        losses[theirs].rejected = loss.rejected;
    }
    losses
}
