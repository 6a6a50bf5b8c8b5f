//! The matrix product of every operation: rows times a packed panel of 32 columns.
//!
//! A *word* is 32 bits: one f32, or two bf16 of consecutive `k`, the even one in the lower half.
//! A *panel* is `[words][32]` words: word `w` of column `c` is at `w * 32 + c`; columns past the
//! last and the odd half of a last word are zero. The left side has any row and word stride, so a
//! panel read sideways serves as a transposed left side without packing (row stride 1, word
//! stride 32).
//!
//! Each output element is one chain of multiply-adds over the words in order, starting from the
//! target's value or from zero. So its bits do not depend on the number of rows, on neighbours or
//! on where the words are cut into several calls.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::marker::PhantomData;
use std::ops::Range;

use super::{Cpu, Isa};

/// The columns of a panel.
pub(crate) const PANEL: usize = 32;

/// The rows of the largest register tile; row blocks are best cut at its multiples.
pub(crate) const TILE_ROWS: usize = 12;

/// What a 32-bit word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// One f32.
    F32,
    /// Two bf16 of consecutive `k`; only on processors with [`Isa::Avx512Bf16`].
    Bf16,
}

impl Element {
    /// The words of `count` elements of one row.
    pub(crate) fn words(self, count: usize) -> usize {
        match self {
            Self::F32 => count,
            Self::Bf16 => count.div_ceil(2),
        }
    }
}

/// The words of a panel of `words` words a column.
pub(crate) const fn panel_words(words: usize) -> usize {
    words * PANEL
}

/// The number of panels of `columns` columns.
pub(crate) const fn panel_count(columns: usize) -> usize {
    columns.div_ceil(PANEL)
}

/// The left side of a product: `rows` rows of `words` words each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a> {
    data: &'a [u32],
    rows: usize,
    words: usize,
    row_stride: usize,
    word_stride: usize,
}

impl<'a> Left<'a> {
    /// Rows one after the other without gaps.
    pub(crate) fn new(data: &'a [u32], rows: usize, words: usize) -> Self {
        Self { data, rows, words, row_stride: words, word_stride: 1 }
    }

    /// The columns of a panel as rows: the transposed left side.
    pub(crate) fn of_panel(panel: &'a [u32], columns: usize, words: usize) -> Self {
        debug_assert!(columns <= PANEL, "a panel has 32 columns");
        Self::new(panel, columns, words).with_strides(1, PANEL)
    }

    /// The same with other distances between rows and between words of a row.
    pub(crate) fn with_strides(self, row_stride: usize, word_stride: usize) -> Self {
        Self { row_stride, word_stride, ..self }
    }

    /// The number of words of each row.
    pub(crate) fn words(self) -> usize {
        self.words
    }

    /// Some of the rows.
    pub(crate) fn row_range(self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows, "rows lie inside the left side");
        let start = (rows.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: rows.len(), ..self }
    }

    /// Some of the words of every row: a part of the sum.
    pub(crate) fn word_range(self, words: Range<usize>) -> Self {
        assert!(words.end <= self.words, "words lie inside the rows");
        let start = (words.start * self.word_stride).min(self.data.len());
        Self { data: &self.data[start..], words: words.len(), ..self }
    }

    /// The words of the row, if it is one and its words lie side by side.
    pub(crate) fn only_row(self) -> Option<&'a [u32]> {
        (self.rows == 1 && self.word_stride == 1).then(|| &self.data[..self.words])
    }

    /// Whether every word of every row is inside the data.
    fn is_inside(self) -> bool {
        self.rows == 0
            || self.words == 0
            || (self.rows - 1) * self.row_stride + (self.words - 1) * self.word_stride
                < self.data.len()
    }
}

/// The target of a product: a row-major tile of at most 32 columns.
#[derive(Debug)]
pub(crate) struct Out<'a> {
    start: *mut f32,
    rows: usize,
    stride: usize,
    cols: usize,
    target: PhantomData<&'a mut [f32]>,
}

impl<'a> Out<'a> {
    /// The first `cols` columns of rows that are `stride` apart; as many rows as there are.
    pub(crate) fn new(values: &'a mut [f32], stride: usize, cols: usize) -> Self {
        assert!(cols <= stride, "columns lie inside the rows");
        let rows = if values.len() < cols { 0 } else { (values.len() - cols) / stride.max(1) + 1 };
        Self { start: values.as_mut_ptr(), rows, stride, cols, target: PhantomData }
    }

    /// A tile given by its first element.
    ///
    /// # Safety
    ///
    /// All elements of the tile must be inside one allocation, and nothing else may touch them
    /// while the result lives.
    pub(crate) unsafe fn from_raw(
        start: *mut f32,
        rows: usize,
        stride: usize,
        cols: usize,
    ) -> Self {
        Self { start, rows, stride, cols, target: PhantomData }
    }

    /// What sums of the first row start from.
    ///
    /// # Panics
    ///
    /// If there is no row.
    pub(crate) fn first_row(&self, mode: Mode) -> [f32; PANEL] {
        assert!(self.rows > 0 && self.cols <= PANEL, "a row of at most 32 columns");
        let mut sums = [0.0; PANEL];
        if mode == Mode::Add {
            // SAFETY: the row's columns are inside the tile, which this value alone may touch.
            let values = unsafe { std::slice::from_raw_parts(self.start, self.cols) };
            sums[..self.cols].copy_from_slice(values);
        }
        sums
    }

    /// Replaces the first row.
    ///
    /// # Panics
    ///
    /// If there is no row.
    pub(crate) fn set_first_row(&mut self, sums: &[f32; PANEL]) {
        assert!(self.rows > 0 && self.cols <= PANEL, "a row of at most 32 columns");
        // SAFETY: the row's columns are inside the tile, which this value alone may touch.
        let values = unsafe { std::slice::from_raw_parts_mut(self.start, self.cols) };
        values.copy_from_slice(&sums[..self.cols]);
    }

    /// Sets every row to the same values, or to zero.
    pub(crate) fn fill(&mut self, values: Option<&[f32]>) {
        for row in 0..self.rows {
            // SAFETY: the row's columns are inside the tile, which this value alone may touch.
            let out = unsafe {
                std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.cols)
            };
            match values {
                Some(values) => out.copy_from_slice(values),
                None => out.fill(0.0),
            }
        }
    }
}

/// Whether a product replaces its target or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The sum starts from zero.
    Replace,
    /// The sum starts from the target's value.
    Add,
}

/// A register tile as the micro-kernels take it; all bounds are checked before.
#[derive(Clone, Copy)]
struct Tile {
    left: *const u32,
    row_stride: usize,
    word_stride: usize,
    panel: *const u32,
    words: usize,
    out: *mut f32,
    out_stride: usize,
    cols: usize,
    add: bool,
}

/// `out[row][c] = sum over w of left[row][w] * panel[w][c]`, or added to what is there.
///
/// `left` and `panel` hold `element`s; the panel has at least `left.words()` words a column. One
/// thread; the target has `left.rows()` rows and at most 32 columns.
///
/// # Panics
///
/// If the shapes do not fit, or the element is bf16 on a processor that cannot multiply it.
pub(crate) fn product(
    (cpu, element): (Cpu, Element),
    left: Left<'_>,
    panel: &[u32],
    out: &mut Out<'_>,
    mode: Mode,
) {
    assert!(left.is_inside(), "the left side lies inside its data");
    assert!(panel_words(left.words) <= panel.len(), "the panel has every word of the sum");
    assert!(left.rows <= out.rows && out.cols <= PANEL, "the target has a place for each result");
    assert!(
        element == Element::F32 || cpu.isa() == Isa::Avx512Bf16,
        "bf16 words need the instruction"
    );
    if left.rows == 0 || out.cols == 0 {
        return;
    }
    let tile = Tile {
        left: left.data.as_ptr(),
        row_stride: left.row_stride,
        word_stride: left.word_stride,
        panel: panel.as_ptr(),
        words: left.words,
        out: out.start,
        out_stride: out.stride,
        cols: out.cols,
        add: mode == Mode::Add,
    };
    // SAFETY: the assertions above keep every read and write of `left.rows` rows inside, and a
    // `Cpu` exists only for instruction sets that are present.
    unsafe {
        match cpu.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 | Isa::Avx512 => match element {
                Element::Bf16 => avx512::rows_bf16(tile, left.rows),
                Element::F32 => avx512::rows_f32(tile, left.rows),
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::rows(tile, left.rows),
            _ => portable::rows(tile, left.rows),
        }
    }
}

#[cfg(test)]
mod tests;
