//! The normalization on processors: a row at a time, rows in parallel.

use rayon::prelude::*;

use super::Saved;
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop, lanes};
use crate::{Operand, Tensor};

/// Fewer rows than this are not worth a task of their own.
const TASK_ROWS: usize = 8;

/// Columns of a task that sums over rows; each task reads whole cache lines.
const TASK_COLS: usize = 128;

/// Writes the normalized rows into `y` and returns `inv_rms`.
pub(super) fn forward(cpu: Cpu, x: &Tensor, weight: &[f32], eps: f32, y: &mut Operand) -> Vec<f32> {
    let mut inv_rms = vec![0.0; x.rows()];
    let rounding = y.rounding();
    let words = rounding.element().words(x.cols());
    let rows = y.par_rows_mut().zip(&mut inv_rms).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, (out, inv_rms))| {
        with_scratch(x.cols(), |scratch| {
            let y = &mut scratch.as_f32_mut()[..x.cols()];
            *inv_rms = cpu.run(Normalize { x: x.row(row), weight, eps, y });
            rounding.write(cpu, y, &mut out[..words]);
            out[words..].fill(0);
        });
    });
    inv_rms
}

/// Writes the normalized rows as they are and returns `inv_rms`.
pub(super) fn forward_exact(
    cpu: Cpu,
    x: &Tensor,
    weight: &[f32],
    eps: f32,
    y: &mut Tensor,
) -> Vec<f32> {
    let mut inv_rms = vec![0.0; x.rows()];
    let cols = x.cols().max(1);
    let rows = y.as_mut_slice().par_chunks_mut(cols).zip(&mut inv_rms).enumerate();
    rows.with_min_len(TASK_ROWS).for_each(|(row, (y, inv_rms))| {
        *inv_rms = cpu.run(Normalize { x: x.row(row), weight, eps, y });
    });
    inv_rms
}

/// Writes the gradient by `x`.
pub(super) fn backward(cpu: Cpu, dy: &Tensor, saved: Saved<'_>, dx: &mut Tensor) {
    // A tensor without columns has no chunks either.
    let cols = dy.cols().max(1);
    let rows = dx.as_mut_slice().par_chunks_mut(cols).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, dx)| {
        cpu.run(Backward {
            dy: dy.row(row),
            x: saved.x.row(row),
            weight: saved.weight,
            inv_rms: saved.inv_rms[row],
            dx,
        });
    });
}

/// Adds the gradient by the weight; a task sums its columns over all rows, in order.
pub(super) fn accumulate_dweight(cpu: Cpu, dy: &Tensor, saved: Saved<'_>, dweight: &mut [f32]) {
    dweight.par_chunks_mut(TASK_COLS).enumerate().for_each(|(task, dweight)| {
        let first_col = task * TASK_COLS;
        cpu.run(DWeight { dy, x: saved.x, inv_rms: saved.inv_rms, first_col, dweight });
    });
}

/// Normalizes one row; returns its inverse root mean square.
pub(in super::super) struct Normalize<'a> {
    pub(in super::super) x: &'a [f32],
    pub(in super::super) weight: &'a [f32],
    pub(in super::super) eps: f32,
    pub(in super::super) y: &'a mut [f32],
}

impl Loop for Normalize<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let mean = lanes::dot(self.x, self.x) / self.x.len() as f32;
        let inv = 1.0 / (mean + self.eps).sqrt();
        for ((y, x), weight) in self.y.iter_mut().zip(self.x).zip(self.weight) {
            *y = weight * (x * inv);
        }
        inv
    }
}

/// The gradient by one row.
pub(in super::super) struct Backward<'a> {
    pub(in super::super) dy: &'a [f32],
    pub(in super::super) x: &'a [f32],
    pub(in super::super) weight: &'a [f32],
    pub(in super::super) inv_rms: f32,
    pub(in super::super) dx: &'a mut [f32],
}

impl Loop for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { dy, x, weight, inv_rms, dx } = self;
        for ((dx, dy), weight) in dx.iter_mut().zip(dy).zip(weight) {
            *dx = dy * weight;
        }
        let mean = lanes::dot(dx, x) / x.len() as f32;
        // In this order nothing overflows for huge rows: inv_rms is as small as they are large.
        let slope = inv_rms * (inv_rms * mean);
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = inv_rms * (*dx - x * slope);
        }
    }
}

struct DWeight<'a> {
    dy: &'a Tensor,
    x: &'a Tensor,
    inv_rms: &'a [f32],
    first_col: usize,
    dweight: &'a mut [f32],
}

impl Loop for DWeight<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let cols = self.first_col..self.first_col + self.dweight.len();
        for (row, inv) in self.inv_rms.iter().enumerate() {
            let dy = &self.dy.row(row)[cols.clone()];
            let x = &self.x.row(row)[cols.clone()];
            for ((dweight, dy), x) in self.dweight.iter_mut().zip(dy).zip(x) {
                *dweight += dy * (x * inv);
            }
        }
    }
}
