//! DPO on the log-ratios per token (TRL's `sigmoid_norm`; length-normalized DPO of Lambert et al.
//! 2024, arXiv:2411.15124).
//!
//! ```text
//! mean(c) = (policy - reference)(c) / tokens(c)
//! loss    = -ln sigmoid(beta * (mean(chosen) - mean(rejected)))
//! ```

use crate::{
    loss::Shared,
    pair::{Dual, Pair, smoothed},
};

pub(crate) fn score(pair: &Pair, shared: Shared) -> Dual {
    let chosen = pair.divergence.score(pair.chosen.log_ratio());
    let rejected = pair.divergence.score(pair.rejected.log_ratio());
    let apart = Dual {
        value: chosen.0 / pair.chosen.tokens - rejected.0 / pair.rejected.tokens,
        chosen: chosen.1 / pair.chosen.tokens,
        rejected: -rejected.1 / pair.rejected.tokens,
    };
    apart.times(shared.beta).then(smoothed(0.0))
}
