//! Some columns of a tensor: the part of a wide product that one operation reads.

use crate::Tensor;

/// The columns of a tensor from `first` on; how many, the operation says.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// The tensor.
    pub tensor: &'a Tensor,
    /// The first column.
    pub first: usize,
}

impl<'a> Columns<'a> {
    /// All columns of a tensor.
    pub fn all(tensor: &'a Tensor) -> Self {
        Self { tensor, first: 0 }
    }

    /// `count` columns of a row.
    #[inline]
    pub(crate) fn row(self, row: usize, count: usize) -> &'a [f32] {
        &self.tensor.row(row)[self.first..self.first + count]
    }

    /// Whether the tensor has `count` columns from the first one on.
    pub(crate) fn holds(self, count: usize) -> bool {
        self.first + count <= self.tensor.cols()
    }
}

/// The columns of a tensor that an operation writes, from `first` on.
#[derive(Debug)]
pub struct ColumnsMut<'a> {
    /// The tensor.
    pub tensor: &'a mut Tensor,
    /// The first column.
    pub first: usize,
}

impl ColumnsMut<'_> {
    /// Whether the tensor has `rows` rows, and `count` columns from the first one on.
    pub(crate) fn holds(&self, rows: usize, count: usize) -> bool {
        self.tensor.rows() == rows && self.first + count <= self.tensor.cols()
    }
}
