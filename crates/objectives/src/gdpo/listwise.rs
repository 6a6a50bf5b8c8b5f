//! The Plackett-Luce likelihood of a ranking (Rafailov et al. 2023, arXiv:2305.18290, appendix
//! A.3).

use super::{Ranked, Term};
use crate::stable::log_sum_exp;

/// ```text
/// term = mean over k of [logsumexp(s_k and all that rank lower) - s_k]
/// ```
///
/// over every `k` that some other ranks lower than; members of its own rank are left out of its
/// sum, since nothing is known about their order.
// DIFFERENCE(dpo authors): theirs is the sum over the places; the mean keeps its weight
// comparable between groups of different sizes, and leaves a group of two as a pair.
pub(super) fn score(ranked: &[Ranked]) -> Term {
    let (mut loss, mut factors) = (0.0, 0.0);
    let mut slopes = vec![0.0; ranked.len()];
    for (k, this) in ranked.iter().enumerate() {
        let lower = (0..ranked.len()).filter(|other| this.rank < ranked[*other].rank);
        let against: Vec<usize> = std::iter::once(k).chain(lower).collect();
        if against.len() < 2 {
            continue;
        }
        // Seen from `s_k`, so that a factor that is nearly certain keeps its digits.
        let scores: Vec<f64> = against.iter().map(|i| ranked[*i].score - this.score).collect();
        let (sum, shares) = log_sum_exp(&scores);
        loss += sum;
        factors += 1.0;
        slopes[k] -= shares[1..].iter().sum::<f64>();
        for (index, share) in against.iter().zip(&shares).skip(1) {
            slopes[*index] += share;
        }
    }
    let factors = f64::max(factors, 1.0);
    (loss / factors, slopes.into_iter().map(|slope| slope / factors).collect())
}
