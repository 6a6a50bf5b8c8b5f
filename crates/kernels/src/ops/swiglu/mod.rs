//! The gated activation of feed-forward blocks.
//!
//! ```text
//! silu(g) = g / (1 + exp(-g))
//! y       = silu(gate) * up
//! ```
//!
//! `SwiGLU` of Shazeer 2020 (arXiv:2002.05202). Gate and up lie side by side in one tensor, as one
//! product writes them: columns `0..F` are the gate, `F..2F` the up.

mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Device, Operand, Precision, Tensor};

/// `silu(gate) * up` of `gate_up [T, 2F]`, rounded for the product that follows: `[T, F]`.
///
/// # Panics
///
/// If the number of columns is odd.
pub fn forward(device: &Device, precision: Precision, gate_up: &Tensor) -> Operand {
    assert_eq!(gate_up.cols() % 2, 0, "as many gate columns as up columns");
    match device {
        Device::Cpu(cpu) => {
            let mut y = Operand::unwritten(device, precision, gate_up.rows(), gate_up.cols() / 2);
            cpu::forward(*cpu, gate_up, &mut y);
            y
        }
    }
}

/// The gradient by `gate_up [T, 2F]`, for the gradient `dy [T, F]` by the product.
///
/// ```text
/// s     = 1 / (1 + exp(-gate))
/// dgate = dy * up * s * (1 + gate * (1 - s))
/// dup   = dy * gate * s
/// ```
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(device: &Device, dy: &Tensor, gate_up: &Tensor) -> Tensor {
    let shape = (gate_up.rows(), gate_up.cols());
    assert_eq!((dy.rows(), 2 * dy.cols()), shape, "a gate and an up for each gradient");
    match device {
        Device::Cpu(cpu) => {
            let mut dgate_up = Tensor::unwritten(device, gate_up.rows(), gate_up.cols());
            cpu::backward(*cpu, dy, gate_up, &mut dgate_up);
            dgate_up
        }
    }
}
