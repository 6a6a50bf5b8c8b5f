//! Listwise preference optimization with lambda weights, `LiPO` (Liu et al. 2024,
//! arXiv:2402.01878).

use super::{Ranked, Term};
use crate::{Completion, Error, pair::smoothed};

/// ```text
/// term     = sum over label_i > label_j of D(i, j) * -ln sigmoid(s_i - s_j)
/// D(i, j)  = |G_i - G_j| * |1 / ln(1 + t_i) - 1 / ln(1 + t_j)|        (no gradient)
/// G        = 2^label - 1,  t = place under the present rewards, from 1
/// ```
///
/// Labels are the row's numbers, in 0 to 1; without them, evenly spaced by rank.
pub(super) fn score(ranked: &[Ranked]) -> Term {
    // Without the 1, which cancels in differences.
    let gains: Vec<f64> = labels(ranked).into_iter().map(f64::exp2).collect();
    let discounts: Vec<f64> = places(ranked).into_iter().map(|t| 1.0 / t.ln_1p()).collect();
    let mut loss = 0.0;
    let mut slopes = vec![0.0; ranked.len()];
    for i in 0..ranked.len() {
        for j in 0..ranked.len() {
            let gain = (gains[i] - gains[j]).max(0.0);
            let weight = gain * (discounts[i] - discounts[j]).abs();
            let (value, slope) = smoothed(0.0)(ranked[i].score - ranked[j].score);
            loss += weight * value;
            slopes[i] += weight * slope;
            slopes[j] -= weight * slope;
        }
    }
    (loss, slopes)
}

/// An error unless the row's numbers, where it has them, are labels.
pub(super) fn check_row(completions: &[Completion]) -> Result<(), Error> {
    let scores: Vec<f64> = completions.iter().filter_map(|c| c.score).collect();
    if !scores.is_empty() && scores.len() != completions.len() {
        return Err(Error::Missing { what: "score of some completions", by: "lambda" });
    }
    match scores.into_iter().find(|score| !(0.0..=1.0).contains(score)) {
        Some(value) => Err(Error::Row { what: "score", value, range: "from 0 to 1" }),
        None => Ok(()),
    }
}

fn labels(ranked: &[Ranked]) -> Vec<f64> {
    if let Some(labels) = ranked.iter().map(|member| member.label).collect() {
        return labels;
    }
    let best = f64::from(ranked.iter().map(|member| member.rank).min().unwrap_or(0));
    let worst = f64::from(ranked.iter().map(|member| member.rank).max().unwrap_or(0));
    ranked.iter().map(|member| (worst - f64::from(member.rank)) / (worst - best)).collect()
}

/// Places under the present rewards, from 1 for the highest; equal rewards keep their order.
fn places(ranked: &[Ranked]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ranked.len()).collect();
    order.sort_by(|a, b| ranked[*b].score.total_cmp(&ranked[*a].score));
    let mut places = vec![0.0; ranked.len()];
    let mut place = 0.0;
    for index in order {
        place += 1.0;
        places[index] = place;
    }
    places
}
