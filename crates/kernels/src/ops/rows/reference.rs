//! Gathering and scattering in plain loops.

use crate::Real;

/// The rows of `x [n, width]` at `index`.
pub fn gather<R: Real>(x: &[R], width: usize, index: &[u32]) -> Vec<R> {
    let mut out = Vec::new();
    for &row in index {
        for col in 0..width {
            out.push(x[row as usize * width + col]);
        }
    }
    out
}

/// Adds row `i` of `gathered` to row `index[i]` of `x`.
pub fn scatter_add<R: Real>(gathered: &[R], width: usize, index: &[u32], x: &mut [R]) {
    for (i, &row) in index.iter().enumerate() {
        for col in 0..width {
            x[row as usize * width + col] += gathered[i * width + col];
        }
    }
}
