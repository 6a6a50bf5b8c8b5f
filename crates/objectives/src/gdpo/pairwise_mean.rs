//! The best of a group against each of the others.

use super::{
    Ranked, Term,
    pairs::{against_the_best, mean},
};

/// ```text
/// term = mean over j of -ln sigmoid(s_1 - s_j)
/// ```
///
/// over every `j` that ranks lower than the best.
pub(super) fn score(ranked: &[Ranked]) -> Term {
    mean(ranked, &against_the_best(ranked))
}
