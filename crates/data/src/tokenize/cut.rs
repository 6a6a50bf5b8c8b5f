//! How long prompts and completions may be, and what is cut.

use serde::{Deserialize, Serialize};

use crate::check::Problem;

/// Which side of an over-long sequence goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TruncationSide {
    /// Completions lose their end; TRL's `keep_start`.
    #[default]
    Right,
    /// The prompt loses its start until the longest completion fits.
    ///
    /// DIFFERENCE(trl): `keep_end` cuts each sequence for itself, so that chosen and rejected answer
    /// different prompts; here they answer the same one.
    Left,
}

/// How long prompts and completions may be, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Prompt and one completion together; `None` cuts nothing.
    pub max_length: Option<usize>,
    /// The prompt, of which the end is kept; the meaning that this key had in TRL before 0.29.
    pub max_prompt_length: Option<usize>,
    /// Which side goes.
    pub truncation_side: TruncationSide,
}

/// What became of an example.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It is used.
    Kept {
        /// The prompt that is left.
        prompt: Vec<u32>,
        /// The completions that are left, none empty.
        completions: Vec<Vec<u32>>,
        /// The longest sequence before the cut, if anything was cut.
        was_cut: Option<usize>,
    },
    /// It is not used.
    Dropped {
        /// Why.
        problem: Problem,
        /// More about it.
        detail: String,
    },
}

impl Lengths {
    /// Cuts one example to length.
    pub(super) fn cut(self, mut prompt: Vec<u32>, mut completions: Vec<Vec<u32>>) -> Cut {
        let longest = completions.iter().map(Vec::len).max().unwrap_or(0);
        let before = prompt.len() + longest;
        let mut was_cut = false;
        if let Some(max) = self.max_prompt_length {
            was_cut |= keep_end(&mut prompt, max);
        }
        if let Some(max) = self.max_length {
            if self.truncation_side == TruncationSide::Left && max < prompt.len() + longest {
                // One token of the prompt stays, which predicts the first of the completion.
                was_cut |= keep_end(&mut prompt, max.saturating_sub(longest).max(1));
            }
            if max <= prompt.len() {
                let detail = format!("{} tokens of {max}", prompt.len());
                return Cut::Dropped { problem: Problem::PromptTooLong, detail };
            }
            let room = max - prompt.len();
            for completion in &mut completions {
                was_cut |= room < completion.len();
                completion.truncate(room);
            }
        }
        if completions.iter().any(Vec::is_empty) {
            let problem = if was_cut { Problem::EmptyAfterTruncation } else { Problem::Empty };
            return Cut::Dropped { problem, detail: "a completion has no tokens".into() };
        }
        let same = 1 < completions.len() && completions.windows(2).all(|pair| pair[0] == pair[1]);
        if same {
            let problem =
                if was_cut { Problem::IdenticalAfterTruncation } else { Problem::Identical };
            return Cut::Dropped { problem, detail: format!("{before} tokens before the cut") };
        }
        Cut::Kept { prompt, completions, was_cut: was_cut.then_some(before) }
    }
}

/// Keeps the last `max` ids; says whether any went.
fn keep_end(ids: &mut Vec<u32>, max: usize) -> bool {
    let surplus = ids.len().saturating_sub(max);
    ids.drain(..surplus);
    0 < surplus
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lengths(max_length: usize, truncation_side: TruncationSide) -> Lengths {
        Lengths { max_length: Some(max_length), max_prompt_length: None, truncation_side }
    }

    fn problem(cut: &Cut) -> Option<Problem> {
        match cut {
            Cut::Dropped { problem, .. } => Some(*problem),
            Cut::Kept { .. } => None,
        }
    }

    #[test]
    fn a_prompt_that_fills_the_length_is_dropped() {
        let cut =
            |max| lengths(max, TruncationSide::Right).cut(vec![1, 2, 3], vec![vec![4, 5], vec![6]]);
        assert_eq!(problem(&cut(3)), Some(Problem::PromptTooLong));
        let Cut::Kept { completions, was_cut, .. } = cut(4) else { panic!("one token fits") };
        assert_eq!((completions, was_cut), (vec![vec![4], vec![6]], Some(5)));
        assert!(matches!(cut(5), Cut::Kept { was_cut: None, .. }));
    }

    #[test]
    fn completions_that_differ_only_past_the_cut_are_dropped() {
        let cut =
            lengths(4, TruncationSide::Right).cut(vec![1, 2], vec![vec![3, 4, 5], vec![3, 4, 6]]);
        assert_eq!(problem(&cut), Some(Problem::IdenticalAfterTruncation));
        let same = Lengths::default().cut(vec![1], vec![vec![2], vec![2]]);
        assert_eq!(problem(&same), Some(Problem::Identical));
        let single = Lengths::default().cut(vec![1], vec![vec![2]]);
        assert_eq!(problem(&single), None);
    }

    #[test]
    fn the_prompt_keeps_its_end() {
        let old = Lengths { max_prompt_length: Some(2), ..Lengths::default() };
        let Cut::Kept { prompt, was_cut, .. } = old.cut(vec![1, 2, 3], vec![vec![4]]) else {
            panic!("it fits")
        };
        assert_eq!((prompt, was_cut), (vec![2, 3], Some(4)));
        let left =
            lengths(5, TruncationSide::Left).cut(vec![1, 2, 3], vec![vec![4, 5, 6], vec![7]]);
        let Cut::Kept { prompt, completions, .. } = left else { panic!("it fits") };
        assert_eq!((prompt, completions), (vec![2, 3], vec![vec![4, 5, 6], vec![7]]));
    }

    proptest! {
        #[test]
        fn nothing_is_longer_than_it_may_be_and_nothing_is_empty(
            prompt in prop::collection::vec(0_u32..4, 0..12),
            completions in prop::collection::vec(prop::collection::vec(0_u32..4, 0..12), 1..4),
            max_length in 1_usize..20,
            max_prompt_length in prop::option::of(0_usize..12),
            left in any::<bool>(),
        ) {
            let truncation_side = if left { TruncationSide::Left } else { TruncationSide::Right };
            let lengths = Lengths { max_length: Some(max_length), max_prompt_length, truncation_side };
            if let Cut::Kept { prompt: kept, completions: left_over, was_cut } =
                lengths.cut(prompt.clone(), completions.clone())
            {
                prop_assert!(prompt.ends_with(&kept));
                prop_assert!(max_prompt_length.is_none_or(|max| kept.len() <= max.max(1)));
                for (short, whole) in left_over.iter().zip(&completions) {
                    prop_assert!(!short.is_empty() && whole.starts_with(short));
                    prop_assert!(kept.len() + short.len() <= max_length);
                }
                prop_assert_eq!(was_cut.is_none(), kept == prompt && left_over == completions);
            }
        }
    }
}
