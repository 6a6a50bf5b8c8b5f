//! Efficient exact optimization on pairs (Ji et al. 2024, arXiv:2402.00856).
//!
//! ```text
//! q    = sigmoid(margin)
//! loss = q * ln(q / (1 - s)) + (1 - q) * ln((1 - q) / s)              (Eq. 16, s above 0)
//! ```
//!
//! The divergence of the policy's own preference from the label's, where DPO has the label's from
//! the policy's.

use crate::{
    loss::Shared,
    pair::{Dual, Pair},
    stable::{log_sigmoid, sigmoid},
};

pub(crate) fn score(pair: &Pair, Shared { beta, label_smoothing: s }: Shared) -> Dual {
    let (log_kept, log_flipped) = ((-s).ln_1p(), s.ln());
    pair.margin().times(beta).then(|x| {
        let (q, other) = (sigmoid(x), sigmoid(-x));
        let loss = q * (log_sigmoid(x) - log_kept) + other * (log_sigmoid(-x) - log_flipped);
        (loss, q * other * (x - (log_kept - log_flipped)))
    })
}
