//! Odds ratio preference optimization (Hong et al. 2024, arXiv:2403.07691).
//!
//! ```text
//! l(c)        = policy(c) / tokens(c), at most -1e-6
//! log odds(c) = l(c) - ln(1 - exp(l(c)))
//! loss        = nll(chosen) - beta * ln sigmoid(log odds(chosen) - log odds(rejected))
//! ```
//!
//! Eqs. 6 and 7 of the paper, `beta` for its `lambda`.

use crate::{
    loss::Shared,
    pair::{Dual, Pair, Side, smoothed},
};

/// The largest log-probability a token whose odds are taken.
// DIFFERENCE(trl): TRL has no bound, and a completion of probability 1 makes its loss NaN.
const MEAN_MAX: f64 = -1e-6;

pub(crate) fn score(pair: &Pair, shared: Shared) -> Dual {
    let (chosen, rejected) = (log_odds(pair.chosen), log_odds(pair.rejected));
    let ratio = Dual { value: chosen.0 - rejected.0, chosen: chosen.1, rejected: -rejected.1 };
    ratio.then(smoothed(0.0)).times(shared.beta)
}

/// The log-odds of a completion's mean token, with the slope by its log-probability.
fn log_odds(side: Side) -> (f64, f64) {
    let mean = side.mean();
    if MEAN_MAX < mean {
        return (MEAN_MAX - (-MEAN_MAX.exp_m1()).ln(), 0.0);
    }
    let rest = -mean.exp_m1();
    (mean - rest.ln(), 1.0 / (rest * side.tokens))
}
