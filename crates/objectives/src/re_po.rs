//! RE-PO, robust enhanced preference optimization (Cao et al. 2025, arXiv:2509.24159).

use std::collections::BTreeMap;

use crate::{
    Error, Group,
    error::check,
    pair::Dual,
    stable::{log_sigmoid, sigmoid},
};

/// Expectation-maximization over labels that may be wrong: each annotator is right with a
/// probability of their own, estimated on the way.
///
/// ```text
/// z    = L(rejected over chosen) - L(chosen over rejected)      for the recipe's loss L
/// p    = sigmoid(z)
/// w    = p eta / (p eta + (1 - p) (1 - eta))                    (no gradient)
/// loss = -[w ln p + (1 - w) ln(1 - p)]
/// eta  = (1 - rate) eta + rate * mean of w over the call's rows of the annotator, afterwards
/// ```
///
/// For DPO `z` is its margin, and `eta = 1` gives DPO back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reliability {
    /// The probability at the start that a label is right; between 0 and 1, usually 0.9.
    pub initial: f64,
    /// How far one call moves an estimate; above 0 and at most 1, usually 0.1.
    pub rate: f64,
}

impl Default for Reliability {
    fn default() -> Self {
        Self { initial: 0.9, rate: 0.1 }
    }
}

impl Reliability {
    pub(crate) fn check(self) -> Result<(), Error> {
        let (initial, rate) = (self.initial, self.rate);
        check("reliability", initial, 0.0 < initial && initial < 1.0, "between 0 and 1")?;
        check("reliability_rate", rate, 0.0 < rate && rate <= 1.0, "above 0 and at most 1")
    }

    /// The losses in place of those given, of the pairs as labelled and as swapped, and the
    /// posteriors. The slopes of a swapped pair are those of its own sides.
    pub(crate) fn score_all(
        self,
        (labelled, swapped): (&[Dual], &[Dual]),
        groups: &[&Group],
        reliabilities: &mut BTreeMap<String, f64>,
    ) -> (Vec<Dual>, Vec<f64>) {
        let known = |group: &&Group| reliabilities.get(&group.annotator).copied();
        let etas: Vec<f64> = groups.iter().map(|g| known(g).unwrap_or(self.initial)).collect();
        let mut losses = Vec::with_capacity(groups.len());
        let mut posteriors = Vec::with_capacity(groups.len());
        for ((right, wrong), eta) in labelled.iter().zip(swapped).zip(etas) {
            let apart = Dual {
                value: wrong.value - right.value,
                chosen: wrong.rejected - right.chosen,
                rejected: wrong.chosen - right.rejected,
            };
            let odds = apart.value + eta.ln() - (-eta).ln_1p();
            let w = sigmoid(odds);
            losses.push(apart.then(|z| {
                let loss = -w * log_sigmoid(z) - sigmoid(-odds) * log_sigmoid(-z);
                (loss, sigmoid(z) - w)
            }));
            posteriors.push(w);
        }
        self.learn(groups, &posteriors, reliabilities);
        (losses, posteriors)
    }

    fn learn(
        self,
        groups: &[&Group],
        posteriors: &[f64],
        reliabilities: &mut BTreeMap<String, f64>,
    ) {
        let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (group, w) in groups.iter().zip(posteriors) {
            let (sum, count) = sums.entry(&group.annotator).or_default();
            *sum += w;
            *count += 1.0;
        }
        for (annotator, (sum, count)) in sums {
            let eta = reliabilities.entry(annotator.to_owned()).or_insert(self.initial);
            *eta = (1.0 - self.rate) * *eta + self.rate * sum / count;
        }
    }
}
