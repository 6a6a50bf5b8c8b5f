//! Fine-tuning: rows of one completion, learned as they are written.
//!
//! ```text
//! loss of a step = -(sum of log-probabilities of its tokens) / (number of its tokens)
//! ```
//!
//! TRL's `SFTTrainer`: every scored token of a step counts for the same, whichever row it is in.

use data::{rng::Stream, tokenize::Example};
use model::{CompletionScore, Dropout, MicroBatch};
use objectives::GroupOutcome;

use crate::rows::{Tally, count};

/// The rows that have a token to learn; counts the others.
pub fn learnable(rows: Vec<Example>, tally: &mut Tally) -> Vec<Example> {
    let (kept, empty): (Vec<Example>, Vec<Example>) =
        rows.into_iter().partition(|row| 0 < scored(row));
    for _ in empty {
        count(tally, "dropped: no token to learn");
    }
    kept
}

/// The tokens of a row that are learned.
pub fn scored(row: &Example) -> usize {
    let sides = row.completions.iter().enumerate();
    sides.map(|(side, ids)| (0..ids.len()).filter(|at| row.is_scored(side, *at)).count()).sum()
}

/// What rows cost, so that their mean over `rows` rows is the mean over `tokens` tokens.
pub fn outcomes(
    scores: &[Vec<CompletionScore>],
    (rows, tokens): (usize, usize),
) -> Vec<GroupOutcome> {
    let share = rows as f64 / tokens.max(1) as f64;
    let outcome = |scores: &Vec<CompletionScore>| {
        let loss = -share * scores.iter().map(|score| score.logp).sum::<f64>();
        GroupOutcome {
            loss,
            nll_loss: loss,
            coefficients: vec![-share; scores.len()],
            rewards: vec![0.0],
            ..GroupOutcome::default()
        }
    };
    scores.iter().map(outcome).collect()
}

/// Dropout on the inputs of adapters, a function of seed, step, row and position.
pub fn dropout(
    batch: &MicroBatch,
    pairs: &[usize],
    (probability, seed, step): (f64, u64, u64),
) -> Option<Dropout> {
    if probability <= 0.0 {
        return None;
    }
    let of_step = Stream::new(seed, "lora dropout").at(step);
    let mut rows = vec![0; batch.tokens.len()];
    for (tree, pair) in batch.branches.trees.iter().zip(pairs) {
        let first = of_step.at(*pair as u64).bits(0);
        for (index, key) in rows[tree.start..tree.start + tree.rows()].iter_mut().enumerate() {
            *key = first.wrapping_add(index as u64);
        }
    }
    Some(Dropout { rows, probability: probability as f32 })
}
