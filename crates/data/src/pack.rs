//! From examples to micro-batches of real tokens: no padding, each prompt once.
//!
//! An optimizer step takes `batch_size * gradient_accumulation_steps` examples in the shuffled
//! order of its epoch. Within a step, micro-batches are cut by tokens: each takes examples in order
//! while they fit the budget. The loss stays the mean over the step's examples, so the cut changes
//! speed and memory, never the mathematics. An example is never split, because its completions
//! share their prompt; one that is larger than the budget gets a micro-batch of its own.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::rng::Stream;
use crate::tokenize::Example;

/// How examples are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackSettings {
    /// Examples in an optimizer step: `batch_size * gradient_accumulation_steps`; at least 1.
    pub examples_per_step: usize,
    /// Tokens in a micro-batch; an example larger than this is alone in its own.
    pub tokens_per_micro_batch: usize,
    /// Whether each epoch has an order of its own, else the examples' order.
    pub shuffled: bool,
    /// The seed of the order.
    pub seed: u64,
    /// Whether a last step with fewer examples is left out.
    pub drop_last: bool,
}

/// A prompt and its completions as consecutive rows of a micro-batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The first row of the prompt.
    pub start: usize,
    /// Rows of the prompt; may be 0.
    pub prompt: usize,
    /// Rows of each branch, in order, behind the prompt.
    pub completions: Vec<usize>,
    /// First rows of each branch that are fed and not scored.
    pub unscored: Vec<usize>,
}

/// One forward and backward pass: rows of tokens, and which of them continue which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MicroBatch {
    /// The token of each row.
    pub tokens: Vec<u32>,
    /// The position of each row in its own sequence: branches continue their prompt.
    pub positions: Vec<u32>,
    /// One tree an example, in order, without gap.
    pub trees: Vec<Tree>,
    /// Indices of the examples, one a tree.
    pub examples: Vec<usize>,
}

/// A completion token that is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoredToken {
    /// The row that predicts it.
    pub row: usize,
    /// The token.
    pub target: u32,
    /// Its completion, counted over all trees of the micro-batch from 0.
    pub completion: usize,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The epoch, from 0.
    pub epoch: usize,
    /// Its examples in order.
    pub examples: Vec<usize>,
    /// How the examples are cut into micro-batches, as ranges of `examples`.
    pub micro_batches: Vec<Range<usize>>,
}

/// All steps of a run, in order; any of them can be made without the ones before.
#[derive(Clone, Debug)]
pub struct Steps<'a> {
    examples: &'a [Example],
    settings: PackSettings,
    next: usize,
    end: usize,
    /// The order of the epoch that is running; made anew when the epoch changes.
    order: Option<(usize, Vec<usize>)>,
}

impl PackSettings {
    /// Steps in one epoch over so many examples.
    pub fn steps_per_epoch(&self, examples: usize) -> usize {
        let size = self.examples_per_step.max(1);
        if self.drop_last { examples / size } else { examples.div_ceil(size) }
    }

    /// The order of an epoch: a function of seed and epoch alone.
    pub fn order(&self, examples: usize, epoch: usize) -> Vec<usize> {
        if self.shuffled {
            Stream::new(self.seed, "shuffle").at(epoch as u64).permutation(examples)
        } else {
            (0..examples).collect()
        }
    }

    /// The steps of `epochs` epochs, from step `start` on (from 0, over all epochs).
    pub fn steps<'a>(&self, examples: &'a [Example], epochs: usize, start: usize) -> Steps<'a> {
        let end = self.steps_per_epoch(examples.len()).saturating_mul(epochs);
        Steps { examples, settings: *self, next: start, end, order: None }
    }

    /// Cuts examples, in order, into micro-batches by tokens.
    pub fn cut(&self, examples: &[Example], indices: &[usize]) -> Vec<Range<usize>> {
        let mut cuts = Vec::new();
        let (mut start, mut tokens) = (0, 0_usize);
        for (at, &index) in indices.iter().enumerate() {
            let more = examples.get(index).map_or(0, Example::token_count);
            if start < at && self.tokens_per_micro_batch < tokens.saturating_add(more) {
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
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.end <= self.next {
            return None;
        }
        let per_epoch = self.settings.steps_per_epoch(self.examples.len());
        let (epoch, step) = (self.next / per_epoch, self.next % per_epoch);
        let order = match self.order.take() {
            Some((of, order)) if of == epoch => order,
            _ => self.settings.order(self.examples.len(), epoch),
        };
        let size = self.settings.examples_per_step.max(1);
        let end = (step + 1).saturating_mul(size).min(order.len());
        let examples = order[step * size..end].to_vec();
        self.order = Some((epoch, order));
        self.next += 1;
        let micro_batches = self.settings.cut(self.examples, &examples);
        Some(Step { epoch, examples, micro_batches })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Steps<'_> {}

impl Step {
    /// The micro-batches of the step, packed one after another.
    pub fn pack<'a>(&'a self, examples: &'a [Example]) -> impl Iterator<Item = MicroBatch> + 'a {
        self.micro_batches
            .iter()
            .map(|range| MicroBatch::pack(examples, &self.examples[range.clone()]))
    }
}

impl MicroBatch {
    /// Packs examples, in order, one tree each; indices past the examples are passed over.
    pub fn pack(examples: &[Example], indices: &[usize]) -> Self {
        let mut batch = Self::default();
        for &index in indices {
            if let Some(example) = examples.get(index) {
                batch.push(index, example);
            }
        }
        batch
    }

    fn push(&mut self, index: usize, example: &Example) {
        let prompt = example.prompt.len();
        self.trees.push(Tree {
            start: self.tokens.len(),
            prompt,
            completions: example.completions.iter().map(Vec::len).collect(),
            unscored: example.unscored.clone(),
        });
        self.examples.push(index);
        self.tokens.extend(&example.prompt);
        self.positions.extend(0..prompt as u32);
        for completion in &example.completions {
            self.tokens.extend(completion);
            self.positions.extend(prompt as u32..(prompt + completion.len()) as u32);
        }
    }

    /// Completions in all trees.
    pub fn completion_count(&self) -> usize {
        self.trees.iter().map(|tree| tree.completions.len()).sum()
    }

    /// Every scored token, completion by completion: the first one of a completion is predicted by
    /// the last row of the prompt, each other one by the row before it.
    pub fn scored(&self) -> impl Iterator<Item = ScoredToken> + '_ {
        let mut completion = 0;
        self.trees.iter().flat_map(move |tree| {
            let mut start = tree.start + tree.prompt;
            let mut tokens = Vec::new();
            for (&rows, &unscored) in tree.completions.iter().zip(&tree.unscored) {
                for at in unscored..rows {
                    // Nothing predicts the first token of a sequence.
                    let row = match at.checked_sub(1) {
                        Some(before) => start + before,
                        None if 0 < tree.prompt => tree.start + tree.prompt - 1,
                        None => continue,
                    };
                    tokens.push(ScoredToken { row, target: self.tokens[start + at], completion });
                }
                start += rows;
                completion += 1;
            }
            tokens
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example(prompt: &[u32], completions: &[&[u32]]) -> Example {
        Example {
            id: String::new(),
            prompt: prompt.to_vec(),
            completions: completions.iter().map(|ids| ids.to_vec()).collect(),
            unscored: vec![usize::from(prompt.is_empty()); completions.len()],
            extras: serde_json::Map::new(),
        }
    }

    fn settings(examples_per_step: usize, tokens_per_micro_batch: usize) -> PackSettings {
        let [shuffled, drop_last] = [true, false];
        PackSettings { examples_per_step, tokens_per_micro_batch, shuffled, seed: 42, drop_last }
    }

    #[test]
    fn a_tree_is_a_prompt_and_its_branches() {
        let examples = [example(&[1, 2], &[&[3, 4], &[5]]), example(&[], &[&[6, 7]])];
        let batch = MicroBatch::pack(&examples, &[0, 1]);
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 2, 0, 1]);
        assert_eq!(
            batch.trees[1],
            Tree { start: 5, prompt: 0, completions: vec![2], unscored: vec![1] }
        );
        let scored: Vec<_> = batch.scored().map(|s| (s.row, s.target, s.completion)).collect();
        assert_eq!(scored, [(1, 3, 0), (2, 4, 0), (1, 5, 1), (5, 7, 2)]);
    }

    #[test]
    fn micro_batches_are_cut_by_tokens_in_order() {
        let sizes = [3, 3, 9, 2, 2, 2];
        let examples: Vec<_> = sizes.iter().map(|&n| example(&vec![0; n - 1], &[&[1]])).collect();
        let indices: Vec<usize> = (0..6).collect();
        assert_eq!(settings(6, 6).cut(&examples, &indices), [0..2, 2..3, 3..6]);
        assert_eq!(settings(6, 1).cut(&examples, &indices).len(), 6);
        assert_eq!(settings(6, 1000).cut(&examples, &indices), vec![0..6; 1]);
    }

    fn examples() -> impl Strategy<Value = Vec<Example>> {
        let ids = |from| prop::collection::vec(0_u32..9, from..6);
        let one =
            (ids(0), prop::collection::vec(ids(1), 1..4)).prop_map(|(prompt, completions)| {
                let completions: Vec<&[u32]> = completions.iter().map(Vec::as_slice).collect();
                example(&prompt, &completions)
            });
        prop::collection::vec(one, 1..12)
    }

    proptest! {
        #[test]
        fn every_example_is_seen_once_an_epoch(
            examples in examples(), size in 1_usize..6, budget in 1_usize..40, epochs in 0_usize..4,
        ) {
            let settings = settings(size, budget);
            let steps: Vec<Step> = settings.steps(&examples, epochs, 0).collect();
            prop_assert_eq!(steps.len(), settings.steps_per_epoch(examples.len()) * epochs);
            for epoch in 0..epochs {
                let mut seen: Vec<usize> = steps.iter().filter(|s| s.epoch == epoch)
                    .flat_map(|s| s.examples.clone()).collect();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..examples.len()).collect::<Vec<_>>());
            }
            for step in &steps {
                let packed: Vec<MicroBatch> = step.pack(&examples).collect();
                let order: Vec<usize> = packed.iter().flat_map(|b| b.examples.clone()).collect();
                prop_assert_eq!(&order, &step.examples);
                for batch in &packed {
                    prop_assert!(batch.tokens.len() <= budget || batch.trees.len() == 1);
                    prop_assert_eq!(batch.tokens.len(), batch.positions.len());
                }
            }
        }

        #[test]
        fn a_resumed_run_takes_the_same_steps(
            examples in examples(), size in 1_usize..6, epochs in 1_usize..4, start in 0_usize..20, drop_last in any::<bool>(),
        ) {
            let settings = PackSettings { drop_last, ..settings(size, 20) };
            let whole: Vec<Step> = settings.steps(&examples, epochs, 0).collect();
            let resumed: Vec<Step> = settings.steps(&examples, epochs, start).collect();
            prop_assert_eq!(&whole[start.min(whole.len())..], &resumed[..]);
            if drop_last {
                prop_assert!(whole.iter().all(|step| step.examples.len() == size));
            }
        }

        #[test]
        fn each_scored_token_is_predicted_from_its_own_past(examples in examples()) {
            let indices: Vec<usize> = (0..examples.len()).collect();
            let batch = MicroBatch::pack(&examples, &indices);
            let scored: Vec<ScoredToken> = batch.scored().collect();
            let flat: Vec<(&Example, usize)> = examples.iter()
                .flat_map(|e| (0..e.completions.len()).map(move |k| (e, k))).collect();
            prop_assert_eq!(batch.completion_count(), flat.len());
            for (index, (example, which)) in flat.iter().enumerate() {
                let whole = [&example.prompt[..], &example.completions[*which]].concat();
                let of: Vec<&ScoredToken> = scored.iter().filter(|s| s.completion == index).collect();
                let first = example.prompt.len().max(1);
                prop_assert_eq!(of.len(), whole.len() - first);
                for (token, at) in of.iter().zip(first..) {
                    prop_assert_eq!(token.target, whole[at]);
                    prop_assert_eq!(batch.tokens[token.row], whole[at - 1]);
                    prop_assert_eq!(batch.positions[token.row] as usize, at - 1);
                }
            }
        }
    }
}
