//! Numbers packed into the blocks of GGUF files; [`quants`](super::quants) has their layouts.
//!
//! The kinds of 32 numbers take their scale from the largest number (`_0`) or the range (`_1`), as
//! llama.cpp's reference does, and give its bytes. The K kinds search for scales; see the module `k`.

mod k;

use half::f16;

use crate::Dtype;

/// Numbers in a block of the simple kinds.
const BLOCK: usize = 32;

/// Packs numbers and appends the bytes; plain types add nothing.
///
/// There are whole blocks of numbers; what is left over is left out. Numbers must be finite, and
/// a scale beyond 65504 becomes infinite, which shows when the block is read back.
pub fn quantize(values: &[f32], dtype: Dtype, bytes: &mut Vec<u8>) {
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => {}
        Dtype::Q4_0 => simple(values, bytes, |block, bytes| symmetric(block, 8.0, bytes)),
        Dtype::Q4_1 => simple(values, bytes, |block, bytes| ranged(block, 15.0, bytes)),
        Dtype::Q5_0 => simple(values, bytes, |block, bytes| symmetric(block, 16.0, bytes)),
        Dtype::Q5_1 => simple(values, bytes, |block, bytes| ranged(block, 31.0, bytes)),
        Dtype::Q8_0 => simple(values, bytes, eight_bits),
        Dtype::Q4K => k::four_bits(values, bytes),
        Dtype::Q5K => k::five_bits(values, bytes),
        Dtype::Q6K => k::six_bits(values, bytes),
    }
}

/// Packs block by block.
fn simple(values: &[f32], bytes: &mut Vec<u8>, pack: impl Fn(&[f32; BLOCK], &mut Vec<u8>)) {
    for block in values.as_chunks::<BLOCK>().0 {
        pack(block, bytes);
    }
}

/// The number with the largest size, the first of several.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, value| if most.abs() < value.abs() { *value } else { most })
}

/// One over a scale; 0 for 0.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// A small number without its fraction, from 0 to 127.
fn whole(value: f32) -> u8 {
    (value as i8).max(0).cast_unsigned()
}

fn put_half(value: f32, bytes: &mut Vec<u8>) {
    bytes.extend(f16::from_f32(value).to_le_bytes());
}

/// `x = d (q - levels)`: the largest number is `-d levels`.
fn symmetric(block: &[f32; BLOCK], levels: f32, bytes: &mut Vec<u8>) {
    let scale = largest(block) / -levels;
    let inverse = inverse(scale);
    let most = whole(2.0 * levels - 1.0);
    put_half(scale, bytes);
    put_nibbles(&block.map(|x| whole(x * inverse + (levels + 0.5)).min(most)), most, bytes);
}

/// `x = d q + m`: `m` is the least number.
fn ranged(block: &[f32; BLOCK], levels: f32, bytes: &mut Vec<u8>) {
    let least = block.iter().fold(f32::INFINITY, |least, x| least.min(*x));
    let most = block.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
    let scale = (most - least) / levels;
    let inverse = inverse(scale);
    put_half(scale, bytes);
    put_half(least, bytes);
    let top = whole(levels);
    put_nibbles(&block.map(|x| whole((x - least) * inverse + 0.5).min(top)), top, bytes);
}

/// Codes of 4 bits, or of 5 with their high bits first.
fn put_nibbles(codes: &[u8; BLOCK], most: u8, bytes: &mut Vec<u8>) {
    if 15 < most {
        let high = codes.iter().rev().fold(0u32, |bits, code| bits << 1 | u32::from(code >> 4));
        bytes.extend(high.to_le_bytes());
    }
    bytes.extend((0..BLOCK / 2).map(|i| codes[i] & 15 | codes[BLOCK / 2 + i] << 4));
}

/// `x = d q` with signed bytes.
fn eight_bits(block: &[f32; BLOCK], bytes: &mut Vec<u8>) {
    let scale = largest(block).abs() / 127.0;
    let inverse = inverse(scale);
    put_half(scale, bytes);
    bytes.extend(block.map(|x| ((x * inverse).round() as i8).cast_unsigned()));
}
