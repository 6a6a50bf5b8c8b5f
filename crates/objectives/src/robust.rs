//! Provably robust DPO (Chowdhury et al. 2024, arXiv:2403.00409).
//!
//! ```text
//! loss = [-(1 - s) * ln sigmoid(margin) + s * ln sigmoid(-margin)] / (1 - 2 s)
//! ```
//!
//! From the paper: if a fraction `s` of the labels is flipped at random, the mean of this loss
//! is that of DPO on the true labels.

use crate::{
    loss::Shared,
    pair::{Dual, Pair},
    stable::{log_sigmoid, sigmoid},
};

pub(crate) fn score(pair: &Pair, Shared { beta, label_smoothing: s }: Shared) -> Dual {
    let scale = 1.0 / (1.0 - 2.0 * s);
    pair.margin().times(beta).then(|x| {
        let loss = -(1.0 - s) * log_sigmoid(x) + s * log_sigmoid(-x);
        (loss * scale, (-(1.0 - s) * sigmoid(-x) - s * sigmoid(x)) * scale)
    })
}
