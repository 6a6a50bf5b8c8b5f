//! The variance over a batch, the term of the program that the method's name comes from.

use crate::pair::{Dual, Pair};

/// ```text
/// u(i)    = policy(chosen i) - policy(rejected i)
/// term(i) = n / (n - 1) * (u(i) - mean of u)^2                        (0 for n = 1)
/// ```
///
/// so that the mean over the pairs of a call is the variance of `u` over n - 1.
pub(crate) fn score_all(pairs: &[Pair]) -> Vec<Dual> {
    let count = pairs.len() as f64;
    let share = if 1.0 < count { count / (count - 1.0) } else { 0.0 };
    let apart = |pair: &Pair| pair.chosen.policy - pair.rejected.policy;
    let mean = pairs.iter().map(apart).sum::<f64>() / count;
    let score = |pair| {
        let off = apart(pair) - mean;
        // The slopes of the mean cancel in the sum over the call.
        let slope = 2.0 * share * off;
        Dual { value: share * off * off, chosen: slope, rejected: -slope }
    };
    pairs.iter().map(score).collect()
}
