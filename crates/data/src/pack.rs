//! Which examples make a step, and where a step is cut into micro-batches.
//!
//! An optimizer step takes `batch_size * gradient_accumulation_steps` examples in the shuffled
//! order of its epoch. Within a step, micro-batches are cut by tokens: each takes examples in order
//! while they fit the budget. The loss stays the mean over the step's examples, so the cut changes
//! speed and memory, never the mathematics. An example is never split, because its completions
//! share their prompt; one that is larger than the budget gets a micro-batch of its own.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use crate::rng::Stream;
use crate::tokenize::Example;

/// How examples are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackSettings {
    /// Examples in an optimizer step: `batch_size * gradient_accumulation_steps`; at least 1.
    pub examples_per_step: usize,
    /// Whether each epoch has an order of its own, else the examples' order.
    pub shuffled: bool,
    /// The seed of the order.
    pub seed: u64,
}

impl PackSettings {
    /// Steps in one epoch over so many examples; the last one may have fewer.
    pub fn steps_per_epoch(&self, examples: usize) -> usize {
        examples.div_ceil(self.examples_per_step.max(1))
    }

    /// The order of an epoch: a function of seed and epoch alone.
    pub fn order(&self, examples: usize, epoch: usize) -> Vec<usize> {
        if self.shuffled {
            Stream::new(self.seed, "shuffle").at(epoch as u64).permutation(examples)
        } else {
            (0..examples).collect()
        }
    }
}

/// Puts examples together into packs of at most so many tokens: the longest first, each into the
/// fullest pack that has room for it. An example that is longer is a pack of its own.
///
/// Packs come in the order of their first examples, and list theirs in order.
pub fn best_fit(examples: &[Example], tokens_per_pack: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|index| (Reverse(examples[*index].token_count()), *index));
    let mut packs: Vec<Vec<usize>> = Vec::new();
    // The packs by the room that is left, the one made first among equals.
    let mut rooms: BTreeSet<(usize, usize)> = BTreeSet::new();
    for index in order {
        let tokens = examples[index].token_count();
        let fullest = rooms.range((tokens, 0)..).next().copied();
        let (room, pack) = fullest.unwrap_or_else(|| {
            packs.push(Vec::new());
            (tokens_per_pack.max(tokens), packs.len() - 1)
        });
        rooms.remove(&(room, pack));
        rooms.insert((room - tokens, pack));
        packs[pack].push(index);
    }
    for pack in &mut packs {
        pack.sort_unstable();
    }
    packs.sort();
    packs
}

/// Cuts examples, in order, into micro-batches of at most so many tokens, as ranges of `indices`.
pub fn cut(
    examples: &[Example],
    indices: &[usize],
    tokens_per_micro_batch: usize,
) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let (mut start, mut tokens) = (0, 0_usize);
    for (at, &index) in indices.iter().enumerate() {
        let more = examples.get(index).map_or(0, Example::token_count);
        if start < at && tokens_per_micro_batch < tokens.saturating_add(more) {
            cuts.push(start..at);
            (start, tokens) = (at, 0);
        }
        tokens = tokens.saturating_add(more);
    }
    if start < indices.len() {
        cuts.push(start..indices.len());
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example(tokens: usize) -> Example {
        Example {
            id: String::new(),
            prompt: vec![0; tokens - 1],
            completions: vec![vec![1]],
            unscored: vec![0],
            spans: Vec::new(),
            extras: serde_json::Map::new(),
        }
    }

    fn settings(examples_per_step: usize) -> PackSettings {
        PackSettings { examples_per_step, shuffled: true, seed: 42 }
    }

    #[test]
    fn micro_batches_are_cut_by_tokens_in_order() {
        let examples = [3, 3, 9, 2, 2, 2].map(example);
        let indices: Vec<usize> = (0..6).collect();
        assert_eq!(cut(&examples, &indices, 6), [0..2, 2..3, 3..6]);
        assert_eq!(cut(&examples, &indices, 1).len(), 6);
        assert_eq!(cut(&examples, &indices, 1000), vec![0..6; 1]);
        assert_eq!(cut(&examples, &[2, 0, 1], 6), [0..1, 1..3]);
    }

    #[test]
    fn the_last_step_of_an_epoch_may_be_smaller() {
        assert_eq!(settings(4).steps_per_epoch(9), 3);
        assert_eq!(settings(4).steps_per_epoch(8), 2);
        assert_eq!(settings(4).steps_per_epoch(0), 0);
    }

    #[test]
    fn epochs_differ_only_when_shuffled() {
        let shuffled = settings(1);
        assert_eq!(shuffled.order(100, 3), shuffled.order(100, 3));
        assert_ne!(shuffled.order(100, 3), shuffled.order(100, 4));
        let plain = PackSettings { shuffled: false, ..shuffled };
        assert_eq!(plain.order(3, 7), [0, 1, 2]);
    }

    #[test]
    fn packs_are_filled_by_the_longest_first() {
        let examples = [5, 3, 7, 2, 2, 9, 12].map(example);
        // 12 alone, 9 alone (nothing fits), 7 with 3, 5 with 2 and 2.
        let packs = best_fit(&examples, 10);
        assert_eq!(packs, [vec![0, 3, 4], vec![1, 2], vec![5], vec![6]]);
        assert!(best_fit(&[], 10).is_empty());
    }

    proptest! {
        #[test]
        fn packs_hold_every_example_once_and_keep_to_the_length(
            sizes in prop::collection::vec(1_usize..12, 0..60), length in 1_usize..30,
        ) {
            let examples: Vec<Example> = sizes.iter().copied().map(example).collect();
            let packs = best_fit(&examples, length);
            let mut all: Vec<usize> = packs.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            let held: Vec<usize> =
                packs.iter().map(|pack| pack.iter().map(|index| sizes[*index]).sum()).collect();
            for (pack, held) in packs.iter().zip(&held) {
                prop_assert!(*held <= length || pack.len() == 1);
            }
            // No two packs that together fit: at most one is half empty.
            prop_assert!(held.iter().filter(|held| 2 * **held <= length).count() <= 1);
        }

        #[test]
        fn every_example_is_seen_once_an_epoch(examples in 0_usize..200, epoch in 0_usize..9) {
            let mut order = settings(1).order(examples, epoch);
            order.sort_unstable();
            prop_assert_eq!(order, (0..examples).collect::<Vec<_>>());
        }

        #[test]
        fn cuts_follow_each_other_and_keep_to_the_budget(
            sizes in prop::collection::vec(1_usize..9, 0..30), budget in 1_usize..40,
        ) {
            let examples: Vec<Example> = sizes.iter().copied().map(example).collect();
            let indices: Vec<usize> = (0..sizes.len()).collect();
            let mut next = 0;
            for range in cut(&examples, &indices, budget) {
                prop_assert_eq!(range.start, next);
                prop_assert!(!range.is_empty());
                next = range.end;
                let tokens: usize = sizes[range.clone()].iter().sum();
                prop_assert!(tokens <= budget || range.len() == 1);
            }
            prop_assert_eq!(next, sizes.len());
        }
    }
}
