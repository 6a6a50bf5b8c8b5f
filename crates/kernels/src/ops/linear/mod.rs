//! Frozen or trainable projections of one input, with low-rank adapters.
//!
//! For each projection, with `W [out, in]`, adapter `A [r, in]`, `B [out, r]` (arXiv:2106.09685):
//!
//! ```text
//! s  = scale x A^T                        y  = x W^T + s B^T + bias
//! ds = scale dy B                         dx = sum over projections of dy W + ds A
//! dA = ds^T x      dB = dy^T s            dW = dy^T x      dbias = sum over rows of dy
//! ```
//!
//! With dropout the adapter takes `drop(x)` in place of `x`, and `ds A` is dropped likewise; each
//! projection drops for itself.
//!
//! `x`, `s`, `dy` and `ds` are operands: rounded once, as the input's precision asks. Projections
//! of one input (query, key and value; gate and up) go together: they share its packing, and the
//! sum of their input gradients needs no further pass.

pub(crate) mod cpu;
mod panels;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Device, Dropout, Operand, Tensor, Weight};

/// A low-rank adapter beside a weight.
#[derive(Clone, Copy, Debug)]
pub struct Lora<'a> {
    /// `[rank, in]`, row-major.
    pub a: &'a [f32],
    /// `[out, rank]`, row-major.
    pub b: &'a [f32],
    /// The width between the two; above 0.
    pub rank: usize,
    /// What the product is multiplied by, usually alpha / rank.
    pub scale: f32,
    /// What is dropped of its input.
    pub dropout: Option<Dropout<'a>>,
}

/// A weight with what is added to its output.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// `[out, in]`.
    pub weight: &'a Weight,
    /// `[out]`.
    pub bias: Option<&'a [f32]>,
    /// The adapter, where there is one.
    pub lora: Option<Lora<'a>>,
}

/// Where the gradients of a projection are added.
#[derive(Debug)]
pub enum ProjectionGrad<'a> {
    /// Nowhere: nothing of this projection is trained.
    Frozen,
    /// The adapter is trained.
    Lora {
        /// `[rank, in]`.
        a: &'a mut [f32],
        /// `[out, rank]`.
        b: &'a mut [f32],
    },
    /// The weight itself is trained.
    Full {
        /// `[out, in]`, row-major.
        weight: &'a mut [f32],
        /// `[out]`.
        bias: Option<&'a mut [f32]>,
    },
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The input.
    pub x: &'a Operand,
    /// `s` of each projection, as [`forward`] returned it.
    pub low: &'a [Option<Operand>],
}

/// The outputs of all projections side by side, `[rows, sum of outs]`, and `s [rows, rank]` of
/// each adapter.
///
/// # Panics
///
/// If shapes do not fit together.
pub fn forward(
    device: &Device,
    x: &Operand,
    projections: &[Projection<'_>],
) -> (Tensor, Vec<Option<Operand>>) {
    assert!(!projections.is_empty(), "at least one projection");
    for projection in projections {
        projection.check((x.rows(), x.cols()));
    }
    match device {
        Device::Cpu(cpu) => cpu::forward((device, *cpu), x, projections),
    }
}

/// Adds the gradients of trained parts to `grads`, and returns that of the input if it is wanted.
///
/// `dy` is `[rows, sum of outs]`. Sums over rows run in order from the first row.
///
/// # Panics
///
/// If shapes do not fit together, or an adapter is to be trained that the projection lacks.
pub fn backward(
    device: &Device,
    dy: &Tensor,
    saved: Saved<'_>,
    projections: &[Projection<'_>],
    (grads, want_dx): (&mut [ProjectionGrad<'_>], bool),
) -> Option<Tensor> {
    let outs: usize = projections.iter().map(|projection| projection.weight.outputs()).sum();
    assert_eq!((dy.rows(), dy.cols()), (saved.x.rows(), outs), "a gradient for each output");
    assert!(!projections.is_empty(), "at least one projection");
    assert_eq!(grads.len(), projections.len(), "a place for gradients for each projection");
    assert_eq!(saved.low.len(), projections.len(), "saved values for each projection");
    for (projection, grad) in projections.iter().zip(grads.iter()) {
        projection.check((saved.x.rows(), saved.x.cols()));
        projection.check_grad(grad);
    }
    match device {
        Device::Cpu(cpu) => cpu::backward((device, *cpu), dy, saved, projections, (grads, want_dx)),
    }
}

impl Projection<'_> {
    fn check(&self, (rows, inputs): (usize, usize)) {
        let out = self.weight.outputs();
        assert_eq!(self.weight.inputs(), inputs, "the weight takes the input");
        assert!(out > 0, "a weight has outputs");
        assert!(self.bias.is_none_or(|bias| bias.len() == out), "a bias for each output");
        if let Some(lora) = self.lora {
            assert!(lora.rank > 0, "an adapter has a rank");
            assert_eq!(lora.a.len(), lora.rank * inputs, "A is [rank, in]");
            assert_eq!(lora.b.len(), out * lora.rank, "B is [out, rank]");
            let keys = lora.dropout.map_or(rows, |dropout| dropout.rows.len());
            assert_eq!(keys, rows, "dropout has a key for each row");
        }
    }

    fn check_grad(&self, grad: &ProjectionGrad<'_>) {
        match grad {
            ProjectionGrad::Frozen => {}
            ProjectionGrad::Lora { a, b } => {
                let lens = self.lora.map(|lora| (lora.a.len(), lora.b.len()));
                assert_eq!(lens, Some((a.len(), b.len())), "gradients of the adapter that is");
            }
            ProjectionGrad::Full { weight, bias } => {
                let (out, inputs) = (self.weight.outputs(), self.weight.inputs());
                assert_eq!(weight.len(), out * inputs, "a gradient for each weight");
                assert!(bias.as_ref().is_none_or(|bias| bias.len() == out), "for each bias");
            }
        }
    }
}
