//! The gradients of one chunk for one head, as products of matrices.

use std::ops::Range;

use super::backward::Pass;
use super::lines::{self, ScaleAll, lines_len};
use super::shared::Found;
use super::steps::{Column, Decays};
use super::sums::{ByScores, Dot, Leaving, Pairs, Passed, Row, Through};
use super::{BAND, CHUNK, Frame, Part, panels};
use crate::cpu::gemm::{Left, Mode, Out, PANEL, product};

/// The places of a unit that hold nothing between chunks.
pub(super) struct Scratch<'a> {
    /// `[P / 32][CHUNK][32]`: `dy`.
    slopes: &'a mut [f32],
    /// `[CHUNK][P rounded up]`: `dy` once more.
    rows: &'a mut [f32],
    /// Lines of `dt x`.
    pub(super) values: &'a mut [f32],
    /// `[CHUNK / 32][P rounded up][32]`.
    turned: &'a mut [f32],
    /// `[CHUNK][P rounded up]`: the gradient by `dt x`.
    d_values: &'a mut [f32],
    /// `[CHUNK][CHUNK]`: scores times decays.
    mixed: &'a mut [f32],
    /// The same: decays.
    kept: &'a mut [f32],
    /// The same: products of slopes and values.
    products: &'a mut [f32],
    /// `[N][32]`: a band of a gradient by `B` or `C`.
    band: &'a mut [f32],
}

impl<'a> Scratch<'a> {
    /// The numbers that it takes.
    pub(super) fn len(frame: &Frame<'_>) -> usize {
        5 * lines_len(frame) + 3 * CHUNK * CHUNK + frame.layout.state * PANEL
    }

    pub(super) fn new(frame: &Frame<'_>, all: &'a mut [f32]) -> Self {
        let (lines, squares) = all.split_at_mut(5 * lines_len(frame));
        let (first, second) = lines.split_at_mut(2 * lines_len(frame));
        let (slopes, values) = first.split_at_mut(lines_len(frame));
        let (turned, second) = second.split_at_mut(lines_len(frame));
        let (d_values, rows) = second.split_at_mut(lines_len(frame));
        let (mixed, squares) = squares.split_at_mut(CHUNK * CHUNK);
        let (kept, squares) = squares.split_at_mut(CHUNK * CHUNK);
        let (products, band) = squares.split_at_mut(CHUNK * CHUNK);
        Self { slopes, rows, values, turned, d_values, mixed, kept, products, band }
    }
}

/// A chunk of a head, and the states around it.
pub(super) struct ChunkOf<'a> {
    /// Its index among all chunks.
    pub(super) index: usize,
    pub(super) rows: &'a Range<usize>,
    /// Those of the chunk that comes next.
    pub(super) next: Option<&'a Range<usize>>,
    pub(super) column: Column,
    /// The state before it, unless it is zero.
    pub(super) before: Option<&'a [f32]>,
    /// The state after it, where something follows.
    pub(super) after: Option<&'a [f32]>,
}

/// One head of one tree.
pub(super) struct Unit<'a> {
    pub(super) pass: &'a Pass<'a>,
    pub(super) head: usize,
    pub(super) scratch: Scratch<'a>,
    /// The sums of `dt da` and of `x dy` over all rows so far.
    pub(super) sums: [f64; 2],
}

impl Unit<'_> {
    /// All gradients of a chunk. `dh` is the gradient by the state after it, where something
    /// follows, and becomes that by the state before it, where that is not zero.
    pub(super) fn chunk(
        &mut self,
        of: &ChunkOf<'_>,
        dh: &mut [f32],
        (found, is_first): (&mut [f32], bool),
    ) {
        let frame = self.pass.frame;
        let layout = frame.layout;
        let dy = Part::of_head(layout, self.pass.dy, self.head);
        let x = Part::of_head(layout, frame.input.xbc, self.head);
        lines::pack(frame, (dy, of.rows, of.next), None, self.scratch.slopes);
        lines::pack(frame, (x, of.rows, of.next), Some(&of.column.dt), self.scratch.values);
        lines::to_rows(frame, of.rows.len(), self.scratch.slopes, self.scratch.rows);
        frame.cpu.run(Decays {
            rows: of.rows.len(),
            cum: &of.column.cum,
            scores: frame.scores(frame.group(self.head), of.rows),
            mixed: self.scratch.mixed,
            kept: Some(self.scratch.kept),
        });
        let dh_after = of.after.map(|_| &*dh);
        let mut passed = Passed::default();
        if let (Some(before), Some(dh)) = (of.before, dh_after) {
            passed.whole = of.column.whole * frame.cpu.run(Dot(before, dh));
        }
        self.by_values(of, dh_after, &mut passed);
        let (by_scores, through) = found.split_at_mut(CHUNK * CHUNK);
        let (by_b, by_c) = through.split_at_mut(Found::new(layout).through);
        self.by_scores(of, (by_scores, is_first), &mut passed);
        lines::scale(frame, of.rows.len(), &of.column.from_start, self.scratch.slopes);
        lines::turn(frame.cpu, of.rows.len(), self.scratch.slopes, self.scratch.turned);
        self.through(of, of.before, (by_c, is_first), Some(&mut passed.read));
        lines::scale(frame, of.rows.len(), &of.column.to_end, self.scratch.values);
        lines::turn(frame.cpu, of.rows.len(), self.scratch.values, self.scratch.turned);
        self.through(of, dh_after, (by_b, is_first), None);
        self.by_steps(of, &passed);
        if of.before.is_some() {
            self.by_state(of, dh);
        }
    }

    /// The gradient by `dt x`, from the rows of the chunk and from the state after it.
    fn by_values(&mut self, of: &ChunkOf<'_>, dh: Option<&[f32]>, passed: &mut Passed) {
        let (frame, rows) = (self.pass.frame, of.rows.len());
        let (width, state) = (panels(frame.layout) * PANEL, frame.layout.state * PANEL);
        let b = frame.of_b(frame.group(self.head)).rows(of.rows);
        if let Some(dh) = dh {
            for (panel, dh) in dh.chunks_exact(state).enumerate() {
                let out = &mut self.scratch.d_values[panel * PANEL..];
                let mut out = Out::new(out, width, PANEL);
                product(frame.kind(), b, bytemuck::cast_slice(dh), &mut out, Mode::Replace);
            }
            frame.cpu.run(Leaving {
                x: Part::of_head(frame.layout, frame.input.xbc, self.head),
                rows: of.rows.clone(),
                column: &of.column,
                d_values: self.scratch.d_values,
                left: &mut passed.left,
            });
        }
        let mode = if dh.is_some() { Mode::Add } else { Mode::Replace };
        let mixed = Left::new(bytemuck::cast_slice(self.scratch.mixed), rows, rows);
        let mixed = mixed.with_strides(1, CHUNK);
        for (panel, slopes) in self.scratch.slopes.chunks_exact(CHUNK * PANEL).enumerate() {
            for band in (0..rows).step_by(BAND) {
                let end = rows.min(band + BAND);
                let left = mixed.row_range(band..end).word_range(band..rows);
                let slopes = bytemuck::cast_slice(&slopes[band * PANEL..]);
                let out = &mut self.scratch.d_values[band * width + panel * PANEL..];
                product(frame.kind(), left, slopes, &mut Out::new(out, width, PANEL), mode);
            }
        }
    }

    /// The gradient by the products of `C` and `B`.
    fn by_scores(
        &mut self,
        of: &ChunkOf<'_>,
        (by_scores, is_first): (&mut [f32], bool),
        passed: &mut Passed,
    ) {
        let (frame, rows) = (self.pass.frame, of.rows.len());
        lines::turn(frame.cpu, rows, self.scratch.values, self.scratch.turned);
        let width = panels(frame.layout) * PANEL;
        let dy = Left::new(bytemuck::cast_slice(self.scratch.rows), rows, width);
        for (index, turned) in self.scratch.turned.chunks_exact(width * PANEL).enumerate() {
            let band = index * BAND;
            if rows <= band {
                break;
            }
            let out = &mut self.scratch.products[band * CHUNK + band..];
            let mut out = Out::new(out, CHUNK, PANEL);
            let left = dy.row_range(band..rows);
            product(frame.kind(), left, bytemuck::cast_slice(turned), &mut out, Mode::Replace);
        }
        frame.cpu.run(ByScores {
            rows,
            is_first,
            kept: self.scratch.kept,
            products: self.scratch.products,
            out: by_scores,
        });
        frame.cpu.run(Pairs {
            rows,
            mixed: self.scratch.mixed,
            products: self.scratch.products,
            passed: &mut passed.pairs,
        });
    }

    /// The transposed gradient by `B` or `C` of the rows in `turned`, through a state or its
    /// gradient; and for `C`, what each row reads times its gradient.
    fn through(
        &mut self,
        of: &ChunkOf<'_>,
        state: Option<&[f32]>,
        (out, is_first): (&mut [f32], bool),
        mut read: Option<&mut [f32; CHUNK]>,
    ) {
        let frame = self.pass.frame;
        let Some(state) = state else {
            if is_first {
                out.fill(0.0);
            }
            return;
        };
        let (layout, width) = (frame.layout, panels(frame.layout) * PANEL);
        let len = layout.state * PANEL;
        for (index, turned) in self.scratch.turned.chunks_exact(width * PANEL).enumerate() {
            if of.rows.len() <= index * BAND {
                break;
            }
            for (panel, state) in state.chunks_exact(len).enumerate() {
                let (start, count) = frame.panel_cols(panel);
                let left = Left::new(bytemuck::cast_slice(state), layout.state, count);
                let mode = if panel == 0 { Mode::Replace } else { Mode::Add };
                let turned = bytemuck::cast_slice(&turned[start * PANEL..]);
                let mut out = Out::new(self.scratch.band, PANEL, PANEL);
                product(frame.kind(), left.with_strides(PANEL, 1), turned, &mut out, mode);
            }
            let bands = CHUNK / BAND;
            let group = of.index * layout.groups + frame.group(self.head);
            let c = &self.pass.turned_c[(group * bands + index) * len..][..len];
            let read =
                read.as_mut().and_then(|read| read.as_chunks_mut::<PANEL>().0.get_mut(index));
            frame.cpu.run(Through {
                band: self.scratch.band,
                c: bytemuck::cast_slice(c),
                is_first,
                out: &mut out[index * BAND..],
                read,
            });
        }
    }

    /// The gradients by `x` and by steps.
    fn by_steps(&mut self, of: &ChunkOf<'_>, passed: &Passed) {
        let (frame, layout) = (self.pass.frame, self.pass.frame.layout);
        let (d, decay) = (frame.scan.d[self.head], frame.steps.decay[self.head]);
        let width = panels(layout) * PANEL;
        let x = Part::of_head(layout, frame.input.xbc, self.head);
        let dy = Part::of_head(layout, self.pass.dy, self.head);
        let first = self.head * layout.dim;
        let mut later: f64 = passed.read.iter().copied().map(f64::from).sum();
        let mut earlier = f64::from(passed.whole);
        for (i, row) in of.rows.clone().enumerate() {
            // SAFETY: a head of a tree belongs to one unit, and a unit runs once.
            let (dx, d_dt) = unsafe {
                let dx = self.pass.d_xbc.slice(row, first..first + layout.dim);
                (dx, self.pass.d_dt.slice(row, self.head..self.head + 1))
            };
            let dt = of.column.dt[i];
            let [by_d, taken] = frame.cpu.run(Row {
                dy: dy.row(row),
                x: x.row(row),
                d_value: &self.scratch.d_values[i * width..][..layout.dim],
                scales: (dt, d),
                dx,
            });
            let by_decay = earlier + later + f64::from(passed.pairs[i]);
            self.sums[0] += f64::from(dt) * by_decay;
            self.sums[1] += f64::from(by_d);
            d_dt[0] = (decay * by_decay + f64::from(taken)) as f32;
            earlier += f64::from(passed.left[i]);
            later -= f64::from(passed.read[i]);
        }
    }

    /// The gradient by the state before the chunk, in place of that after it; slopes are scaled.
    fn by_state(&self, of: &ChunkOf<'_>, dh: &mut [f32]) {
        let frame = self.pass.frame;
        match of.after {
            Some(_) => frame.cpu.run(ScaleAll { scale: of.column.whole, values: &mut *dh }),
            None => dh.fill(0.0),
        }
        let left = frame.of_c(frame.group(self.head)).turned(of.rows);
        let slopes = self.scratch.slopes.chunks_exact(CHUNK * PANEL);
        for (slopes, dh) in slopes.zip(dh.chunks_exact_mut(frame.layout.state * PANEL)) {
            let mut out = Out::new(dh, PANEL, PANEL);
            product(frame.kind(), left, bytemuck::cast_slice(slopes), &mut out, Mode::Add);
        }
    }
}
