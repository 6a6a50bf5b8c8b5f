//! Divergences other than DPO's own (Wang et al. 2023, arXiv:2309.16240).

use crate::stable::{log_sigmoid, power, sigmoid};

/// What holds the policy to the reference: the divergence whose derivative replaces the log-ratio.
///
/// ```text
/// u                = policy - reference
/// reverse_kl       : u
/// forward_kl       : 1 - exp(-u)
/// js_divergence    : ln 2 + ln sigmoid(u)
/// alpha_divergence : (exp((a - 1) u) - 1) / (a - 1)          (u itself at a = 1)
/// ```
///
/// The derivatives of the paper's divergences, up to constants that cancel in a margin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum FDivergence {
    /// The reverse Kullback-Leibler divergence, DPO's own.
    #[default]
    ReverseKl,
    /// The forward Kullback-Leibler divergence.
    ForwardKl,
    /// The Jensen-Shannon divergence.
    JsDivergence,
    /// A family that holds both: near `coefficient` 1 it is the reverse one, at 0 the forward one.
    AlphaDivergence {
        /// TRL's `f_alpha_divergence_coef`; any finite number.
        coefficient: f64,
    },
}

impl FDivergence {
    /// The names that a recipe can use, TRL's, in the order of the variants.
    pub const NAMES: [&str; 4] = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"];

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReverseKl => "reverse_kl",
            Self::ForwardKl => "forward_kl",
            Self::JsDivergence => "js_divergence",
            Self::AlphaDivergence { .. } => "alpha_divergence",
        }
    }

    /// What replaces the log-ratio, with its slope.
    pub(crate) fn score(self, u: f64) -> (f64, f64) {
        match self {
            Self::ReverseKl => (u, 1.0),
            // DIFFERENCE(trl): TRL holds the exponent of the alpha divergence alone below 80; its
            // forward divergence overflows on a completion that the policy has given up.
            Self::ForwardKl => power(u, -1.0),
            Self::JsDivergence => (std::f64::consts::LN_2 + log_sigmoid(u), sigmoid(-u)),
            Self::AlphaDivergence { coefficient } => power(u, coefficient - 1.0),
        }
    }
}
