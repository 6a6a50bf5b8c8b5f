//! Self-play preference optimization with hard labels (Wu et al. 2024, arXiv:2405.00675).
//!
//! ```text
//! u(c) = (policy - reference)(c)
//! loss = (u(chosen) - 1 / (2 beta))^2 + (u(rejected) + 1 / (2 beta))^2
//! ```
//!
//! Eq. 4.7 of the paper with a preference of 1 for the chosen completion and 0 for the rejected
//! one, `beta` for one over its `eta`.

use crate::{
    loss::Shared,
    pair::{Dual, Pair, side_by_side},
};

pub(crate) fn score(pair: &Pair, Shared { beta, .. }: Shared) -> Dual {
    let (chosen, rejected) = pair.log_ratios();
    let (c, r) = (chosen - 0.5 / beta, rejected + 0.5 / beta);
    side_by_side((c * c, 2.0 * c), (r * r, 2.0 * r))
}
