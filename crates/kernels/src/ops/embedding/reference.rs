//! The lookup in plain loops.

use crate::Real;

/// `table [n, width]`; the row of each id.
pub fn forward<R: Real>(table: &[R], width: usize, ids: &[u32]) -> Vec<R> {
    ids.iter().flat_map(|&id| &table[id as usize * width..][..width]).copied().collect()
}

/// Adds each row of `d_out` to its row of `d_table`.
pub fn backward<R: Real>(d_out: &[R], width: usize, ids: &[u32], d_table: &mut [R]) {
    for (d_out, &id) in d_out.chunks_exact(width).zip(ids) {
        for (sum, value) in d_table[id as usize * width..][..width].iter_mut().zip(d_out) {
            *sum += *value;
        }
    }
}
