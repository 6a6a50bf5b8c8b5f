//! The forward pass: each panel of 32 queries walks over the keys that it sees.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::super::segments::Segment;
use super::pack::{self, Format, with_format};
use super::softmax::{self, Running};
use super::{BLOCK, Columns, Frame, blocks};
use crate::Operand;
use crate::cpu::gemm::{Mode, Out, PANEL, product};
use crate::cpu::round::Rounding;
use crate::cpu::tiles::Shared;
use crate::cpu::turn::{F32_BLOCK, turn_f32};
use crate::cpu::words::with_scratch;
use crate::operand::Writer;

/// The rows that ask.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    pub(super) columns: Columns<'a>,
    /// The row of the keys that row 0 of the queries, outputs and sums stands for.
    pub(super) row: usize,
    /// The segments of these rows.
    pub(super) segments: &'a [Segment],
}

/// Writes the attended values of all queries, and the logarithms of their sums where asked.
pub(super) fn forward(
    frame: &Frame<'_>,
    queries: Queries<'_>,
    [keys, values]: [Columns<'_>; 2],
    (out, lse): (&mut Operand, Option<&mut [f32]>),
) {
    let panels: Vec<(&Segment, usize)> = queries
        .segments
        .iter()
        .flat_map(|segment| (0..segment.rows.len()).step_by(PANEL).map(move |at| (segment, at)))
        .collect();
    with_scratch(frame.row_words() + frame.line_words(), |scratch| {
        let (key_rows, rest) = scratch.split_at_mut(frame.row_words());
        let value_lines = &mut rest[..frame.line_words()];
        pack::rows(frame, keys, key_rows);
        pack::lines(frame, values, value_lines);
        let pass = Pass {
            frame,
            queries,
            key_rows,
            value_lines,
            out: out.writer(),
            lse: lse.map(|lse| Shared::new(lse, frame.heads.query)),
        };
        let units = frame.heads.query * panels.len();
        (0..units).into_par_iter().for_each(|unit| {
            let (segment, first) = panels[unit % panels.len()];
            pass.panel(unit / panels.len(), segment, first);
        });
    });
}

struct Pass<'a> {
    frame: &'a Frame<'a>,
    queries: Queries<'a>,
    key_rows: &'a [u32],
    value_lines: &'a [u32],
    out: Writer<'a>,
    lse: Option<Shared<'a>>,
}

impl Pass<'_> {
    /// One panel of one head: the queries of places `first..` in their segment.
    fn panel(&self, head: usize, segment: &Segment, first: usize) {
        let (frame, dim) = (self.frame, self.frame.heads.dim);
        let count = (segment.rows.len() - first).min(PANEL);
        let row = segment.rows.start + first - self.queries.row;
        let query_words = frame.words(dim) * PANEL;
        let score_words = frame.words(BLOCK) * PANEL;
        let lines = dim.next_multiple_of(PANEL) * PANEL;
        with_scratch(query_words + BLOCK * PANEL + score_words + lines, |scratch| {
            let (query, rest) = scratch.split_at_mut(query_words);
            let (scores, rest) = rest.split_at_mut(BLOCK * PANEL);
            let (words, rest) = rest.split_at_mut(score_words);
            let sums: &mut [f32] = bytemuck::cast_slice_mut(&mut rest[..lines]);
            let scores: &mut [f32] = bytemuck::cast_slice_mut(scores);
            pack::across(frame, self.queries.columns, (row, count, head), query);
            let mut running = Running::new();
            for block in blocks(segment, first..first + count, frame.scoring) {
                let group = frame.group(head);
                let scores = &mut scores[..block.keys * PANEL];
                let words = &mut words[..frame.words(block.keys) * PANEL];
                let keys = frame.rows_of(self.key_rows, group, &block);
                product(
                    frame.kind(),
                    keys,
                    query,
                    &mut Out::new(scores, PANEL, PANEL),
                    Mode::Replace,
                );
                let scale = softmax::cap(frame.cpu, frame.scoring, scores);
                block.hide((first, segment.before.len() + first), frame.scoring, scores);
                let shrink = with_format!(frame.rounding, F => F::softmax(
                    frame.cpu,
                    softmax::Forward { scale, scores, running: &mut running, words, format: PhantomData },
                ));
                let sums = &mut sums[..dim * PANEL];
                let mode = if block.first { Mode::Replace } else { Mode::Add };
                // Most blocks leave every maximum as it is; a product with 1 changes no bit.
                if !block.first && shrink.iter().any(|shrink| shrink.to_bits() != 1.0_f32.to_bits())
                {
                    frame.cpu.run(softmax::Shrink { values: sums, by: &shrink });
                }
                let values = frame.lines_of(self.value_lines, group, &block);
                product(frame.kind(), values, words, &mut Out::new(sums, PANEL, PANEL), mode);
            }
            self.write((row, count, head), sums, &running);
        });
    }

    /// Divides by the sums and writes the rows.
    fn write(&self, (row, count, head): (usize, usize, usize), sums: &[f32], running: &Running) {
        let dim = self.frame.heads.dim;
        let mut block = [0; F32_BLOCK];
        for first in (0..dim).step_by(PANEL) {
            let cols = PANEL.min(dim - first);
            let lines = &sums[first * PANEL..(first + cols) * PANEL];
            turn_f32(self.frame.cpu, bytemuck::cast_slice(lines), &mut block);
            let rows = bytemuck::cast_slice_mut::<u32, f32>(&mut block).as_chunks_mut::<PANEL>().0;
            for (query, values) in rows.iter_mut().take(count).enumerate() {
                let factor = 1.0 / running.sum[query];
                for value in values.iter_mut() {
                    *value *= factor;
                }
                // SAFETY: each head of each row is in one panel, and a panel runs once.
                unsafe {
                    self.out.write_with(
                        self.frame.cpu,
                        (row + query, head * dim + first),
                        &values[..cols],
                    );
                };
            }
        }
        if let Some(lse) = &self.lse {
            for query in 0..count {
                // SAFETY: as above.
                let lse = unsafe { lse.slice(row + query, head..head + 1) };
                lse[0] = running.max[query] + running.sum[query].ln();
            }
        }
    }
}
