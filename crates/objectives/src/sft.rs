//! The likelihood of the chosen completions as a term of a loss, TRL's `sft`.
//!
//! ```text
//! loss = -policy(chosen) * pairs / (tokens of all chosen completions)
//! ```
//!
//! so that the mean over the pairs of a call is the mean over their chosen tokens.

use crate::pair::{Dual, Pair};

pub(crate) fn score_all(pairs: &[Pair]) -> Vec<Dual> {
    let tokens: f64 = pairs.iter().map(|pair| pair.chosen.tokens).sum();
    let share = pairs.len() as f64 / tokens;
    let score = |pair: &Pair| Dual {
        value: -pair.chosen.likelihood * share,
        chosen: -share,
        rejected: 0.0,
    };
    pairs.iter().map(score).collect()
}
