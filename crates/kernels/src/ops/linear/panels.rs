//! Right sides of products, packed for one operation.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::gemm::{PANEL, panel_count, panel_words};
use crate::cpu::pack::{operand_as_lines, rows_as_columns, rows_as_lines};
use crate::cpu::round::Rounding;
use crate::cpu::words::Words;
use crate::{Cpu, Operand};

/// A processor and the rounding of its operands.
pub(super) type Arithmetic = (Cpu, Rounding);

/// Several panels of the same number of words, one after the other.
pub(super) struct Panels {
    words: usize,
    data: Words,
}

impl Panels {
    /// `count` panels of `words` words a column, each filled by `fill(index, panel)`.
    pub(super) fn new(count: usize, words: usize, fill: impl Fn(usize, &mut [u32]) + Sync) -> Self {
        let mut data = Words::zeros(count * panel_words(words));
        if words > 0 {
            let panels = data[..].par_chunks_exact_mut(panel_words(words)).take(count);
            panels.enumerate().for_each(|(index, panel)| fill(index, panel));
        }
        Self { words, data }
    }

    /// The rows of a row-major matrix as columns: the right side of `x * values^T`.
    pub(super) fn of_transposed((cpu, rounding): Arithmetic, values: &[f32], cols: usize) -> Self {
        let rows = values.len() / cols;
        Self::new(panel_count(rows), rounding.element().words(cols), |index, panel| {
            let first = index * PANEL;
            let read = |row: usize, out: &mut [f32]| {
                out.copy_from_slice(&values[(first + row) * cols..(first + row + 1) * cols]);
            };
            let count = (rows - first).min(PANEL);
            rows_as_columns((cpu, rounding), (count, cols), read, panel);
        })
    }

    /// The columns of a row-major matrix: the right side of `x * values`.
    pub(super) fn of((cpu, rounding): Arithmetic, values: &[f32], cols: usize) -> Self {
        let rows = values.len() / cols;
        Self::new(panel_count(cols), rounding.element().words(rows), |index, panel| {
            let columns = index * PANEL..cols.min((index + 1) * PANEL);
            let source = |row: usize| &values[row * cols..(row + 1) * cols][columns.clone()];
            rows_as_lines((cpu, rounding), 0..rows, source, panel);
        })
    }

    /// The columns of an operand.
    pub(super) fn of_operand(cpu: Cpu, operand: &Operand) -> Self {
        let words = operand.element().words(operand.rows());
        Self::new(panel_count(operand.cols()), words, |index, panel| {
            columns_of(cpu, operand, index, 0..operand.rows(), panel);
        })
    }

    pub(super) fn get(&self, index: usize) -> &[u32] {
        let words = panel_words(self.words);
        &self.data[index * words..(index + 1) * words]
    }

    /// Some words of every column of a panel.
    pub(super) fn part(&self, index: usize, words: &Range<usize>) -> &[u32] {
        &self.get(index)[panel_words(words.start)..panel_words(words.end)]
    }
}

/// Packs 32 columns of some rows of an operand as the lines of a panel.
pub(super) fn columns_of(
    cpu: Cpu,
    operand: &Operand,
    index: usize,
    rows: Range<usize>,
    panel: &mut [u32],
) {
    let row_words = |row| operand.row_words(row);
    operand_as_lines((cpu, operand.element()), rows, index * PANEL, row_words, panel);
}
