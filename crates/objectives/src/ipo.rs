//! Identity preference optimization (Azar et al. 2023, arXiv:2310.12036): the pair is to be apart
//! by `1 / (2 beta)` a token, not more.
//!
//! ```text
//! mean(c) = (policy - reference)(c) / tokens(c)
//! loss    = (mean(chosen) - mean(rejected) - 1 / (2 beta))^2          (Eq. 17, beta for its tau)
//! ```

use crate::{
    loss::Shared,
    pair::{Dual, Pair},
};

// DIFFERENCE(dpo authors): their IPO squares the summed log-ratio; TRL's, and this one, the mean
// per token, which TRL's authors report to be what the paper's authors ran.
pub(crate) fn score(pair: &Pair, shared: Shared) -> Dual {
    let chosen = pair.divergence.score(pair.chosen.log_ratio());
    let rejected = pair.divergence.score(pair.rejected.log_ratio());
    let apart = chosen.0 / pair.chosen.tokens - rejected.0 / pair.rejected.tokens;
    let off = apart - 1.0 / (2.0 * shared.beta);
    Dual {
        value: off * off,
        chosen: 2.0 * off * chosen.1 / pair.chosen.tokens,
        rejected: -2.0 * off * rejected.1 / pair.rejected.tokens,
    }
}
