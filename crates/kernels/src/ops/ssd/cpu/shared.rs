//! What the heads of a group share: the products of `C` and `B`, and the gradients by them.

use std::ops::Range;

use rayon::prelude::*;

use super::{BAND, CHUNK, Frame, Input, Layout, Part, Plan};
use crate::cpu::gemm::{Element, Left, Mode, PANEL, product};
use crate::cpu::pack::{rows_as_columns, rows_as_lines};
use crate::cpu::round::Rounding;
use crate::cpu::tiles::Shared;
use crate::cpu::words::{Words, with_scratch};
use crate::cpu::{Cpu, Loop};
use crate::{Device, Tensor};

/// `B`, then `C`, of all rows and groups: `[G][T][N]`.
pub(super) fn close_together(cpu: Cpu, layout: Layout, input: Input<'_>) -> [Tensor; 2] {
    let rows = input.xbc.rows();
    [Part::of_b, Part::of_c].map(|part_of| {
        let mut close = Tensor::unwritten(&Device::Cpu(cpu), layout.groups * rows, layout.state);
        let lines = close.as_mut_slice().par_chunks_exact_mut(layout.state).enumerate();
        lines.with_min_len(CHUNK).for_each(|(place, line)| {
            let part = part_of(layout, input.xbc, place / rows);
            line.copy_from_slice(part.row(place % rows));
        });
        close
    })
}

/// The products of `C` and `B` of the rows of each chunk, on and below the diagonal bands.
pub(super) fn scores(cpu: Cpu, layout: Layout, [b, c]: &[Tensor; 2], plan: &Plan) -> Tensor {
    let rows = b.rows() / layout.groups;
    let mut scores = Tensor::unwritten(&Device::Cpu(cpu), layout.groups * rows, CHUNK);
    let shared = Shared::new(scores.as_mut_slice(), CHUNK);
    let units = layout.groups * plan.chunks.len();
    (0..units).into_par_iter().for_each(|unit| {
        let (group, chunk) = (unit / plan.chunks.len(), &plan.chunks[unit % plan.chunks.len()]);
        let [b, c] = [b, c].map(|of| Part::of_group(of, layout, group));
        with_scratch(layout.state * PANEL, |scratch| {
            let panel = &mut scratch[..layout.state * PANEL];
            for first in (0..chunk.len()).step_by(BAND) {
                let count = (chunk.len() - first).min(BAND);
                let read = |row: usize, out: &mut [f32]| {
                    out.copy_from_slice(b.row(chunk.start + first + row));
                };
                rows_as_columns((cpu, Rounding::Exact), (count, layout.state), read, panel);
                let seen = chunk.start + first..chunk.end;
                let places = group * rows + seen.start..group * rows + seen.end;
                // SAFETY: a chunk of a group is one unit, and a unit runs once.
                let mut out = unsafe { shared.tile(places, first..first + BAND) };
                let left = c.rows(&seen);
                product((cpu, Element::F32), left, panel, &mut out, Mode::Replace);
            }
        });
    });
    scores
}

/// `C` of each chunk turned, `[chunks][G][CHUNK / 32][N][32 rows]`, zeros past a chunk's last row.
pub(super) fn turned_c(frame: &Frame<'_>) -> Words {
    let band = frame.layout.state * PANEL;
    let len = frame.layout.groups * band * (CHUNK / BAND);
    let mut turned = Words::unwritten(frame.plan.chunks.len() * len);
    let chunks = turned[..frame.plan.chunks.len() * len].par_chunks_exact_mut(len);
    chunks.zip(&frame.plan.chunks).for_each(|(turned, rows)| {
        for (index, panel) in turned.chunks_exact_mut(band).enumerate() {
            let (group, first) = (index / (CHUNK / BAND), index % (CHUNK / BAND) * BAND);
            let c = frame.of_c(group);
            let count = rows.len().saturating_sub(first).min(BAND);
            let read = |row: usize, out: &mut [f32]| {
                out.copy_from_slice(c.row(rows.start + first + row));
            };
            let shape = (count, frame.layout.state);
            rows_as_columns((frame.cpu, Rounding::Exact), shape, read, panel);
        }
    });
    turned
}

/// What a block of heads found for the rows of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// The numbers of one of the two gradients through states, `[N][CHUNK]`.
    pub(super) through: usize,
}

impl Found {
    pub(super) fn new(layout: Layout) -> Self {
        Self { through: layout.state * CHUNK }
    }

    /// The numbers for one chunk: the gradient by scores `[CHUNK][CHUNK]`, then the transposed ones
    /// by `B` and by `C` through states.
    pub(super) fn len(self) -> usize {
        CHUNK * CHUNK + 2 * self.through
    }
}

/// Adds up what the blocks of heads found, and writes the gradients by `B` and `C`.
///
/// `found` is `[chunks][G][blocks]` of [`Found`].
pub(super) fn gradients(
    frame: &Frame<'_>,
    (found, blocks): (&mut [f32], usize),
    d_xbc: Shared<'_>,
) {
    let of = Found::new(frame.layout);
    found.par_chunks_exact_mut(of.len() * blocks).enumerate().for_each(|(unit, found)| {
        let (chunk, group) = (unit / frame.layout.groups, unit % frame.layout.groups);
        let rows = &frame.plan.chunks[chunk];
        let (total, others) = found.split_at_mut(of.len());
        for other in others.chunks_exact(of.len()) {
            frame.cpu.run(Add { rows: rows.len(), from: other, to: total });
        }
        let (scores, through) = total.split_at(CHUNK * CHUNK);
        let (by_b, by_c) = through.split_at(of.through);
        let scores = Left::new(bytemuck::cast_slice(scores), rows.len(), rows.len());
        let down = scores.with_strides(CHUNK, 1);
        let across = scores.with_strides(1, CHUNK);
        let (b, c) = (frame.of_b(group), frame.of_c(group));
        let first =
            [Part::of_b, Part::of_c].map(|part| part(frame.layout, frame.input.xbc, group).first);
        by_part(frame, (by_b, first[0]), (c, rows), &d_xbc, |band| {
            (across.row_range(band.clone()).word_range(band.start..rows.len()), band.start)
        });
        by_part(frame, (by_c, first[1]), (b, rows), &d_xbc, |band| {
            (down.row_range(band.clone()).word_range(0..band.end), 0)
        });
    });
}

/// Writes a gradient: what came through states, and the product of scores with the other part.
///
/// `left(band)` gives the rows of the product for some rows of a chunk, and its first word.
fn by_part<'a>(
    frame: &Frame<'_>,
    (through, first): (&[f32], usize),
    (other, rows): (Part<'_>, &Range<usize>),
    d_xbc: &Shared<'_>,
    left: impl Fn(&Range<usize>) -> (Left<'a>, usize),
) {
    let state = frame.layout.state;
    with_scratch(rows.len() * PANEL, |scratch| {
        let panel = &mut scratch[..rows.len() * PANEL];
        for start in (0..state).step_by(PANEL) {
            let count = (state - start).min(PANEL);
            for (i, row) in rows.clone().enumerate() {
                // SAFETY: a group's columns of a chunk belong to one unit, which runs once.
                let out = unsafe { d_xbc.slice(row, first + start..first + start + count) };
                for (n, out) in out.iter_mut().enumerate() {
                    *out = through[(start + n) * CHUNK + i];
                }
            }
            let line = |row: usize| &other.row(row)[start..start + count];
            rows_as_lines((frame.cpu, Rounding::Exact), rows.clone(), line, panel);
            for band in (0..rows.len()).step_by(BAND) {
                let band = band..rows.len().min(band + BAND);
                let (left, word) = left(&band);
                let places = rows.start + band.start..rows.start + band.end;
                // SAFETY: as above.
                let mut out = unsafe { d_xbc.tile(places, first + start..first + start + count) };
                product(frame.kind(), left, &panel[word * PANEL..], &mut out, Mode::Add);
            }
        }
    });
}

/// Adds the first `rows` columns of lines, whole bands of them.
struct Add<'a> {
    rows: usize,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Loop for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let bands = self.rows.div_ceil(BAND);
        let lines = self.to.as_chunks_mut::<CHUNK>().0.iter_mut();
        for (to, from) in lines.zip(self.from.as_chunks::<CHUNK>().0) {
            let bands = to.as_chunks_mut::<BAND>().0.iter_mut().take(bands);
            for (to, from) in bands.zip(from.as_chunks::<BAND>().0) {
                *to = added(*to, from);
            }
        }
    }
}

/// The sums of two lines. By value, so that the compiler sees that they do not overlap.
#[inline(always)]
pub(super) fn added(mut to: [f32; BAND], from: &[f32; BAND]) -> [f32; BAND] {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
    to
}
