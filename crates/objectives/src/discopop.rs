//! Discovered preference optimization (Lu et al. 2024, arXiv:2406.08414).

use crate::{
    loss::Shared,
    pair::{Dual, Pair},
    stable::{log_sigmoid, sigmoid},
};

/// Discovered preference optimization: the logistic loss, blended into the exponential one.
///
/// ```text
/// m    = sigmoid(margin / tau)
/// loss = (1 - m) * -ln sigmoid(margin) + m * exp(-margin)             (Eq. 5)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Discopop {
    /// Width of the blend, TRL's `discopop_tau`; above 0 and at most 1, usually 0.05.
    pub tau: f64,
}

impl Discopop {
    pub(crate) fn score(self, pair: &Pair, shared: Shared) -> Dual {
        let tau = self.tau;
        pair.margin().times(shared.beta).then(|x| {
            let (m, rest) = (sigmoid(x / tau), sigmoid(-x / tau));
            let log = log_sigmoid(x);
            // `m` falls faster than `exp(-x)` grows, but only their product is finite.
            let exponential = (log_sigmoid(x / tau) - x).exp();
            let slope =
                -sigmoid(-x) * rest + log * m * rest / tau + exponential * (rest / tau - 1.0);
            (-log * rest + exponential, slope)
        })
    }
}
