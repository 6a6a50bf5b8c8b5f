//! Contrastive preference optimization (Xu et al. 2024, arXiv:2401.08417).

use crate::{
    loss::Shared,
    pair::{Dual, Pair, smoothed},
    simpo::shaped_gap,
};

/// Contrastive preference optimization: DPO without its reference, held by the likelihood.
///
/// ```text
/// x    = beta * (policy(chosen) - policy(rejected))
/// loss = -(1 - s) * ln sigmoid(x) - s * ln sigmoid(-x) + cpo_alpha * nll(chosen)
/// ```
///
/// Eq. 3 of the paper. `alpha` shapes the log-probabilities as it does for [`crate::Simpo`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpo {
    /// Weight of the negative log-likelihood per token of the chosen completion; at least 0,
    /// usually 1.
    pub cpo_alpha: f64,
    /// Shape of the reward, `AlphaPO`'s; any finite number, 0 for none.
    pub alpha: f64,
}

impl Cpo {
    pub(crate) fn score(self, pair: &Pair, shared: Shared) -> Dual {
        let gap = shaped_gap(pair, self.alpha, |_| 1.0);
        gap.times(shared.beta).then(smoothed(shared.label_smoothing))
    }
}
