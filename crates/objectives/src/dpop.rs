//! DPO-Positive (Pal et al. 2024, arXiv:2402.13228).

use crate::{
    loss::Shared,
    pair::{Dual, Pair, smoothed},
};

/// DPO that pays for a chosen completion which becomes less likely than it was.
///
/// ```text
/// u(c)   = (policy - reference)(c)
/// margin = beta * [u(chosen) - u(rejected) - lambda * max(0, -u(chosen))]
/// loss   = -ln sigmoid(margin)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dpop {
    /// What a lost nat of the chosen completion costs, in nats of the margin; at least 0, 50 in
    /// the paper.
    pub lambda: f64,
}

impl Dpop {
    pub(crate) fn score(self, pair: &Pair, shared: Shared) -> Dual {
        let (chosen, rejected) = pair.log_ratios();
        let lost = f64::max(0.0, -chosen);
        let pull = if chosen < 0.0 { self.lambda } else { 0.0 };
        let margin = Dual {
            value: chosen - rejected - self.lambda * lost,
            chosen: 1.0 + pull,
            rejected: -1.0,
        };
        margin.times(shared.beta).then(smoothed(0.0))
    }
}
