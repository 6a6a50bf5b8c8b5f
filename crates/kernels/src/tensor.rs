//! Arrays of f32 with rows and columns.

use std::fmt;

use crate::Device;
use crate::cpu::words::Words;

/// A row-major f32 matrix `[rows, cols]` without padding.
pub struct Tensor {
    rows: usize,
    cols: usize,
    values: Values,
}

enum Values {
    /// As somebody gave them.
    Given(Vec<f32>),
    /// At least `rows * cols` values, of which the first count.
    Words(Words),
}

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(device: &Device, rows: usize, cols: usize) -> Self {
        let Device::Cpu(_) = device;
        Self { rows, cols, values: Values::Words(Words::pooled(rows * cols)) }
    }

    /// A tensor whose every value the caller overwrites before it is read.
    pub(crate) fn unwritten(device: &Device, rows: usize, cols: usize) -> Self {
        let Device::Cpu(_) = device;
        Self { rows, cols, values: Values::Words(Words::unwritten(rows * cols)) }
    }

    /// A tensor of the given values, row after row.
    ///
    /// # Panics
    ///
    /// If there are not `rows * cols` values.
    pub fn from_vec(device: &Device, rows: usize, cols: usize, values: Vec<f32>) -> Self {
        let Device::Cpu(_) = device;
        assert_eq!(values.len(), rows * cols, "a tensor has rows times cols values");
        Self { rows, cols, values: Values::Given(values) }
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
        match &self.values {
            Values::Given(values) => values,
            Values::Words(words) => &words.as_f32()[..self.rows * self.cols],
        }
    }

    /// All values, row after row, to change.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        match &mut self.values {
            Values::Given(values) => values,
            Values::Words(words) => &mut words.as_f32_mut()[..self.rows * self.cols],
        }
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.as_slice()[row * self.cols..(row + 1) * self.cols]
    }

    /// One row, to change.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let cols = self.cols;
        &mut self.as_mut_slice()[row * cols..(row + 1) * cols]
    }

    /// The values alone.
    pub fn into_vec(self) -> Vec<f32> {
        let count = self.rows * self.cols;
        match self.values {
            Values::Given(values) => values,
            Values::Words(words) => words.as_f32()[..count].to_vec(),
        }
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        let mut words = Words::unwritten(self.rows * self.cols);
        words.as_f32_mut()[..self.rows * self.cols].copy_from_slice(self.as_slice());
        Self { rows: self.rows, cols: self.cols, values: Values::Words(words) }
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
