//! What the words of a weight are, and how rows become them.

use half::f16;

use super::{Rows, Stored};
use crate::LowBit;
use crate::cpu::gemm::PANEL;
use crate::cpu::round::{Rounding, from_bf16_bits};
use crate::cpu::unpack::Values;
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop};

/// What the words of a panel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The values themselves.
    Plain(Stored),
    /// Codes and scales.
    Packed(LowBit, Values),
}

impl Form {
    /// The words of one output's row.
    pub(super) fn row_words(self, inputs: usize) -> usize {
        match self {
            Self::Plain(Stored::F32) => inputs,
            Self::Plain(Stored::F16 | Stored::Bf16) => inputs.div_ceil(2),
            Self::Packed(kind, _) => kind.row_words(inputs),
        }
    }

    /// Reads a row of `inputs` numbers into its words.
    pub(super) fn read(
        self,
        cpu: Cpu,
        source: &dyn Rows,
        (row, inputs): (usize, usize),
        words: &mut [u32],
    ) {
        with_scratch(inputs, |scratch| match (self, source.coded()) {
            (Self::Packed(kind, _), Some(coded)) => {
                let (scales, codes) = words.split_at_mut(kind.scale_words(inputs));
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(scratch);
                coded.read_codes(row, &mut bytes[..inputs], scales);
                kind.write_codes(&bytes[..inputs], codes);
            }
            (Self::Packed(..), None) => panic!("a weight in few bits is frozen"),
            (Self::Plain(stored), _) => {
                let values = &mut scratch.as_f32_mut()[..inputs];
                source.read_row(row, values);
                encode(cpu, stored, values, words);
            }
        });
    }
}

/// Writes a row in the given format.
fn encode(cpu: Cpu, stored: Stored, values: &[f32], words: &mut [u32]) {
    match stored {
        Stored::F32 => Rounding::Exact.write(cpu, values, words),
        Stored::Bf16 => Rounding::Bf16.write(cpu, values, words),
        Stored::F16 => {
            for (word, pair) in words.iter_mut().zip(values.chunks(2)) {
                let odd = pair.get(1).map_or(0, |odd| f16::from_f32(*odd).to_bits());
                *word = u32::from(f16::from_f32(pair[0]).to_bits()) | u32::from(odd) << 16;
            }
        }
    }
}

/// A weight and an operand of different precisions met.
#[track_caller]
pub(super) fn mixed_precisions() -> ! {
    panic!("a bf16 operand needs a weight that was packed for bf16")
}

/// How a 16-bit format becomes f32.
pub(super) fn widening(stored: Stored) -> fn(u16) -> f32 {
    if stored == Stored::F16 { from_f16_bits } else { from_bf16_bits }
}

/// The f32 of f16 bits, exactly, without a branch so that loops become vector code.
#[inline(always)]
pub(crate) fn from_f16_bits(bits: u16) -> f32 {
    // Exponents move from bias 15 to bias 127 by a product, which also normalizes subnormals.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * REBIAS;
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

/// From lines of pairs to twice as many lines of f32.
pub(super) struct Widen<'a> {
    pub(super) stored: Stored,
    /// `[words][32]`.
    pub(super) pairs: &'a [u32],
    /// `[2 words][32]`.
    pub(super) wide: &'a mut [u32],
}

impl Loop for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let pairs = self.pairs.as_chunks::<PANEL>().0;
        let wide = self.wide.as_chunks_mut::<{ 2 * PANEL }>().0;
        if self.stored == Stored::F16 {
            for (pair, wide) in pairs.iter().zip(wide) {
                let (even, odd) = wide.split_at_mut(PANEL);
                for ((word, even), odd) in pair.iter().zip(even).zip(odd) {
                    *even = from_f16_bits(*word as u16).to_bits();
                    *odd = from_f16_bits((word >> 16) as u16).to_bits();
                }
            }
        } else {
            for (pair, wide) in pairs.iter().zip(wide) {
                let (even, odd) = wide.split_at_mut(PANEL);
                for ((word, even), odd) in pair.iter().zip(even).zip(odd) {
                    *even = word << 16;
                    *odd = word & 0xffff_0000;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::from_f16_bits;
    use half::f16;

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (got, want) = (from_f16_bits(bits), f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == want.to_bits() || want.is_nan() && got.is_nan(), "{bits:x}");
        }
    }
}
