//! The hinge loss on DPO's margin (Zhao et al. 2023, arXiv:2305.10425; Liu et al. 2023,
//! arXiv:2309.06657): pairs that are apart by one and more cost nothing.
//!
//! ```text
//! margin = beta * [(policy - reference)(chosen) - (policy - reference)(rejected)]
//! loss   = max(0, 1 - margin)
//! ```
//!
//! The loss of `SLiC` with the reference as its normalization: `hinge-norm` of arXiv:2309.06657.

use crate::{
    loss::Shared,
    pair::{Dual, Pair},
};

pub(crate) fn score(pair: &Pair, shared: Shared) -> Dual {
    pair.margin().times(shared.beta).then(|x| relu(1.0 - x))
}

/// What is missing, with the slope by what is there.
///
/// Compared so that a number that is none stays one and is found, and that the slope at the kink
/// is 0, as in every framework.
pub(crate) fn relu(missing: f64) -> (f64, f64) {
    if missing <= 0.0 { (0.0, 0.0) } else { (missing, -1.0) }
}
