//! Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290).

use crate::{
    Error, Group, GroupOutcome,
    error::{check, check_beta},
    group::{PairLoss, score_pair},
    stable::{log_sigmoid, sigmoid},
};

/// Direct preference optimization, with the label smoothing of conservative DPO.
///
/// ```text
/// margin = beta * [(policy - reference)(chosen) - (policy - reference)(rejected)]
/// loss   = -(1 - s) * ln sigmoid(margin) - s * ln sigmoid(-margin)
/// ```
///
/// With `s = label_smoothing = 0` this is Eq. 7 of the paper; otherwise it is Eq. 3 of Mitchell's
/// note on conservative DPO, which takes a fraction `s` of the labels to be flipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sigmoid {
    /// How strongly the policy is held to the reference; above 0, usually 0.1 to 0.5.
    pub beta: f64,
    /// Fraction of the labels taken to be flipped; at least 0 and below 0.5.
    pub label_smoothing: f64,
}

impl Sigmoid {
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_beta(self.beta)?;
        let inside = (0.0..0.5).contains(&self.label_smoothing);
        check("label_smoothing", self.label_smoothing, inside, "at least 0 and below 0.5")
    }

    // DIFFERENCE(trl): from 1.0 on TRL takes `label_smoothing` with this loss and ignores it;
    // here it acts as it did before.
    pub(crate) fn score(&self, group: &Group) -> GroupOutcome {
        let s = self.label_smoothing;
        score_pair(group, self.beta, |chosen, rejected| {
            let margin = self.beta * (chosen.log_ratio() - rejected.log_ratio());
            let slope = self.beta * (s * sigmoid(margin) - (1.0 - s) * sigmoid(-margin));
            PairLoss {
                loss: -(1.0 - s) * log_sigmoid(margin) - s * log_sigmoid(-margin),
                chosen_slope: slope,
                rejected_slope: -slope,
            }
        })
    }
}
