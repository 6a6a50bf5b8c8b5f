//! Causal attention over prompts and their branches.
//!
//! ```text
//! s_ij   = cap(scale q_i . k_j)         j in the prompt of i's tree, or in i's own branch, j <= i
//! lse_i  = ln sum_j exp(s_ij)
//! p_ij   = exp(s_ij - lse_i)
//! out_i  = sum_j p_ij v_j
//! ```
//!
//! `cap(s) = softcap tanh(s / softcap)` where there is a cap (arXiv:2408.00118), else `s`.
//! With a window of `w`, row `i` sees itself and the `w - 1` rows before it
//! (arXiv:2310.06825), counted through prompt and branch.
//!
//! Query head `h` reads key and value head `h / (H / G)`. The scores are never kept: blocks of them
//! are computed with a running maximum and sum (Dao 2023, arXiv:2307.08691), and once more in the
//! backward pass from `lse`. Blocks of queries and keys are counted from the start of the prompt or
//! of the branch they lie in, so the bits of a row do not depend on other trees or branches.

mod cache;
mod cpu;
pub mod reference;
mod segments;
#[cfg(test)]
mod tests;

use crate::{Branches, Device, Heads, Operand, Precision, Tensor};

pub use cache::KvCache;

/// How scores are made of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// What products of queries and keys are multiplied by; usually `1 / sqrt(heads.dim)`.
    pub scale: f32,
    /// The limit that scores bend towards; above 0.
    pub softcap: Option<f32>,
    /// How many rows a row sees, itself too; above 0.
    pub window: Option<usize>,
}

impl Scoring {
    /// Scores that are only scaled, of all rows before.
    pub fn scaled(scale: f32) -> Self {
        Self { scale, softcap: None, window: None }
    }

    /// The first place that the row at `place` of a sequence sees.
    fn first_seen(&self, place: usize) -> usize {
        self.window.map_or(0, |window| (place + 1).saturating_sub(window))
    }
}

/// Which rows attend to which, with how many heads.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// The trees of the rows.
    pub branches: &'a Branches,
    /// The division of columns into heads.
    pub heads: Heads,
    /// How scores are made.
    pub scoring: Scoring,
}

impl Shape<'_> {
    fn check(&self, (rows, cols): (usize, usize)) {
        check_heads(self.heads, cols);
        check_scoring(self.scoring);
        assert_eq!(self.branches.rows(), rows, "the last row is the last tree's");
    }
}

fn check_heads(heads: Heads, cols: usize) {
    assert!(heads.key_value > 0 && heads.dim > 0, "at least one head of at least one column");
    assert!(heads.query.is_multiple_of(heads.key_value), "query heads divide among key heads");
    assert_eq!(cols, heads.qkv_cols(), "queries, keys and values of each head");
}

fn check_scoring(scoring: Scoring) {
    assert!(scoring.window.is_none_or(|window| window > 0), "a row sees itself");
    assert!(scoring.softcap.is_none_or(|cap| cap > 0.0), "a cap is above 0");
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The queries, keys and values `[T, (H + 2G) D]`, rounded as all products take them.
    pub qkv: &'a Operand,
    /// The output `[T, H D]`.
    pub out: &'a Operand,
    /// The logarithms of the sums `[T, H]`.
    pub lse: &'a [f32],
}

/// The attended values `[T, H D]`, rounded for the product that follows, and `lse [T, H]`.
///
/// Queries and keys of `qkv [T, (H + 2G) D]` are already turned to their positions.
///
/// # Panics
///
/// If shapes do not agree.
pub fn forward(
    device: &Device,
    precision: Precision,
    qkv: &Tensor,
    shape: Shape<'_>,
) -> (Operand, Vec<f32>) {
    shape.check((qkv.rows(), qkv.cols()));
    match device {
        Device::Cpu(cpu) => {
            let mut out =
                Operand::zeros(device, precision, qkv.rows(), shape.heads.query * shape.heads.dim);
            let mut lse = vec![0.0; qkv.rows() * shape.heads.query];
            cpu::forward(*cpu, qkv, shape, (&mut out, &mut lse));
            (out, lse)
        }
    }
}

/// The gradient by `qkv [T, (H + 2G) D]` for the gradient `d_out [T, H D]` by the output.
///
/// ```text
/// D_i   = d_out_i . out_i
/// ds_ij = p_ij (d_out_i . v_j - D_i)
/// dq_i  = scale sum_j ds_ij k_j      dk_j = scale sum_i ds_ij q_i      dv_j = sum_i p_ij d_out_i
/// ```
///
/// Under a cap, `ds_ij` is multiplied by its slope, `1 - (s_ij / softcap)^2`.
///
/// Keys and values of a prompt collect from the prompt and all branches, and each from all query
/// heads of its group, in a fixed order.
///
/// # Panics
///
/// If shapes do not agree.
pub fn backward(device: &Device, d_out: &Tensor, saved: Saved<'_>, shape: Shape<'_>) -> Tensor {
    shape.check((saved.qkv.rows(), saved.qkv.cols()));
    let out_shape = (saved.out.rows(), saved.out.cols());
    assert_eq!((d_out.rows(), d_out.cols()), out_shape, "a gradient for each output");
    assert_eq!(out_shape, (saved.qkv.rows(), shape.heads.query * shape.heads.dim), "all heads");
    assert_eq!(saved.lse.len(), saved.qkv.rows() * shape.heads.query, "a sum for each query");
    match device {
        Device::Cpu(cpu) => {
            let qkv = saved.qkv.to_tensor(device);
            let mut d_qkv = Tensor::zeros(device, qkv.rows(), qkv.cols());
            cpu::backward(*cpu, d_out, (saved, &qkv), shape, &mut d_qkv);
            d_qkv
        }
    }
}

/// Appends the keys and values of new rows to a cache and attends from their queries.
///
/// Row `i` of `qkv [n, (H + 2G) D]` continues the cached rows at place `cache.len() + i` and sees
/// the places up to its own that `scoring` lets it see. Returns the attended values `[n, H D]`. Serves prompts of many rows
/// and steps of one.
///
/// # Panics
///
/// If shapes do not agree.
pub fn decode(
    device: &Device,
    precision: Precision,
    qkv: &Tensor,
    cache: &mut KvCache,
    scoring: Scoring,
) -> Operand {
    let heads = cache.heads();
    check_heads(heads, qkv.cols());
    check_scoring(scoring);
    cache.append(precision, qkv);
    match device {
        Device::Cpu(cpu) => {
            let mut out = Operand::zeros(device, precision, qkv.rows(), heads.query * heads.dim);
            cpu::decode(*cpu, qkv, (cache, scoring), &mut out);
            out
        }
    }
}

/// Appends one row to each of several caches and attends from its queries.
///
/// Row `i` of `qkv [n, (H + 2G) D]` continues the sequence of cache `i`. Returns the attended values
/// `[n, H D]`; each row has the bits that [`decode`] gives it alone.
///
/// # Panics
///
/// If shapes do not agree, or the caches divide columns into heads in different ways.
pub fn decode_each(
    device: &Device,
    precision: Precision,
    qkv: &Tensor,
    caches: &mut [&mut KvCache],
    scoring: Scoring,
) -> Operand {
    assert_eq!(qkv.rows(), caches.len(), "a row for each cache");
    assert!(!caches.is_empty(), "at least one cache");
    let heads = caches[0].heads();
    check_heads(heads, qkv.cols());
    check_scoring(scoring);
    for (row, cache) in caches.iter_mut().enumerate() {
        assert_eq!(cache.heads(), heads, "heads of one model");
        cache.append_row(precision, qkv.row(row));
    }
    match device {
        Device::Cpu(cpu) => {
            let mut out = Operand::zeros(device, precision, qkv.rows(), heads.query * heads.dim);
            let caches: Vec<&KvCache> = caches.iter().map(|cache| &**cache).collect();
            cpu::decode_each(*cpu, qkv, (&caches, scoring), &mut out);
            out
        }
    }
}

/// How many of `left` new rows to give [`decode`] next, so that rows given in parts have the bits of
/// rows given at once: `most` rounded to whole blocks of keys, or all where few more are left.
pub fn part_rows(left: usize, most: usize) -> usize {
    let whole = most.next_multiple_of(cpu::BLOCK).max(cpu::BLOCK);
    // What remains must be enough rows to be computed as many are.
    if left < whole + cpu::PACKED_ROWS { left } else { whole }
}
