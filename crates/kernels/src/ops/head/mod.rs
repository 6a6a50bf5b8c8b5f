//! From hidden states to log-probabilities and their gradient, without the logits.
//!
//! ```text
//! z_tv   = cap(scale h_t . W_v)           v over the vocabulary
//! p_tv   = exp(z_tv - lse_t)              lse_t = ln sum_v exp(z_tv)
//! logp_t = z_ty - lse_t                   y the target of row t
//! u_t    = z'_ty W_y - sum_v p_tv z'_tv W_v    the gradient of logp_t by h_t
//! ```
//!
//! `cap(z) = softcap tanh(z / softcap)` where there is a cap (arXiv:2408.00118), else `z`;
//! `z'` is its slope times the scale, which is 1 in most families.
//!
//! The vocabulary is cut into tiles, counted from token 0; a tile of logits lives in a core's cache
//! and is gone before the next one, with maximum, sums and `u` carried along (online softmax, as in
//! Wijmans et al. 2024, arXiv:2411.09009, but without leaving anything out). A loss that is a
//! function of sums of log-probabilities has the gradient `coefficient * u`, so one pass gives both.
//!
//! The target is kept out of the sums and joins at the end: `1 - p_y` is then the sum of the others
//! and keeps its digits where `p_y` is close to 1.

mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Device, Operand, Tensor, Weight};

/// How logits are made of products with the head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logits {
    /// What products are multiplied by.
    pub scale: f32,
    /// The limit that logits bend towards; above 0.
    pub softcap: Option<f32>,
}

impl Logits {
    /// Logits that are the products themselves.
    pub const PLAIN: Self = Self { scale: 1.0, softcap: None };

    /// The slope by the product at a logit.
    fn slope(self, logit: f32) -> f32 {
        let part = self.softcap.map_or(0.0, |cap| logit / cap);
        self.scale * (1.0 - part * part)
    }
}

/// A head: its weight `[V, d]`, and how its products become logits.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The weight.
    pub weight: &'a Weight,
    /// What becomes of products.
    pub logits: Logits,
}

/// What a row says about its target, for each row.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadOutput {
    /// Natural-log probability of the target, in nats; at most 0.
    pub logp: Vec<f32>,
    /// Logarithm of the sum of all exponentials of logits.
    pub lse: Vec<f32>,
    /// Entropy of the next token's distribution, in nats.
    pub entropy: Vec<f32>,
    /// Mean logit over the vocabulary.
    pub mean_logit: Vec<f32>,
    /// Logarithm of the sum of squared probabilities; at most 0.
    pub ln_sum_p2: Vec<f32>,
    /// Whether the target's logit is larger than every other.
    pub is_argmax: Vec<bool>,
    /// The gradient of each row's `logp` by its hidden state, `[T, d]`, if it was asked for.
    pub gradient: Option<Tensor>,
}

/// Scores each row of `hidden [T, d]` under the head's logits.
///
/// The gradient costs as much again as the scores.
///
/// # Panics
///
/// If shapes do not agree or a target is not in the vocabulary.
pub fn forward(
    device: &Device,
    hidden: &Operand,
    head: Head<'_>,
    targets: &[u32],
    want_gradient: bool,
) -> HeadOutput {
    check(hidden, head.weight, targets);
    match device {
        Device::Cpu(cpu) => {
            let mut gradient =
                want_gradient.then(|| Tensor::zeros(device, hidden.rows(), hidden.cols()));
            let scores = cpu::forward(*cpu, hidden, head, targets, gradient.as_mut());
            HeadOutput {
                logp: scores.iter().map(|score| score.logp).collect(),
                lse: scores.iter().map(|score| score.lse).collect(),
                entropy: scores.iter().map(|score| score.entropy).collect(),
                mean_logit: scores.iter().map(|score| score.mean_logit).collect(),
                ln_sum_p2: scores.iter().map(|score| score.ln_sum_p2).collect(),
                is_argmax: scores.iter().map(|score| score.is_argmax).collect(),
                gradient,
            }
        }
    }
}

/// Turns products with the head `[T, V]` into logits, in place.
pub fn bend(device: &Device, products: &mut Tensor, logits: Logits) {
    match device {
        Device::Cpu(cpu) => cpu::bend(*cpu, products, logits),
    }
}

/// The gradient by the hidden states: each row of [`HeadOutput::gradient`] times its coefficient.
///
/// # Panics
///
/// If there is not one coefficient a row.
pub fn backward_hidden(device: &Device, mut gradient: Tensor, coefficients: &[f32]) -> Tensor {
    assert_eq!(gradient.rows(), coefficients.len(), "a coefficient for each row");
    match device {
        Device::Cpu(cpu) => cpu::scale_rows(*cpu, &mut gradient, coefficients),
    }
    gradient
}

/// Rows that were scored, and what the loss makes of them.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// The hidden states `[T, d]`.
    pub hidden: &'a Operand,
    /// The target of each row.
    pub targets: &'a [u32],
    /// [`HeadOutput::lse`].
    pub lse: &'a [f32],
    /// The derivative of the loss by each row's `logp`.
    pub coefficients: &'a [f32],
}

/// Adds the gradient by a trained head: the logits are computed once more, a tile at a time.
///
/// ```text
/// dW_v += sum_t coefficient_t (1[v = y_t] - p_tv) z'_tv h_t      d_weight [V, d], row-major
/// ```
///
/// # Panics
///
/// If shapes do not agree or a target is not in the vocabulary.
pub fn backward_weight(device: &Device, head: Head<'_>, scored: Scored<'_>, d_weight: &mut [f32]) {
    let weight = head.weight;
    check(scored.hidden, weight, scored.targets);
    assert_eq!(scored.lse.len(), scored.targets.len(), "a sum for each row");
    assert_eq!(scored.coefficients.len(), scored.targets.len(), "a coefficient for each row");
    assert_eq!(d_weight.len(), weight.outputs() * weight.inputs(), "a place for each element");
    match device {
        Device::Cpu(cpu) => cpu::backward_weight(*cpu, head, scored, d_weight),
    }
}

fn check(hidden: &Operand, weight: &Weight, targets: &[u32]) {
    assert_eq!(hidden.cols(), weight.inputs(), "the head takes the width of the hidden states");
    assert_eq!(hidden.rows(), targets.len(), "a target for each row");
    let outputs = weight.outputs();
    assert!(targets.iter().all(|&target| (target as usize) < outputs), "targets are tokens");
}
