//! Centring rows and scaling them to unit variance.
//!
//! ```text
//! mean = mean(x)            inv = 1 / sqrt(mean((x - mean)^2) + eps)
//! z    = rounded((x - mean) * inv)
//! y    = weight * z + bias
//! ```
//!
//! `torch.nn.LayerNorm` (Ba, Kiros and Hinton 2016, arXiv:1607.06450): f32 up to `z`, which is rounded
//! as the products' operands are.

pub mod reference;
#[cfg(test)]
mod tests;

use super::normed::{self, Affine, Normed};
use crate::cpu::{Cpu, Loop, lanes};
use crate::{Device, Operand, Precision, Tensor};

/// Normalizes the rows of `x [T, d]` and rounds them for the products that follow.
///
/// `affine` is weight and bias, `[d]` each. Returns `y`, and `z` for the backward pass.
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
) -> (Operand, Normed) {
    let unit = |cpu: Cpu, x: &[f32], z: &mut [f32]| cpu.run(Unit { x, eps, z });
    normed::forward((device, precision), x, &unit, checked(affine, x.cols()))
}

/// The `y` of [`forward`] once more, with the bits that it had.
///
/// # Panics
///
/// As [`forward`].
pub fn again(device: &Device, normed: &Normed, affine: [&[f32]; 2]) -> Operand {
    normed::again(device, normed, checked(affine, normed.rows.cols()))
}

fn checked([weight, bias]: [&[f32]; 2], cols: usize) -> Affine<'_> {
    assert!(weight.len() == cols && bias.len() == cols, "weight and bias for each column");
    Affine { weight, bias: Some(bias) }
}

/// The gradient by `x`, for the gradient `dy [T, d]` by `y`.
///
/// ```text
/// g  = dy * weight
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
    (normed, weight): (&Normed, &[f32]),
    daffine: Option<[&mut [f32]; 2]>,
) -> Tensor {
    normed.check(dy, weight);
    if let Some([dweight, dbias]) = daffine {
        let fits = dweight.len() == dy.cols() && dbias.len() == dy.cols();
        assert!(fits, "a gradient for each part");
        normed::accumulate(device, dy, normed, (dweight, Some(dbias)));
    }
    normed::backward(device, dy, (normed, weight), true)
}

/// Normalizes one row; returns its inverse deviation.
struct Unit<'a> {
    x: &'a [f32],
    eps: f32,
    z: &'a mut [f32],
}

impl Loop for Unit<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let Self { x, eps, z } = self;
        let count = x.len() as f32;
        let mean = lanes::sum(x) / count;
        for (z, x) in z.iter_mut().zip(x) {
            *z = x - mean;
        }
        let inv = 1.0 / (lanes::dot(z, z) / count + eps).sqrt();
        for z in z.iter_mut() {
            *z *= inv;
        }
        inv
    }
}
