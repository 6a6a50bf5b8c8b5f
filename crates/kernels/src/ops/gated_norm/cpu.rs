//! The gated normalization on processors: a row at a time, rows in parallel.

use rayon::prelude::*;

use super::{Norm, Saved};
use crate::cpu::tiles::Shared;
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop, exp::exp, lanes};
use crate::{Columns, ColumnsMut, Operand, Tensor};

/// Fewer rows than this are not worth a task of their own.
const TASK_ROWS: usize = 4;

/// Columns of a task that sums over rows.
const TASK_COLS: usize = 128;

/// Writes the normalized rows into `y` and returns `inv_rms`.
pub(super) fn forward(
    cpu: Cpu,
    (x, gate): (&Tensor, Columns<'_>),
    norm: Norm<'_>,
    y: &mut Operand,
) -> Vec<f32> {
    let cols = x.cols();
    let mut inv_rms = vec![0.0; x.rows() * norm.groups];
    let rounding = y.rounding();
    let words = rounding.element().words(cols);
    let rows = y.par_rows_mut().zip(inv_rms.par_chunks_mut(norm.groups)).enumerate();
    rows.with_min_len(TASK_ROWS).for_each(|(row, (out, inv_rms))| {
        with_scratch(cols, |scratch| {
            let y = &mut scratch.as_f32_mut()[..cols];
            cpu.run(Normalize { x: x.row(row), gate: gate.row(row, cols), norm, inv_rms, y });
            rounding.write(cpu, y, &mut out[..words]);
            out[words..].fill(0);
        });
    });
    inv_rms
}

/// Writes the gradients by `x` and by the gate.
pub(super) fn backward(
    cpu: Cpu,
    dy: &Tensor,
    (saved, norm): (Saved<'_>, Norm<'_>),
    (dx, dgate): (&mut Tensor, ColumnsMut<'_>),
) {
    let cols = dy.cols();
    let (first, stride) = (dgate.first, dgate.tensor.cols());
    let dgate = Shared::new(dgate.tensor.as_mut_slice(), stride);
    // A tensor without columns has no chunks either.
    let rows = dx.as_mut_slice().par_chunks_mut(cols.max(1)).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, dx)| {
        // SAFETY: a row belongs to one task.
        let dgate = unsafe { dgate.slice(row, first..first + cols) };
        let inv_rms = &saved.inv_rms[row * norm.groups..][..norm.groups];
        let (x, gate) = (saved.x.row(row), saved.gate.row(row, cols));
        cpu.run(Backward { dy: dy.row(row), x, gate, norm, inv_rms, dx, dgate });
    });
}

/// Adds the gradient by the weight; a task sums its columns over all rows, in order.
pub(super) fn accumulate_dweight(
    cpu: Cpu,
    dy: &Tensor,
    (saved, norm): (Saved<'_>, Norm<'_>),
    dweight: &mut [f32],
) {
    dweight.par_chunks_mut(TASK_COLS).enumerate().for_each(|(task, dweight)| {
        cpu.run(DWeight { dy, saved, groups: norm.groups, first_col: task * TASK_COLS, dweight });
    });
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

struct Normalize<'a> {
    x: &'a [f32],
    gate: &'a [f32],
    norm: Norm<'a>,
    /// One for each group.
    inv_rms: &'a mut [f32],
    y: &'a mut [f32],
}

impl Loop for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((y, x), &gate) in self.y.iter_mut().zip(self.x).zip(self.gate) {
            *y = x * (gate * sigmoid(gate));
        }
        let part = (self.y.len() / self.norm.groups).max(1);
        let groups = self.y.chunks_exact_mut(part).zip(self.norm.weight.chunks_exact(part));
        for ((y, weight), inv_rms) in groups.zip(self.inv_rms) {
            let inv = 1.0 / (lanes::dot(y, y) / part as f32 + self.norm.eps).sqrt();
            *inv_rms = inv;
            for (y, weight) in y.iter_mut().zip(weight) {
                *y = weight * (*y * inv);
            }
        }
    }
}

struct Backward<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    gate: &'a [f32],
    norm: Norm<'a>,
    /// One for each group.
    inv_rms: &'a [f32],
    dx: &'a mut [f32],
    dgate: &'a mut [f32],
}

impl Loop for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let part = (self.dx.len() / self.norm.groups).max(1);
        for (group, inv) in self.inv_rms.iter().enumerate() {
            let cols = group * part..(group * part + part).min(self.dx.len());
            let (dx, dgate) = (&mut self.dx[cols.clone()], &mut self.dgate[cols.clone()]);
            let (x, gate) = (&self.x[cols.clone()], &self.gate[cols.clone()]);
            let (dy, weight) = (&self.dy[cols.clone()], &self.norm.weight[cols]);
            for ((v, x), &gate) in dgate.iter_mut().zip(x).zip(gate) {
                *v = x * (gate * sigmoid(gate));
            }
            for ((g, dy), weight) in dx.iter_mut().zip(dy).zip(weight) {
                *g = dy * weight;
            }
            let mean = lanes::dot(dx, dgate) / part as f32;
            // In this order nothing overflows for huge rows: inv is as small as they are large.
            let slope = inv * (inv * mean);
            for (((g, v), x), &gate) in dx.iter_mut().zip(dgate).zip(x).zip(gate) {
                let dv = inv * (*g - *v * slope);
                let s = sigmoid(gate);
                *g = dv * (gate * s);
                *v = dv * x * (s * (1.0 + gate * (1.0 - s)));
            }
        }
    }
}

struct DWeight<'a> {
    dy: &'a Tensor,
    saved: Saved<'a>,
    groups: usize,
    first_col: usize,
    dweight: &'a mut [f32],
}

impl Loop for DWeight<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let cols = self.first_col..self.first_col + self.dweight.len();
        let part = self.dy.cols() / self.groups;
        for row in 0..self.dy.rows() {
            let dy = &self.dy.row(row)[cols.clone()];
            let x = &self.saved.x.row(row)[cols.clone()];
            let gate = &self.saved.gate.row(row, cols.end)[cols.clone()];
            let mut inverses = [0.0; TASK_COLS];
            for (inverse, col) in inverses.iter_mut().zip(cols.clone()) {
                *inverse = self.saved.inv_rms[row * self.groups + col / part];
            }
            let values = dy.iter().zip(x).zip(gate).zip(inverses);
            for (dweight, (((dy, x), &gate), inv)) in self.dweight.iter_mut().zip(values) {
                *dweight += dy * (x * (gate * sigmoid(gate)) * inv);
            }
        }
    }
}
