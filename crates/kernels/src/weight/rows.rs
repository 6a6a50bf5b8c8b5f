//! Matrices that weights are packed from.

use crate::Coded;
use crate::cpu::gemm::PANEL;

/// The number format in which a weight's values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// 32-bit floats.
    F32,
    /// IEEE 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
}

impl Stored {
    /// The bytes of memory that a weight takes.
    pub fn bytes(self, outputs: usize, inputs: usize) -> usize {
        let words = super::Form::Plain(self).row_words(inputs);
        outputs.next_multiple_of(PANEL) * words * size_of::<u32>()
    }
}

/// A matrix that can be read row by row, from several threads.
pub trait Rows: Sync {
    /// The number of rows: a weight's outputs.
    fn rows(&self) -> usize;
    /// The number of columns: a weight's inputs.
    fn cols(&self) -> usize;
    /// The narrowest format that holds every value exactly.
    fn stored(&self) -> Stored;
    /// Reads a row; `out` has `cols()` places.
    fn read_row(&self, row: usize, out: &mut [f32]);
    /// The same rows in few bits, if a weight is to keep them so; `cols()` is then a multiple of
    /// [`LowBit::block_len`](crate::LowBit::block_len).
    fn coded(&self) -> Option<&dyn Coded> {
        None
    }
}

/// A row-major f32 matrix in memory, as [`Rows`].
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    cols: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of `values.len() / cols` rows.
    ///
    /// # Panics
    ///
    /// If the last row is not whole, or `cols` is 0.
    pub fn new(values: &'a [f32], cols: usize) -> Self {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "a matrix has whole rows");
        Self { values, cols }
    }
}

impl Rows for Matrix<'_> {
    fn rows(&self) -> usize {
        self.values.len() / self.cols
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn stored(&self) -> Stored {
        Stored::F32
    }
    fn read_row(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.values[row * self.cols..(row + 1) * self.cols]);
    }
}
