//! The integers in front of a Parquet page's values: repetition levels and delta-encoded lengths.
//!
//! They are read here to be checked, before the decoder reserves what they ask for.

/// The bytes after a length of four bytes, and what follows them.
pub(super) fn with_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// How many bits a level needs, if it can be as large as this.
pub(super) fn width(level_max: i16) -> u32 {
    u16::BITS - level_max.unsigned_abs().leading_zeros()
}

/// The most levels that one row has, which starts at level 0.
///
/// `run` is what the row has that the bytes before ended with, and then these bytes. `count` levels
/// are read at most; levels that are cut off count as none.
pub(super) fn longest(bytes: &[u8], width: u32, count: usize, run: &mut usize) -> usize {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut left = count;
    let mut longest = 0;
    while 0 < left {
        let Some(head) = cursor.unsigned() else { break };
        let length = usize::try_from(head >> 1).unwrap_or(usize::MAX);
        let starts_row = |level: u64| level == 0;
        if head & 1 == 0 {
            let Some(level) = cursor.number(width.div_ceil(8) as usize) else { break };
            let taken = length.min(left);
            *run = if starts_row(level) { taken.min(1) } else { run.saturating_add(taken) };
            left -= taken;
            // A run without levels is no end.
            if length == 0 {
                break;
            }
        } else {
            let levels = length.saturating_mul(8).min(left);
            let start = cursor.at;
            for index in 0..levels {
                let Some(level) = bits(&bytes[start..], index * width as usize, width) else {
                    return longest.max(*run);
                };
                *run = if starts_row(level) { 1 } else { run.saturating_add(1) };
                longest = longest.max(*run);
            }
            left -= levels;
            cursor.at = start.saturating_add(length.saturating_mul(width as usize));
        }
        longest = longest.max(*run);
    }
    longest
}

/// Reads delta-encoded integers, at most so many, and gives the place after them.
///
/// Nothing where there are more, where they are cut off, or where the decoder would refuse them.
pub(super) fn deltas(bytes: &[u8], count_max: usize, each: &mut dyn FnMut(i32)) -> Option<usize> {
    let mut cursor = Cursor { bytes, at: 0 };
    let block = usize::try_from(cursor.unsigned()?).ok()?;
    let parts = usize::try_from(cursor.unsigned()?).ok().filter(|&parts| 0 < parts)?;
    let mut left = usize::try_from(cursor.unsigned()?).ok().filter(|&left| left <= count_max)?;
    let mut last = i32::try_from(cursor.signed()?).ok()?;
    let per_part = block.checked_div(parts).filter(|&it| it * parts == block)?;
    if !block.is_multiple_of(128) || !per_part.is_multiple_of(32) {
        return None;
    }
    if left == 0 {
        return Some(cursor.at);
    }
    each(last);
    left -= 1;
    while 0 < left {
        // A block of no integers would never end.
        if per_part == 0 {
            return None;
        }
        let least = i32::try_from(cursor.signed()?).ok()?;
        let widths = cursor.take(parts)?;
        for &width in widths {
            if left == 0 {
                break;
            }
            if 32 < width {
                return None;
            }
            let packed = cursor.bytes.get(cursor.at..)?;
            for index in 0..left.min(per_part) {
                let delta = bits(packed, index * usize::from(width), u32::from(width))?;
                // Lengths wrap around as the decoder's do.
                last = last.wrapping_add(least).wrapping_add((delta as u32).cast_signed());
                each(last);
                left -= 1;
            }
            cursor.at = cursor.at.checked_add(per_part / 8 * usize::from(width))?;
        }
    }
    Some(cursor.at)
}

/// The integer of so many bits at a place, lowest bit first; at most 32 bits.
fn bits(bytes: &[u8], at: usize, width: u32) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    let last = (at + width as usize - 1) / 8;
    let wanted = bytes.get(at / 8..=last)?;
    let word = wanted.iter().rev().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
    Some(word >> (at % 8) & ((1 << width) - 1))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// An integer of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)))
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_row_is_found_in_runs_and_in_bits() {
        // Three rows of one element; a run of 1 makes the last one longer by 300.
        let runs = [3 << 1, 0, 0xd8, 4, 1];
        let mut run = 0;
        assert_eq!(longest(&runs, 1, 303, &mut run), 301);
        // The next page goes on with the same row: bits 1 1 0 1 1 1 0 0.
        assert_eq!(longest(&[3, 0b0011_1011], 1, 8, &mut run), 303);
        assert_eq!(run, 1);
        // Only as many levels count as the page has.
        assert_eq!(longest(&[0xfe, 0xff, 0xff, 0xff, 0xf, 1], 1, 5, &mut 0), 5);
        assert_eq!(longest(&[], 1, 5, &mut 0), 0);
    }

    #[test]
    fn deltas_are_read_as_written_by_arrow() {
        // pyarrow's DELTA_BINARY_PACKED of 3, 5, 4, 9: deltas 2, -1, 5 above their least, -1.
        let mut bytes = vec![0x80, 1, 4, 4, 6, 1, 3, 0, 0, 0, 0b1000_0011, 0b1, 0];
        bytes.resize(bytes.len() + 9, 0);
        let mut read = Vec::new();
        assert_eq!(deltas(&bytes, 4, &mut |it| read.push(it)), Some(bytes.len()));
        assert_eq!(read, [3, 5, 4, 9]);
        assert_eq!(deltas(&bytes, 3, &mut |_| {}), None, "more than the page has");
        assert_eq!(deltas(&bytes[..11], 4, &mut |_| {}), None, "cut off");
    }

    #[test]
    fn a_false_count_is_refused_before_anything_is_reserved() {
        // 2^40 integers of no bits: the decoder would reserve four tebibytes for them.
        let bytes = [0x80, 1, 4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0, 0, 0, 0, 0, 0];
        assert_eq!(deltas(&bytes, 1000, &mut |_| {}), None);
    }
}
