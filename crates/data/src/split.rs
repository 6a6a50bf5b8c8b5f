//! Setting evaluation prompts apart.
//!
//! All records of one prompt land on one side, and where a prompt lands depends on the seed and
//! the prompt alone: adding or reordering rows moves no other prompt.

use std::collections::BTreeMap;

use crate::check::prompt_hash;
use crate::error::Error;
use crate::record::Record;

/// Records for training and for evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// To learn from.
    pub train: Vec<Record>,
    /// To measure on.
    pub eval: Vec<Record>,
}

/// A number in 0 to 1 for a prompt, uniform over prompts.
///
/// ```text
/// u = first 53 bits of blake3(key = blake3("trueup eval split" | seed), prompt hash) / 2^53
/// ```
fn place(seed: u64, prompt: &[u8; 32]) -> f64 {
    let mut key = blake3::Hasher::new();
    key.update(b"trueup eval split").update(&seed.to_le_bytes());
    let hash = blake3::keyed_hash(key.finalize().as_bytes(), prompt);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    (u64::from_le_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Sets a share of the prompts apart for evaluation, keeping the order of records on each side.
///
/// With at least two prompts and a fraction above 0, each side gets one at least: the prompt with
/// the smallest number for evaluation, the largest for training.
///
/// # Errors
///
/// The fraction is not between 0 and 1.
pub fn by_prompt(records: Vec<Record>, fraction: f64, seed: u64) -> Result<Split, Error> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::EvalFraction { fraction });
    }
    if fraction <= 0.0 {
        return Ok(Split { train: records, eval: Vec::new() });
    }
    let hashes: Vec<[u8; 32]> = records.iter().map(prompt_hash).collect();
    let places: BTreeMap<&[u8; 32], f64> =
        hashes.iter().map(|hash| (hash, place(seed, hash))).collect();
    let mut ends = places.iter().map(|(hash, at)| (*at, *hash)).collect::<Vec<_>>();
    ends.sort_by(|one, other| one.0.total_cmp(&other.0).then_with(|| one.1.cmp(other.1)));
    let (first, last) = match ends.as_slice() {
        [first, .., last] => (Some(first.1), Some(last.1)),
        _ => (None, None),
    };
    let mut split = Split { train: Vec::new(), eval: Vec::new() };
    for (record, hash) in records.into_iter().zip(&hashes) {
        let apart = places.get(hash).is_some_and(|&at| at < fraction);
        let apart = (apart || Some(hash) == first) && Some(hash) != last;
        if apart {
            split.eval.push(record);
        } else {
            split.train.push(record);
        }
    }
    Ok(split)
}
