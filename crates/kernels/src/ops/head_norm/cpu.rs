//! The normalization on processors: a row at a time, rows in parallel, with the loops of whole rows.

use rayon::prelude::*;

use super::Saved;
use crate::cpu::{Cpu, Loop, lanes};
use crate::{Heads, Tensor};

/// Fewer rows than this are not worth a task of their own.
const TASK_ROWS: usize = 8;

/// Writes the normalized rows and the inverse root mean squares.
pub(super) fn forward(
    cpu: Cpu,
    (qkv, heads): (&Tensor, Heads),
    (weights, eps): ([&[f32]; 2], f32),
    (y, inv_rms): (&mut Tensor, &mut [f32]),
) {
    let count = heads.query + heads.key_value;
    let rows = y.as_mut_slice().par_chunks_mut(heads.qkv_cols());
    let rows = rows.zip(inv_rms.par_chunks_mut(count)).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, (y, inv_rms))| {
        let x = qkv.row(row);
        let parts = x.chunks_exact(heads.dim).zip(y.chunks_exact_mut(heads.dim));
        for (head, ((x, y), inv_rms)) in parts.zip(inv_rms).enumerate() {
            let weight = weights[usize::from(head >= heads.query)];
            *inv_rms = cpu.run(Normalize { x, weight, eps, y });
        }
        let values = count * heads.dim;
        y[values..].copy_from_slice(&x[values..]);
    });
}

/// Writes the gradient by the input.
pub(super) fn backward(cpu: Cpu, dy: &Tensor, heads: Heads, saved: Saved<'_>, dx: &mut Tensor) {
    let count = heads.query + heads.key_value;
    let rows = dx.as_mut_slice().par_chunks_mut(heads.qkv_cols());
    rows.enumerate().with_min_len(TASK_ROWS).for_each(|(row, dx)| {
        let (dy, x) = (dy.row(row), saved.qkv.row(row));
        let inv_rms = &saved.inv_rms[row * count..(row + 1) * count];
        for (head, &inv_rms) in inv_rms.iter().enumerate() {
            let at = head * heads.dim..(head + 1) * heads.dim;
            let weight = saved.weights[usize::from(head >= heads.query)];
            let dx = &mut dx[at.clone()];
            cpu.run(Backward { dy: &dy[at.clone()], x: &x[at], weight, inv_rms, dx });
        }
        dx[count * heads.dim..].copy_from_slice(&dy[count * heads.dim..]);
    });
}

/// Adds the gradients by the weights; there are too few columns to be worth several threads.
pub(super) fn accumulate_dweights(
    dy: &Tensor,
    heads: Heads,
    saved: Saved<'_>,
    [dq, dk]: [&mut [f32]; 2],
) {
    let count = heads.query + heads.key_value;
    for row in 0..dy.rows() {
        let (dy, x) = (dy.row(row), saved.qkv.row(row));
        for head in 0..count {
            let at = head * heads.dim..(head + 1) * heads.dim;
            let inv = saved.inv_rms[row * count + head];
            let sums = if head < heads.query { &mut *dq } else { &mut *dk };
            for ((sum, dy), x) in sums.iter_mut().zip(&dy[at.clone()]).zip(&x[at]) {
                *sum += dy * (x * inv);
            }
        }
    }
}

/// Normalizes one row; returns its inverse root mean square.
struct Normalize<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
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
struct Backward<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    weight: &'a [f32],
    inv_rms: f32,
    dx: &'a mut [f32],
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
