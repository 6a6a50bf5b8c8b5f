//! Queries, keys and values as the two sides of products.

use rayon::prelude::*;

use super::softmax;
use super::{Columns, Frame};
use crate::cpu::gemm::PANEL;
use crate::cpu::round::{Rounding, bf16_bits, to_bf16};
use crate::cpu::turn::{F32_BLOCK, turn_f32};
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop};

/// How two numbers, or one, become words.
pub(super) trait Format: Copy + Send + Sized {
    /// The numbers of a word.
    const PER_WORD: usize;
    /// Two numbers as one word, or the first alone where a word has no room.
    fn word(even: f32, odd: f32) -> u32;

    /// Runs a loop of the forward pass.
    fn softmax(cpu: Cpu, body: softmax::Forward<'_, Self>) -> [f32; PANEL] {
        cpu.run(body)
    }

    /// Runs a loop of the backward pass.
    fn gradients(cpu: Cpu, body: softmax::Backward<'_, Self>) {
        cpu.run(body);
    }
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

    #[cfg(target_arch = "x86_64")]
    fn softmax(cpu: Cpu, body: softmax::Forward<'_, Self>) -> [f32; PANEL] {
        if cpu.isa() == crate::Isa::Avx512Bf16 {
            // SAFETY: the features are present where a `Cpu` has this set.
            return unsafe { super::softmax_avx512::forward(body) };
        }
        cpu.run(body)
    }

    #[cfg(target_arch = "x86_64")]
    fn gradients(cpu: Cpu, body: softmax::Backward<'_, Self>) {
        if cpu.isa() == crate::Isa::Avx512Bf16 {
            // SAFETY: as above.
            unsafe { super::softmax_avx512::backward(body) };
        } else {
            cpu.run(body);
        }
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

/// How many rows ahead of their use they are asked for.
const AHEAD: usize = 8;

/// Packs each key as a row of words: `[G][slots][words(D)]`.
pub(super) fn rows(frame: &Frame<'_>, source: Columns<'_>, packed: &mut [u32]) {
    let words = frame.words(frame.heads.dim);
    let heads = packed.par_chunks_exact_mut((frame.slots * words).max(1)).enumerate();
    heads.for_each(|(group, packed)| {
        for segment in frame.segments {
            let packed = packed[segment.slot * words..].chunks_exact_mut(words);
            for (row, packed) in segment.rows.clone().zip(packed) {
                if row + AHEAD < segment.rows.end {
                    source.prefetch(row + AHEAD, group);
                }
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
                    for ahead in row + AHEAD..(row + AHEAD + F::PER_WORD).min(segment.rows.end) {
                        source.prefetch(ahead, group);
                    }
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
    let words = frame.words(frame.heads.dim);
    for row in first..first + count {
        source.prefetch(row, head);
    }
    with_scratch(words.next_multiple_of(PANEL) * (PANEL + 1), |scratch| {
        // A row, then squares of 32 rows and 32 words.
        let (line, squares) = scratch.split_at_mut(words.next_multiple_of(PANEL));
        line.fill(0);
        for row in 0..PANEL {
            if row < count {
                let values = source.row(first + row, head);
                frame.rounding.write(frame.cpu, values, &mut line[..words]);
            } else {
                line.fill(0);
            }
            let squares = squares.as_chunks_mut::<F32_BLOCK>().0.iter_mut();
            for (square, line) in squares.zip(line.as_chunks::<PANEL>().0) {
                square[row * PANEL..(row + 1) * PANEL].copy_from_slice(line);
            }
        }
        let squares = squares.as_chunks::<F32_BLOCK>().0;
        for (square, panel) in squares.iter().zip(panel.chunks_mut(F32_BLOCK)) {
            if let Ok(panel) = <&mut [u32; F32_BLOCK]>::try_from(&mut *panel) {
                turn_f32(frame.cpu, square, panel);
            } else {
                let mut turned = [0; F32_BLOCK];
                turn_f32(frame.cpu, square, &mut turned);
                panel.copy_from_slice(&turned[..panel.len()]);
            }
        }
    });
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
