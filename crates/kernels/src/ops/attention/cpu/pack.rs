//! Queries, keys and values as the two sides of products.

use rayon::prelude::*;

use super::{Columns, Frame};
use crate::cpu::Loop;
use crate::cpu::gemm::PANEL;
use crate::cpu::pack::rows_as_columns;
use crate::cpu::round::{Rounding, bf16_bits, to_bf16};

/// How two numbers, or one, become words.
pub(super) trait Format: Copy + Send {
    /// The numbers of a word.
    const PER_WORD: usize;
    /// Two numbers as one word, or the first alone where a word has no room.
    fn word(even: f32, odd: f32) -> u32;
}

/// [`Rounding::Exact`].
#[derive(Clone, Copy)]
pub(super) struct Exact;
/// [`Rounding::Bf16InF32`].
#[derive(Clone, Copy)]
pub(super) struct Bf16InF32;
/// [`Rounding::Bf16`].
#[derive(Clone, Copy)]
pub(super) struct Bf16;

impl Format for Exact {
    const PER_WORD: usize = 1;
    #[inline(always)]
    fn word(even: f32, _: f32) -> u32 {
        even.to_bits()
    }
}

impl Format for Bf16InF32 {
    const PER_WORD: usize = 1;
    #[inline(always)]
    fn word(even: f32, _: f32) -> u32 {
        to_bf16(even).to_bits()
    }
}

impl Format for Bf16 {
    const PER_WORD: usize = 2;
    #[inline(always)]
    fn word(even: f32, odd: f32) -> u32 {
        u32::from(bf16_bits(even)) | u32::from(bf16_bits(odd)) << 16
    }
}

/// Names the format of a rounding while an expression is evaluated.
macro_rules! with_format {
    ($rounding:expr, $format:ident => $body:expr) => {
        match $rounding {
            Rounding::Exact => {
                type $format = crate::ops::attention::cpu::pack::Exact;
                $body
            }
            Rounding::Bf16InF32 => {
                type $format = crate::ops::attention::cpu::pack::Bf16InF32;
                $body
            }
            Rounding::Bf16 => {
                type $format = crate::ops::attention::cpu::pack::Bf16;
                $body
            }
        }
    };
}
pub(super) use with_format;

/// Packs each key as a row of words: `[G][slots][words(D)]`.
pub(super) fn rows(frame: &Frame<'_>, source: Columns<'_>, packed: &mut [u32]) {
    let words = frame.words(frame.heads.dim);
    let heads = packed.par_chunks_exact_mut((frame.slots * words).max(1)).enumerate();
    heads.for_each(|(group, packed)| {
        for segment in frame.segments {
            let packed = packed[segment.slot * words..].chunks_exact_mut(words);
            for (row, packed) in segment.rows.clone().zip(packed) {
                frame.rounding.write(frame.cpu, source.row(row, group), packed);
            }
        }
    });
}

/// Packs each key, or pair of keys, as a line of `D` words: `[G][words(slots)][D]`.
///
/// A pair's missing key is zero.
pub(super) fn lines(frame: &Frame<'_>, source: Columns<'_>, packed: &mut [u32]) {
    let dim = frame.heads.dim;
    let heads = packed.par_chunks_exact_mut((frame.words(frame.slots) * dim).max(1)).enumerate();
    heads.for_each(|(group, packed)| {
        let zero = vec![0.0; dim];
        for segment in frame.segments {
            let packed = &mut packed[frame.words(segment.slot) * dim..];
            with_format!(frame.rounding, F => {
                let firsts = segment.rows.clone().step_by(F::PER_WORD);
                for (row, words) in firsts.zip(packed.chunks_exact_mut(dim)) {
                    let even = source.row(row, group);
                    let pair = row + 1 < segment.rows.end && F::PER_WORD == 2;
                    let odd = if pair { source.row(row + 1, group) } else { &zero };
                    frame.cpu.run(Line::<F> { even, odd, words, format: std::marker::PhantomData });
                }
            });
        }
    });
}

/// Words of two rows, element by element.
struct Line<'a, F> {
    even: &'a [f32],
    odd: &'a [f32],
    words: &'a mut [u32],
    format: std::marker::PhantomData<F>,
}

impl<F: Format> Loop for Line<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((word, &even), &odd) in self.words.iter_mut().zip(self.even).zip(self.odd) {
            *word = F::word(even, odd);
        }
    }
}

/// Packs up to 32 rows of a head as the columns of a panel, `[words(D)][32]`: the right side of
/// keys times queries.
pub(super) fn across(
    frame: &Frame<'_>,
    source: Columns<'_>,
    (first, count, head): (usize, usize, usize),
    panel: &mut [u32],
) {
    rows_as_columns(
        (frame.cpu, frame.rounding),
        (count, frame.heads.dim),
        |row, out| out.copy_from_slice(source.row(first + row, head)),
        panel,
    );
}

/// Packs 32 rows of a head as lines of panels, `[words(32)]` lines of 32 columns: the right side of
/// scores times queries. `place(column panel)` is where its lines begin.
///
/// Where words are pairs, line `w` holds rows `w` and `w + 16`, as [`super::softmax`] writes the
/// other side of that product. Missing rows and columns are zero.
pub(super) fn down(
    frame: &Frame<'_>,
    source: Columns<'_>,
    (first, count, head): (usize, usize, usize),
    (lines, column_panel_words): (&mut [u32], usize),
) {
    let zero = [0.0; PANEL];
    let dim = frame.heads.dim;
    for (panel, start) in (0..dim).step_by(PANEL).enumerate() {
        let cols = start..dim.min(start + PANEL);
        let row = |row: usize| {
            if row < count {
                &source.row(first + row, head)[cols.clone()]
            } else {
                &zero[..cols.len()]
            }
        };
        let lines = lines[panel * column_panel_words..].as_chunks_mut::<PANEL>().0;
        with_format!(frame.rounding, F => {
            let count = PANEL / F::PER_WORD;
            for (line, words) in lines.iter_mut().take(count).enumerate() {
                let odd = row(if F::PER_WORD == 2 { line + count } else { line });
                let (words, rest) = words.split_at_mut(cols.len());
                rest.fill(0);
                let format = std::marker::PhantomData;
                frame.cpu.run(Line::<F> { even: row(line), odd, words, format });
            }
        });
    }
}
