//! The likelihood of the chosen completion beside a preference loss (Pang et al. 2024,
//! arXiv:2404.19733).
//!
//! ```text
//! nll(chosen) = -policy(chosen) / tokens(chosen)
//! ```
//!
//! Eq. 1 of the paper adds `alpha` times it to DPO; SimPO, CPO and ORPO add it too.

use crate::pair::{Dual, Pair};

// DIFFERENCE(trl): TRL takes one mean over the tokens of a micro-batch, so that a long completion
// counts for more and a row's gradient depends on its neighbours; here each row has its own mean.
pub(crate) fn score(pair: &Pair) -> Dual {
    let tokens = pair.chosen.tokens;
    Dual { value: -pair.chosen.likelihood / tokens, chosen: -1.0 / tokens, rejected: 0.0 }
}
