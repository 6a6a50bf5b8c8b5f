//! Identity preference optimization (Azar et al. 2023, arXiv:2310.12036).

use crate::{
    Error, Group, GroupOutcome,
    error::check_beta,
    group::{PairLoss, score_pair},
};

/// Identity preference optimization: the pair is to be apart by `1 / (2 beta)` a token, not more.
///
/// ```text
/// mean(c) = (policy - reference)(c) / tokens(c)
/// loss    = (mean(chosen) - mean(rejected) - 1 / (2 beta))^2          (Eq. 17, beta for its tau)
/// ```
// DIFFERENCE(dpo authors): their IPO squares the summed log-ratio; TRL's, and this one, the mean
// per token, which TRL's authors report to be what the paper's authors ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ipo {
    /// How strongly the policy is held to the reference, the paper's tau; above 0.
    pub beta: f64,
}

impl Ipo {
    pub(crate) fn check(self) -> Result<(), Error> {
        check_beta(self.beta)
    }

    pub(crate) fn score(self, group: &Group) -> GroupOutcome {
        score_pair(group, self.beta, |chosen, rejected| {
            let apart =
                chosen.log_ratio() / chosen.tokens() - rejected.log_ratio() / rejected.tokens();
            let off = apart - 1.0 / (2.0 * self.beta);
            PairLoss {
                loss: off * off,
                chosen_slope: 2.0 * off / chosen.tokens(),
                rejected_slope: -2.0 * off / rejected.tokens(),
            }
        })
    }
}
