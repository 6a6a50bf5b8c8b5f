//! Centring rows and scaling them to unit variance.
//!
//! ```text
//! mean = mean(x)            inv = 1 / sqrt(mean((x - mean)^2) + eps)
//! y    = weight * (x - mean) * inv + bias
//! ```
//!
//! `torch.nn.LayerNorm`, in f32 throughout (Ba, Kiros and Hinton 2016, arXiv:1607.06450).

mod cpu;
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
    /// What [`forward`] returned: mean and inverse deviation of each row, `[T, 2]`.
    pub moments: &'a [f32],
}

/// Normalizes the rows of `x [T, d]` and rounds them for the products that follow.
///
/// `affine` is weight and bias, `[d]` each. Returns the rows and `[mean, inv]` of each, `[T, 2]`.
///
/// # Panics
///
/// If there are not a weight and a bias for each column.
pub fn forward(
    device: &Device,
    precision: Precision,
    x: &Tensor,
    affine: [&[f32]; 2],
    eps: f32,
) -> (Operand, Vec<f32>) {
    assert!(affine.iter().all(|part| part.len() == x.cols()), "weight and bias for each column");
    match device {
        Device::Cpu(cpu) => {
            let mut y = Operand::unwritten(device, precision, x.rows(), x.cols());
            let moments = cpu::forward(*cpu, x, affine, eps, &mut y);
            (y, moments)
        }
    }
}

/// The gradient by `x`, for the gradient `dy [T, d]` by `y`.
///
/// ```text
/// z  = (x - mean) * inv         g = dy * weight
/// dx = inv * (g - mean(g) - z * mean(g * z))
/// ```
///
/// Where they are given, `sum over rows of dy * z` and `sum over rows of dy` are added to the
/// gradients by weight and bias.
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(
    device: &Device,
    dy: &Tensor,
    saved: Saved<'_>,
    daffine: Option<[&mut [f32]; 2]>,
) -> Tensor {
    let x = saved.x;
    assert_eq!((dy.rows(), dy.cols()), (x.rows(), x.cols()), "a gradient has its value's shape");
    assert_eq!(saved.weight.len(), x.cols(), "one weight for each column");
    assert_eq!(saved.moments.len(), 2 * x.rows(), "two moments for each row");
    match device {
        Device::Cpu(cpu) => {
            if let Some(daffine) = daffine {
                assert!(daffine.iter().all(|d| d.len() == x.cols()), "a gradient for each part");
                cpu::accumulate(*cpu, dy, saved, daffine);
            }
            let mut dx = Tensor::unwritten(device, x.rows(), x.cols());
            cpu::backward(*cpu, dy, saved, &mut dx);
            dx
        }
    }
}
