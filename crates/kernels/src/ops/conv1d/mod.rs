//! A causal convolution over a few rows, each channel by itself, and `SiLU`: how the blocks of Mamba-2
//! mix neighbouring tokens (Dao and Gu 2024, arXiv:2405.21060).
//!
//! ```text
//! pre[t, c] = bias[c] + sum_k weight[c, k] x[t - (K - 1) + k, c]
//! y         = pre / (1 + exp(-pre))
//! ```
//!
//! Rows before the first of a sequence are zero. A branch continues its prompt: its first rows see
//! the prompt's last ones, as if each branch were a sequence of its own.

mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Branches, Columns, ColumnsMut, Device, Tensor};

/// The weights of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// `[C, K]`, as checkpoints store it; the last tap of a channel is the row's own.
    pub weight: &'a [f32],
    /// `[C]`.
    pub bias: Option<&'a [f32]>,
    /// The number of rows that a row sees, itself included, `K`; above 0.
    pub taps: usize,
}

impl Kernel<'_> {
    /// The number of channels, `C`.
    pub fn channels(self) -> usize {
        self.weight.len() / self.taps
    }

    fn check(self, x: Columns<'_>) {
        assert!(self.taps > 0 && self.weight.len().is_multiple_of(self.taps), "whole channels");
        assert!(self.bias.is_none_or(|bias| bias.len() == self.channels()), "a bias a channel");
        assert!(x.holds(self.channels()), "a column for each channel");
    }
}

/// Where the gradients by the weights are added to.
#[derive(Debug)]
pub struct WeightGrads<'a> {
    /// `[C, K]`.
    pub weight: &'a mut [f32],
    /// `[C]`.
    pub bias: Option<&'a mut [f32]>,
}

/// The last rows of a sequence, which the next ones see; for generation.
///
/// A clone is a fork: both continue the same rows on their own.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    channels: usize,
    /// `[K - 1, C]`, oldest first; zeros before the first row.
    rows: Vec<f32>,
}

impl State {
    /// The state before the first row.
    pub fn new(channels: usize, taps: usize) -> Self {
        Self { channels, rows: vec![0.0; channels * taps.saturating_sub(1)] }
    }

    /// The bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.rows[..])
    }
}

/// The convolved channels `[T, C]` of the columns `x [T, C]`; rows between trees are zero.
///
/// # Panics
///
/// If shapes do not agree.
pub fn forward(device: &Device, x: Columns<'_>, kernel: Kernel<'_>, branches: &Branches) -> Tensor {
    kernel.check(x);
    assert_eq!(branches.rows(), x.tensor.rows(), "the last row is the last tree's");
    match device {
        Device::Cpu(cpu) => {
            let mut y = Tensor::unwritten(device, x.tensor.rows(), kernel.channels());
            branches.clear_between(&mut y);
            cpu::forward(*cpu, x, kernel, branches, &mut y);
            y
        }
    }
}

/// Writes the gradient by `x` into `dx`, for the gradient `dy [T, C]` by the result.
///
/// ```text
/// s           = 1 / (1 + exp(-pre))
/// dpre        = dy s (1 + pre (1 - s))
/// dx[t]       = sum_k weight[k] dpre[t + (K - 1) - k]      over the rows that see t
/// dweight[k] += sum_t dpre[t] x[t - (K - 1) + k]           dbias += sum_t dpre[t]
/// ```
///
/// The last rows of a prompt collect from all its branches. Rows of `dx` between trees are left as
/// they are.
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(
    device: &Device,
    dy: &Tensor,
    (x, kernel, branches): (Columns<'_>, Kernel<'_>, &Branches),
    dx: ColumnsMut<'_>,
    weights: Option<WeightGrads<'_>>,
) {
    kernel.check(x);
    let rows = x.tensor.rows();
    assert_eq!(branches.rows(), rows, "the last row is the last tree's");
    assert_eq!((dy.rows(), dy.cols()), (rows, kernel.channels()), "a gradient a result");
    assert!(dx.holds(rows, kernel.channels()), "a place for each gradient");
    if let Some(grads) = &weights {
        assert_eq!(grads.weight.len(), kernel.weight.len(), "a gradient for each weight");
        let count = grads.bias.as_ref().map_or(kernel.channels(), |bias| bias.len());
        assert_eq!(count, kernel.channels(), "a gradient for each bias");
    }
    match device {
        Device::Cpu(cpu) => cpu::backward(*cpu, dy, (x, kernel, branches), dx, weights),
    }
}

/// The convolved channels `[n, C]` of rows that continue a sequence, whose state they move on.
///
/// Rows have the same bits however they are cut into calls.
///
/// # Panics
///
/// If shapes do not agree.
pub fn decode(device: &Device, x: Columns<'_>, kernel: Kernel<'_>, state: &mut State) -> Tensor {
    kernel.check(x);
    check_state(kernel, state);
    match device {
        Device::Cpu(cpu) => {
            let mut y = Tensor::unwritten(device, x.tensor.rows(), kernel.channels());
            cpu::decode(*cpu, x, kernel, state, &mut y);
            y
        }
    }
}

/// The same for one row of each of several sequences: row `i` continues the one of state `i`.
///
/// # Panics
///
/// If shapes do not agree.
pub fn decode_each(
    device: &Device,
    x: Columns<'_>,
    kernel: Kernel<'_>,
    states: &mut [&mut State],
) -> Tensor {
    kernel.check(x);
    assert_eq!(x.tensor.rows(), states.len(), "a row for each state");
    for state in &*states {
        check_state(kernel, state);
    }
    match device {
        Device::Cpu(cpu) => {
            let mut y = Tensor::unwritten(device, x.tensor.rows(), kernel.channels());
            cpu::decode_each(*cpu, x, kernel, states, &mut y);
            y
        }
    }
}

fn check_state(kernel: Kernel<'_>, state: &State) {
    assert_eq!(state.channels, kernel.channels(), "a state of this convolution");
    assert_eq!(state.rows.len(), state.channels * (kernel.taps - 1), "a row for each earlier tap");
}
