//! A gate, then scaling to unit root mean square: the last step of a Mamba-2 block before its output
//! projection (Dao and Gu 2024, arXiv:2405.21060, section 7.1).
//!
//! ```text
//! v       = x * gate / (1 + exp(-gate))
//! inv_rms = 1 / sqrt(mean(v^2) + eps)        over each of `groups` equal parts of a row
//! y       = weight * (v * inv_rms)
//! ```

mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Columns, ColumnsMut, Device, Operand, Precision, Tensor};

/// How rows are normalized.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// The scale of each column, `[d]`.
    pub weight: &'a [f32],
    /// The number of equal parts of a row that are normalized each by itself; divides `d`.
    pub groups: usize,
    /// Added to the mean square; above 0.
    pub eps: f32,
}

/// What the backward pass needs from the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The input `[T, d]`.
    pub x: &'a Tensor,
    /// The gate, `d` columns.
    pub gate: Columns<'a>,
    /// What [`forward`] returned for each row and group, `[T, groups]`.
    pub inv_rms: &'a [f32],
}

fn check(x: &Tensor, gate: Columns<'_>, norm: Norm<'_>) {
    assert_eq!(norm.weight.len(), x.cols(), "one weight for each column");
    assert!(0 < norm.groups && x.cols().is_multiple_of(norm.groups), "groups divide the columns");
    assert!(gate.tensor.rows() == x.rows() && gate.holds(x.cols()), "a gate for each value");
}

/// Gates and normalizes the rows of `x [T, d]` and rounds them for the products that follow.
///
/// Returns the rows and `inv_rms [T, groups]`.
///
/// # Panics
///
/// If shapes do not agree.
pub fn forward(
    device: &Device,
    precision: Precision,
    x: &Tensor,
    gate: Columns<'_>,
    norm: Norm<'_>,
) -> (Operand, Vec<f32>) {
    check(x, gate, norm);
    match device {
        Device::Cpu(cpu) => {
            let mut y = Operand::unwritten(device, precision, x.rows(), x.cols());
            let inv_rms = cpu::forward(*cpu, (x, gate), norm, &mut y);
            (y, inv_rms)
        }
    }
}

/// The gradient by `x` for the gradient `dy [T, d]` by the result; that by the gate goes to `dgate`.
///
/// ```text
/// g     = dy * weight
/// dv    = inv_rms * (g - v * inv_rms^2 * mean(g * v))
/// s     = 1 / (1 + exp(-gate))
/// dx    = dv * gate * s
/// dgate = dv * x * s * (1 + gate * (1 - s))
/// ```
///
/// Where `dweight` is given, `sum over rows of dy * v * inv_rms` is added to it.
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(
    device: &Device,
    dy: &Tensor,
    (saved, norm): (Saved<'_>, Norm<'_>),
    dgate: ColumnsMut<'_>,
    dweight: Option<&mut [f32]>,
) -> Tensor {
    let x = saved.x;
    check(x, saved.gate, norm);
    assert_eq!((dy.rows(), dy.cols()), (x.rows(), x.cols()), "a gradient has its value's shape");
    assert_eq!(saved.inv_rms.len(), x.rows() * norm.groups, "an inverse for each group");
    assert!(dgate.holds(x.rows(), x.cols()), "a place for each gradient");
    match device {
        Device::Cpu(cpu) => {
            if let Some(dweight) = dweight {
                assert_eq!(dweight.len(), x.cols(), "one gradient for each weight");
                cpu::accumulate_dweight(*cpu, dy, (saved, norm), dweight);
            }
            let mut dx = Tensor::unwritten(device, x.rows(), x.cols());
            cpu::backward(*cpu, dy, (saved, norm), (&mut dx, dgate));
            dx
        }
    }
}
