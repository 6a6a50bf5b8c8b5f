//! Binary classifier optimization on pairs (Jung et al. 2024, arXiv:2404.04656).

use crate::{
    State,
    loss::Shared,
    pair::{Dual, Pair, side_by_side},
    stable::{log_sigmoid, sigmoid},
};

/// Binary classifier optimization on pairs: each side is told from the other by its own reward.
///
/// ```text
/// r(c) = beta * (policy - reference)(c)
/// loss = -ln sigmoid(r(chosen) - shift) - ln sigmoid(-(r(rejected) - shift))
/// ```
///
/// `shift` is 0, or the mean of all rewards so far, those of this call included; no gradient
/// flows into it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BcoPair {
    /// Whether rewards are compared with their running mean, the paper's reward shift.
    pub reward_shift: bool,
}

impl BcoPair {
    // DIFFERENCE(trl): TRL 1.x has no shift; TRL up to 0.28 always shifted, by the mean of the
    // micro-batches' means. Here the shift is a choice, and every reward counts alike.
    pub(crate) fn score_all(
        self,
        pairs: &[Pair],
        Shared { beta, .. }: Shared,
        state: &mut State,
    ) -> Vec<Dual> {
        let rewards = |pair: &Pair| {
            let (chosen, rejected) = pair.log_ratios();
            (beta * chosen, beta * rejected)
        };
        let mut shift = 0.0;
        if self.reward_shift {
            for (chosen, rejected) in pairs.iter().map(rewards) {
                state.rewards.add(chosen);
                state.rewards.add(rejected);
            }
            shift = state.rewards.mean;
        }
        let score = |pair| {
            let (chosen, rejected) = rewards(pair);
            let (c, r) = (chosen - shift, rejected - shift);
            side_by_side(
                (-log_sigmoid(c), -beta * sigmoid(-c)),
                (-log_sigmoid(-r), beta * sigmoid(r)),
            )
        };
        pairs.iter().map(score).collect()
    }
}
