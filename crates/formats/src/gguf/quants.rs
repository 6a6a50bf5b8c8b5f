//! Blocks of GGUF files, widened to `f32`.
//!
//! Each function takes the blocks of a row and writes the numbers. The arithmetic is in `f32` with a
//! rounding after each operation, in the order of the reference, so the numbers agree to the bit.
//! Scales are `f16`, all fields little-endian.
//!
//! ```text
//! Q4_0   d f16, 16 bytes q               x = d (q - 8)       low halves are numbers 0..16, high ones 16..32
//! Q4_1   d, m f16, 16 bytes q            x = d q + m
//! Q5_0   d f16, 32 high bits, 16 bytes   x = d (q - 16)      bit i belongs to number i
//! Q5_1   d, m f16, 32 high bits, 16 b.   x = d q + m
//! Q8_0   d f16, 32 signed bytes          x = d q
//! Q4_K   d, m f16, 12 bytes s, 128 b.    x = (d s_g) q - (m t_g)   for group g of 32 numbers
//! Q5_K   d, m f16, 12 bytes s, 32 b. high bits, 128 b.
//! Q6_K   128 b. low 4 bits, 64 b. high 2 bits, 16 signed bytes s, d f16     x = (d s_g)(q - 32)   g of 16
//! ```

use half::f16;

/// Numbers in a block of the K kinds.
pub(super) const K_BLOCK: usize = 256;

/// A little-endian `f16` at byte `at`.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Widens `Q4_0` blocks.
pub(crate) fn q4_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<18>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let d = half_at(block, 0);
        for i in 0..16 {
            let q = block[2 + i];
            out[i] = d * (f32::from(q & 15) - 8.0);
            out[16 + i] = d * (f32::from(q >> 4) - 8.0);
        }
    }
}

/// Widens `Q4_1` blocks.
pub(crate) fn q4_1(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<20>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        for i in 0..16 {
            let q = block[4 + i];
            out[i] = d * f32::from(q & 15) + m;
            out[16 + i] = d * f32::from(q >> 4) + m;
        }
    }
}

/// The 5-bit numbers `i` and `16 + i` of a block, from its high bits and its byte `i`.
fn five_bits(high: u32, q: u8, i: usize) -> (f32, f32) {
    let (low_high, high_high) = (high >> i & 1, high >> (16 + i) & 1);
    let first = q & 15 | (low_high << 4) as u8;
    let second = q >> 4 | (high_high << 4) as u8;
    (f32::from(first), f32::from(second))
}

/// Widens `Q5_0` blocks.
pub(crate) fn q5_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<22>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let d = half_at(block, 0);
        let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
        for i in 0..16 {
            let (first, second) = five_bits(high, block[6 + i], i);
            out[i] = d * (first - 16.0);
            out[16 + i] = d * (second - 16.0);
        }
    }
}

/// Widens `Q5_1` blocks.
pub(crate) fn q5_1(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<24>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        for i in 0..16 {
            let (first, second) = five_bits(high, block[8 + i], i);
            out[i] = d * first + m;
            out[16 + i] = d * second + m;
        }
    }
}

/// Widens `Q8_0` blocks.
pub(crate) fn q8_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<34>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let d = half_at(block, 0);
        for (value, &q) in out.iter_mut().zip(&block[2..]) {
            *value = f32::from(q.cast_signed()) * d;
        }
    }
}

/// The scale and minimum of group `group` (0 to 7), 6 bits each, from 12 packed bytes.
pub(super) fn scale_and_min(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
    }
}

/// The same as numbers.
fn scales(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, min) = scale_and_min(packed, group);
    (f32::from(scale), f32::from(min))
}

/// Widens `Q4_K` blocks.
pub(crate) fn q4_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<144>().0.iter().zip(out.as_chunks_mut::<K_BLOCK>().0) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        let (packed, quarters) = (&block[4..16], &block[16..]);
        for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let (s0, t0) = scales(packed, 2 * pair);
            let (s1, t1) = scales(packed, 2 * pair + 1);
            let (d0, m0, d1, m1) = (d * s0, m * t0, d * s1, m * t1);
            for (i, &q) in quarters[32 * pair..][..32].iter().enumerate() {
                out[i] = d0 * f32::from(q & 15) - m0;
                out[32 + i] = d1 * f32::from(q >> 4) - m1;
            }
        }
    }
}

/// Widens `Q5_K` blocks.
pub(crate) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<176>().0.iter().zip(out.as_chunks_mut::<K_BLOCK>().0) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        let (packed, high, quarters) = (&block[4..16], &block[16..48], &block[48..]);
        for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let (s0, t0) = scales(packed, 2 * pair);
            let (s1, t1) = scales(packed, 2 * pair + 1);
            let (d0, m0, d1, m1) = (d * s0, m * t0, d * s1, m * t1);
            for (i, (&q, &high)) in quarters[32 * pair..][..32].iter().zip(high).enumerate() {
                let (b0, b1) = (high >> (2 * pair) & 1, high >> (2 * pair + 1) & 1);
                out[i] = d0 * f32::from(q & 15 | b0 << 4) - m0;
                out[32 + i] = d1 * f32::from(q >> 4 | b1 << 4) - m1;
            }
        }
    }
}

/// Widens `Q6_K` blocks.
pub(crate) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<210>().0.iter().zip(out.as_chunks_mut::<K_BLOCK>().0) {
        let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
        let d = half_at(block, 208);
        for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
            let (low, high) = (&low[64 * half..][..64], &high[32 * half..][..32]);
            for (quarter, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let low = &low[32 * (quarter % 2)..][..32];
                let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
                let scales = &scales[8 * half + 2 * quarter..][..2];
                let scales = [0, 1].map(|i: usize| d * f32::from(scales[i].cast_signed()));
                for (i, value) in out.iter_mut().enumerate() {
                    let q = low[i] >> low_shift & 15 | (high[i] >> high_shift & 3) << 4;
                    *value = scales[i / 16] * (f32::from(q) - 32.0);
                }
            }
        }
    }
}
