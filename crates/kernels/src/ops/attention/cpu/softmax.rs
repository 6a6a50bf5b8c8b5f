//! The loops between the products: from scores to probabilities, and to their gradients.
//!
//! All arrays are `[keys][32]`: a key a line, a query a column.

use std::marker::PhantomData;

use super::pack::Format;
use crate::cpu::exp::exp;
use crate::cpu::gemm::PANEL;
use crate::cpu::tanh::tanh;
use crate::cpu::{Cpu, Loop};
use crate::ops::attention::Scoring;

/// A line of scores.
type Line = [f32; PANEL];

/// The running maximum and sum of each query of a panel.
pub(super) struct Running {
    /// The largest score so far.
    pub(super) max: Line,
    /// The sum of `exp(score - max)`.
    pub(super) sum: Line,
}

/// A score that no other is below; finite, so that a query may see nothing of its first block.
const LOWEST: f32 = -1e30;

impl Running {
    pub(super) fn new() -> Self {
        Self { max: [LOWEST; PANEL], sum: [0.0; PANEL] }
    }
}

/// Bends a block of products towards the cap, if there is one; returns what is left to scale by.
pub(super) fn cap(cpu: Cpu, scoring: Scoring, scores: &mut [f32]) -> f32 {
    let Some(cap) = scoring.softcap else { return scoring.scale };
    cpu.run(Cap { scale: scoring.scale, limit: cap, scores });
    1.0
}

/// The same for the backward pass: with it, what `dp` is above the mean is multiplied by the slope
/// of the cap.
pub(super) fn cap_gradients(
    cpu: Cpu,
    scoring: Scoring,
    (scores, dp): (&mut [f32], &mut [f32]),
    mean: &Line,
) -> f32 {
    let scale = cap(cpu, scoring, scores);
    if let Some(cap) = scoring.softcap {
        cpu.run(CapSlopes { limit: cap, scores, dp, mean });
    }
    scale
}

struct Cap<'a> {
    scale: f32,
    limit: f32,
    scores: &'a mut [f32],
}

impl Loop for Cap<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for score in self.scores {
            *score = self.limit * tanh(*score * self.scale / self.limit);
        }
    }
}

struct CapSlopes<'a> {
    limit: f32,
    /// `[keys][32]`, capped.
    scores: &'a [f32],
    /// `[keys][32]`.
    dp: &'a mut [f32],
    /// 32 means; a slice, as in [`Shrink`].
    mean: &'a [f32],
}

impl Loop for CapSlopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = self.mean.len();
        for (scores, dp) in self.scores.chunks_exact(width).zip(self.dp.chunks_exact_mut(width)) {
            for ((dp, score), mean) in dp.iter_mut().zip(scores).zip(self.mean) {
                let part = score / self.limit;
                *dp = mean + (*dp - mean) * (1.0 - part * part);
            }
        }
    }
}

/// Takes a block of scores into the running sums and writes the words of `exp(score - max)`.
///
/// Returns by how much the sums of earlier blocks shrink.
pub(super) struct Forward<'a, F> {
    pub(super) scale: f32,
    /// `[keys][32]`.
    pub(super) scores: &'a [f32],
    pub(super) running: &'a mut Running,
    /// `[words(keys)][32]`.
    pub(super) words: &'a mut [u32],
    pub(super) format: PhantomData<F>,
}

impl<F: Format> Loop for Forward<'_, F> {
    type Output = Line;

    #[inline(always)]
    fn run(self) -> Line {
        let scores = self.scores.as_chunks::<PANEL>().0;
        let mut max = self.running.max;
        for line in scores {
            for c in 0..PANEL {
                let score = line[c] * self.scale;
                max[c] = if score > max[c] { score } else { max[c] };
            }
        }
        let mut shrink = [0.0; PANEL];
        let mut sum = self.running.sum;
        for c in 0..PANEL {
            shrink[c] = exp(self.running.max[c] - max[c]);
            sum[c] *= shrink[c];
        }
        let words = self.words.as_chunks_mut::<PANEL>().0;
        if F::PER_WORD == 1 {
            for (line, words) in scores.iter().zip(words) {
                for c in 0..PANEL {
                    let p = exp(line[c] * self.scale - max[c]);
                    sum[c] += p;
                    words[c] = F::word(p, 0.0);
                }
            }
        } else {
            let (pairs, last) = scores.as_chunks::<2>();
            for ([even, odd], words) in pairs.iter().zip(words.iter_mut()) {
                for c in 0..PANEL {
                    let p = exp(even[c] * self.scale - max[c]);
                    let q = exp(odd[c] * self.scale - max[c]);
                    sum[c] += p;
                    sum[c] += q;
                    words[c] = F::word(p, q);
                }
            }
            if let ([line], Some(words)) = (last, words.last_mut()) {
                for c in 0..PANEL {
                    let p = exp(line[c] * self.scale - max[c]);
                    sum[c] += p;
                    words[c] = F::word(p, 0.0);
                }
            }
        }
        *self.running = Running { max, sum };
        shrink
    }
}

/// Multiplies each column of `[rows][32]` by its own factor.
pub(super) struct Shrink<'a> {
    pub(super) values: &'a mut [f32],
    /// 32 factors; a slice, as the compiler would take 16 lines at once apart by columns if it
    /// knew how many there are.
    pub(super) by: &'a [f32],
}

impl Loop for Shrink<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for line in self.values.chunks_exact_mut(self.by.len()) {
            for (value, by) in line.iter_mut().zip(self.by) {
                *value *= by;
            }
        }
    }
}

/// From scores and gradients by probabilities to the words of probabilities and of gradients by
/// scores.
pub(super) struct Backward<'a, F> {
    pub(super) scale: f32,
    /// `[keys][32]`.
    pub(super) scores: &'a [f32],
    /// The gradients by probabilities, `[keys][32]`.
    pub(super) dp: &'a [f32],
    /// Of each query, the logarithm of its sum.
    pub(super) lse: &'a Line,
    /// Of each query, the mean gradient by its probabilities.
    pub(super) mean: &'a Line,
    /// Words to a key's row in the two left sides below.
    pub(super) stride: usize,
    /// Probabilities with keys down: a row has `words(32)` words, pairs are queries `w`, `w + 16`.
    pub(super) p: &'a mut [u32],
    /// Gradients by scores in the same layout.
    pub(super) ds: &'a mut [u32],
    /// Gradients by scores as a panel: `[words(keys)][32]`, pairs are keys.
    pub(super) panel: &'a mut [u32],
    pub(super) format: PhantomData<F>,
}

impl<F: Format> Backward<'_, F> {
    #[inline(always)]
    fn line(&self, score: &Line, dp: &Line) -> (Line, Line) {
        let (mut p, mut ds) = ([0.0; PANEL], [0.0; PANEL]);
        for c in 0..PANEL {
            p[c] = exp(score[c] * self.scale - self.lse[c]);
            ds[c] = p[c] * (dp[c] - self.mean[c]);
        }
        (p, ds)
    }

    #[inline(always)]
    fn write_left(values: &Line, words: &mut [u32]) {
        if F::PER_WORD == 1 {
            for (word, &value) in words.iter_mut().zip(values) {
                *word = F::word(value, 0.0);
            }
        } else {
            let (low, high) = values.split_at(PANEL / 2);
            for ((word, &low), &high) in words.iter_mut().zip(low).zip(high) {
                *word = F::word(low, high);
            }
        }
    }
}

impl<F: Format> Loop for Backward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let (scores, dp) = (self.scores.as_chunks::<PANEL>().0, self.dp.as_chunks::<PANEL>().0);
        let panel = std::mem::take(&mut self.panel).as_chunks_mut::<PANEL>().0;
        let width = PANEL / F::PER_WORD;
        let mut at = 0;
        let blocks = scores.chunks(F::PER_WORD).zip(dp.chunks(F::PER_WORD));
        for ((scores, dp), words) in blocks.zip(panel) {
            let mut pair = [[0.0; PANEL]; 2];
            for ((score, dp), gradient) in scores.iter().zip(dp).zip(&mut pair) {
                let (p, ds) = self.line(score, dp);
                Self::write_left(&p, &mut self.p[at..at + width]);
                Self::write_left(&ds, &mut self.ds[at..at + width]);
                *gradient = ds;
                at += self.stride;
            }
            for c in 0..PANEL {
                words[c] = F::word(pair[0][c], pair[1][c]);
            }
        }
    }
}
