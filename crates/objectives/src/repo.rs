//! ReLU-based preference optimization (Wu et al. 2025, arXiv:2503.07426).

use crate::{
    hinge::relu,
    pair::{Dual, Pair},
};

/// ReLU-based preference optimization: `SimPO`'s margin under a `ReLU`, without `beta`.
///
/// ```text
/// mean(c) = policy(c) / tokens(c)
/// loss    = max(0, gamma - (mean(chosen) - mean(rejected)))
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repo {
    /// The margin a token, in nats, from which a pair costs nothing; at least 0, usually 0.4 to 0.6.
    pub gamma: f64,
}

impl Repo {
    pub(crate) fn score(self, pair: &Pair) -> Dual {
        pair.mean_gap().then(|gap| relu(self.gamma - gap))
    }
}
