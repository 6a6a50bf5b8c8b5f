//! The activation of feed-forward blocks, gated or not.
//!
//! ```text
//! s(v)  = 1 / (1 + exp(-v))
//! act(x) = x s(v(x))          v = x                                   silu
//!                             v = 2 sqrt(2/pi) (x + 0.044715 x^3)     gelu, by the tanh formula
//! y      = act(gate) * up     or     y = act(x)
//! ```
//!
//! `SwiGLU` and `GeGLU` of Shazeer 2020 (arXiv:2002.05202); the GELU of Hendrycks and Gimpel 2016
//! (arXiv:1606.08415) in the form `0.5 x (1 + tanh(v / 2))`, which is `x s(v)` and loses no digits
//! where the tangent is close to -1. Gate and up lie side by side in one tensor, as one product
//! writes them: columns `0..F` are the gate, `F..2F` the up.

mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Device, Operand, Precision, Tensor};

/// The curve that values are bent along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `silu` and `swish` of transformers.
    Silu,
    /// `gelu_pytorch_tanh` and `gelu_new` of transformers.
    GeluTanh,
}

/// A curve, and whether it is a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The curve.
    pub curve: Curve,
    /// Whether the input holds a gate and what it lets through, side by side.
    pub is_gated: bool,
}

impl Activation {
    /// Columns of the output for an input of `cols`.
    fn width(self, cols: usize) -> usize {
        if self.is_gated { cols / 2 } else { cols }
    }

    fn check(self, cols: usize) {
        assert!(!self.is_gated || cols.is_multiple_of(2), "as many gate columns as up columns");
    }
}

/// The activation of `x [T, 2F]` (of `[T, F]` where nothing is gated), and what it was computed from.
///
/// As in a program whose tensors are bf16, `x` is rounded before the curve and its result after it.
/// Returns the result `[T, F]`, and the rounded `x` for the backward pass.
///
/// # Panics
///
/// If a gated input has an odd number of columns.
pub fn forward(
    device: &Device,
    precision: Precision,
    x: &Tensor,
    activation: Activation,
) -> (Operand, Operand) {
    activation.check(x.cols());
    match device {
        Device::Cpu(cpu) => {
            let width = activation.width(x.cols());
            let mut y = Operand::unwritten(device, precision, x.rows(), width);
            let mut kept = Operand::unwritten(device, precision, x.rows(), x.cols());
            cpu::forward(*cpu, x, activation, (&mut y, &mut kept));
            (y, kept)
        }
    }
}

/// The result of [`forward`] once more, with the bits that it had, from the input that it rounded.
///
/// # Panics
///
/// As [`forward`].
pub fn again(device: &Device, x: &Operand, activation: Activation) -> Operand {
    activation.check(x.cols());
    match device {
        Device::Cpu(cpu) => {
            let width = activation.width(x.cols());
            let mut y = Operand::unwritten(device, x.precision(), x.rows(), width);
            cpu::again(*cpu, x, activation, &mut y);
            y
        }
    }
}

/// The gradient by `x`, for the gradient `dy [T, F]` by the output.
///
/// ```text
/// s     = s(v(gate))
/// dgate = dy * up * s * (1 + gate * (1 - s) * v'(gate))
/// dup   = dy * gate * s
/// ```
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(device: &Device, dy: &Tensor, x: &Operand, activation: Activation) -> Tensor {
    activation.check(x.cols());
    let shape = (x.rows(), activation.width(x.cols()));
    assert_eq!((dy.rows(), dy.cols()), shape, "a gradient for each output");
    match device {
        Device::Cpu(cpu) => {
            let mut dx = Tensor::unwritten(device, x.rows(), x.cols());
            cpu::backward(*cpu, dy, x, activation, &mut dx);
            dx
        }
    }
}
