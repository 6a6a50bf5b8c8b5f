//! Arrays of f32 with rows and columns.

use std::fmt;

use crate::Device;
use crate::cpu::pool::Pool;

/// Memory of dropped tensors.
static POOL: Pool<f32> = Pool::new();

/// A row-major f32 matrix `[rows, cols]` without padding.
pub struct Tensor {
    rows: usize,
    cols: usize,
    /// At least `rows * cols` values, of which the first count.
    values: Vec<f32>,
}

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(device: &Device, rows: usize, cols: usize) -> Self {
        let Device::Cpu(_) = device;
        Self { rows, cols, values: POOL.filled(rows * cols, 0.0) }
    }

    /// A tensor whose every value the caller overwrites before it is read.
    pub(crate) fn unwritten(device: &Device, rows: usize, cols: usize) -> Self {
        let Device::Cpu(_) = device;
        Self { rows, cols, values: POOL.unwritten(rows * cols, 0.0) }
    }

    /// A tensor of the given values, row after row.
    ///
    /// # Panics
    ///
    /// If there are not `rows * cols` values.
    pub fn from_vec(device: &Device, rows: usize, cols: usize, values: Vec<f32>) -> Self {
        let Device::Cpu(_) = device;
        assert_eq!(values.len(), rows * cols, "a tensor has rows times cols values");
        Self { rows, cols, values }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row after row.
    pub fn as_slice(&self) -> &[f32] {
        &self.values[..self.rows * self.cols]
    }

    /// All values, row after row, to change.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.values[..self.rows * self.cols]
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// One row, to change.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// The values alone.
    pub fn into_vec(mut self) -> Vec<f32> {
        let mut values = std::mem::take(&mut self.values);
        values.truncate(self.rows * self.cols);
        values
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        let mut values = POOL.unwritten(self.rows * self.cols, 0.0);
        values[..self.rows * self.cols].copy_from_slice(self.as_slice());
        Self { rows: self.rows, cols: self.cols, values }
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        (self.rows, self.cols) == (other.rows, other.cols) && self.as_slice() == other.as_slice()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tensor");
        shown.field("rows", &self.rows).field("cols", &self.cols);
        shown.field("values", &self.as_slice()).finish()
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        POOL.keep(std::mem::take(&mut self.values));
    }
}
