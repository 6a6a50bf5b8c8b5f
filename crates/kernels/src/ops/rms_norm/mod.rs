//! Scaling rows to unit root mean square.
//!
//! ```text
//! inv_rms = 1 / sqrt(mean(x^2) + eps)
//! y       = weight * (x * inv_rms)
//! ```
//!
//! As in transformers, in f32 throughout (Zhang and Sennrich 2019, arXiv:1910.07467).
//! Families that store `weight - 1` add the one when they load it.

pub(super) mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Device, Operand, Precision, Tensor};

/// What the backward pass needs from the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The input `[T, d]`.
    pub x: &'a Tensor,
    /// The scale of each column, `[d]`.
    pub weight: &'a [f32],
    /// What [`forward`] returned for each row, `[T]`.
    pub inv_rms: &'a [f32],
}

/// Normalizes the rows of `x [T, d]` and rounds them for the products that follow.
///
/// Returns the rows and `inv_rms [T]`.
///
/// # Panics
///
/// If `weight` does not have one element for each column.
pub fn forward(
    device: &Device,
    precision: Precision,
    x: &Tensor,
    weight: &[f32],
    eps: f32,
) -> (Operand, Vec<f32>) {
    assert_eq!(weight.len(), x.cols(), "one weight for each column");
    match device {
        Device::Cpu(cpu) => {
            let mut y = Operand::unwritten(device, precision, x.rows(), x.cols());
            let inv_rms = cpu::forward(*cpu, x, weight, eps, &mut y);
            (y, inv_rms)
        }
    }
}

/// The same rows unrounded, for a sum that follows in place of a product: `[T, d]`.
///
/// # Panics
///
/// As [`forward`].
pub fn forward_exact(device: &Device, x: &Tensor, weight: &[f32], eps: f32) -> (Tensor, Vec<f32>) {
    assert_eq!(weight.len(), x.cols(), "one weight for each column");
    match device {
        Device::Cpu(cpu) => {
            let mut y = Tensor::unwritten(device, x.rows(), x.cols());
            let inv_rms = cpu::forward_exact(*cpu, x, weight, eps, &mut y);
            (y, inv_rms)
        }
    }
}

/// The gradient by `x`, for the gradient `dy [T, d]` by `y`.
///
/// ```text
/// g  = dy * weight
/// dx = inv_rms * (g - x * inv_rms^2 * mean(g * x))
/// ```
///
/// Where `dweight` is given, `sum over rows of dy * x * inv_rms` is added to it.
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(
    device: &Device,
    dy: &Tensor,
    saved: Saved<'_>,
    dweight: Option<&mut [f32]>,
) -> Tensor {
    let x = saved.x;
    assert_eq!((dy.rows(), dy.cols()), (x.rows(), x.cols()), "a gradient has its value's shape");
    assert_eq!(saved.weight.len(), x.cols(), "one weight for each column");
    assert_eq!(saved.inv_rms.len(), x.rows(), "one inverse root mean square for each row");
    match device {
        Device::Cpu(cpu) => {
            if let Some(dweight) = dweight {
                assert_eq!(dweight.len(), x.cols(), "one gradient for each weight");
                cpu::accumulate_dweight(*cpu, dy, saved, dweight);
            }
            let mut dx = Tensor::unwritten(device, x.rows(), x.cols());
            cpu::backward(*cpu, dy, saved, &mut dx);
            dx
        }
    }
}
