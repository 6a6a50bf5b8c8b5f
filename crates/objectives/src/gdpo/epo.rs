//! The best of a group against the others together: the expected probability to win.

use super::{Ranked, Term, pairs::against_the_best};
use crate::stable::{log_sigmoid, log_sum_exp, sigmoid};

/// ```text
/// term = -ln(mean over j of sigmoid(s_1 - s_j))
/// ```
///
/// over every `j` that ranks lower than the best. One that wins over the best counts little if the
/// others do not: the logarithm is taken of the mean, where `pairwise_mean` has the mean of it.
pub(super) fn score(ranked: &[Ranked]) -> Term {
    let pairs = against_the_best(ranked);
    let mut slopes = vec![0.0; ranked.len()];
    if pairs.is_empty() {
        return (0.0, slopes);
    }
    let apart: Vec<f64> = pairs.iter().map(|(i, j)| ranked[*i].score - ranked[*j].score).collect();
    let wins: Vec<f64> = apart.iter().map(|x| log_sigmoid(*x)).collect();
    let (sum, shares) = log_sum_exp(&wins);
    for (((i, j), share), x) in pairs.iter().zip(shares).zip(&apart) {
        slopes[*i] -= share * sigmoid(-x);
        slopes[*j] += share * sigmoid(-x);
    }
    let lost = apart.iter().map(|x| sigmoid(-x)).sum::<f64>() / apart.len() as f64;
    // From the side that keeps its digits.
    let loss = if lost < 0.5 { -(-lost).ln_1p() } else { (apart.len() as f64).ln() - sum };
    (loss, slopes)
}
