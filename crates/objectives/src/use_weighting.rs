//! WPO, weighted preference optimization (Zhou et al. 2024, arXiv:2406.11827).
//!
//! ```text
//! w(c)   = exp(mean over tokens of [logp - ln(sum of p^2 over the vocabulary)])
//! weight = w(chosen) * w(rejected)                                    (no gradient)
//! ```
//!
//! Eq. 2 of the paper, aligned to samples: completions that the policy could have written itself
//! count for more.

use crate::Group;

// DIFFERENCE(trl): TRL multiplies losses in place, and so fails in the backward pass of `hinge`.
/// The weight of a group's pair.
pub(crate) fn weight(group: &Group) -> f64 {
    let of = |completion: Option<&crate::Completion>| completion.map_or(0.0, |c| c.relative_logp);
    (of(group.completions.first()) + of(group.completions.last())).exp()
}
