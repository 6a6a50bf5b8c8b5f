//! Normalized rows: what norms of rows keep for the backward pass, and what they share.
//!
//! ```text
//! z = rounded((x - mean) * inv)            without the mean where rows are not centred
//! y = weight * z + bias                    without the bias where there is none
//! g  = dy * weight
//! dx = inv * (g - mean(g) - z * mean(g * z))
//! ```
//!
//! As in a program whose tensors are bf16, `z` is rounded before it is scaled. So it is all that the
//! backward pass needs, at half of the size of `x`.

use rayon::prelude::*;

use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop, lanes};
use crate::{Device, Operand, Precision, Tensor};

/// Fewer rows than this are not worth a task of their own.
const TASK_ROWS: usize = 8;

/// Columns of a task that sums over rows; each task reads whole cache lines.
const TASK_COLS: usize = 128;

/// The rows of a norm before weight and bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Normed {
    /// `z [T, d]`.
    pub rows: Operand,
    /// What each row was multiplied by, `[T]`.
    pub inv: Vec<f32>,
}

/// What normalized rows are multiplied by, and what is added then; an element for each column.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
}

/// Normalizes a row: `x` into `z`; returns what it was multiplied by.
pub(super) type Unit<'a> = &'a (dyn Fn(Cpu, &[f32], &mut [f32]) -> f32 + Sync);

/// Scaled rows as an operand, and the rows before.
pub(super) fn forward(
    (device, precision): (&Device, Precision),
    x: &Tensor,
    unit: Unit<'_>,
    affine: Affine<'_>,
) -> (Operand, Normed) {
    let Device::Cpu(cpu) = device;
    let mut y = Operand::unwritten(device, precision, x.rows(), x.cols());
    let mut normed = Normed::unwritten((device, precision), x);
    let rounding = y.rounding();
    let rows = normed.rows.par_rows_mut().zip(&mut normed.inv).zip(y.par_rows_mut()).enumerate();
    rows.with_min_len(TASK_ROWS).for_each(|(row, ((kept, inv), out))| {
        with_scratch(x.cols(), |scratch| {
            let y = &mut scratch.as_f32_mut()[..x.cols()];
            *inv = unit(*cpu, x.row(row), y);
            Operand::write_row(rounding, *cpu, y, kept);
            rounding.read(*cpu, kept, y);
            cpu.run(Scale { affine, values: y });
            Operand::write_row(rounding, *cpu, y, out);
        });
    });
    (y, normed)
}

/// The same with scaled rows as they are.
pub(super) fn forward_exact(
    (device, precision): (&Device, Precision),
    x: &Tensor,
    unit: Unit<'_>,
    affine: Affine<'_>,
) -> (Tensor, Normed) {
    let Device::Cpu(cpu) = device;
    let mut y = Tensor::unwritten(device, x.rows(), x.cols());
    let mut normed = Normed::unwritten((device, precision), x);
    let rounding = normed.rows.rounding();
    let out = y.as_mut_slice().par_chunks_mut(x.cols().max(1));
    let rows = normed.rows.par_rows_mut().zip(&mut normed.inv).zip(out).enumerate();
    rows.with_min_len(TASK_ROWS).for_each(|(row, ((kept, inv), y))| {
        *inv = unit(*cpu, x.row(row), y);
        Operand::write_row(rounding, *cpu, y, kept);
        rounding.read(*cpu, kept, y);
        cpu.run(Scale { affine, values: y });
    });
    (y, normed)
}

/// Scaled rows once more, with the bits that they had.
pub(super) fn again(device: &Device, normed: &Normed, affine: Affine<'_>) -> Operand {
    let Device::Cpu(cpu) = device;
    let (count, cols) = (normed.rows.rows(), normed.rows.cols());
    let mut y = Operand::unwritten(device, normed.rows.precision(), count, cols);
    let rounding = y.rounding();
    y.par_rows_mut().enumerate().with_min_len(TASK_ROWS).for_each(|(row, out)| {
        with_scratch(cols, |scratch| {
            let values = &mut scratch.as_f32_mut()[..cols];
            normed.rows.read_row(*cpu, row, values);
            cpu.run(Scale { affine, values });
            Operand::write_row(rounding, *cpu, values, out);
        });
    });
    y
}

/// The gradient by `x`; `is_centred` tells whether means were taken away.
pub(super) fn backward(
    device: &Device,
    dy: &Tensor,
    (normed, weight): (&Normed, &[f32]),
    is_centred: bool,
) -> Tensor {
    let Device::Cpu(cpu) = device;
    let mut dx = Tensor::unwritten(device, dy.rows(), dy.cols());
    // A tensor without columns has no chunks either.
    let cols = dy.cols().max(1);
    let rows = dx.as_mut_slice().par_chunks_mut(cols).enumerate().with_min_len(TASK_ROWS);
    rows.for_each(|(row, dx)| {
        with_scratch(cols, |scratch| {
            let z = &mut scratch.as_f32_mut()[..cols];
            normed.rows.read_row(*cpu, row, z);
            let inv = normed.inv[row];
            cpu.run(Backward { dy: dy.row(row), z, weight, inv, is_centred, dx });
        });
    });
    dx
}

/// Adds `sum over rows of dy * z` and, where it is given, `sum over rows of dy`; a task sums its
/// columns over all rows, in order.
pub(super) fn accumulate(
    device: &Device,
    dy: &Tensor,
    normed: &Normed,
    (dweight, dbias): (&mut [f32], Option<&mut [f32]>),
) {
    let Device::Cpu(cpu) = device;
    let rounding = normed.rows.rounding();
    dweight.par_chunks_mut(TASK_COLS).enumerate().for_each(|(task, dweight)| {
        let first = task * TASK_COLS;
        let mut z = [0.0; TASK_COLS];
        let z = &mut z[..dweight.len()];
        for row in 0..dy.rows() {
            let words = &normed.rows.row_words(row)[rounding.element().words(first)..];
            rounding.read(*cpu, words, z);
            let dy = &dy.row(row)[first..first + z.len()];
            cpu.run(AddProducts { left: dy, right: z, sums: dweight });
        }
    });
    if let Some(dbias) = dbias {
        dbias.par_chunks_mut(TASK_COLS).enumerate().for_each(|(task, dbias)| {
            let first = task * TASK_COLS;
            for row in 0..dy.rows() {
                for (sum, dy) in dbias.iter_mut().zip(&dy.row(row)[first..]) {
                    *sum += dy;
                }
            }
        });
    }
}

impl Normed {
    fn unwritten((device, precision): (&Device, Precision), x: &Tensor) -> Self {
        let rows = Operand::unwritten(device, precision, x.rows(), x.cols());
        Self { rows, inv: vec![0.0; x.rows()] }
    }

    /// Panics unless a gradient and a weight fit.
    pub(super) fn check(&self, dy: &Tensor, weight: &[f32]) {
        let shape = (self.rows.rows(), self.rows.cols());
        assert_eq!((dy.rows(), dy.cols()), shape, "a gradient has its value's shape");
        assert_eq!(weight.len(), shape.1, "one weight for each column");
        assert_eq!(self.inv.len(), shape.0, "one factor for each row");
    }
}

struct Scale<'a> {
    affine: Affine<'a>,
    values: &'a mut [f32],
}

impl Loop for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let weighted = self.values.iter_mut().zip(self.affine.weight);
        match self.affine.bias {
            Some(bias) => {
                for ((value, weight), bias) in weighted.zip(bias) {
                    *value = weight * *value + bias;
                }
            }
            None => {
                for (value, weight) in weighted {
                    *value *= weight;
                }
            }
        }
    }
}

struct Backward<'a> {
    dy: &'a [f32],
    z: &'a [f32],
    weight: &'a [f32],
    inv: f32,
    is_centred: bool,
    dx: &'a mut [f32],
}

impl Loop for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { dy, z, weight, inv, is_centred, dx } = self;
        for ((dx, dy), weight) in dx.iter_mut().zip(dy).zip(weight) {
            *dx = dy * weight;
        }
        let count = z.len() as f32;
        let middle = if is_centred { lanes::sum(dx) / count } else { 0.0 };
        let slope = lanes::dot(dx, z) / count;
        for (dx, z) in dx.iter_mut().zip(z) {
            *dx = inv * (*dx - middle - z * slope);
        }
    }
}

struct AddProducts<'a> {
    left: &'a [f32],
    right: &'a [f32],
    sums: &'a mut [f32],
}

impl Loop for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((sum, left), right) in self.sums.iter_mut().zip(self.left).zip(self.right) {
            *sum += left * right;
        }
    }
}
