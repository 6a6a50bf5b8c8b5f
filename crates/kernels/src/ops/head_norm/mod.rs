//! Scaling each query head and each key head to unit root mean square.
//!
//! ```text
//! q_h = q_weight * q_h / sqrt(mean(q_h^2) + eps)        and so for each key head; values stay
//! ```
//!
//! `q_norm` and `k_norm` of transformers (Henry et al. 2020, arXiv:2010.04245, with a learned scale a
//! column). All query heads share one weight, all key heads another.

mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Device, Heads, Tensor};

/// What the backward pass needs from the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The input `[T, (H + 2G) D]`.
    pub qkv: &'a Tensor,
    /// The scales of the columns of query heads and of key heads, `[D]` each.
    pub weights: [&'a [f32]; 2],
    /// What [`forward`] returned for each row, `[T, H + G]`.
    pub inv_rms: &'a [f32],
}

/// Normalizes the query and key heads of `qkv [T, (H + 2G) D]`.
///
/// Returns the rows and the inverse root mean squares `[T, H + G]`.
///
/// # Panics
///
/// If shapes do not agree.
pub fn forward(
    device: &Device,
    qkv: &Tensor,
    heads: Heads,
    weights: [&[f32]; 2],
    eps: f32,
) -> (Tensor, Vec<f32>) {
    check(qkv, heads, weights);
    match device {
        Device::Cpu(cpu) => {
            let mut y = Tensor::unwritten(device, qkv.rows(), qkv.cols());
            let mut inv_rms = vec![0.0; qkv.rows() * (heads.query + heads.key_value)];
            cpu::forward(*cpu, (qkv, heads), (weights, eps), (&mut y, &mut inv_rms));
            (y, inv_rms)
        }
    }
}

/// The gradient by `qkv`, for the gradient `dy` by the normalized rows.
///
/// Where they are given, the gradients by the two weights are added up, rows first to last and heads
/// within a row.
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(
    device: &Device,
    dy: &Tensor,
    heads: Heads,
    saved: Saved<'_>,
    dweights: Option<[&mut [f32]; 2]>,
) -> Tensor {
    check(saved.qkv, heads, saved.weights);
    assert_eq!((dy.rows(), dy.cols()), (saved.qkv.rows(), saved.qkv.cols()), "a gradient a value");
    let heads_count = heads.query + heads.key_value;
    assert_eq!(saved.inv_rms.len(), dy.rows() * heads_count, "one for each head of each row");
    match device {
        Device::Cpu(cpu) => {
            if let Some(dweights) = dweights {
                assert!(
                    dweights.iter().all(|d| d.len() == heads.dim),
                    "a gradient for each weight"
                );
                cpu::accumulate_dweights(dy, heads, saved, dweights);
            }
            let mut dx = Tensor::unwritten(device, dy.rows(), dy.cols());
            cpu::backward(*cpu, dy, heads, saved, &mut dx);
            dx
        }
    }
}

fn check(qkv: &Tensor, heads: Heads, weights: [&[f32]; 2]) {
    assert_eq!(qkv.cols(), heads.qkv_cols(), "queries, keys and values of each head");
    assert!(heads.dim > 0, "a head has columns");
    assert!(weights.iter().all(|weight| weight.len() == heads.dim), "a weight for each column");
}
