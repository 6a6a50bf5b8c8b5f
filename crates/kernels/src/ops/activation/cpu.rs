//! The activation on processors: a row at a time, rows in parallel.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::{Activation, Curve};
use crate::cpu::round::Rounding;
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop, exp::exp};
use crate::{Operand, Tensor};

/// Fewer rows than this are not worth a task of their own.
const TASK_ROWS: usize = 4;

/// Rounds the rows of `x` into `kept`, and writes their rounded activation into `y`.
pub(super) fn forward(
    cpu: Cpu,
    x: &Tensor,
    activation: Activation,
    (y, kept): (&mut Operand, &mut Operand),
) {
    let (width, cols, rounding) = (y.cols(), x.cols(), y.rounding());
    let rows = y.par_rows_mut().zip(kept.par_rows_mut()).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, (y, kept))| {
        Operand::write_row(rounding, cpu, x.row(row), kept);
        if rounding == Rounding::Exact {
            return bend_row((cpu, rounding), x.row(row), (activation, width), y);
        }
        with_scratch(cols, |scratch| {
            let x = &mut scratch.as_f32_mut()[..cols];
            rounding.read(cpu, kept, x);
            bend_row((cpu, rounding), x, (activation, width), y);
        });
    });
}

/// Writes the rounded activation of rounded rows into `y`.
pub(super) fn again(cpu: Cpu, x: &Operand, activation: Activation, y: &mut Operand) {
    let (width, cols, rounding) = (y.cols(), x.cols(), y.rounding());
    y.par_rows_mut().enumerate().with_min_len(TASK_ROWS).for_each(|(row, y)| {
        with_scratch(cols, |scratch| {
            let values = &mut scratch.as_f32_mut()[..cols];
            x.read_row(cpu, row, values);
            bend_row((cpu, rounding), values, (activation, width), y);
        });
    });
}

/// The activation of one row, rounded into an operand's row.
fn bend_row(
    (cpu, rounding): (Cpu, Rounding),
    x: &[f32],
    (activation, width): (Activation, usize),
    out: &mut [u32],
) {
    with_scratch(width, |scratch| {
        let y = &mut scratch.as_f32_mut()[..width];
        match activation.curve {
            Curve::Silu => forward_row::<Silu>(cpu, x, activation, y),
            Curve::GeluTanh => forward_row::<GeluTanh>(cpu, x, activation, y),
        }
        Operand::write_row(rounding, cpu, y, out);
    });
}

fn forward_row<B: Bend>(cpu: Cpu, x: &[f32], activation: Activation, y: &mut [f32]) {
    if activation.is_gated {
        let (gate, up) = x.split_at(y.len());
        cpu.run(Gated::<B> { gate, up, y, bend: PhantomData });
    } else {
        cpu.run(Plain::<B> { x, y, bend: PhantomData });
    }
}

/// Writes the gradient by the input.
pub(super) fn backward(
    cpu: Cpu,
    dy: &Tensor,
    x: &Operand,
    activation: Activation,
    dx: &mut Tensor,
) {
    // A tensor without columns has no chunks either.
    let cols = x.cols().max(1);
    let rows = dx.as_mut_slice().par_chunks_mut(cols).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, dx)| {
        with_scratch(cols, |scratch| {
            let values = &mut scratch.as_f32_mut()[..cols];
            x.read_row(cpu, row, values);
            match activation.curve {
                Curve::Silu => backward_row::<Silu>(cpu, dy.row(row), values, (activation, dx)),
                Curve::GeluTanh => {
                    backward_row::<GeluTanh>(cpu, dy.row(row), values, (activation, dx));
                }
            }
        });
    });
}

fn backward_row<B: Bend>(
    cpu: Cpu,
    dy: &[f32],
    x: &[f32],
    (activation, dx): (Activation, &mut [f32]),
) {
    if activation.is_gated {
        let (gate, up) = x.split_at(dy.len());
        let (dgate, dup) = dx.split_at_mut(dy.len());
        cpu.run(GatedBack::<B> { dy, gate, up, dgate, dup, bend: PhantomData });
    } else {
        cpu.run(PlainBack::<B> { dy, x, dx, bend: PhantomData });
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// What a curve puts under its sigmoid.
trait Bend {
    /// `v(x)`.
    fn value(x: f32) -> f32;
    /// `v'(x)`.
    fn slope(x: f32) -> f32;
}

struct Silu;

impl Bend for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn slope(_: f32) -> f32 {
        1.0
    }
}

struct GeluTanh;

impl GeluTanh {
    /// `2 sqrt(2 / pi)`.
    const SCALE: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;
}

impl Bend for GeluTanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        Self::SCALE * (x + Self::CUBIC * (x * x) * x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        Self::SCALE * (1.0 + 3.0 * Self::CUBIC * (x * x))
    }
}

/// The slope of `x s(v(x))`, where `s` is known.
#[inline(always)]
fn slope<B: Bend>(x: f32, s: f32) -> f32 {
    s * (1.0 + x * (1.0 - s) * B::slope(x))
}

struct Gated<'a, B> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
    bend: PhantomData<B>,
}

impl<B: Bend> Loop for Gated<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((y, &gate), up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            *y = gate * sigmoid(B::value(gate)) * up;
        }
    }
}

struct Plain<'a, B> {
    x: &'a [f32],
    y: &'a mut [f32],
    bend: PhantomData<B>,
}

impl<B: Bend> Loop for Plain<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = x * sigmoid(B::value(x));
        }
    }
}

struct GatedBack<'a, B> {
    dy: &'a [f32],
    gate: &'a [f32],
    up: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
    bend: PhantomData<B>,
}

impl<B: Bend> Loop for GatedBack<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let values = self.dy.iter().zip(self.gate).zip(self.up);
        let gradients = self.dgate.iter_mut().zip(self.dup);
        for (((dy, &gate), up), (dgate, dup)) in values.zip(gradients) {
            let s = sigmoid(B::value(gate));
            *dgate = dy * up * slope::<B>(gate, s);
            *dup = dy * gate * s;
        }
    }
}

struct PlainBack<'a, B> {
    dy: &'a [f32],
    x: &'a [f32],
    dx: &'a mut [f32],
    bend: PhantomData<B>,
}

impl<B: Bend> Loop for PlainBack<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((dx, dy), &x) in self.dx.iter_mut().zip(self.dy).zip(self.x) {
            *dx = dy * slope::<B>(x, sigmoid(B::value(x)));
        }
    }
}
