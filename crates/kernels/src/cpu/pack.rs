//! Bringing matrices into the panels of the product.

use std::ops::Range;

use super::gemm::{Element, PANEL, panel_words};
use super::round::Rounding;
use super::words::with_scratch;
use super::{Cpu, Loop};

/// Packs rows as the columns of a panel: `panel[w][c]` holds word `w` of row `c`.
///
/// This is the right side of `x * rows^T`. `read(c, out)` gives row `c` of `0..count` as f32
/// values, which are rounded; `count` is at most 32, `panel` has `element.words(len) * 32` words.
pub(crate) fn rows_as_columns(
    (cpu, rounding): (Cpu, Rounding),
    (count, len): (usize, usize),
    read: impl Fn(usize, &mut [f32]),
    panel: &mut [u32],
) {
    let words = rounding.element().words(len);
    assert!(count <= PANEL && panel.len() == panel_words(words), "a panel of at most 32 rows");
    with_scratch(len + words * PANEL, |scratch| {
        let (values, rows) = scratch.split_at_mut(len);
        let values: &mut [f32] = bytemuck::cast_slice_mut(values);
        let rows = &mut rows[..words * PANEL];
        rows[count * words..].fill(0);
        for (row, out) in rows.chunks_exact_mut(words.max(1)).take(count).enumerate() {
            read(row, values);
            rounding.write(cpu, values, out);
        }
        transpose_words(cpu, rows, words, panel);
    });
}

/// From 32 rows of `words` words to a panel.
pub(crate) fn transpose_words(cpu: Cpu, rows: &[u32], words: usize, panel: &mut [u32]) {
    assert!(rows.len() == words * PANEL && panel.len() == rows.len(), "32 rows");
    cpu.run(TransposeWords { rows, words, panel });
}

struct TransposeWords<'a> {
    /// `[32][words]`.
    rows: &'a [u32],
    words: usize,
    /// `[words][32]`.
    panel: &'a mut [u32],
}

impl Loop for TransposeWords<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (word, line) in self.panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            for (column, out) in line.iter_mut().enumerate() {
                *out = self.rows[column * self.words + word];
            }
        }
    }
}

/// Packs rows as the lines of a panel: `panel[w][c]` holds column `c` of row `w`, or of rows
/// `2 w` and `2 w + 1` where words hold pairs.
///
/// This is the right side of `x * rows`, and read sideways the left side of `rows^T * x`.
/// `source(k)` gives the at most 32 values of row `k` of `rows`; they are rounded. `panel` has
/// `element.words(rows.len()) * 32` words.
pub(crate) fn rows_as_lines<'s>(
    (cpu, rounding): (Cpu, Rounding),
    rows: Range<usize>,
    source: impl Fn(usize) -> &'s [f32],
    panel: &mut [u32],
) {
    let words = rounding.element().words(rows.len());
    assert!(panel.len() == panel_words(words), "a line for each word");
    let mut first = [0; PANEL];
    let mut second = [0; PANEL];
    let read = |row: usize, out: &mut [u32; PANEL]| {
        out.fill(0);
        if row < rows.end {
            let values = source(row);
            match rounding {
                Rounding::Exact => {
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = value.to_bits();
                    }
                }
                Rounding::Bf16InF32 | Rounding::Bf16 => {
                    let mut whole = [0.0; PANEL];
                    whole[..values.len()].copy_from_slice(values);
                    cpu.run(RoundLine { values: &whole, out });
                }
            }
        }
    };
    match rounding {
        Rounding::Exact | Rounding::Bf16InF32 => {
            for (row, line) in rows.clone().zip(panel.as_chunks_mut::<PANEL>().0) {
                read(row, line);
            }
        }
        Rounding::Bf16 => {
            for (pair, line) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                let row = rows.start + 2 * pair;
                read(row, &mut first);
                read(row + 1, &mut second);
                for ((out, low), high) in line.iter_mut().zip(&first).zip(&second) {
                    *out = low >> 16 | high & 0xffff_0000;
                }
            }
        }
    }
}

/// Rounds to bf16 and leaves the bits in the upper half.
struct RoundLine<'a> {
    values: &'a [f32; PANEL],
    out: &'a mut [u32; PANEL],
}

impl Loop for RoundLine<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (out, &value) in self.out.iter_mut().zip(self.values) {
            *out = super::round::to_bf16(value).to_bits();
        }
    }
}

/// Packs 32 columns of rounded rows as the lines of a panel, as [`rows_as_lines`] does.
///
/// `row_words(k)` gives all words of row `k` of an operand; `first` is the first column, a
/// multiple of 32; columns past the row's words are zero.
pub(crate) fn operand_as_lines<'s>(
    (cpu, element): (Cpu, Element),
    rows: Range<usize>,
    first: usize,
    row_words: impl Fn(usize) -> &'s [u32],
    panel: &mut [u32],
) {
    assert!(panel.len() == panel_words(element.words(rows.len())), "a line for each word");
    assert!(first.is_multiple_of(PANEL), "panels start at multiples of 32 columns");
    let lines = panel.as_chunks_mut::<PANEL>().0;
    match element {
        Element::F32 => {
            for (row, line) in rows.zip(lines) {
                let words = &row_words(row)[first..];
                let count = words.len().min(PANEL);
                line[..count].copy_from_slice(&words[..count]);
                line[count..].fill(0);
            }
        }
        Element::Bf16 => {
            let first = first / 2;
            for (pair, line) in lines.iter_mut().enumerate() {
                let row = rows.start + 2 * pair;
                let half = |row: usize| {
                    let words = if row < rows.end { row_words(row) } else { &NO_PAIRS };
                    words.get(first..).and_then(<[u32]>::first_chunk).unwrap_or(&NO_PAIRS)
                };
                interleave(cpu, half(row), half(row + 1), line);
            }
        }
    }
}

/// The words of half a panel's line: what rows have for it, since they are padded to 16 words.
const HALF: usize = PANEL / 2;
const NO_PAIRS: [u32; HALF] = [0; HALF];

/// From two rows of 32 bf16 to a line of 32 pairs.
#[inline]
fn interleave(cpu: Cpu, even: &[u32; HALF], odd: &[u32; HALF], line: &mut [u32; PANEL]) {
    #[cfg(target_arch = "x86_64")]
    if matches!(cpu.isa(), super::Isa::Avx512Bf16 | super::Isa::Avx512) {
        // SAFETY: the features are present where a `Cpu` has these sets.
        unsafe { x86::interleave(even, odd, line) };
        return;
    }
    let _ = cpu;
    for ((out, even), odd) in line.as_chunks_mut::<2>().0.iter_mut().zip(even).zip(odd) {
        *out = [even & 0xffff | odd << 16, even >> 16 | odd & 0xffff_0000];
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The same in vector registers.

    use std::arch::x86_64::{_mm512_loadu_si512, _mm512_permutex2var_epi16, _mm512_storeu_si512};

    use super::{HALF, PANEL};

    /// Where the halves of a line's first or last 16 words come from: row 0 or row 1 (from 32).
    const fn order(first: u16) -> [u16; PANEL] {
        let mut order = [0; PANEL];
        let mut i = 0;
        while i < HALF {
            order[2 * i] = first + i as u16;
            order[2 * i + 1] = 32 + first + i as u16;
            i += 1;
        }
        order
    }

    static LOW: [u16; PANEL] = order(0);
    static HIGH: [u16; PANEL] = order(16);

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn interleave(even: &[u32; HALF], odd: &[u32; HALF], line: &mut [u32; PANEL]) {
        // SAFETY: every array read has 64 bytes, the one written 128.
        unsafe {
            let even = _mm512_loadu_si512(even.as_ptr().cast());
            let odd = _mm512_loadu_si512(odd.as_ptr().cast());
            for (half, order) in [&LOW, &HIGH].into_iter().enumerate() {
                let order = _mm512_loadu_si512(order.as_ptr().cast());
                let pairs = _mm512_permutex2var_epi16(even, order, odd);
                _mm512_storeu_si512(line.as_mut_ptr().add(half * HALF).cast(), pairs);
            }
        }
    }
}
