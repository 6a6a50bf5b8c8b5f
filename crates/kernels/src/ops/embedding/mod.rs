//! Rows of a table by token id.
//!
//! ```text
//! out[t] = table[ids[t]]            d_table[ids[t]] += d_out[t]
//! ```

pub mod reference;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::{Device, Tensor, Weight};

/// The columns that a task of the backward pass owns.
const COLUMNS: usize = 64;

/// The row of each id, `[ids, width]`.
///
/// # Panics
///
/// If an id has no row.
pub fn forward(device: &Device, table: &Weight, ids: &[u32]) -> Tensor {
    let Device::Cpu(_) = device;
    let mut out = Tensor::unwritten(device, ids.len(), table.inputs());
    if table.inputs() > 0 {
        let rows = out.as_mut_slice().par_chunks_exact_mut(table.inputs());
        rows.zip(ids).for_each(|(out, &id)| table.read_row(id as usize, out));
    }
    out
}

/// Adds the gradient of each row to the gradient of its table row, in order of the rows.
///
/// `d_table` is `[outputs, width]`, row-major.
///
/// # Panics
///
/// If shapes do not fit or an id has no row.
pub fn backward(device: &Device, d_out: &Tensor, ids: &[u32], d_table: &mut [f32]) {
    let Device::Cpu(_) = device;
    let width = d_out.cols();
    assert_eq!(d_out.rows(), ids.len(), "a gradient for each id");
    assert!(width == 0 || d_table.len().is_multiple_of(width), "the table has whole rows");
    let shared = crate::cpu::tiles::Shared::new(d_table, width);
    (0..width.div_ceil(COLUMNS)).into_par_iter().for_each(|block| {
        let cols = block * COLUMNS..width.min((block + 1) * COLUMNS);
        for (row, &id) in ids.iter().enumerate() {
            // SAFETY: the columns are this task's alone.
            let sums = unsafe { shared.slice(id as usize, cols.clone()) };
            for (sum, value) in sums.iter_mut().zip(&d_out.row(row)[cols.clone()]) {
                *sum += value;
            }
        }
    });
}
