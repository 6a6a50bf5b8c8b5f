//! Turning blocks of 32 by 32: from forward panels to panels of the transposed weight.
//!
//! A forward panel holds 32 outputs side by side, input after input. A turned panel holds 32
//! inputs side by side, output after output; it serves products with the gradient.

use super::gemm::PANEL;
use super::{Cpu, Loop};

/// The words of a block of pairs: 16 lines of 32 words.
pub(crate) const PAIR_BLOCK: usize = PANEL / 2 * PANEL;
/// The words of a block of f32: 32 lines of 32 words.
pub(crate) const F32_BLOCK: usize = PANEL * PANEL;

/// Turns a block of 16-bit pairs: from `[input / 2][output][2 inputs]` to
/// `[output / 2][input][2 outputs]`.
///
/// `from` may have fewer than 16 lines at a matrix's edge; missing inputs become zero columns.
pub(crate) fn turn_pairs(cpu: Cpu, from: &[u32], to: &mut [u32; PAIR_BLOCK]) {
    if let Ok(from) = <&[u32; PAIR_BLOCK]>::try_from(from) {
        #[cfg(target_arch = "x86_64")]
        if matches!(cpu.isa(), super::Isa::Avx512Bf16 | super::Isa::Avx512) {
            // SAFETY: the features are present where a `Cpu` has these sets.
            unsafe { x86::turn_pairs(from, to) };
            return;
        }
        cpu.run(TurnPairs { from, to });
    } else {
        let mut whole = [0; PAIR_BLOCK];
        whole[..from.len()].copy_from_slice(from);
        cpu.run(TurnPairs { from: &whole, to });
    }
}

struct TurnPairs<'a> {
    from: &'a [u32; PAIR_BLOCK],
    to: &'a mut [u32; PAIR_BLOCK],
}

impl Loop for TurnPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let lines = self.from.as_chunks::<PANEL>().0;
        for (pair, out) in self.to.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            for (out, line) in out.as_chunks_mut::<2>().0.iter_mut().zip(lines) {
                let (even, odd) = (line[2 * pair], line[2 * pair + 1]);
                *out = [even & 0xffff | odd << 16, even >> 16 | odd & 0xffff_0000];
            }
        }
    }
}

/// Turns a block of f32: the plain transpose of 32 by 32.
///
/// `from` may have fewer than 32 lines at a matrix's edge; missing inputs become zero columns.
pub(crate) fn turn_f32(cpu: Cpu, from: &[u32], to: &mut [u32; F32_BLOCK]) {
    if let Ok(from) = <&[u32; F32_BLOCK]>::try_from(from) {
        #[cfg(target_arch = "x86_64")]
        if cpu.isa() != super::Isa::Portable {
            // SAFETY: every set but the portable one has AVX2.
            unsafe { x86::turn_f32(from, to) };
            return;
        }
        cpu.run(TurnF32 { from, to });
    } else {
        let mut whole = [0; F32_BLOCK];
        whole[..from.len()].copy_from_slice(from);
        cpu.run(TurnF32 { from: &whole, to });
    }
}

struct TurnF32<'a> {
    from: &'a [u32; F32_BLOCK],
    to: &'a mut [u32; F32_BLOCK],
}

impl Loop for TurnF32<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let lines = self.from.as_chunks::<PANEL>().0;
        for (column, out) in self.to.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            for (out, line) in out.iter_mut().zip(lines) {
                *out = line[column];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The same in vector registers.

    use std::arch::x86_64::{
        __m256, __m512i, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps,
        _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_loadu_si512,
        _mm512_permutex2var_epi64, _mm512_set_epi64, _mm512_set4_epi32, _mm512_shuffle_epi8,
        _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
    };

    use super::{F32_BLOCK, PAIR_BLOCK, PANEL};

    /// Quarter by quarter: 8 lines of 8 double words, each a square of 2 inputs and 2 outputs.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn turn_pairs(from: &[u32; PAIR_BLOCK], to: &mut [u32; PAIR_BLOCK]) {
        for down in 0..2 {
            for right in 0..2 {
                let mut rows = [_mm512_set4_epi32(0, 0, 0, 0); 8];
                for (line, row) in rows.iter_mut().enumerate() {
                    let at = (8 * down + line) * PANEL + 16 * right;
                    // SAFETY: 16 words inside the block.
                    *row = unsafe { _mm512_loadu_si512(from[at..at + 16].as_ptr().cast()) };
                }
                for (line, row) in transpose_8x8(&rows).into_iter().enumerate() {
                    let at = (8 * right + line) * PANEL + 16 * down;
                    // SAFETY: 16 words inside the block.
                    unsafe { _mm512_storeu_si512(to[at..at + 16].as_mut_ptr().cast(), row) };
                }
            }
        }
    }

    /// Transposes 8 by 8 double words, and the 2 by 2 halves inside each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn transpose_8x8(rows: &[__m512i; 8]) -> [__m512i; 8] {
        // Bytes 2 and 3 of each 8 change places with bytes 4 and 5.
        let inner = _mm512_set4_epi32(0x0f0e_0b0a, 0x0d0c_0908, 0x0706_0302, 0x0504_0100);
        let low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
        let high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
        let rows = rows.map(|row| _mm512_shuffle_epi8(row, inner));
        // Pairs of rows: element 2 i of both, element 2 i + 1 of both.
        let mut pairs = rows;
        for i in 0..4 {
            pairs[2 * i] = _mm512_unpacklo_epi64(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi64(rows[2 * i], rows[2 * i + 1]);
        }
        // Fours of rows, for the columns j, j + 2 (low) and j + 4, j + 6 (high) of parity j.
        let mut fours = [[rows[0]; 4]; 2];
        for (half, fours) in fours.iter_mut().enumerate() {
            for parity in 0..2 {
                let (first, second) = (pairs[4 * half + parity], pairs[4 * half + 2 + parity]);
                fours[parity] = _mm512_permutex2var_epi64(first, low, second);
                fours[2 + parity] = _mm512_permutex2var_epi64(first, high, second);
            }
        }
        let mut out = rows;
        for parity in 0..2 {
            // `low` holds the columns parity and parity + 4, `high` those 2 further.
            for (high, offset) in [(0, 0), (2, 2)] {
                let (top, bottom) = (fours[0][high + parity], fours[1][high + parity]);
                out[offset + parity] = _mm512_shuffle_i64x2::<0b01_00_01_00>(top, bottom);
                out[offset + parity + 4] = _mm512_shuffle_i64x2::<0b11_10_11_10>(top, bottom);
            }
        }
        out
    }

    /// In squares of 8 by 8.
    #[target_feature(enable = "avx2")]
    pub(super) fn turn_f32(from: &[u32; F32_BLOCK], to: &mut [u32; F32_BLOCK]) {
        for down in (0..PANEL).step_by(8) {
            for right in (0..PANEL).step_by(8) {
                // SAFETY: 8 words of 8 lines inside the blocks, from rows `down`, columns `right`.
                unsafe {
                    let at = from.as_ptr().add(down * PANEL + right).cast::<f32>();
                    let rows: [__m256; 8] =
                        std::array::from_fn(|row| _mm256_loadu_ps(at.add(row * PANEL)));
                    let at = to.as_mut_ptr().add(right * PANEL + down).cast::<f32>();
                    for (row, values) in transpose_f32_8x8(rows).into_iter().enumerate() {
                        _mm256_storeu_ps(at.add(row * PANEL), values);
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose_f32_8x8(rows: [__m256; 8]) -> [__m256; 8] {
        let mut pairs = rows;
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        let mut fours = rows;
        for half in [0, 4] {
            for (i, pair) in [(0, 0), (2, 1)] {
                let (first, second) = (pairs[half + pair], pairs[half + pair + 2]);
                fours[half + i] = _mm256_shuffle_ps::<0b01_00_01_00>(first, second);
                fours[half + i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(first, second);
            }
        }
        let mut out = rows;
        for i in 0..4 {
            out[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
            out[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{F32_BLOCK, PAIR_BLOCK, PANEL, turn_f32, turn_pairs};
    use crate::Device;

    #[test]
    fn every_element_finds_its_place() {
        for Device::Cpu(cpu) in Device::every_cpu() {
            for lines in [16, 15, 1] {
                let from: Vec<u32> =
                    (0..(lines * PANEL) as u32).map(|i| i << 17 | (i << 1 | 1)).collect();
                let mut to = [7; PAIR_BLOCK];
                turn_pairs(cpu, &from, &mut to);
                let half = |words: &[u32], word: usize, odd: usize| {
                    words.get(word).map_or(0, |word| word >> (16 * odd) & 0xffff)
                };
                for input in 0..PANEL {
                    for output in 0..PANEL {
                        let before = half(&from, input / 2 * PANEL + output, input % 2);
                        let after = half(&to, output / 2 * PANEL + input, output % 2);
                        assert_eq!(before, after, "{cpu:?}, input {input}, output {output}");
                    }
                }
            }
            for lines in [32, 31, 1] {
                let from: Vec<u32> = (1..=(lines * PANEL) as u32).collect();
                let mut to = [7; F32_BLOCK];
                turn_f32(cpu, &from, &mut to);
                for input in 0..PANEL {
                    for output in 0..PANEL {
                        let before = from.get(input * PANEL + output).copied().unwrap_or(0);
                        assert_eq!(before, to[output * PANEL + input], "{cpu:?}, {input} {output}");
                    }
                }
            }
        }
    }
}
