//! Noise contrastive alignment on pairs (Chen et al. 2024, arXiv:2402.05369).
//!
//! ```text
//! r(c) = beta * (policy - reference)(c)
//! loss = -ln sigmoid(r(chosen)) - 1/2 ln sigmoid(-r(chosen)) - 1/2 ln sigmoid(-r(rejected))
//! ```

use crate::{
    loss::Shared,
    pair::{Dual, Pair, side_by_side},
    stable::{log_sigmoid, sigmoid},
};

pub(crate) fn score(pair: &Pair, Shared { beta, .. }: Shared) -> Dual {
    let (chosen, rejected) = pair.log_ratios();
    let (c, r) = (beta * chosen, beta * rejected);
    side_by_side(
        (-log_sigmoid(c) - 0.5 * log_sigmoid(-c), beta * (0.5 * sigmoid(c) - sigmoid(-c))),
        (-0.5 * log_sigmoid(-r), beta * 0.5 * sigmoid(r)),
    )
}
