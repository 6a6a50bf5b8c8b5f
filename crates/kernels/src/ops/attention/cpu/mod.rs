//! Attention on processors: blocks of scores with keys down and queries across.
//!
//! Scores are computed transposed, `[keys, 32 queries]`: every maximum, sum and rescaling is then
//! one vector instruction on 16 queries, and rounded scores are the right side of the next product
//! as they lie. Queries go in panels of 32, keys in blocks of [`BLOCK`].

mod backward;
mod decode;
mod forward;
mod means;
mod pack;
mod softmax;
#[cfg(target_arch = "x86_64")]
mod softmax_avx512;

use std::ops::Range;

use super::segments::Segment;
use super::{Scoring, Shape};
use crate::cpu::Cpu;
use crate::cpu::gemm::{Element, Left, PANEL};
use crate::cpu::round::Rounding;
use crate::{Heads, Operand, Tensor};

pub(super) use backward::backward;
pub(super) use decode::{PACKED_ROWS, decode, decode_each};

/// The keys of a block; blocks are counted from the start of a prompt or branch.
pub(super) const BLOCK: usize = 128;

/// Attends from all rows to the keys of their own tree.
pub(super) fn forward(
    cpu: Cpu,
    qkv: &Tensor,
    shape: Shape<'_>,
    (out, lse): (&mut Operand, &mut [f32]),
) {
    let segments = super::segments::of_branches(shape.branches);
    let rounding = out.rounding();
    let frame = Frame::new((cpu, rounding), shape.heads, shape.scoring, &segments);
    let [queries, keys, values] = Columns::of_tensor(qkv, shape.heads);
    let queries = forward::Queries { columns: queries, row: 0, segments: &segments };
    forward::forward(&frame, queries, [keys, values], (out, Some(lse)));
}

/// What all parts of a call share.
#[derive(Clone, Copy)]
struct Frame<'a> {
    cpu: Cpu,
    rounding: Rounding,
    heads: Heads,
    scoring: Scoring,
    segments: &'a [Segment],
    /// The slots of all segments.
    slots: usize,
}

impl<'a> Frame<'a> {
    fn new(
        (cpu, rounding): (Cpu, Rounding),
        heads: Heads,
        scoring: Scoring,
        segments: &'a [Segment],
    ) -> Self {
        Self { cpu, rounding, heads, scoring, segments, slots: super::segments::slots(segments) }
    }

    /// How the product is told what words are.
    fn kind(&self) -> (Cpu, Element) {
        (self.cpu, self.rounding.element())
    }

    /// The words of `count` elements.
    fn words(&self, count: usize) -> usize {
        self.rounding.element().words(count)
    }

    /// The key head of a query head.
    fn group(&self, head: usize) -> usize {
        head / (self.heads.query / self.heads.key_value)
    }

    /// The words of all keys packed as rows, `[G][slots][words(D)]`.
    fn row_words(&self) -> usize {
        self.heads.key_value * self.slots * self.words(self.heads.dim)
    }

    /// The words of all keys packed as lines, `[G][words(slots)][D]`.
    fn line_words(&self) -> usize {
        self.heads.key_value * self.words(self.slots) * self.heads.dim
    }

    /// Some keys of a head as left rows: `[keys, D]`.
    fn rows_of<'b>(&self, packed: &'b [u32], group: usize, block: &Block) -> Left<'b> {
        let words = self.words(self.heads.dim);
        Left::new(&packed[(group * self.slots + block.slot) * words..], block.keys, words)
    }

    /// Some keys of a head as left columns: `[D, keys]`.
    fn lines_of<'b>(&self, packed: &'b [u32], group: usize, block: &Block) -> Left<'b> {
        let dim = self.heads.dim;
        let start = self.words(group * self.slots + block.slot) * dim;
        Left::new(&packed[start..], dim, self.words(block.keys)).with_strides(1, dim)
    }
}

/// Rows of some columns for each head.
#[derive(Clone, Copy)]
struct Columns<'a> {
    values: &'a [f32],
    /// From one row to the next.
    stride: usize,
    /// The first column of head 0.
    first: usize,
    dim: usize,
}

impl<'a> Columns<'a> {
    /// Queries, keys and values of a tensor.
    fn of_tensor(qkv: &'a Tensor, heads: Heads) -> [Self; 3] {
        [0, heads.query, heads.query + heads.key_value].map(|head| Self {
            values: qkv.as_slice(),
            stride: qkv.cols(),
            first: head * heads.dim,
            dim: heads.dim,
        })
    }

    /// The values of one row and head.
    fn row(&self, row: usize, head: usize) -> &'a [f32] {
        let start = row * self.stride + self.first + head * self.dim;
        &self.values[start..start + self.dim]
    }

    /// Asks for a row and head ahead of time: rows lie too far apart for the machine to guess.
    #[inline]
    fn prefetch(&self, row: usize, head: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in self.row(row, head).chunks(16) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint on an address inside the array; it reads and writes nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (row, head);
    }
}

/// Consecutive keys that a panel of queries sees.
struct Block {
    /// The first key among packed keys.
    slot: usize,
    /// How many keys there are; at most [`BLOCK`].
    keys: usize,
    /// The place of the first key in the sequence of prompt and branch.
    place: usize,
    /// The place of the first key in the queries' own segment; `None` where all queries come later.
    own: Option<usize>,
    /// Whether the queries see no earlier block.
    first: bool,
}

impl Block {
    /// Hides scores from a panel whose first query is the segment's row `first` and stands at
    /// `place` of its sequence: for each key, the queries that come before it, and those that are
    /// past its window.
    fn hide(&self, (first, place): (usize, usize), scoring: Scoring, scores: &mut [f32]) {
        if let Some(own) = self.own {
            for (key, scores) in (own..).zip(scores.chunks_exact_mut(PANEL).take(self.keys)) {
                if key > first {
                    scores[..(key - first).min(PANEL)].fill(f32::NEG_INFINITY);
                }
            }
        }
        let Some(window) = scoring.window else { return };
        for (key, scores) in (self.place..).zip(scores.chunks_exact_mut(PANEL).take(self.keys)) {
            let past = key.saturating_add(window).saturating_sub(place);
            scores[past.min(PANEL)..].fill(f32::NEG_INFINITY);
        }
    }
}

/// The blocks of keys that a segment's queries of places `queries` see, in order.
fn blocks(
    segment: &Segment,
    queries: Range<usize>,
    scoring: Scoring,
) -> impl Iterator<Item = Block> {
    let (before, before_slot, slot) = (segment.before.len(), segment.before_slot, segment.slot);
    let seen_from = scoring.first_seen(before + queries.start);
    let prompt = (0..before).step_by(BLOCK).map(move |start| Block {
        slot: before_slot + start,
        keys: (before - start).min(BLOCK),
        place: start,
        own: None,
        first: false,
    });
    let own = (0..queries.end).step_by(BLOCK).map(move |start| Block {
        slot: slot + start,
        keys: (queries.end - start).min(BLOCK),
        place: before + start,
        own: Some(start),
        first: false,
    });
    let seen = prompt.chain(own).skip_while(move |block| block.place + block.keys <= seen_from);
    seen.enumerate().map(|(index, block)| Block { first: index == 0, ..block })
}
