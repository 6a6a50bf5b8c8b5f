//! The K kinds: blocks of 256 numbers in groups, each group with a small scale of its own.
//!
//! A group's scale is searched for. From some starts around the range of its numbers, codes are
//! rounded and the scale (and the offset) that fits these codes best is solved for, and so on until
//! it settles; the start that ends best wins. Scales then become whole multiples of one of the block,
//! and of the neighbouring multiples the one that fits best is kept.
//!
//! ```text
//! minimise  sum_i w_i (x_i - scale q_i + offset)^2
//! ```
//!
//! Errors of large numbers count more (`w`), because what they are multiplied with is not small
//! where they are trained to be large.

use half::f16;

use crate::gguf::quants::K_BLOCK;

use super::{inverse, largest, whole};

/// Numbers of a group with scale and offset.
const WIDE: usize = 32;
/// Numbers of a group with a scale alone.
const NARROW: usize = 16;
/// The largest scale and offset of 6 bits.
const SIX_BITS: f32 = 63.0;
/// How often codes and scale are fitted to each other from each start.
const ROUNDS: usize = 2;

/// Starts of a search with an offset: how many levels the range of a group gets more or less.
const STARTS: [f32; 11] = [0.0, -0.2, 0.2, -0.4, 0.4, -0.6, 0.6, -0.8, 0.8, -1.0, 1.0];

/// A group as `x = scale q - offset`.
#[derive(Clone, Copy, Default)]
struct Line {
    scale: f32,
    offset: f32,
}

impl Line {
    /// The best code of a number, as a number.
    fn code(self, x: f32, inverse: f32, levels: f32) -> f32 {
        ((x + self.offset) * inverse).round_ties_even().clamp(0.0, levels)
    }

    /// The weighted squared error with the best codes.
    fn error(self, x: &[f32; WIDE], w: &[f32; WIDE], levels: f32) -> f32 {
        let inverse = inverse(self.scale);
        x.iter().zip(w).fold(0.0, |sum, (&x, &w)| {
            let off = self.scale * self.code(x, inverse, levels) - self.offset - x;
            sum + w * off * off
        })
    }

    /// The line that fits the best codes of this one best; its offset is at least 0.
    fn refit(self, x: &[f32; WIDE], w: &[f32; WIDE], levels: f32) -> Self {
        let inverse = inverse(self.scale);
        let (mut sum_w, mut sum_q, mut sum_qq, mut sum_x, mut sum_xq) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (&x, &w) in x.iter().zip(w) {
            let q = self.code(x, inverse, levels);
            let (wq, wx) = (w * q, w * x);
            sum_w += w;
            sum_q += wq;
            sum_qq += wq * q;
            sum_x += wx;
            sum_xq += wx * q;
        }
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant <= 0.0 {
            return self;
        }
        let scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
        let offset = (sum_q * sum_xq - sum_qq * sum_x) / determinant;
        if offset >= 0.0 {
            Self { scale, offset }
        } else {
            Self { scale: sum_xq / sum_qq, offset: 0.0 }
        }
    }
}

/// How much the error of each number counts: its size beside that of its group.
fn weights(x: &[f32; WIDE]) -> [f32; WIDE] {
    let mean_square = x.iter().fold(0.0, |sum, x| sum + x * x) / WIDE as f32;
    let size = mean_square.sqrt();
    x.map(|x| size + x.abs())
}

/// The best line that is found for a group.
fn best_line(x: &[f32; WIDE], w: &[f32; WIDE], levels: f32) -> Line {
    let low = x.iter().fold(0.0, |low: f32, x| low.min(*x));
    let high = x.iter().fold(f32::NEG_INFINITY, |high, x| high.max(*x));
    if high <= low {
        return Line { scale: 0.0, offset: -low };
    }
    let mut best = (f32::INFINITY, Line::default());
    for more in STARTS {
        let mut line = Line { scale: (high - low) / (levels + more), offset: -low };
        for _ in 0..ROUNDS {
            line = line.refit(x, w, levels);
        }
        let error = line.error(x, w, levels);
        if error < best.0 {
            best = (error, line);
        }
    }
    best.1
}

/// The scales of a block with offsets: of the whole, and of its groups as multiples.
struct Lines {
    scale: f16,
    offset: f16,
    scales: [u8; 8],
    offsets: [u8; 8],
    codes: [u8; K_BLOCK],
}

/// A multiple and its neighbours, from 0 to 63.
fn near(code: f32) -> [f32; 3] {
    [code, (code - 1.0).max(0.0), (code + 1.0).min(SIX_BITS)]
}

/// Finds scales, offsets and codes of a block.
fn lines(block: &[f32; K_BLOCK], levels: f32) -> Lines {
    let groups = block.as_chunks::<WIDE>().0;
    let mut found = [Line::default(); 8];
    for (line, x) in found.iter_mut().zip(groups) {
        *line = best_line(x, &weights(x), levels);
    }
    let top = |of: fn(&Line) -> f32| found.iter().fold(0.0, |top: f32, line| top.max(of(line)));
    let mut out = Lines {
        scale: f16::from_f32(top(|line| line.scale) / SIX_BITS),
        offset: f16::from_f32(top(|line| line.offset) / SIX_BITS),
        scales: [0; 8],
        offsets: [0; 8],
        codes: [0; K_BLOCK],
    };
    let (scale, offset) = (out.scale.to_f32(), out.offset.to_f32());
    for (index, (x, line)) in groups.iter().zip(found).enumerate() {
        let multiple = |value: f32, of: f32| (value * inverse(of)).round().clamp(0.0, SIX_BITS);
        let w = weights(x);
        let mut best = (f32::INFINITY, 0.0, 0.0);
        for s in near(multiple(line.scale, scale)) {
            for t in near(multiple(line.offset, offset)) {
                let error = Line { scale: scale * s, offset: offset * t }.error(x, &w, levels);
                if error < best.0 {
                    best = (error, s, t);
                }
            }
        }
        let line = Line { scale: scale * best.1, offset: offset * best.2 };
        let inverse = inverse(line.scale);
        (out.scales[index], out.offsets[index]) = (whole(best.1), whole(best.2));
        for (code, &x) in out.codes[WIDE * index..].iter_mut().zip(x) {
            *code = whole(line.code(x, inverse, levels));
        }
    }
    out
}

impl Lines {
    /// Scales of the block, then the 6-bit ones of its groups in 12 bytes.
    fn put_scales(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.scale.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        let (s, t) = (&self.scales, &self.offsets);
        bytes.extend((0..4).map(|i| s[i] | s[4 + i] >> 4 << 6));
        bytes.extend((0..4).map(|i| t[i] | t[4 + i] >> 4 << 6));
        bytes.extend((0..4).map(|i| s[4 + i] & 15 | (t[4 + i] & 15) << 4));
    }

    /// The low 4 bits: groups in pairs, the second one in the high halves.
    fn put_nibbles(&self, bytes: &mut Vec<u8>) {
        for pair in self.codes.as_chunks::<64>().0 {
            bytes.extend((0..32).map(|i| pair[i] & 15 | (pair[32 + i] & 15) << 4));
        }
    }
}

/// Packs `Q4_K` blocks.
pub(super) fn four_bits(values: &[f32], bytes: &mut Vec<u8>) {
    for block in values.as_chunks::<K_BLOCK>().0 {
        let lines = lines(block, 15.0);
        lines.put_scales(bytes);
        lines.put_nibbles(bytes);
    }
}

/// Packs `Q5_K` blocks.
pub(super) fn five_bits(values: &[f32], bytes: &mut Vec<u8>) {
    for block in values.as_chunks::<K_BLOCK>().0 {
        let lines = lines(block, 31.0);
        lines.put_scales(bytes);
        bytes.extend((0..WIDE).map(|i| {
            (0..8).fold(0, |bits, group| bits | lines.codes[WIDE * group + i] >> 4 << group)
        }));
        lines.put_nibbles(bytes);
    }
}

/// The code of a number in `Q6_K`, from -32 to 31, as a number.
fn six_bit_code(x: f32, inverse: f32) -> f32 {
    (x * inverse).round_ties_even().clamp(-32.0, 31.0)
}

/// The squared error of a narrow group at a scale, large numbers first.
fn six_bit_error(x: &[f32; NARROW], scale: f32) -> f32 {
    let inverse = inverse(scale);
    x.iter().fold(0.0, |sum, &x| {
        let off = scale * six_bit_code(x, inverse) - x;
        sum + x * x * off * off
    })
}

/// The best scale that is found for a narrow group; negative where its largest number is positive,
/// because there is one more code below 0 than above.
fn best_scale(x: &[f32; NARROW]) -> f32 {
    let largest = largest(x);
    if largest == 0.0 {
        return 0.0;
    }
    let mut best = (f32::INFINITY, 0.0);
    for step in -9..=9_i8 {
        let mut scale = largest / -(32.0 + 0.1 * f32::from(step));
        for _ in 0..ROUNDS {
            let inverse = inverse(scale);
            let (mut sum_xq, mut sum_qq) = (0.0, 0.0);
            for &x in x {
                let q = six_bit_code(x, inverse);
                sum_xq += x * x * x * q;
                sum_qq += x * x * q * q;
            }
            if sum_qq > 0.0 {
                scale = sum_xq / sum_qq;
            }
        }
        let error = six_bit_error(x, scale);
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}

/// Packs `Q6_K` blocks.
pub(super) fn six_bits(values: &[f32], bytes: &mut Vec<u8>) {
    for block in values.as_chunks::<K_BLOCK>().0 {
        let groups = block.as_chunks::<NARROW>().0;
        let mut scales = [0.0; NARROW];
        for (scale, x) in scales.iter_mut().zip(groups) {
            *scale = best_scale(x);
        }
        let of_block = f16::from_f32(largest(&scales) / -128.0);
        let unit = of_block.to_f32();
        let mut multiples = [0_i8; NARROW];
        let mut codes = [0_u8; K_BLOCK];
        for (index, x) in groups.iter().enumerate() {
            let first = (scales[index] * inverse(unit)).round();
            let mut best = (f32::INFINITY, 0.0);
            for step in [0.0, -1.0, 1.0] {
                let multiple = (first + step).clamp(-128.0, 127.0);
                let error = six_bit_error(x, unit * multiple);
                if error < best.0 {
                    best = (error, multiple);
                }
            }
            multiples[index] = best.1 as i8;
            let inverse = inverse(unit * best.1);
            for (code, &x) in codes[NARROW * index..].iter_mut().zip(x) {
                *code = whole(six_bit_code(x, inverse) + 32.0);
            }
        }
        for half in codes.as_chunks::<128>().0 {
            bytes.extend((0..64).map(|i| half[i] & 15 | (half[64 + i] & 15) << 4));
        }
        for half in codes.as_chunks::<128>().0 {
            let high =
                |i: usize| (0..4).fold(0, |bits, at| bits | half[32 * at + i] >> 4 << (2 * at));
            bytes.extend((0..32).map(high));
        }
        bytes.extend(multiples.map(i8::cast_unsigned));
        bytes.extend(of_block.to_le_bytes());
    }
}
