//! Keys and values of rows already seen, for generation.

use crate::cpu::round::to_bf16;
use crate::{Heads, Precision, Tensor};

/// The keys and values of one sequence in one layer.
///
/// A clone is a fork: both continue the same rows on their own.
#[derive(Clone, Debug, PartialEq)]
pub struct KvCache {
    heads: Heads,
    /// `[len, G D]`, rounded as the products that read them ask.
    keys: Vec<f32>,
    /// `[len, G D]`, rounded likewise.
    values: Vec<f32>,
}

impl KvCache {
    /// A cache without rows.
    pub fn new(heads: Heads) -> Self {
        Self { heads, keys: Vec::new(), values: Vec::new() }
    }

    /// The division of columns into heads.
    pub fn heads(&self) -> Heads {
        self.heads
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.keys.len() / self.cols()
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Makes room for more rows, so that appending them moves nothing.
    pub fn reserve(&mut self, rows: usize) {
        let more = rows * self.cols();
        self.keys.reserve(more);
        self.values.reserve(more);
    }

    /// Forgets all rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        let places = len * self.cols();
        self.keys.truncate(places);
        self.values.truncate(places);
    }

    /// The bytes of memory that its rows take.
    pub fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<f32>()
    }

    pub(super) fn keys(&self) -> &[f32] {
        &self.keys
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// The columns of a row of keys, and of a row of values.
    pub(super) fn cols(&self) -> usize {
        self.heads.key_value * self.heads.dim
    }

    pub(super) fn append(&mut self, precision: Precision, qkv: &Tensor) {
        for row in 0..qkv.rows() {
            self.append_row(precision, qkv.row(row));
        }
    }

    /// Takes keys and values from one row of queries, keys and values.
    pub(super) fn append_row(&mut self, precision: Precision, row: &[f32]) {
        let (cols, first) = (self.cols(), self.heads.query * self.heads.dim);
        let rounded = |value: &f32| match precision {
            Precision::F32 => *value,
            Precision::Bf16 => to_bf16(*value),
        };
        let (keys, values) = row[first..].split_at(cols);
        self.keys.extend(keys.iter().map(rounded));
        self.values.extend(values.iter().map(rounded));
    }
}
