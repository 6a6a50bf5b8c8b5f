//! The backward pass: each run of queries of a head walks over the keys that it sees once more.
//!
//! A unit is one prompt or branch under one query head. It writes the gradients of its own queries,
//! and those of its own keys and of its prompt's keys to a place of its own; these are added up
//! afterwards, heads first, then prompt and branches, in order. Queries go in blocks of [`BLOCK`].

use std::marker::PhantomData;

use rayon::prelude::*;

use super::super::segments::{Segment, of_branches};
use super::super::{Saved, Shape};
use super::means::means;
use super::pack::{self, Format, with_format};
use super::softmax;
use super::{BLOCK, Block, Columns, Frame, blocks};
use crate::Tensor;
use crate::cpu::gemm::{Left, Mode, Out, PANEL, panel_count, product};
use crate::cpu::round::Rounding;
use crate::cpu::tiles::Shared;
use crate::cpu::turn::{F32_BLOCK, turn_f32};
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop};

/// Writes the gradient by queries, keys and values.
pub(in super::super) fn backward(
    cpu: Cpu,
    d_out: &Tensor,
    (saved, qkv): (Saved<'_>, &Tensor),
    shape: Shape<'_>,
    d_qkv: &mut Tensor,
) {
    let segments = of_branches(shape.branches);
    let frame = Frame::new((cpu, saved.out.rounding()), shape.heads, shape.scoring, &segments);
    let [queries, keys, values] = Columns::of_tensor(qkv, shape.heads);
    let gradients =
        Columns { values: d_out.as_slice(), stride: d_out.cols(), first: 0, dim: shape.heads.dim };
    let means = means(&frame, saved.out, d_out);
    let places = Places::new(&frame);
    let (rows, lines) = (frame.row_words(), frame.line_words());
    with_scratch(2 * rows + lines, |packed| {
        with_scratch(places.total, |parts| {
            let (key_rows, rest) = packed.split_at_mut(rows);
            let (value_rows, rest) = rest.split_at_mut(rows);
            let key_lines = &mut rest[..lines];
            pack::rows(&frame, keys, key_rows);
            pack::rows(&frame, values, value_rows);
            pack::lines(&frame, keys, key_lines);
            let parts = &mut parts.as_f32_mut()[..places.total];
            let cols = d_qkv.cols();
            let pass = Pass {
                frame: &frame,
                sources: [queries, gradients],
                saved,
                means: &means,
                key_rows,
                value_rows,
                key_lines,
                places: &places,
                parts: Shared::new(parts, places.total),
                d_qkv: Shared::new(d_qkv.as_mut_slice(), cols),
            };
            let units = frame.heads.query * segments.len();
            (0..units).into_par_iter().with_max_len(1).for_each(|unit| {
                pass.unit(unit / segments.len(), unit % segments.len());
            });
            add_up(&frame, &places, parts, d_qkv);
        });
    });
}

/// Where each unit keeps the gradients by the keys and values that it sees.
struct Places {
    /// For each head and segment, where its own keys begin; the prompt's keys, then the values in
    /// the same order, follow.
    starts: Vec<usize>,
    total: usize,
}

impl Places {
    fn new(frame: &Frame<'_>) -> Self {
        let (mut starts, mut total) = (Vec::new(), 0);
        for _ in 0..frame.heads.query {
            for segment in frame.segments {
                starts.push(total);
                total += 2 * Self::seen(segment) * frame.heads.dim;
            }
        }
        Self { starts, total }
    }

    /// The number of keys that a segment's unit writes gradients of: none if nobody asks.
    fn seen(segment: &Segment) -> usize {
        if segment.rows.is_empty() { 0 } else { segment.rows.len() + segment.before.len() }
    }
}

struct Pass<'a> {
    frame: &'a Frame<'a>,
    /// The queries and the gradients by the output.
    sources: [Columns<'a>; 2],
    saved: Saved<'a>,
    /// Of each query and head, the mean gradient by its probabilities, `[T, H]`.
    means: &'a [f32],
    key_rows: &'a [u32],
    value_rows: &'a [u32],
    key_lines: &'a [u32],
    places: &'a Places,
    parts: Shared<'a>,
    d_qkv: Shared<'a>,
}

/// A unit's own memory and that of its block of queries.
struct Scratch<'a> {
    /// Queries and gradients by the output as the columns of each panel.
    across: [&'a mut [u32]; 2],
    /// The same as lines of column panels.
    down: [&'a mut [u32]; 2],
    /// Scores and gradients by probabilities, `[BLOCK][32]`.
    scores: [&'a mut [f32]; 2],
    /// Probabilities and gradients by scores with keys down, `[BLOCK][words(BLOCK)]`.
    left: [&'a mut [u32]; 2],
    /// Gradients by scores of one panel, `[words(BLOCK)][32]`.
    panel: &'a mut [u32],
    /// Gradients by queries, `[panel][D][32]`.
    sums: &'a mut [f32],
}

impl<'a> Scratch<'a> {
    fn sizes(frame: &Frame<'_>) -> [usize; 6] {
        let dim = frame.heads.dim;
        let across = frame.words(dim) * BLOCK;
        let down = panel_count(dim) * frame.words(BLOCK) * PANEL;
        let scores = BLOCK * PANEL;
        let left = BLOCK * frame.words(BLOCK);
        [across, down, scores, left, frame.words(BLOCK) * PANEL, dim * BLOCK]
    }

    fn words(frame: &Frame<'_>) -> usize {
        let [across, down, scores, left, panel, sums] = Self::sizes(frame);
        2 * (across + down + scores + left) + panel + sums
    }

    fn new(frame: &Frame<'_>, words: &'a mut [u32]) -> Self {
        let [across, down, scores, left, panel, sums] = Self::sizes(frame);
        let mut rest = words;
        let mut take = |count: usize| {
            let (taken, after) = std::mem::take(&mut rest).split_at_mut(count);
            rest = after;
            taken
        };
        Self {
            across: [take(across), take(across)],
            down: [take(down), take(down)],
            scores: [take(scores), take(scores)].map(bytemuck::cast_slice_mut),
            left: [take(left), take(left)],
            panel: take(panel),
            sums: bytemuck::cast_slice_mut(take(sums)),
        }
    }
}

/// A block of queries of one unit.
struct Asked<'a> {
    segment: &'a Segment,
    head: usize,
    /// The first query's place in its segment; a multiple of [`BLOCK`].
    first: usize,
    /// The number of queries, and of panels of them.
    count: usize,
    panels: usize,
    /// Of each query, the logarithm of its sum (infinite past the last, so that probabilities are
    /// zero) and the mean gradient by its probabilities.
    lse: [[f32; PANEL]; BLOCK / PANEL],
    mean: [[f32; PANEL]; BLOCK / PANEL],
}

impl Pass<'_> {
    fn unit(&self, head: usize, index: usize) {
        let (frame, segment) = (self.frame, &self.frame.segments[index]);
        let start = self.places.starts[head * frame.segments.len() + index];
        let len = Places::seen(segment) * frame.heads.dim;
        // SAFETY: each unit has places of its own, and runs once.
        let [dk, dv] = [start, start + len].map(|at| unsafe { self.parts.slice(0, at..at + len) });
        with_scratch(Scratch::words(frame), |scratch| {
            let mut scratch = Scratch::new(frame, &mut scratch[..Scratch::words(frame)]);
            if frame.scoring.window.is_some() {
                // The first queries may be past the window of a key.
                dk.fill(0.0);
                dv.fill(0.0);
            }
            for first in (0..segment.rows.len()).step_by(BLOCK) {
                let asked = self.ask(segment, head, first, &mut scratch);
                for block in blocks(segment, first..first + asked.count, frame.scoring) {
                    self.block(&asked, &block, &mut scratch, [&mut *dk, &mut *dv]);
                }
                self.write_queries(&asked, scratch.sums);
            }
        });
    }

    /// Packs a block of queries and the gradients by their outputs.
    fn ask<'s>(
        &self,
        segment: &'s Segment,
        head: usize,
        first: usize,
        scratch: &mut Scratch<'_>,
    ) -> Asked<'s> {
        let (frame, dim) = (self.frame, self.frame.heads.dim);
        let count = (segment.rows.len() - first).min(BLOCK);
        let mut lse = [[f32::INFINITY; PANEL]; BLOCK / PANEL];
        let mut mean = [[0.0; PANEL]; BLOCK / PANEL];
        let row = segment.rows.start + first;
        let panels = count.div_ceil(PANEL);
        for (side, source) in self.sources.iter().enumerate() {
            let across = scratch.across[side].chunks_exact_mut(frame.words(dim) * PANEL);
            for (panel, across) in across.take(panels).enumerate() {
                let at = panel * PANEL;
                let rows = (row + at, (count - at).min(PANEL), head);
                pack::across(frame, *source, rows, across);
                let down = &mut scratch.down[side][frame.words(at) * PANEL..];
                pack::down(frame, *source, rows, (down, frame.words(BLOCK) * PANEL));
            }
        }
        for query in 0..count {
            let at = (row + query) * frame.heads.query + head;
            lse[query / PANEL][query % PANEL] = self.saved.lse[at];
            mean[query / PANEL][query % PANEL] = self.means[at];
        }
        Asked { segment, head, first, count, panels, lse, mean }
    }

    /// All products of a block of queries with a block of keys.
    fn block(
        &self,
        asked: &Asked<'_>,
        block: &Block,
        scratch: &mut Scratch<'_>,
        parts: [&mut [f32]; 2],
    ) {
        let frame = self.frame;
        for panel in 0..asked.panels {
            self.panel(asked, block, panel, scratch);
        }
        // On the diagonal, 32 keys at a time need no earlier panel than their own.
        let diagonal = block.own == Some(asked.first);
        let step = if diagonal { PANEL } else { BLOCK };
        let first_time =
            frame.scoring.window.is_none() && block.own.map_or(asked.first == 0, |_| diagonal);
        let mode = if first_time { Mode::Replace } else { Mode::Add };
        let place =
            block.own.unwrap_or(asked.segment.rows.len() + block.slot - asked.segment.before_slot);
        let dim = frame.heads.dim;
        for (left, (down, part)) in [1, 0].into_iter().zip(scratch.down.iter().zip(parts)) {
            let left = Left::new(scratch.left[left], block.keys, frame.words(BLOCK));
            for keys in (0..block.keys).step_by(step) {
                let rows = keys..block.keys.min(keys + step);
                let words =
                    frame.words(if diagonal { keys } else { 0 })..frame.words(asked.panels * PANEL);
                let part = &mut part[(place + keys) * dim..(place + rows.end) * dim];
                let left = left.row_range(rows).word_range(words.clone());
                let panels = down.chunks_exact(frame.words(BLOCK) * PANEL);
                for (first, down) in (0..dim).step_by(PANEL).zip(panels) {
                    let mut out = Out::new(&mut part[first..], dim, PANEL.min(dim - first));
                    product(frame.kind(), left, &down[words.start * PANEL..], &mut out, mode);
                }
            }
        }
    }

    /// Probabilities and gradients of one panel of queries, and the gradients by these queries.
    fn panel(&self, asked: &Asked<'_>, block: &Block, panel: usize, scratch: &mut Scratch<'_>) {
        let (frame, dim) = (self.frame, self.frame.heads.dim);
        let first = asked.first + panel * PANEL;
        // Later keys than the panel's last query are hidden from all of it.
        let seen = block.own.map_or(block.keys, |own| block.keys.min(first + PANEL - own));
        let block = Block { keys: seen, ..*block };
        let group = frame.group(asked.head);
        let across = frame.words(dim) * PANEL;
        let [scores, dp] = &mut scratch.scores;
        let (scores, dp) = (&mut scores[..seen * PANEL], &mut dp[..seen * PANEL]);
        for (side, (packed, out)) in
            [(self.key_rows, &mut *scores), (self.value_rows, &mut *dp)].into_iter().enumerate()
        {
            let right = &scratch.across[side][panel * across..(panel + 1) * across];
            let keys = frame.rows_of(packed, group, &block);
            product(frame.kind(), keys, right, &mut Out::new(out, PANEL, PANEL), Mode::Replace);
        }
        let (lse, mean) = (&asked.lse[panel], &asked.mean[panel]);
        let scale = softmax::cap_gradients(frame.cpu, frame.scoring, (scores, dp), mean);
        block.hide((first, asked.segment.before.len() + first), frame.scoring, scores);
        let words = &mut scratch.panel[..frame.words(seen) * PANEL];
        let (stride, at) = (frame.words(BLOCK), frame.words(panel * PANEL));
        let [p, ds] = &mut scratch.left;
        with_format!(frame.rounding, F => F::gradients(
            frame.cpu,
            softmax::Backward {
                scale,
                scores,
                dp,
                lse,
                mean,
                stride,
                p: &mut p[at..],
                ds: &mut ds[at..],
                panel: words,
                format: PhantomData,
            },
        ));
        let sums = &mut scratch.sums[panel * dim * PANEL..(panel + 1) * dim * PANEL];
        let mode = if block.first { Mode::Replace } else { Mode::Add };
        let keys = frame.lines_of(self.key_lines, group, &block);
        product(frame.kind(), keys, words, &mut Out::new(sums, PANEL, PANEL), mode);
    }

    /// Writes the gradients by a block of queries.
    fn write_queries(&self, asked: &Asked<'_>, sums: &[f32]) {
        let (frame, dim) = (self.frame, self.frame.heads.dim);
        let mut block = [0; F32_BLOCK];
        for panel in 0..asked.panels {
            let row = asked.segment.rows.start + asked.first + panel * PANEL;
            let count = (asked.count - panel * PANEL).min(PANEL);
            for first in (0..dim).step_by(PANEL) {
                let cols = first..dim.min(first + PANEL);
                let at = panel * dim + first;
                let lines = &sums[at * PANEL..(at + cols.len()) * PANEL];
                turn_f32(frame.cpu, bytemuck::cast_slice(lines), &mut block);
                let rows = bytemuck::cast_slice::<u32, f32>(&block).as_chunks::<PANEL>().0;
                for (query, values) in rows.iter().take(count).enumerate() {
                    let start = asked.head * dim;
                    let cols = start + cols.start..start + cols.end;
                    // SAFETY: each head of each row belongs to one unit, and a unit runs once.
                    let out = unsafe { self.d_qkv.slice(row + query, cols) };
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = frame.scoring.scale * value;
                    }
                }
            }
        }
    }
}

/// Adds up what the units found for each key and value.
fn add_up(frame: &Frame<'_>, places: &Places, parts: &[f32], d_qkv: &mut Tensor) {
    let (dim, count) = (frame.heads.dim, frame.segments.len());
    let per_group = frame.heads.query / frame.heads.key_value;
    let cols = d_qkv.cols();
    for (index, segment) in frame.segments.iter().enumerate() {
        // Its own unit, then the branches that see it as their prompt; of each, the place of the
        // segment's first row among the keys that the unit sees.
        let mut readers = vec![(index, 0)];
        readers.extend(frame.segments.iter().enumerate().filter_map(|(branch, other)| {
            let sees = other.before == segment.rows && !other.rows.is_empty() && branch != index;
            sees.then_some((branch, other.rows.len()))
        }));
        let rows = &mut d_qkv.as_mut_slice()[segment.rows.start * cols..segment.rows.end * cols];
        rows.par_chunks_exact_mut(cols).enumerate().for_each(|(row, d_qkv)| {
            let (d_keys, d_values) =
                d_qkv[frame.heads.query * dim..].split_at_mut(frame.heads.key_value * dim);
            for group in 0..frame.heads.key_value {
                let (dk, dv) =
                    (&mut d_keys[group * dim..][..dim], &mut d_values[group * dim..][..dim]);
                for head in group * per_group..(group + 1) * per_group {
                    for &(reader, place) in &readers {
                        let start = places.starts[head * count + reader] + (place + row) * dim;
                        let len = Places::seen(&frame.segments[reader]) * dim;
                        frame.cpu.run(AddScaled {
                            scale: frame.scoring.scale,
                            from: &parts[start..][..dim],
                            to: dk,
                        });
                        frame.cpu.run(AddScaled {
                            scale: 1.0,
                            from: &parts[start + len..][..dim],
                            to: dv,
                        });
                    }
                }
            }
        });
    }
}

struct AddScaled<'a> {
    scale: f32,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Loop for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to += self.scale * from;
        }
    }
}
