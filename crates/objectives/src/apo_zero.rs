//! Anchored preference optimization around zero (D'Oosterlinck et al. 2024, arXiv:2408.06266).
//!
//! ```text
//! r(c) = beta * (policy - reference)(c)
//! loss = 1 - sigmoid(r(chosen)) + sigmoid(r(rejected))                (Eq. 7)
//! ```

use crate::{
    loss::Shared,
    pair::{Dual, Pair, side_by_side},
    stable::sigmoid,
};

pub(crate) fn score(pair: &Pair, Shared { beta, .. }: Shared) -> Dual {
    let (chosen, rejected) = pair.log_ratios();
    side_by_side(falling(beta * chosen, beta), rising(beta * rejected, beta))
}

/// `sigmoid(x)` with its slope by what `x` is `beta` times of.
pub(crate) fn rising(x: f64, beta: f64) -> (f64, f64) {
    (sigmoid(x), beta * sigmoid(x) * sigmoid(-x))
}

/// `1 - sigmoid(x)` with its slope by what `x` is `beta` times of.
pub(crate) fn falling(x: f64, beta: f64) -> (f64, f64) {
    (sigmoid(-x), -beta * sigmoid(x) * sigmoid(-x))
}
