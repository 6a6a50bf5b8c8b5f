//! The activation on processors: a row at a time, rows in parallel.

use rayon::prelude::*;

use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop, exp::exp};
use crate::{Operand, Tensor};

/// Fewer rows than this are not worth a task of their own.
const TASK_ROWS: usize = 4;

/// Writes the rounded product into `y`.
pub(super) fn forward(cpu: Cpu, gate_up: &Tensor, y: &mut Operand) {
    let width = y.cols();
    let rounding = y.rounding();
    let words = rounding.element().words(width);
    let rows = y.par_rows_mut().enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, out)| {
        with_scratch(width, |scratch| {
            let y = &mut scratch.as_f32_mut()[..width];
            let (gate, up) = gate_up.row(row).split_at(width);
            cpu.run(Forward { gate, up, y });
            rounding.write(cpu, y, &mut out[..words]);
            out[words..].fill(0);
        });
    });
}

/// Writes the gradient by gate and up.
pub(super) fn backward(cpu: Cpu, dy: &Tensor, gate_up: &Tensor, dgate_up: &mut Tensor) {
    // A tensor without columns has no chunks either.
    let cols = gate_up.cols().max(1);
    let rows = dgate_up.as_mut_slice().par_chunks_mut(cols).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, dgate_up)| {
        let (gate, up) = gate_up.row(row).split_at(dy.cols());
        let (dgate, dup) = dgate_up.split_at_mut(dy.cols());
        cpu.run(Backward { dy: dy.row(row), gate, up, dgate, dup });
    });
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

struct Forward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl Loop for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((y, &gate), up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            *y = gate * sigmoid(gate) * up;
        }
    }
}

struct Backward<'a> {
    dy: &'a [f32],
    gate: &'a [f32],
    up: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
}

impl Loop for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let values = self.dy.iter().zip(self.gate).zip(self.up);
        let gradients = self.dgate.iter_mut().zip(self.dup);
        for (((dy, &gate), up), (dgate, dup)) in values.zip(gradients) {
            let s = sigmoid(gate);
            *dgate = dy * up * s * (1.0 + gate * (1.0 - s));
            *dup = dy * gate * s;
        }
    }
}
