//! Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290).
//!
//! ```text
//! margin = beta * [(policy - reference)(chosen) - (policy - reference)(rejected)]
//! loss   = -(1 - s) * ln sigmoid(margin) - s * ln sigmoid(-margin)
//! ```
//!
//! With `s = label_smoothing = 0` this is Eq. 7 of the paper; otherwise it is Eq. 3 of Mitchell's
//! note on conservative DPO, which takes a fraction `s` of the labels to be flipped.

use crate::{
    loss::Shared,
    pair::{Dual, Pair, smoothed},
};

// DIFFERENCE(trl): from 1.0 on TRL takes `label_smoothing` with this loss and ignores it; here it
// acts as it did before.
pub(crate) fn score(pair: &Pair, shared: Shared) -> Dual {
    pair.margin().times(shared.beta).then(smoothed(shared.label_smoothing))
}
