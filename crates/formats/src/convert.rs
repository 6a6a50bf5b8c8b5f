//! Widening stored numbers to `f32`, and narrowing them again.
//!
//! Bytes are little-endian and need no alignment. A pair of slices of different lengths is used as
//! far as the shorter one goes; [`TensorView::read_row`](crate::TensorView::read_row) checks first.

use std::borrow::Cow;
use std::cmp::Ordering;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::Dtype;

/// Numbers that are turned at a time; a multiple of every vector width.
const CHUNK: usize = 256;

/// Reads `f32` numbers.
pub fn widen_f32(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *value = f32::from_le_bytes(*bytes);
    }
}

/// Reads `bf16` numbers: the bits move up by 16.
pub fn widen_bf16(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

/// Reads `f16` numbers, with the processor's own instruction where it has one.
pub fn widen_f16(bytes: &[u8], out: &mut [f32]) {
    let mut halves = [f16::ZERO; CHUNK];
    for (out, bytes) in out.chunks_mut(CHUNK).zip(bytes.chunks(2 * CHUNK)) {
        let count = out.len().min(bytes.len() / 2);
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves[..count].convert_to_f32_slice(&mut out[..count]);
    }
}

/// The bytes of `f32` numbers as files store them; borrowed on little-endian machines.
pub fn f32_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}

/// Rounds to `bf16`, to the nearest and to even, as bytes.
pub fn narrow_bf16(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
}

/// Rounds to `f16`, to the nearest and to even, as bytes; numbers above 65504 become infinite.
pub fn narrow_f16(values: &[f32]) -> Vec<u8> {
    let mut halves = [f16::ZERO; CHUNK];
    let mut bytes = Vec::with_capacity(2 * values.len());
    for values in values.chunks(CHUNK) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    }
    bytes
}

/// Rounds numbers once, to the nearest and to even, and appends their bytes; block types add nothing.
///
/// A detour over `f32` would round twice: a number just above a tie of the narrow type could fall on
/// the tie first, and to the wrong side then.
pub fn narrow_once(values: &[f64], dtype: Dtype, bytes: &mut Vec<u8>) {
    match dtype {
        Dtype::F32 => bytes.extend(values.iter().flat_map(|&value| (value as f32).to_le_bytes())),
        Dtype::Bf16 => bytes.extend(
            values.iter().flat_map(|&value| bf16::from_f32(rounded_to_odd(value)).to_le_bytes()),
        ),
        Dtype::F16 => bytes.extend(
            values.iter().flat_map(|&value| f16::from_f32(rounded_to_odd(value)).to_le_bytes()),
        ),
        _ => {}
    }
}

/// The `f32` next to a number whose last bit is odd, or the number itself where it is exact: rounding
/// that to a type of at most 22 bits gives what rounding the number itself gives (Boldo and Melquiond
/// 2008).
fn rounded_to_odd(value: f64) -> f32 {
    let near = value as f32;
    let is_odd = near.to_bits() & 1 == 1;
    match f64::from(near).partial_cmp(&value) {
        Some(Ordering::Less) if !is_odd => near.next_up(),
        Some(Ordering::Greater) if !is_odd => near.next_down(),
        _ => near,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 16-bit pattern, as bytes.
    fn all_patterns() -> Vec<u8> {
        (0..=u16::MAX).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn every_bf16_pattern_widens_exactly() {
        let mut out = vec![0.0; 1 << 16];
        widen_bf16(&all_patterns(), &mut out);
        for (bits, value) in (0..=u16::MAX).zip(out) {
            assert_eq!(value.to_bits(), u32::from(bits) << 16);
        }
    }

    #[test]
    fn every_f16_pattern_widens_as_the_definition_says() {
        let mut out = vec![0.0; 1 << 16];
        widen_f16(&all_patterns(), &mut out);
        for (bits, value) in (0..=u16::MAX).zip(out) {
            let exponent = i32::from(bits >> 10 & 31);
            let fraction = f64::from(bits % 1024) / 1024.0;
            let size = match exponent {
                0 => fraction * 2f64.powi(-14),
                31 if bits % 1024 == 0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
            };
            let wanted = if bits >> 15 == 1 { -size } else { size };
            if wanted.is_nan() {
                assert!(value.is_nan(), "{bits:04x}");
            } else {
                assert_eq!(f64::from(value).to_bits(), wanted.to_bits(), "{bits:04x}");
            }
        }
    }

    #[test]
    fn misaligned_bytes_are_read() {
        let mut bytes = vec![7];
        bytes.extend(narrow_f16(&[1.5, -2.0, 0.25]));
        let mut out = [0.0; 3];
        widen_f16(&bytes[1..], &mut out);
        assert_eq!(out.map(f32::to_bits), [1.5f32, -2.0, 0.25].map(f32::to_bits));
        let mut bytes = vec![7];
        bytes.extend_from_slice(&f32_bytes(&[1.5, -2.0]));
        let mut out = [0.0; 2];
        widen_f32(&bytes[1..], &mut out);
        assert_eq!(out.map(f32::to_bits), [1.5f32, -2.0].map(f32::to_bits));
    }

    #[test]
    fn narrowing_rounds_to_even() {
        // 1 + 2^-8 lies half-way between two bf16 numbers, of which 1 is even.
        assert_eq!(narrow_bf16(&[1.0 + 2f32.powi(-8)]), [0x80, 0x3f]);
        assert_eq!(narrow_bf16(&[1.0 + 3.0 * 2f32.powi(-8)]), [0x82, 0x3f]);
        assert_eq!(narrow_f16(&[1.0 + 2f32.powi(-11), 1e6]), [0x00, 0x3c, 0x00, 0x7c]);
    }

    #[test]
    fn one_rounding_sees_what_two_would_lose() {
        let once = |value, dtype| {
            let mut bytes = Vec::new();
            narrow_once(&[value], dtype, &mut bytes);
            bytes
        };
        // Just above and below the tie between 1 and its successor, nearer to it than f32 can say.
        let (tie, little) = (1.0 + 2f64.powi(-8), 2f64.powi(-40));
        assert_eq!(once(tie, Dtype::Bf16), [0x80, 0x3f]);
        assert_eq!(once(tie + little, Dtype::Bf16), [0x81, 0x3f]);
        assert_eq!(once(tie - little, Dtype::Bf16), [0x80, 0x3f]);
        assert_eq!(once(-(tie + little), Dtype::Bf16), [0x81, 0xbf]);
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!(once(tie, Dtype::F16), [0x00, 0x3c]);
        assert_eq!(once(tie + little, Dtype::F16), [0x01, 0x3c]);
        assert_eq!(once(1e6, Dtype::F16), [0x00, 0x7c]);
        assert_eq!(once(0.1, Dtype::F32), 0.1f32.to_le_bytes());
    }

    #[test]
    fn numbers_that_a_type_holds_stay() {
        for bits in (0..=u16::MAX).step_by(7) {
            let value = bf16::from_bits(bits);
            if value.is_finite() {
                let mut bytes = Vec::new();
                narrow_once(&[value.to_f64()], Dtype::Bf16, &mut bytes);
                assert_eq!(bytes, bits.to_le_bytes());
            }
        }
    }
}
