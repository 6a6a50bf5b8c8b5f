//! All pairs of a group.

use super::{Ranked, Term};
use crate::pair::smoothed;

/// ```text
/// term = mean over all pairs with rank_i < rank_j of -ln sigmoid(s_i - s_j)
/// ```
pub(super) fn score(ranked: &[Ranked]) -> Term {
    let everyone = || ranked.iter().enumerate();
    let pairs = everyone().flat_map(|(i, this)| {
        everyone().filter(move |(_, other)| this.rank < other.rank).map(move |(j, _)| (i, j))
    });
    mean(ranked, &pairs.collect::<Vec<_>>())
}

/// The mean logistic loss over pairs, given as places of the better and the worse; 0 for none.
pub(super) fn mean(ranked: &[Ranked], pairs: &[(usize, usize)]) -> Term {
    let share = 1.0 / pairs.len().max(1) as f64;
    let mut loss = 0.0;
    let mut slopes = vec![0.0; ranked.len()];
    for (i, j) in pairs {
        let (value, slope) = smoothed(0.0)(ranked[*i].score - ranked[*j].score);
        loss += value * share;
        slopes[*i] += slope * share;
        slopes[*j] -= slope * share;
    }
    (loss, slopes)
}

/// The first member against each that ranks lower.
pub(super) fn against_the_best(ranked: &[Ranked]) -> Vec<(usize, usize)> {
    let is_lower = |j: &usize| ranked[0].rank < ranked[*j].rank;
    (1..ranked.len()).filter(is_lower).map(|j| (0, j)).collect()
}
