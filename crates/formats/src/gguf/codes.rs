//! Blocks of GGUF files taken apart: a code for each number, and words of scales.
//!
//! Nothing is computed, so whoever keeps codes and scales has the numbers to the bit. The words of
//! scales, first bits lowest:
//!
//! ```text
//! Q4_0, Q5_0, Q8_0   d of two blocks; the last half may be zero
//! Q4_1, Q5_1         d, m of a block
//! Q4_K, Q5_K         d, m of 256 numbers, then a byte s and a byte t for each of 8 groups
//! Q6_K               d of 256 numbers and 16 zeros, then 16 bytes s
//! ```

use super::quants::{K_BLOCK, scale_and_min};
use crate::Dtype;

/// Words of scales for 256 numbers of the K kinds.
const K_WORDS: usize = 5;

/// How many words of scales a row of `cols` numbers has; `None` for the plain types.
pub(crate) fn scale_words(dtype: Dtype, cols: usize) -> Option<usize> {
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => None,
        Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 => Some((cols / 32).div_ceil(2)),
        Dtype::Q4_1 | Dtype::Q5_1 => Some(cols / 32),
        Dtype::Q4K | Dtype::Q5K | Dtype::Q6K => Some(cols / K_BLOCK * K_WORDS),
    }
}

/// Takes a row's blocks apart; the lengths fit each other.
pub(crate) fn split(dtype: Dtype, bytes: &[u8], codes: &mut [u8], scales: &mut [u32]) {
    scales.fill(0);
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => {}
        Dtype::Q4_0 => small::<18>(bytes, codes, |block, index, codes| {
            set_half(scales, index, [block[0], block[1]]);
            four_bits(&block[2..], codes);
        }),
        Dtype::Q4_1 => small::<20>(bytes, codes, |block, index, codes| {
            scales[index] = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            four_bits(&block[4..], codes);
        }),
        Dtype::Q5_0 => small::<22>(bytes, codes, |block, index, codes| {
            set_half(scales, index, [block[0], block[1]]);
            four_bits(&block[6..], codes);
            fifth_bits([block[2], block[3], block[4], block[5]], codes);
        }),
        Dtype::Q5_1 => small::<24>(bytes, codes, |block, index, codes| {
            scales[index] = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            four_bits(&block[8..], codes);
            fifth_bits([block[4], block[5], block[6], block[7]], codes);
        }),
        Dtype::Q8_0 => small::<34>(bytes, codes, |block, index, codes| {
            set_half(scales, index, [block[0], block[1]]);
            codes.copy_from_slice(&block[2..]);
        }),
        Dtype::Q4K => large::<144>(bytes, codes, scales, |block, codes, scales| {
            groups(block, scales);
            quarters(&block[16..], codes);
        }),
        Dtype::Q5K => large::<176>(bytes, codes, scales, |block, codes, scales| {
            groups(block, scales);
            quarters(&block[48..], codes);
            for (group, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for (code, high) in codes.iter_mut().zip(&block[16..48]) {
                    *code |= (high >> group & 1) << 4;
                }
            }
        }),
        Dtype::Q6K => large::<210>(bytes, codes, scales, |block, codes, scales| {
            scales[0] = u32::from(u16::from_le_bytes([block[208], block[209]]));
            for (word, bytes) in scales[1..].iter_mut().zip(block[192..208].as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            six_bits(block, codes);
        }),
    }
}

/// Calls `each` with every block of 32 numbers, its index and its codes.
fn small<const BYTES: usize>(
    bytes: &[u8],
    codes: &mut [u8],
    mut each: impl FnMut(&[u8; BYTES], usize, &mut [u8; 32]),
) {
    let blocks = bytes.as_chunks::<BYTES>().0.iter().zip(codes.as_chunks_mut::<32>().0);
    for (index, (block, codes)) in blocks.enumerate() {
        each(block, index, codes);
    }
}

/// Calls `each` with every block of 256 numbers, its codes and its words of scales.
fn large<const BYTES: usize>(
    bytes: &[u8],
    codes: &mut [u8],
    scales: &mut [u32],
    mut each: impl FnMut(&[u8; BYTES], &mut [u8; K_BLOCK], &mut [u32; K_WORDS]),
) {
    let codes = codes.as_chunks_mut::<K_BLOCK>().0.iter_mut();
    let parts = codes.zip(scales.as_chunks_mut::<K_WORDS>().0);
    for (block, (codes, scales)) in bytes.as_chunks::<BYTES>().0.iter().zip(parts) {
        each(block, codes, scales);
    }
}

/// Puts an `f16` into half a word.
fn set_half(scales: &mut [u32], index: usize, half: [u8; 2]) {
    scales[index / 2] |= u32::from(u16::from_le_bytes(half)) << (16 * (index % 2));
}

/// 16 bytes of two numbers: low halves first.
fn four_bits(bytes: &[u8], codes: &mut [u8; 32]) {
    for (i, byte) in bytes.iter().enumerate() {
        codes[i] = byte & 15;
        codes[16 + i] = byte >> 4;
    }
}

fn fifth_bits(high: [u8; 4], codes: &mut [u8; 32]) {
    let high = u32::from_le_bytes(high);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((high >> i & 1) as u8) << 4;
    }
}

/// Four times 32 bytes of two numbers each.
fn quarters(bytes: &[u8], codes: &mut [u8; K_BLOCK]) {
    let pairs = codes.as_chunks_mut::<64>().0.iter_mut();
    for (codes, bytes) in pairs.zip(bytes.as_chunks::<32>().0) {
        for (i, byte) in bytes.iter().enumerate() {
            codes[i] = byte & 15;
            codes[32 + i] = byte >> 4;
        }
    }
}

/// Scales and minima of the K kinds that have both.
fn groups(block: &[u8], scales: &mut [u32; K_WORDS]) {
    scales[0] = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for group in 0..8 {
        let (scale, min) = scale_and_min(&block[4..16], group);
        let both = u32::from(scale) | u32::from(min) << 8;
        scales[1 + group / 2] |= both << (16 * (group % 2));
    }
}

fn six_bits(block: &[u8; 210], codes: &mut [u8; K_BLOCK]) {
    for (half, codes) in codes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (low, high) = (&block[64 * half..][..64], &block[128 + 32 * half..][..32]);
        for (quarter, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let low = &low[32 * (quarter % 2)..][..32];
            let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
            for (i, code) in codes.iter_mut().enumerate() {
                *code = low[i] >> low_shift & 15 | (high[i] >> high_shift & 3) << 4;
            }
        }
    }
}
