//! Length-controlled margin-based preference optimization (Li et al. 2025, arXiv:2502.14643).

use crate::{
    State,
    loss::Shared,
    pair::{Dual, Pair, Side},
    stable::{log_sigmoid, sigmoid},
    state::Moments,
};

/// `SimPO` with a margin that is larger for pairs which the policy gets wrong, as its code has it.
///
/// ```text
/// mean(c) = policy(c) / tokens(c)
/// p(c)    = exp(mean(c) * (tokens(chosen) + tokens(rejected)) / (2 tokens(c)))
/// m       = (1 - p(chosen)) * (1 - (p(chosen) - p(rejected))^5) / 2
/// margin  = 0.2 * (m - average) / deviation                           (no gradient)
/// gap     = beta * (mean(chosen) - mean(rejected)) - margin
/// loss    = ln(1 + exp(beta * gamma_beta_ratio - gap))
/// ```
///
/// `average` and `deviation` of `m` move by a tenth with every call. The first call sets the average,
/// the first call with a spread the deviation; until then the margin is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lmpo {
    /// The home advantage of the rejected completion over `beta`, in nats a token; at least 0,
    /// 0.55 to 0.8 in the authors' settings.
    pub gamma_beta_ratio: f64,
}

/// How much of the average and the deviation a call keeps.
const KEPT: f64 = 0.9;

/// How much a deviation of the margin counts.
const MARGIN_SCALE: f64 = 0.2;

impl Lmpo {
    pub(crate) fn score_all(
        self,
        pairs: &[Pair],
        Shared { beta, .. }: Shared,
        state: &mut State,
    ) -> Vec<Dual> {
        let margins: Vec<f64> = pairs.iter().map(margin).collect();
        if let Some(now) = Moments::of(&margins) {
            let before = state.margins.unwrap_or(now);
            state.margins = Some(before.moved(now, KEPT));
        }
        // DIFFERENCE(lmpo authors): their running values are never initialized.
        let moments = state.margins.unwrap_or(Moments { mean: 0.0, deviation: 0.0 });
        // Without any spread so far there is nothing to measure by.
        let scale = if 0.0 < moments.deviation { MARGIN_SCALE / moments.deviation } else { 0.0 };
        let score = |(pair, margin): (&Pair, f64)| {
            pair.mean_gap().times(beta).then(|gap| {
                let x = gap - scale * (margin - moments.mean) - beta * self.gamma_beta_ratio;
                (-log_sigmoid(x), -sigmoid(-x))
            })
        };
        pairs.iter().zip(margins).map(score).collect()
    }
}

/// How far the policy is from having the pair right: 0 where it is certain of the chosen one.
fn margin(pair: &Pair) -> f64 {
    let tokens = f64::midpoint(pair.chosen.tokens, pair.rejected.tokens);
    let probability = |side: Side| (side.mean() * tokens / side.tokens).exp();
    let (chosen, rejected) = (probability(pair.chosen), probability(pair.rejected));
    (1.0 - chosen) * (1.0 - (chosen - rejected).powi(5)) / 2.0
}
