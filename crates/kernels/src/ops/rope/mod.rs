//! Rotary position embedding of queries and keys.
//!
//! ```text
//! angle[t, i] = position[t] * inverse_frequency[i]          i < R / 2
//! x[i]        = x[i] * cos - x[i + R/2] * sin
//! x[i + R/2]  = x[i + R/2] * cos + x[i] * sin
//! ```
//!
//! The first `R` columns of a head turn, all of them in most families. Of these the first half turns
//! against the second half, as in transformers (`rotate_half`), and
//! not pairs of neighbours as in the paper (`RoFormer`, Su et al. 2021, arXiv:2104.09864). The
//! gradient is turned back by the same angle.

mod cpu;
pub mod reference;
mod sincos;
mod table;
#[cfg(test)]
mod tests;

pub use table::{LONG, Scaling, Table};

use crate::{Device, Heads, Tensor};

/// Turns the query and key columns of `qkv [T, (H + 2G) * D]` in place; values stay.
///
/// Row `t` turns by the angles of `positions[t]`, which may be marked as [`LONG`].
///
/// # Panics
///
/// If shapes do not agree: `qkv` with `heads`, the table with at most half a head, positions with rows.
pub fn forward(device: &Device, qkv: &mut Tensor, heads: Heads, table: &Table, positions: &[u32]) {
    check(qkv, heads, table, positions);
    match device {
        Device::Cpu(cpu) => cpu::turn::<false>(*cpu, qkv, heads, table, positions),
    }
}

/// Turns the gradient by the turned columns back, in place: the gradient by the columns before.
///
/// # Panics
///
/// As [`forward`].
pub fn backward(
    device: &Device,
    dqkv: &mut Tensor,
    heads: Heads,
    table: &Table,
    positions: &[u32],
) {
    check(dqkv, heads, table, positions);
    match device {
        Device::Cpu(cpu) => cpu::turn::<true>(*cpu, dqkv, heads, table, positions),
    }
}

fn check(qkv: &Tensor, heads: Heads, table: &Table, positions: &[u32]) {
    assert_eq!(qkv.cols(), heads.qkv_cols(), "queries, keys and values of each head");
    let pairs = table.inverse_frequencies().len();
    assert!(2 * pairs <= heads.dim, "a pair of a head's columns for each frequency");
    assert_eq!(qkv.rows(), positions.len(), "a position for each row");
}
