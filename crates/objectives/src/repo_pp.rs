//! RePO++: the `ReLU` of `RePO` inside the logistic loss (Wu et al. 2025, arXiv:2503.07426).

use crate::{
    hinge::relu,
    loss::Shared,
    pair::{Dual, Pair, smoothed},
};

/// RePO++: pairs that are far enough apart get no gradient, the others that of the logistic loss.
///
/// ```text
/// mean(c) = policy(c) / tokens(c)
/// loss    = -ln sigmoid(-beta * max(0, gamma - (mean(chosen) - mean(rejected))))
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepoPp {
    /// The margin a token, in nats, from which a pair is not trained on; at least 0.
    pub gamma: f64,
}

impl RepoPp {
    pub(crate) fn score(self, pair: &Pair, shared: Shared) -> Dual {
        let missing = pair.mean_gap().then(|gap| relu(self.gamma - gap));
        missing.times(-shared.beta).then(smoothed(0.0))
    }
}
