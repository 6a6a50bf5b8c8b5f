//! The forward scan: a head of a tree is one unit, chunk after chunk.

use std::ops::Range;

use rayon::prelude::*;

use super::lines::{self, ScaleAll, ScaleRows, lines_len};
use super::steps::{Column, Decays};
use super::{BAND, CHUNK, Frame, Part, head_len, panels};
use crate::Tensor;
use crate::cpu::Loop;
use crate::cpu::gemm::{Left, Mode, Out, PANEL, product};
use crate::cpu::tiles::Shared;
use crate::cpu::words::with_scratch;

/// Writes the scanned rows of all trees.
///
/// With `carried`, the states of all heads, the only prompt continues them and moves them on.
pub(super) fn forward(frame: &Frame<'_>, carried: Option<&mut [f32]>, y: &mut Tensor) {
    let (heads, len) = (frame.layout.heads, head_len(frame.layout));
    let carried = carried.map(|states| Shared::new(states, len));
    let y = Shared::new(y.as_mut_slice(), frame.layout.inner());
    (0..frame.plan.trees.len() * heads).into_par_iter().for_each(|unit| {
        let (tree, head) = (unit / heads, unit % heads);
        // SAFETY: with carried states there is one tree, and its heads are one unit each.
        let carried = carried.as_ref().map(|states| unsafe { states.slice(head, 0..len) });
        with_scratch(2 * (len + lines_len(frame)) + CHUNK * CHUNK, |scratch| {
            let (state, rest) = scratch.as_f32_mut().split_at_mut(len);
            let (prompt, rest) = rest.split_at_mut(len);
            let (lines, rest) = rest.split_at_mut(lines_len(frame));
            let (out, rest) = rest.split_at_mut(lines_len(frame));
            let scratch = Scratch { lines, out, mixed: &mut rest[..CHUNK * CHUNK] };
            Unit { frame, head, y: &y }.tree(tree, (state, prompt), carried, scratch);
        });
    });
}

/// The places of a unit that hold nothing between chunks.
struct Scratch<'a> {
    /// `[P / 32][CHUNK][32]`.
    lines: &'a mut [f32],
    /// `[CHUNK][P rounded up]`.
    out: &'a mut [f32],
    /// `[CHUNK][CHUNK]`.
    mixed: &'a mut [f32],
}

/// One head of one tree.
struct Unit<'a> {
    frame: &'a Frame<'a>,
    head: usize,
    y: &'a Shared<'a>,
}

impl Unit<'_> {
    fn tree(
        &self,
        tree: usize,
        (state, prompt): (&mut [f32], &mut [f32]),
        carried: Option<&mut [f32]>,
        mut scratch: Scratch<'_>,
    ) {
        let plan = self.frame.plan;
        // Whether there is a state yet that is not zero.
        let mut known = carried.is_some();
        if let Some(carried) = &carried {
            state.copy_from_slice(carried);
        }
        for index in plan.trees[tree].clone() {
            let run = &plan.runs[index];
            if !run.is_prompt && !run.before.is_empty() {
                state.copy_from_slice(prompt);
            }
            known = known && run.is_prompt || !run.before.is_empty();
            let goes_on = plan.is_continued(index) || carried.is_some();
            let chunks = plan.of_run[index].clone();
            for chunk in chunks.clone() {
                let rows = &plan.chunks[chunk];
                let column = self.frame.steps.column(self.frame.cpu, rows, self.head);
                self.read(
                    (rows, plan.chunks.get(chunk + 1)),
                    &column,
                    known.then_some(&*state),
                    &mut scratch,
                );
                if goes_on || chunk + 1 < chunks.end {
                    if !known {
                        state.fill(0.0);
                    }
                    lines::scale(self.frame, rows.len(), &column.to_end, scratch.lines);
                    advance(self.frame, (rows, self.head), column.whole, (scratch.lines, state));
                    known = true;
                }
            }
            if plan.is_continued(index) {
                prompt.copy_from_slice(state);
            }
        }
        if let Some(carried) = carried {
            carried.copy_from_slice(state);
        }
    }

    /// Writes the results of a chunk; leaves the lines of `dt x` in the scratch.
    fn read(
        &self,
        (rows, next): (&Range<usize>, Option<&Range<usize>>),
        column: &Column,
        state: Option<&[f32]>,
        scratch: &mut Scratch<'_>,
    ) {
        let frame = self.frame;
        let (layout, group) = (frame.layout, frame.group(self.head));
        let x = Part::of_head(layout, frame.input.xbc, self.head);
        lines::pack(frame, (x, rows, next), Some(&column.dt), scratch.lines);
        frame.cpu.run(Decays {
            rows: rows.len(),
            cum: &column.cum,
            scores: frame.scores(group, rows),
            mixed: scratch.mixed,
            kept: None,
        });
        let width = panels(layout) * PANEL;
        if let Some(state) = state {
            let left = frame.of_c(group).rows(rows);
            for (panel, state) in state.chunks_exact(layout.state * PANEL).enumerate() {
                let mut out = Out::new(&mut scratch.out[panel * PANEL..], width, PANEL);
                product(frame.kind(), left, bytemuck::cast_slice(state), &mut out, Mode::Replace);
            }
            let scales = &column.from_start[..rows.len()];
            frame.cpu.run(ScaleRows { cols: width, scales, values: scratch.out });
        }
        let mode = if state.is_some() { Mode::Add } else { Mode::Replace };
        let mixed = Left::new(bytemuck::cast_slice(scratch.mixed), rows.len(), rows.len());
        let mixed = mixed.with_strides(CHUNK, 1);
        for (panel, lines) in scratch.lines.chunks_exact(CHUNK * PANEL).enumerate() {
            for band in (0..rows.len()).step_by(BAND) {
                let band = band..rows.len().min(band + BAND);
                let left = mixed.row_range(band.clone()).word_range(0..band.end);
                let out = &mut scratch.out[band.start * width + panel * PANEL..];
                let mut out = Out::new(out, width, PANEL);
                product(frame.kind(), left, bytemuck::cast_slice(lines), &mut out, mode);
            }
        }
        let first = self.head * layout.dim;
        for (row, out) in rows.clone().zip(scratch.out.chunks_exact(width)) {
            // SAFETY: a head of a tree is one unit, and a unit runs once.
            let y = unsafe { self.y.slice(row, first..first + layout.dim) };
            frame.cpu.run(Pass { d: frame.scan.d[self.head], x: x.row(row), out, y });
        }
    }
}

/// Moves a state over a chunk: `lines` are `dt x` times what is left at the chunk's end.
pub(super) fn advance(
    frame: &Frame<'_>,
    (rows, head): (&Range<usize>, usize),
    whole: f32,
    (lines, state): (&[f32], &mut [f32]),
) {
    frame.cpu.run(ScaleAll { scale: whole, values: state });
    let left = frame.of_b(frame.group(head)).turned(rows);
    let len = frame.layout.state * PANEL;
    for (lines, state) in lines.chunks_exact(CHUNK * PANEL).zip(state.chunks_exact_mut(len)) {
        let mut out = Out::new(state, PANEL, PANEL);
        product(frame.kind(), left, bytemuck::cast_slice(lines), &mut out, Mode::Add);
    }
}

/// Adds what passes by the state.
struct Pass<'a> {
    d: f32,
    x: &'a [f32],
    out: &'a [f32],
    y: &'a mut [f32],
}

impl Loop for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((y, x), out) in self.y.iter_mut().zip(self.x).zip(self.out) {
            *y = out + self.d * x;
        }
    }
}
