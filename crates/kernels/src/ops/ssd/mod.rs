//! The scan of Mamba-2: a state per head that decays, takes in each token and is read by it (Dao and
//! Gu 2024, arXiv:2405.21060).
//!
//! ```text
//! dt_t = clamp(softplus(dt_raw_t + dt_bias), limit)        a number for each head
//! A    = -exp(a_log)
//! h_t  = exp(A dt_t) h_(t-1) + dt_t B_t (outer) x_t        [N, P] for each head
//! y_t  = C_t h_t + D x_t
//! ```
//!
//! Head `h` reads `B` and `C` of group `h / (H / G)`. Rows are taken in chunks: within a chunk the
//! products with `B` and `C` make a matrix of decayed scores, as attention does, and between chunks
//! only the state is handed on (section 6 there). The length of a chunk does not change what is
//! computed. Chunks are counted from the start of the prompt or of the branch they lie in, and a
//! branch begins with the state at its prompt's end, so the bits of a row do not depend on other
//! trees or branches. States, decays and steps are f32 or wider in every precision.

pub mod chunked;
mod cpu;
pub mod reference;
mod state;
#[cfg(test)]
mod tests;

use crate::{Branches, Columns, ColumnsMut, Device, Tensor};

pub use state::State;

/// How columns divide into heads and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The number of heads, `H`; a multiple of `groups`.
    pub heads: usize,
    /// The columns of a head, `P`; above 0.
    pub dim: usize,
    /// The number of groups of heads that share `B` and `C`, `G`; above 0.
    pub groups: usize,
    /// The numbers of `B` and of `C` in a group, `N`; above 0.
    pub state: usize,
}

impl Layout {
    /// The columns of `x` and of the result, `H P`.
    pub fn inner(self) -> usize {
        self.heads * self.dim
    }

    /// The columns of a row of `x`, then `B` of all groups, then `C`: `H P + 2 G N`.
    pub fn xbc_cols(self) -> usize {
        self.inner() + 2 * self.groups * self.state
    }

    fn check(self) {
        assert!(self.groups > 0 && self.dim > 0 && self.state > 0, "no part is empty");
        assert!(self.heads.is_multiple_of(self.groups), "heads divide among groups");
    }
}

/// The weights of a scan and how it divides its columns.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The division of columns.
    pub layout: Layout,
    /// The least and the largest step; `(0, infinity)` limits nothing.
    pub limit: (f32, f32),
    /// The logarithm of each head's rate of decay, `[H]`.
    pub a_log: &'a [f32],
    /// How much of `x` passes by the state, `[H]`.
    pub d: &'a [f32],
    /// Added to the raw steps, `[H]`.
    pub dt_bias: &'a [f32],
}

impl Scan<'_> {
    fn check(&self, input: Input<'_>) {
        self.layout.check();
        for weights in [self.a_log, self.d, self.dt_bias] {
            assert_eq!(weights.len(), self.layout.heads, "a weight for each head");
        }
        assert_eq!(input.xbc.cols(), self.layout.xbc_cols(), "x, B and C");
        assert_eq!(input.dt.tensor.rows(), input.xbc.rows(), "steps for each row");
        assert!(input.dt.holds(self.layout.heads), "a step for each head");
    }
}

/// The rows that a scan reads.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `x`, `B` and `C`, `[T, H P + 2 G N]`: what the convolution gave.
    pub xbc: &'a Tensor,
    /// The raw steps, `H` columns.
    pub dt: Columns<'a>,
}

/// Where gradients beside that by `x`, `B` and `C` go.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// That by the raw steps is written to `H` columns of these.
    pub dt: ColumnsMut<'a>,
    /// Those by the weights are added to these.
    pub weights: Option<WeightGrads<'a>>,
}

/// The gradients by the weights of a scan, each `[H]`.
#[derive(Debug)]
pub struct WeightGrads<'a> {
    /// By `a_log`.
    pub a_log: &'a mut [f32],
    /// By `d`.
    pub d: &'a mut [f32],
    /// By `dt_bias`.
    pub dt_bias: &'a mut [f32],
}

/// The scanned rows `[T, H P]`; rows between trees are zero.
///
/// # Panics
///
/// If shapes do not agree.
pub fn forward(device: &Device, input: Input<'_>, scan: &Scan<'_>, branches: &Branches) -> Tensor {
    scan.check(input);
    assert_eq!(branches.rows(), input.xbc.rows(), "the last row is the last tree's");
    match device {
        Device::Cpu(cpu) => {
            let mut y = Tensor::unwritten(device, input.xbc.rows(), scan.layout.inner());
            branches.clear_between(&mut y);
            cpu::forward(*cpu, (input, scan), branches, &mut y);
            y
        }
    }
}

/// The gradient by `x`, `B` and `C`, `[T, H P + 2 G N]`, for the gradient `dy [T, H P]` by the result.
///
/// With `dh_t` the gradient by the state after row `t`, from the rows that follow in the same prompt
/// or branch, and at a prompt's end from all of its branches:
///
/// ```text
/// dh_t     = C_t (outer) dy_t + exp(A dt_(t+1)) dh_(t+1)
/// dC_t     = h_t dy_t                        dB_t = dt_t dh_t x_t       summed over a group's heads
/// dx_t     = dt_t B_t dh_t + D dy_t          da_t = exp(A dt_t) <dh_t, h_(t-1)>
/// ddt_t    = A da_t + <B_t (outer) x_t, dh_t>
/// ddt_raw  = ddt / (1 + exp(-(dt_raw + dt_bias)))     where the limits let it pass
/// da_log   = A sum_t dt_t da_t               dD = sum_t <x_t, dy_t>
/// ```
///
/// Rows between trees are zero, and left as they are in `into.dt`.
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(
    device: &Device,
    dy: &Tensor,
    input: Input<'_>,
    (scan, branches): (&Scan<'_>, &Branches),
    into: Gradients<'_>,
) -> Tensor {
    scan.check(input);
    let (rows, layout) = (input.xbc.rows(), scan.layout);
    assert_eq!(branches.rows(), rows, "the last row is the last tree's");
    assert_eq!((dy.rows(), dy.cols()), (rows, layout.inner()), "a gradient for each result");
    assert!(into.dt.holds(rows, layout.heads), "a place for each step's gradient");
    if let Some(grads) = &into.weights {
        for grads in [&grads.a_log, &grads.d, &grads.dt_bias] {
            assert_eq!(grads.len(), layout.heads, "a gradient for each head");
        }
    }
    match device {
        Device::Cpu(cpu) => {
            let mut d_xbc = Tensor::unwritten(device, rows, layout.xbc_cols());
            branches.clear_between(&mut d_xbc);
            cpu::backward(*cpu, (dy, input), (scan, branches), into, &mut d_xbc);
            d_xbc
        }
    }
}

/// The rows `[n, H P]` that continue a sequence, whose state they move on.
///
/// One row is a step of the recurrence, several are scanned in chunks. Parts of a multiple of
/// [`CHUNK`] rows, and a last one of at least two, have the bits of rows given at once.
///
/// # Panics
///
/// If shapes do not agree.
pub fn decode(device: &Device, input: Input<'_>, scan: &Scan<'_>, state: &mut State) -> Tensor {
    scan.check(input);
    assert_eq!(state.layout(), scan.layout, "a state of this scan");
    match device {
        Device::Cpu(cpu) => {
            let mut y = Tensor::unwritten(device, input.xbc.rows(), scan.layout.inner());
            cpu::decode(*cpu, (input, scan), state, &mut y);
            y
        }
    }
}

/// The same for one row of each of several sequences: row `i` continues the one of state `i`, with
/// the bits that [`decode`] gives it alone.
///
/// # Panics
///
/// If shapes do not agree.
pub fn decode_each(
    device: &Device,
    input: Input<'_>,
    scan: &Scan<'_>,
    states: &mut [&mut State],
) -> Tensor {
    scan.check(input);
    assert_eq!(input.xbc.rows(), states.len(), "a row for each state");
    assert!(states.iter().all(|state| state.layout() == scan.layout), "states of this scan");
    match device {
        Device::Cpu(cpu) => {
            let mut y = Tensor::unwritten(device, input.xbc.rows(), scan.layout.inner());
            cpu::decode_each(*cpu, (input, scan), states, &mut y);
            y
        }
    }
}

/// The rows of a chunk; parts that a prompt is cut into are best multiples of it.
pub const CHUNK: usize = 64;
