//! Rounding f32 to bf16 and back: to nearest, ties to even, infinities and NaN kept.

use super::gemm::Element;
use super::{Cpu, Loop};

/// The bits of the nearest bf16.
#[inline(always)]
pub(crate) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding could carry a NaN into infinity; a quiet NaN keeps its upper half instead.
    let nan = (bits >> 16) | 0x40;
    (if value.is_nan() { nan } else { rounded }) as u16
}

/// The f32 of bf16 bits, exactly.
#[inline(always)]
pub(crate) fn from_bf16_bits(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bf16 as f32.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> f32 {
    from_bf16_bits(bf16_bits(value))
}

/// How a number of an operand is rounded and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// f32 words as they are.
    Exact,
    /// f32 words that hold bf16 values, for machines that multiply f32 only.
    Bf16InF32,
    /// Pairs of bf16 in a word, the even column in its lower half.
    Bf16,
}

impl Rounding {
    /// What a word holds.
    pub(crate) fn element(self) -> Element {
        match self {
            Self::Exact | Self::Bf16InF32 => Element::F32,
            Self::Bf16 => Element::Bf16,
        }
    }

    /// Rounds values into words: an odd count leaves the last half word 0.
    ///
    /// `words` has `element().words(values.len())` words.
    pub(crate) fn write(self, cpu: Cpu, values: &[f32], words: &mut [u32]) {
        assert_eq!(words.len(), self.element().words(values.len()), "one word for each element");
        cpu.run(RoundInto { rounding: self, values, words });
    }

    /// Reads the first `values.len()` values of words, exactly.
    ///
    /// `words` has at least `element().words(values.len())` words.
    pub(crate) fn read(self, cpu: Cpu, words: &[u32], values: &mut [f32]) {
        let count = self.element().words(values.len());
        cpu.run(ReadFrom { element: self.element(), words: &words[..count], values });
    }
}

struct ReadFrom<'a> {
    element: Element,
    words: &'a [u32],
    values: &'a mut [f32],
}

impl Loop for ReadFrom<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.element {
            Element::F32 => {
                for (value, word) in self.values.iter_mut().zip(self.words) {
                    *value = f32::from_bits(*word);
                }
            }
            Element::Bf16 => {
                let (pairs, last) = self.values.as_chunks_mut::<2>();
                for ([low, high], word) in pairs.iter_mut().zip(self.words) {
                    *low = f32::from_bits(word << 16);
                    *high = f32::from_bits(word & 0xffff_0000);
                }
                if let ([value], Some(word)) = (last, self.words.last()) {
                    *value = f32::from_bits(word << 16);
                }
            }
        }
    }
}

struct RoundInto<'a> {
    rounding: Rounding,
    values: &'a [f32],
    words: &'a mut [u32],
}

impl Loop for RoundInto<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.rounding {
            Rounding::Exact => {
                for (word, value) in self.words.iter_mut().zip(self.values) {
                    *word = value.to_bits();
                }
            }
            Rounding::Bf16InF32 => {
                for (word, &value) in self.words.iter_mut().zip(self.values) {
                    *word = to_bf16(value).to_bits();
                }
            }
            Rounding::Bf16 => {
                let (pairs, last) = self.values.as_chunks::<2>();
                for (word, &[low, high]) in self.words.iter_mut().zip(pairs) {
                    *word = u32::from(bf16_bits(low)) | u32::from(bf16_bits(high)) << 16;
                }
                if let (&[value], Some(word)) = (last, self.words.last_mut()) {
                    *word = u32::from(bf16_bits(value));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rounding, bf16_bits, from_bf16_bits};
    use crate::Device;
    use half::bf16;

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_what_is_no_number() {
        // Every upper half, with lower halves around the tie.
        for upper in 0..=u16::MAX {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let value = f32::from_bits(u32::from(upper) << 16 | lower);
                let (got, want) = (from_bf16_bits(bf16_bits(value)), bf16::from_f32(value));
                if value.is_nan() {
                    assert!(got.is_nan(), "{:x}", value.to_bits());
                } else {
                    assert_eq!(bf16_bits(value), want.to_bits(), "{:x}", value.to_bits());
                }
            }
        }
    }

    #[test]
    fn words_are_the_same_under_every_instruction_set() {
        for count in [0, 1, 2, 33] {
            let values = crate::check::numbers(1, count, 3.0);
            for Device::Cpu(cpu) in Device::every_cpu() {
                let mut pairs = vec![9; count.div_ceil(2)];
                Rounding::Bf16.write(cpu, &values, &mut pairs);
                let mut wide = vec![9; count];
                Rounding::Bf16InF32.write(cpu, &values, &mut wide);
                for (i, &value) in values.iter().enumerate() {
                    let bits = u32::from(bf16::from_f32(value).to_bits());
                    assert_eq!(pairs[i / 2] >> (16 * (i % 2)) & 0xffff, bits);
                    assert_eq!(wide[i], bits << 16);
                }
                if count % 2 == 1 {
                    assert_eq!(pairs[count / 2] >> 16, 0, "the odd half is zero");
                }
                let want: Vec<f32> = values.iter().map(|value| super::to_bf16(*value)).collect();
                for (rounding, words) in [(Rounding::Bf16, pairs), (Rounding::Bf16InF32, wide)] {
                    let mut back = vec![9.0; count];
                    rounding.read(cpu, &words, &mut back);
                    crate::check::assert_same_bits("read", &back, &want);
                }
            }
        }
    }
}
