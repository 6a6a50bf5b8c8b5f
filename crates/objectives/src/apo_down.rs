//! Anchored preference optimization downwards (D'Oosterlinck et al. 2024, arXiv:2408.06266).
//!
//! ```text
//! r(c) = beta * (policy - reference)(c)
//! loss = sigmoid(r(chosen)) + 1 - sigmoid(r(chosen) - r(rejected))    (Eq. 8)
//! ```

use crate::{
    apo_zero::{falling, rising},
    loss::Shared,
    pair::{Dual, Pair, side_by_side},
};

pub(crate) fn score(pair: &Pair, Shared { beta, .. }: Shared) -> Dual {
    let (chosen, rejected) = pair.log_ratios();
    let apart = falling(beta * (chosen - rejected), beta);
    let down = rising(beta * chosen, beta);
    side_by_side(down, (0.0, 0.0)).plus(Dual {
        value: apart.0,
        chosen: apart.1,
        rejected: -apart.1,
    })
}
