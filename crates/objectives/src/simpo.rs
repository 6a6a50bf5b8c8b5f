//! Simple preference optimization (Meng et al. 2024, arXiv:2405.14734).

use crate::{
    loss::Shared,
    pair::{Dual, Pair, Side, smoothed},
    stable::power,
};

/// Simple preference optimization: log-probabilities per token, no reference, a target margin.
///
/// ```text
/// mean(c) = policy(c) / tokens(c)
/// x       = beta * (mean(chosen) - mean(rejected)) - gamma            (Eq. 6)
/// loss    = -(1 - s) * ln sigmoid(x) - s * ln sigmoid(-x) + cpo_alpha * nll(chosen)
/// ```
///
/// With `alpha` other than 0, each mean `l` is first replaced by `(1 - exp(-alpha l)) / alpha`,
/// the reward of `AlphaPO` (Gupta et al. 2025, arXiv:2501.03884).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simpo {
    /// The target margin, TRL's `simpo_gamma`, outside of `beta`; at least 0.
    pub gamma: f64,
    /// Weight of the negative log-likelihood per token of the chosen completion; at least 0, and 0
    /// in the paper. TRL's default is 1.
    pub cpo_alpha: f64,
    /// Shape of the reward, `AlphaPO`'s; any finite number, 0 for none.
    pub alpha: f64,
}

impl Simpo {
    pub(crate) fn score(self, pair: &Pair, shared: Shared) -> Dual {
        let gap = shaped_gap(pair, self.alpha, |side| side.tokens);
        let shifted = gap.times(shared.beta).then(|x| (x - self.gamma, 1.0));
        shifted.then(smoothed(shared.label_smoothing))
    }
}

/// The difference of the shaped log-probabilities, each over a length.
pub(crate) fn shaped_gap(pair: &Pair, alpha: f64, length: impl Fn(Side) -> f64) -> Dual {
    let shape = |side: Side| {
        let (value, slope) = power(side.policy / length(side), -alpha);
        (value, slope / length(side))
    };
    let (chosen, rejected) = (shape(pair.chosen), shape(pair.rejected));
    Dual { value: chosen.0 - rejected.0, chosen: chosen.1, rejected: -rejected.1 }
}
