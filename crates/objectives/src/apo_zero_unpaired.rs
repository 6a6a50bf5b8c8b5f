//! Anchored preference optimization on unpaired rows (D'Oosterlinck et al. 2024,
//! arXiv:2408.06266).
//!
//! ```text
//! r    = beta * (policy - reference)
//! loss = desirable_weight   * (1 - sigmoid(r))      for a desirable row
//!        undesirable_weight * sigmoid(r)            for an undesirable one
//! ```
//!
//! The unpaired form of Eq. 7 of the paper: KTO without its estimate of the divergence.

use crate::{
    Kto,
    loss::Shared,
    pair::{Dual, Pair},
};

pub(crate) fn score(weights: Kto, pair: &Pair, shared: Shared) -> Dual {
    weights.score(pair, shared, 0.0)
}
