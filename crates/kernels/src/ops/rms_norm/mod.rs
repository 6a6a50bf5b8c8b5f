//! Scaling rows to unit root mean square.
//!
//! ```text
//! inv = 1 / sqrt(mean(x^2) + eps)
//! z   = rounded(x * inv)
//! y   = weight * z
//! ```
//!
//! As in transformers: f32 up to `z`, which is rounded as the products' operands are (Zhang and
//! Sennrich 2019, arXiv:1910.07467). Families that store `weight - 1` add the one when they load it.

pub mod reference;
#[cfg(test)]
mod tests;

use super::normed::{self, Affine, Normed};
use crate::cpu::{Cpu, Loop, lanes};
use crate::{Device, Operand, Precision, Tensor};

/// Normalizes the rows of `x [T, d]` and rounds them for the products that follow.
///
/// Returns `y`, and `z` for the backward pass.
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
) -> (Operand, Normed) {
    assert_eq!(weight.len(), x.cols(), "one weight for each column");
    let unit = |cpu: Cpu, x: &[f32], z: &mut [f32]| cpu.run(Unit { x, eps, z });
    normed::forward((device, precision), x, &unit, Affine { weight, bias: None })
}

/// The same with `y` unrounded, for a sum that follows in place of a product: `[T, d]`.
///
/// # Panics
///
/// As [`forward`].
pub fn forward_exact(
    device: &Device,
    precision: Precision,
    x: &Tensor,
    weight: &[f32],
    eps: f32,
) -> (Tensor, Normed) {
    assert_eq!(weight.len(), x.cols(), "one weight for each column");
    let unit = |cpu: Cpu, x: &[f32], z: &mut [f32]| cpu.run(Unit { x, eps, z });
    normed::forward_exact((device, precision), x, &unit, Affine { weight, bias: None })
}

/// The `y` of [`forward`] once more, with the bits that it had.
///
/// # Panics
///
/// As [`forward`].
pub fn again(device: &Device, normed: &Normed, weight: &[f32]) -> Operand {
    assert_eq!(weight.len(), normed.rows.cols(), "one weight for each column");
    normed::again(device, normed, Affine { weight, bias: None })
}

/// The gradient by `x`, for the gradient `dy [T, d]` by `y`.
///
/// ```text
/// g  = dy * weight
/// dx = inv * (g - z * mean(g * z))
/// ```
///
/// Where `dweight` is given, `sum over rows of dy * z` is added to it.
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(
    device: &Device,
    dy: &Tensor,
    (normed, weight): (&Normed, &[f32]),
    dweight: Option<&mut [f32]>,
) -> Tensor {
    normed.check(dy, weight);
    if let Some(dweight) = dweight {
        assert_eq!(dweight.len(), dy.cols(), "one gradient for each weight");
        normed::accumulate(device, dy, normed, (dweight, None));
    }
    normed::backward(device, dy, (normed, weight), false)
}

/// Normalizes one row; returns its inverse root mean square.
struct Unit<'a> {
    x: &'a [f32],
    eps: f32,
    z: &'a mut [f32],
}

impl Loop for Unit<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let mean = lanes::dot(self.x, self.x) / self.x.len() as f32;
        let inv = 1.0 / (mean + self.eps).sqrt();
        for (z, x) in self.z.iter_mut().zip(self.x) {
            *z = x * inv;
        }
        inv
    }
}
