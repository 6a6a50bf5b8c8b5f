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

/// Writes the normalized rows into `y` and returns their moments.
pub(super) fn forward(
    cpu: Cpu,
    x: &Tensor,
    [weight, bias]: [&[f32]; 2],
    eps: f32,
    y: &mut Operand,
) -> Vec<f32> {
    let mut moments = vec![0.0; 2 * x.rows()];
    let rounding = y.rounding();
    let words = rounding.element().words(x.cols());
    let rows = y.par_rows_mut().zip(moments.par_chunks_mut(2)).enumerate();
    rows.with_min_len(TASK_ROWS).for_each(|(row, (out, moments))| {
        with_scratch(x.cols(), |scratch| {
            let y = &mut scratch.as_f32_mut()[..x.cols()];
            let of_row = cpu.run(Normalize { x: x.row(row), weight, bias, eps, y });
            moments.copy_from_slice(&of_row);
            rounding.write(cpu, y, &mut out[..words]);
            out[words..].fill(0);
        });
    });
    moments
}

/// Writes the gradient by `x`.
pub(super) fn backward(cpu: Cpu, dy: &Tensor, saved: Saved<'_>, dx: &mut Tensor) {
    // A tensor without columns has no chunks either.
    let cols = dy.cols().max(1);
    let rows = dx.as_mut_slice().par_chunks_mut(cols).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, dx)| {
        with_scratch(cols, |scratch| {
            let z = &mut scratch.as_f32_mut()[..cols];
            let [mean, inv] = [saved.moments[2 * row], saved.moments[2 * row + 1]];
            let (dy, x, weight) = (dy.row(row), saved.x.row(row), saved.weight);
            cpu.run(Backward { dy, x, weight, mean, inv, z, dx });
        });
    });
}

/// Adds the gradients by weight and bias; a task sums its columns over all rows, in order.
pub(super) fn accumulate(
    cpu: Cpu,
    dy: &Tensor,
    saved: Saved<'_>,
    [dweight, dbias]: [&mut [f32]; 2],
) {
    let tasks = dweight.par_chunks_mut(TASK_COLS).zip(dbias.par_chunks_mut(TASK_COLS));
    tasks.enumerate().for_each(|(task, (dweight, dbias))| {
        let first_col = task * TASK_COLS;
        cpu.run(Accumulate { dy, saved, first_col, dweight, dbias });
    });
}

/// Normalizes one row; returns its mean and inverse deviation.
struct Normalize<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Loop for Normalize<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn run(self) -> [f32; 2] {
        let Self { x, weight, bias, eps, y } = self;
        let count = x.len() as f32;
        let mean = lanes::sum(x) / count;
        for (y, x) in y.iter_mut().zip(x) {
            *y = x - mean;
        }
        let inv = 1.0 / (lanes::dot(y, y) / count + eps).sqrt();
        for ((y, weight), bias) in y.iter_mut().zip(weight).zip(bias) {
            *y = weight * (*y * inv) + bias;
        }
        [mean, inv]
    }
}

struct Backward<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    weight: &'a [f32],
    mean: f32,
    inv: f32,
    /// As long as a row.
    z: &'a mut [f32],
    dx: &'a mut [f32],
}

impl Loop for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { dy, x, weight, mean, inv, z, dx } = self;
        for (z, x) in z.iter_mut().zip(x) {
            *z = (x - mean) * inv;
        }
        for ((dx, dy), weight) in dx.iter_mut().zip(dy).zip(weight) {
            *dx = dy * weight;
        }
        let count = x.len() as f32;
        let (middle, slope) = (lanes::sum(dx) / count, lanes::dot(dx, z) / count);
        for (dx, z) in dx.iter_mut().zip(&*z) {
            *dx = inv * (*dx - middle - z * slope);
        }
    }
}

struct Accumulate<'a> {
    dy: &'a Tensor,
    saved: Saved<'a>,
    first_col: usize,
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
}

impl Loop for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let cols = self.first_col..self.first_col + self.dweight.len();
        for (row, moments) in self.saved.moments.as_chunks::<2>().0.iter().enumerate() {
            let dy = &self.dy.row(row)[cols.clone()];
            let x = &self.saved.x.row(row)[cols.clone()];
            let sums = self.dweight.iter_mut().zip(self.dbias.iter_mut());
            for (((dweight, dbias), dy), x) in sums.zip(dy).zip(x) {
                *dweight += dy * ((x - moments[0]) * moments[1]);
                *dbias += dy;
            }
        }
    }
}
