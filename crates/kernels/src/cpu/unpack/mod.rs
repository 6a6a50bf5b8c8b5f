//! From packed panels to the words that products take.
//!
//! Every value has the bits of [`LowBit::read_row`](crate::low_bit::LowBit), rounded to bf16 where
//! it is asked for, so products have the bits that they have over a weight that was never packed.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::gemm::{Element, Left, Mode, Out, PANEL, panel_words, product};
use super::round::to_bf16;
use super::words::with_scratch;
use super::{Cpu, Isa, Loop};
use crate::low_bit::{BLOCK, Code, PackedPanel};

/// The bytes of unpacked words that are made at a time: they stay in the first-level cache.
const PART_BYTES: usize = 16 << 10;

/// The most words that 32 codes take.
const WORDS_MAX: usize = 8;

/// Whether f32 values are rounded to bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// As they are.
    Exact,
    /// To the nearest bf16.
    Rounded,
}

/// Unpacks some blocks of 32 inputs as `[element.words(32 blocks)][32]` words.
///
/// Words of bf16 pairs hold rounded values whatever `values` says.
///
/// # Panics
///
/// If there is no such block, or `out` has another length.
pub(crate) fn unpack(
    (cpu, element): (Cpu, Element),
    values: Values,
    panel: PackedPanel<'_>,
    blocks: Range<usize>,
    out: &mut [u32],
) {
    assert!(blocks.end * BLOCK <= panel.cols, "blocks of the panel");
    assert_eq!(out.len(), panel_words(element.words(BLOCK)) * blocks.len(), "a word for each");
    #[cfg(target_arch = "x86_64")]
    if matches!(cpu.isa(), Isa::Avx512Bf16 | Isa::Avx512) {
        assert!(element == Element::F32 || cpu.isa() == Isa::Avx512Bf16, "bf16 instructions");
        // SAFETY: the features are present where a `Cpu` has these sets.
        unsafe { avx512::unpack(element, values, panel, blocks, out) };
        return;
    }
    assert!(element == Element::F32, "bf16 words need the instruction");
    for (block, out) in blocks.zip(out.chunks_exact_mut(panel_words(BLOCK))) {
        let (lines, _) = out.as_chunks_mut::<PANEL>();
        cpu.run(UnpackBlock { values, panel, block, lines });
    }
}

/// `out = left * panel`, or adds it: [`product`] over the unpacked words, to the bit.
///
/// # Panics
///
/// As [`product`].
pub(crate) fn packed_product(
    (cpu, element): (Cpu, Element),
    values: Values,
    left: Left<'_>,
    panel: PackedPanel<'_>,
    (out, mode): (&mut Out<'_>, Mode),
) {
    assert_eq!(left.words(), element.words(panel.cols), "a word of the panel for each of the left");
    #[cfg(target_arch = "x86_64")]
    if element == Element::Bf16
        && cpu.isa() == Isa::Avx512Bf16
        && let Some(row) = left.only_row()
    {
        // SAFETY: the features are present where a `Cpu` has this set.
        let sums = unsafe { avx512::row_product(row, panel, out.first_row(mode)) };
        out.set_first_row(&sums);
        return;
    }
    let block = panel_words(element.words(BLOCK));
    let most = PART_BYTES / size_of::<u32>() / block;
    let blocks = panel.cols / BLOCK;
    with_scratch(most * block, |scratch| {
        for first in (0..blocks).step_by(most) {
            let part = first..blocks.min(first + most);
            let words = element.words(BLOCK) * part.start..element.words(BLOCK) * part.end;
            let scratch = &mut scratch[..block * part.len()];
            unpack((cpu, element), values, panel, part, scratch);
            let mode = if first == 0 { mode } else { Mode::Add };
            product((cpu, element), left.word_range(words), scratch, out, mode);
        }
    });
}

/// A block in f32.
struct UnpackBlock<'a> {
    values: Values,
    panel: PackedPanel<'a>,
    block: usize,
    /// `[32 inputs][32 outputs]`.
    lines: &'a mut [[u32; PANEL]],
}

impl Loop for UnpackBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // A loop for each kind of code, so that nothing is chosen inside.
        match self.panel.kind.code() {
            Code::Four(less) => self.fill(Code::Four(less)),
            Code::Quantile => self.fill(Code::Quantile),
            Code::Five(less) => self.fill(Code::Five(less)),
            Code::Six => self.fill(Code::Six),
            Code::Eight => self.fill(Code::Eight),
        }
    }
}

impl UnpackBlock<'_> {
    #[inline(always)]
    fn fill(self, code: Code) {
        let (scales, codes) = (self.panel.scales(), self.panel.codes(self.block));
        // An array of fixed size has no bounds to check.
        let mut words = [[0; PANEL]; WORDS_MAX];
        words[..codes.len()].copy_from_slice(codes);
        let (mut scale, mut minimum) = ([0.0; PANEL], [0.0; PANEL]);
        for (part, lines) in self.lines.chunks_exact_mut(BLOCK / 2).enumerate() {
            for (lane, (scale, minimum)) in scale.iter_mut().zip(&mut minimum).enumerate() {
                (*scale, *minimum) =
                    self.panel.kind.scale(self.block, part, |word| scales[word][lane]);
            }
            for (i, line) in lines.iter_mut().enumerate() {
                let i = part * (BLOCK / 2) + i;
                for lane in 0..PANEL {
                    let level = code.level(code.get(i, |word| words[word][lane]));
                    let value = level * scale[lane] + minimum[lane];
                    let rounded =
                        if self.values == Values::Rounded { to_bf16(value) } else { value };
                    line[lane] = rounded.to_bits();
                }
            }
        }
    }
}
