//! Arrays of f32 with rows and columns.

use crate::Device;
use crate::cpu::pool::Pool;

/// Memory of dropped tensors.
static POOL: Pool<f32> = Pool::new();

/// A row-major f32 matrix `[rows, cols]` without padding.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(device: &Device, rows: usize, cols: usize) -> Self {
        Self::from_vec(device, rows, cols, POOL.filled(rows * cols, 0.0))
    }

    /// A tensor whose every value the caller overwrites before it is read.
    pub(crate) fn unwritten(device: &Device, rows: usize, cols: usize) -> Self {
        Self::from_vec(device, rows, cols, POOL.unwritten(rows * cols, 0.0))
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
        &self.values
    }

    /// All values, row after row, to change.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.values
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
        std::mem::take(&mut self.values)
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        POOL.keep(std::mem::take(&mut self.values));
    }
}
