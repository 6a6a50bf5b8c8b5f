//! The hinge loss on DPO's margin (Zhao et al. 2023, arXiv:2305.10425; Liu et al. 2023,
//! arXiv:2309.06657).

use crate::{
    Error, Group, GroupOutcome,
    error::check_beta,
    group::{PairLoss, score_pair},
};

/// The hinge loss on DPO's margin: pairs that are apart by one and more cost nothing.
///
/// ```text
/// margin = beta * [(policy - reference)(chosen) - (policy - reference)(rejected)]
/// loss   = max(0, 1 - margin)
/// ```
///
/// The loss of `SLiC` with the reference as its normalization: `hinge-norm` of
/// arXiv:2309.06657.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hinge {
    /// One over the log-ratio, in nats, at which a pair is far enough apart; above 0.
    pub beta: f64,
}

impl Hinge {
    pub(crate) fn check(self) -> Result<(), Error> {
        check_beta(self.beta)
    }

    pub(crate) fn score(self, group: &Group) -> GroupOutcome {
        score_pair(group, self.beta, |chosen, rejected| {
            let missing = 1.0 - self.beta * (chosen.log_ratio() - rejected.log_ratio());
            // Compared so that a margin that is not a number stays one and is found, and that the
            // slope at the kink is 0, as in every framework.
            if missing <= 0.0 {
                return PairLoss { loss: 0.0, chosen_slope: 0.0, rejected_slope: 0.0 };
            }
            PairLoss { loss: missing, chosen_slope: -self.beta, rejected_slope: self.beta }
        })
    }
}
