//! What a micro-batch asks of the model, and what it gets back.

use std::ops::Range;

use kernels::{Branches, Tree};

/// Token rows, their tree structure, and which rows predict which completion tokens.
#[derive(Clone, Debug)]
pub struct MicroBatch {
    /// The token of each row.
    pub tokens: Vec<u32>,
    /// The position of each row in its own sequence.
    pub positions: Vec<u32>,
    /// The trees that the rows form.
    pub branches: Branches,
    /// Every completion token that is scored, completion by completion.
    pub scored: Vec<Scored>,
    /// Number of completions that `scored` speaks of.
    pub completions: usize,
    /// What adapters do not see of their input, in every pass over the batch; usually nothing.
    pub dropout: Option<Dropout>,
}

/// Dropout on the input of every adapter, as PEFT's `lora_dropout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// A key for each row of the micro-batch: what is dropped is a function of it.
    pub rows: Vec<u64>,
    /// The share of elements that are dropped; at least 0, below 1.
    pub probability: f32,
}

impl Dropout {
    /// The dropout of one linear among all.
    pub(crate) fn of(&self, salt: u64) -> kernels::Dropout<'_> {
        kernels::Dropout { rows: &self.rows, salt, probability: self.probability }
    }
}

/// A prompt with its completions, as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence<'a> {
    /// The tokens that all completions continue.
    pub prompt: &'a [u32],
    /// Each completion, and how many of its first tokens are not scored.
    pub completions: Vec<(&'a [u32], usize)>,
    /// Where completions are scored, in order and apart from each other; empty for everywhere.
    pub spans: &'a [Range<usize>],
}

impl MicroBatch {
    /// Lays sequences one after the other: each prompt once, then its completions.
    ///
    /// The last token of a completion predicts nothing that is scored, so it gets no row. A first
    /// token without any row before it cannot be scored and is passed over.
    pub fn new(sequences: &[Sequence<'_>]) -> Self {
        let mut batch = Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            branches: Branches::default(),
            scored: Vec::new(),
            completions: 0,
            dropout: None,
        };
        for sequence in sequences {
            batch.push(sequence);
        }
        batch
    }

    fn push(&mut self, sequence: &Sequence<'_>) {
        // Products over rows take them two by two, so each tree starts at an even row: what is
        // summed with what does not depend on how a step is cut. The filler belongs to no tree.
        if !self.tokens.len().is_multiple_of(2) {
            self.tokens.push(0);
            self.positions.push(0);
        }
        let start = self.tokens.len();
        let prompt = sequence.prompt.len();
        self.tokens.extend(sequence.prompt);
        self.positions.extend(0..prompt as u32);
        let mut tree = Tree { start, prompt, completions: Vec::new() };
        let lengths =
            sequence.completions.iter().map(|(ids, unscored)| ids.len().saturating_sub(*unscored));
        let shortest = lengths.min().unwrap_or(0);
        for (ids, unscored) in &sequence.completions {
            let first = self.tokens.len();
            let fed = ids.len().saturating_sub(1);
            self.tokens.extend(&ids[..fed]);
            self.positions.extend((prompt..prompt + fed).map(|position| position as u32));
            tree.completions.push(fed);
            let before = |index: usize| match index {
                0 => (start + prompt).checked_sub(1).filter(|_| prompt > 0),
                _ => Some(first + index - 1),
            };
            let spans = sequence.spans;
            let is_scored = |index| spans.is_empty() || spans.iter().any(|it| it.contains(&index));
            for (index, target) in ids.iter().enumerate().skip(*unscored) {
                if !is_scored(index) {
                    continue;
                }
                let Some(row) = before(index) else { continue };
                self.scored.push(Scored {
                    row: row as u32,
                    target: *target,
                    completion: self.completions as u32,
                    in_tail: unscored + shortest <= index,
                });
            }
            self.completions += 1;
        }
        self.branches.trees.push(tree);
    }
}

/// One scored completion token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The row whose hidden state predicts the token.
    pub row: u32,
    /// The token.
    pub target: u32,
    /// The completion that it belongs to, from 0.
    pub completion: u32,
    /// Whether it comes after as many scored tokens as the shortest completion of its prompt has.
    pub in_tail: bool,
}

/// What a completion's log-probability counts for: the derivative of the loss by it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Coefficient {
    /// By the tokens up to the length of the shortest completion of the same prompt.
    pub head: f64,
    /// By the tokens after them.
    pub tail: f64,
}

impl From<f64> for Coefficient {
    /// The same for every token.
    fn from(all: f64) -> Self {
        Self { head: all, tail: all }
    }
}

/// What the model says about one completion; sums over its scored tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CompletionScore {
    /// Natural-log probability, in nats.
    pub logp: f64,
    /// The part of `logp` from tokens past the length of the prompt's shortest completion.
    pub tail_logp: f64,
    /// Number of scored tokens.
    pub token_count: u32,
    /// Entropy of the predictions, in nats.
    pub entropy: f64,
    /// Mean logit over the vocabulary.
    pub logits: f64,
    /// Log of the sum of squared probabilities, for WPO's weights.
    pub ln_sum_p2: f64,
    /// Tokens that were the unique most likely one.
    pub hits: u32,
}

/// One entry a completion, in the order of the micro-batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The completions.
    pub completions: Vec<CompletionScore>,
}

impl Scores {
    pub(crate) fn collect(batch: &MicroBatch, head: &kernels::ops::head::HeadOutput) -> Self {
        let mut completions = vec![CompletionScore::default(); batch.completions];
        for (index, scored) in batch.scored.iter().enumerate() {
            let sum = &mut completions[scored.completion as usize];
            sum.logp += f64::from(head.logp[index]);
            if scored.in_tail {
                sum.tail_logp += f64::from(head.logp[index]);
            }
            sum.token_count += 1;
            sum.entropy += f64::from(head.entropy[index]);
            sum.logits += f64::from(head.mean_logit[index]);
            sum.ln_sum_p2 += f64::from(head.ln_sum_p2[index]);
            sum.hits += u32::from(head.is_argmax[index]);
        }
        Self { completions }
    }
}
