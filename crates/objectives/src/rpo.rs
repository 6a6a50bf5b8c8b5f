//! Reward-aware preference optimization (Sun et al. 2025, arXiv:2502.00203; Adler et al. 2024,
//! arXiv:2406.11704).

use crate::{
    loss::Shared,
    pair::{Dual, Pair},
    stable::{log_sigmoid, sigmoid},
};

/// Reward-aware preference optimization: the margin is to match that of given rewards.
///
/// ```text
/// u = (policy - reference)(chosen) - (policy - reference)(rejected)
/// x = beta * u                    b = sigmoid(x)
/// y = gt_reward_scale * (score(chosen) - score(rejected))       a = sigmoid(y)
/// ```
///
/// and the loss is a distance of `x` from `y`, a [`Distance`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rpo {
    /// How far the margin is from that of the rewards.
    pub distance: Distance,
    /// What the rows' scores are multiplied by, the paper's `eta`; above 0.
    pub gt_reward_scale: f64,
}

/// A distance of the margin from that of the rewards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// `a ln(a / b) + (1 - a) ln((1 - a) / (1 - b))`.
    BackwardKl,
    /// `b ln(b / a) + (1 - b) ln((1 - b) / (1 - a))`.
    ForwardKl,
    /// `(x - y)^2`.
    Squared,
    /// `(u - 1 / (2 beta))^2`, IPO on sums, which does not look at the rewards.
    Ipo,
}

impl Distance {
    /// The names that a recipe can use, `NeMo`'s, in the order of the variants.
    pub const NAMES: [&str; 4] = ["bwd_kl", "fwd_kl", "sq", "ipo"];

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackwardKl => "bwd_kl",
            Self::ForwardKl => "fwd_kl",
            Self::Squared => "sq",
            Self::Ipo => "ipo",
        }
    }
}

impl Rpo {
    pub(crate) fn score(self, pair: &Pair, Shared { beta, .. }: Shared) -> Dual {
        let y = self.gt_reward_scale * (pair.chosen.score - pair.rejected.score);
        let margin = pair.margin();
        match self.distance {
            Distance::BackwardKl => {
                margin.times(beta).then(|x| (divergence(y, x), sigmoid(x) - sigmoid(y)))
            }
            Distance::ForwardKl => {
                margin.times(beta).then(|x| (divergence(x, y), sigmoid(x) * sigmoid(-x) * (x - y)))
            }
            Distance::Squared => margin.times(beta).then(|x| ((x - y) * (x - y), 2.0 * (x - y))),
            Distance::Ipo => margin.then(|u| {
                let off = u - 1.0 / (2.0 * beta);
                (off * off, 2.0 * off)
            }),
        }
    }
}

/// The divergence between two coins, by the log-odds of both.
fn divergence(from: f64, to: f64) -> f64 {
    sigmoid(from) * (log_sigmoid(from) - log_sigmoid(to))
        + sigmoid(-from) * (log_sigmoid(-from) - log_sigmoid(-to))
}
