//! Left sides of matrix products, rounded once.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::gemm::{Element, Left};
use crate::cpu::round::{Rounding, bf16_bits, from_bf16_bits, to_bf16};
use crate::cpu::words::{LINE_WORDS, Words};
use crate::{Cpu, Device, Isa, Precision, Tensor};

/// A matrix `[rows, cols]` rounded as a precision asks; shared by all products that take it and
/// kept for the backward pass.
///
/// Rows start at cache lines, an odd number of lines apart: the rows of a tile then fall into
/// different sets of the cache. What lies between a row's end and the next row is zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    words: Words,
    rows: usize,
    cols: usize,
    /// Words from one row to the next.
    stride: usize,
    rounding: Rounding,
}

/// How a precision is stored on a processor.
pub(crate) fn rounding(cpu: Cpu, precision: Precision) -> Rounding {
    match precision {
        Precision::F32 => Rounding::Exact,
        Precision::Bf16 if cpu.isa() == Isa::Avx512Bf16 => Rounding::Bf16,
        Precision::Bf16 => Rounding::Bf16InF32,
    }
}

impl Operand {
    /// A tensor, rounded.
    pub fn new(device: &Device, precision: Precision, tensor: &Tensor) -> Self {
        Self::of_columns(device, precision, tensor, 0..tensor.cols())
    }

    /// Some columns of a tensor, rounded.
    pub fn of_columns(
        device: &Device,
        precision: Precision,
        tensor: &Tensor,
        cols: Range<usize>,
    ) -> Self {
        let Device::Cpu(cpu) = device;
        let rounding = rounding(*cpu, precision);
        let mut operand = Self::with(rounding, tensor.rows(), cols.len(), Words::unwritten);
        operand.par_rows_mut().enumerate().for_each(|(row, out)| {
            Self::write_row(rounding, *cpu, &tensor.row(row)[cols.clone()], out);
        });
        operand
    }

    /// An operand of zeros, for kernels that write rows themselves.
    pub fn zeros(device: &Device, precision: Precision, rows: usize, cols: usize) -> Self {
        let Device::Cpu(cpu) = device;
        Self::with(rounding(*cpu, precision), rows, cols, Words::pooled)
    }

    /// An operand for kernels that write every row themselves, its padding too.
    pub(crate) fn unwritten(
        device: &Device,
        precision: Precision,
        rows: usize,
        cols: usize,
    ) -> Self {
        let Device::Cpu(cpu) = device;
        Self::with(rounding(*cpu, precision), rows, cols, Words::unwritten)
    }

    fn with(rounding: Rounding, rows: usize, cols: usize, words: fn(usize) -> Words) -> Self {
        let lines = rounding.element().words(cols).div_ceil(LINE_WORDS);
        let stride = (lines | 1) * LINE_WORDS;
        Self { words: words(rows * stride), rows, cols, stride, rounding }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The precision it was rounded for.
    pub fn precision(&self) -> Precision {
        match self.rounding {
            Rounding::Exact => Precision::F32,
            Rounding::Bf16InF32 | Rounding::Bf16 => Precision::Bf16,
        }
    }

    /// The bytes of memory that it holds.
    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<u32>()
    }

    /// Reads columns of a row as f32, exactly; `out.len()` columns from `col`.
    ///
    /// # Panics
    ///
    /// If there are fewer columns.
    pub fn read(&self, row: usize, col: usize, out: &mut [f32]) {
        assert!(col + out.len() <= self.cols, "columns lie inside the operand");
        let words = &self.words[row * self.stride..(row + 1) * self.stride];
        match self.rounding.element() {
            Element::F32 => {
                for (out, word) in out.iter_mut().zip(&words[col..]) {
                    *out = f32::from_bits(*word);
                }
            }
            Element::Bf16 => {
                let halves: &[u16] = bytemuck::cast_slice(words);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = from_bf16_bits(halves[half_index(col + i)]);
                }
            }
        }
    }

    /// The values as f32, exactly.
    pub fn to_tensor(&self, device: &Device) -> Tensor {
        let Device::Cpu(cpu) = device;
        let mut tensor = Tensor::unwritten(device, self.rows, self.cols);
        // A tensor without columns has no chunks either.
        let rows = tensor.as_mut_slice().par_chunks_mut(self.cols.max(1)).enumerate();
        rows.for_each(|(row, values)| self.read_row(*cpu, row, values));
        tensor
    }

    /// A whole row as f32, exactly.
    pub(crate) fn read_row(&self, cpu: Cpu, row: usize, values: &mut [f32]) {
        debug_assert_eq!(values.len(), self.cols, "a value for each column");
        self.rounding.read(cpu, self.row_words(row), values);
    }

    /// Rounds a whole row, its padding too.
    pub(crate) fn write_row(rounding: Rounding, cpu: Cpu, values: &[f32], row: &mut [u32]) {
        let words = rounding.element().words(values.len());
        rounding.write(cpu, values, &mut row[..words]);
        row[words..].fill(0);
    }

    /// What a word holds.
    pub(crate) fn element(&self) -> Element {
        self.rounding.element()
    }

    /// How values are rounded when they are written.
    pub(crate) fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// All rows as the left side of a product over the columns.
    pub(crate) fn left(&self) -> Left<'_> {
        let words = self.element().words(self.cols);
        Left::new(&self.words, self.rows, words).with_strides(self.stride, 1)
    }

    /// The words of a row, padding included.
    #[inline]
    pub(crate) fn row_words(&self, row: usize) -> &[u32] {
        &self.words[row * self.stride..(row + 1) * self.stride]
    }

    /// The words of each row, padding included, for parallel writers; the padding must stay zero.
    pub(crate) fn par_rows_mut(&mut self) -> rayon::slice::ChunksMut<'_, u32> {
        let stride = self.stride;
        self.words[..].par_chunks_mut(stride)
    }

    /// A handle through which threads write disjoint parts.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer {
            start: self.words.as_mut_ptr(),
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
            rounding: self.rounding,
            operand: PhantomData,
        }
    }
}

/// Where a column's 16 bits lie among the halves of a row's words.
#[inline(always)]
fn half_index(col: usize) -> usize {
    // A word holds the even column in its lower half, wherever the machine puts that half.
    if cfg!(target_endian = "little") { col } else { col ^ 1 }
}

/// Writes values into an operand from several threads, rounding them.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    start: *mut u32,
    rows: usize,
    cols: usize,
    stride: usize,
    rounding: Rounding,
    operand: PhantomData<&'a mut Operand>,
}

// SAFETY: the pointer is only used by `write`, whose callers promise disjoint parts.
unsafe impl Send for Writer<'_> {}
// SAFETY: as above.
unsafe impl Sync for Writer<'_> {}

impl Writer<'_> {
    /// As [`Self::write`], at once where the columns share no word with others.
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn write_with(&self, cpu: Cpu, (row, col): (usize, usize), values: &[f32]) {
        let per_word = if self.rounding == Rounding::Bf16 { 2 } else { 1 };
        if col.is_multiple_of(per_word) && values.len().is_multiple_of(per_word) {
            assert!(row < self.rows && col + values.len() <= self.cols, "inside the operand");
            let count = values.len() / per_word;
            // SAFETY: inside the row by the assertion; the caller vouches for exclusion.
            let words = unsafe {
                let start = self.start.add(row * self.stride + col / per_word);
                std::slice::from_raw_parts_mut(start, count)
            };
            self.rounding.write(cpu, values, words);
        } else {
            // SAFETY: passed on.
            unsafe { self.write(row, col, values) };
        }
    }

    /// Rounds and writes `values` into a row from a column on.
    ///
    /// # Safety
    ///
    /// No two threads may write the same element at once, nor any thread read it meanwhile.
    pub(crate) unsafe fn write(&self, row: usize, col: usize, values: &[f32]) {
        assert!(row < self.rows && col + values.len() <= self.cols, "inside the operand");
        // SAFETY: the row is inside the allocation by the assertion.
        let start = unsafe { self.start.add(row * self.stride) };
        match self.rounding {
            Rounding::Exact | Rounding::Bf16InF32 => {
                let round = self.rounding == Rounding::Bf16InF32;
                for (i, &value) in values.iter().enumerate() {
                    let value = if round { to_bf16(value) } else { value };
                    // SAFETY: the column is inside the row; the caller vouches for exclusion.
                    unsafe { start.add(col + i).write(value.to_bits()) };
                }
            }
            Rounding::Bf16 => {
                let halves = start.cast::<u16>();
                for (i, &value) in values.iter().enumerate() {
                    // SAFETY: as above; a half word is written alone, so neighbours are safe.
                    unsafe { halves.add(half_index(col + i)).write(bf16_bits(value)) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Operand;
    use crate::check::{assert_same_bits, numbers};
    use crate::cpu::round::to_bf16;
    use crate::{Device, Precision, Tensor};

    #[test]
    fn values_come_back_rounded_and_padding_is_zero() {
        for device in Device::every_cpu() {
            for (rows, cols) in [(1, 1), (3, 5), (2, 64), (4, 33)] {
                let values = numbers(1, rows * cols, 1.0);
                let tensor = Tensor::from_vec(&device, rows, cols, values.clone());
                for precision in [Precision::F32, Precision::Bf16] {
                    let operand = Operand::new(&device, precision, &tensor);
                    assert_eq!(operand.precision(), precision);
                    let exact = precision == Precision::F32;
                    let want: Vec<f32> =
                        values.iter().map(|&v| if exact { v } else { to_bf16(v) }).collect();
                    assert_same_bits("values", operand.to_tensor(&device).as_slice(), &want);
                    let used = operand.element().words(cols);
                    for row in 0..rows {
                        assert!(operand.row_words(row)[used..].iter().all(|word| *word == 0));
                    }

                    let mut written = Operand::zeros(&device, precision, rows, cols);
                    let writer = written.writer();
                    for (row, values) in values.chunks_exact(cols).enumerate() {
                        let (left, right) = values.split_at(cols / 3);
                        // SAFETY: one thread, and nobody reads.
                        unsafe {
                            writer.write(row, 0, left);
                            writer.write(row, cols / 3, right);
                        }
                    }
                    assert!(written == operand, "written in parts as whole");
                }
            }
        }
    }
}
