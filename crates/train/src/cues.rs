//! What tells chosen from rejected completions without reading them: length, and the tokens at
//! both ends.

use std::collections::BTreeMap;

use data::tokenize::Example;

/// The share of pairs from which on a cue is said to separate the sides.
pub const CUE_SHARE: f64 = 0.95;

/// Scored tokens of the chosen completion minus those of the rejected one; `None` for a row that
/// is no pair. In a group these are the best and the worst.
pub fn longer_by(example: &Example) -> Option<f64> {
    let scored = |at: usize| example.completions[at].len() - example.unscored[at];
    let last = example.completions.len().checked_sub(1).filter(|last| 0 < *last)?;
    Some(scored(0) as f64 - scored(last) as f64)
}

/// A cue that tells the sides apart in nearly all pairs, in words.
pub fn separating(examples: &[Example]) -> Option<String> {
    let differences: Vec<f64> = examples.iter().filter_map(longer_by).collect();
    let count = differences.len() as f64;
    if differences.is_empty() {
        return None;
    }
    for (side, sign) in [("longer", 1.0), ("shorter", -1.0)] {
        let share = differences.iter().filter(|it| 0.0 < sign * **it).count() as f64 / count;
        if CUE_SHARE <= share {
            let percent = 100.0 * share;
            return Some(format!(
                "the chosen completion is the {side} one in {percent:.0} % of the pairs"
            ));
        }
    }
    let first =
        |example: &Example, at: usize| example.completions[at].get(example.unscored[at]).copied();
    let last = |example: &Example, at: usize| example.completions[at].last().copied();
    is_marked(examples, first)
        .then(|| "nearly all chosen completions begin with a token that rejected ones do not begin with".into())
        .or_else(|| {
            is_marked(examples, last)
                .then(|| "nearly all chosen completions end with a token that rejected ones do not end with".into())
        })
}

/// Whether one token is at a place of nearly all completions of one side and of nearly none of the
/// other.
fn is_marked(examples: &[Example], token: impl Fn(&Example, usize) -> Option<u32>) -> bool {
    let pairs = || examples.iter().filter(|example| 1 < example.completions.len());
    let count = pairs().count() as f64;
    let tokens = |of: &dyn Fn(&Example) -> usize| {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for token in pairs().filter_map(|example| token(example, of(example))) {
            *counts.entry(token).or_default() += 1;
        }
        counts
    };
    let chosen = tokens(&|_| 0);
    let rejected = tokens(&|example| example.completions.len() - 1);
    let share = |counts: &BTreeMap<u32, usize>, token: &u32| {
        counts.get(token).copied().unwrap_or(0) as f64 / count
    };
    let marks = |one: &BTreeMap<u32, usize>, other: &BTreeMap<u32, usize>| {
        one.keys()
            .any(|token| CUE_SHARE <= share(one, token) && share(other, token) <= 1.0 - CUE_SHARE)
    };
    marks(&chosen, &rejected) || marks(&rejected, &chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(chosen: &[u32], rejected: &[u32]) -> Example {
        Example {
            id: String::new(),
            prompt: vec![1],
            completions: vec![chosen.to_vec(), vec![7; 50], rejected.to_vec()],
            unscored: vec![0; 3],
            spans: Vec::new(),
            extras: serde_json::Map::new(),
        }
    }

    #[test]
    fn cues_are_lengths_and_ends() {
        let told = |rows: &[Example]| separating(rows).unwrap_or_default();
        assert_eq!(told(&[]), "");
        let longer = vec![example(&[4, 5, 6], &[4, 6]); 4];
        assert_eq!(told(&longer), "the chosen completion is the longer one in 100 % of the pairs");
        assert_eq!(longer_by(&longer[0]), Some(1.0));
        assert!(told(&[example(&[4], &[4, 6])]).contains("the shorter one"));
        let both = [example(&[4, 5, 6], &[4, 6]), example(&[4, 6], &[4, 5, 6])];
        assert_eq!(told(&both), "");
        let begin = [example(&[9, 5, 6], &[4, 6]), example(&[9, 6], &[3, 5, 6])];
        assert!(told(&begin).contains("begin with"));
        let end = [example(&[4, 5, 2], &[4, 6]), example(&[4, 2], &[4, 5, 8])];
        assert!(told(&end).contains("end with"));
    }
}
