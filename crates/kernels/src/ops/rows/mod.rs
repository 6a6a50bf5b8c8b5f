//! Gathering rows and adding them back.
//!
//! Only some rows are scored: the head runs over these alone, and its gradient returns to where
//! they came from.
//!
//! ```text
//! gathered[i] = x[index[i]]         dx[index[i]] += d_gathered[i]
//! ```

pub mod reference;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::{Device, Tensor};

/// The rows at `index`, in its order; a row may be taken several times.
///
/// # Panics
///
/// If a row does not exist.
pub fn gather(device: &Device, x: &Tensor, index: &[u32]) -> Tensor {
    let Device::Cpu(_) = device;
    let mut out = Tensor::unwritten(device, index.len(), x.cols());
    if x.cols() > 0 {
        let rows = out.as_mut_slice().par_chunks_exact_mut(x.cols());
        rows.zip(index).for_each(|(out, &row)| out.copy_from_slice(x.row(row as usize)));
    }
    out
}

/// Adds each row of `gathered` to row `index[i]` of `x`, in order.
///
/// # Panics
///
/// If shapes do not fit or a row does not exist.
pub fn scatter_add(device: &Device, gathered: &Tensor, index: &[u32], x: &mut Tensor) {
    assert_eq!(gathered.cols(), x.cols(), "rows of one width");
    crate::ops::embedding::backward(device, gathered, index, x.as_mut_slice());
}
