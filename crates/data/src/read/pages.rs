//! The footer and the page headers of a Parquet file, read before the decoder reads them.
//!
//! The decoder reserves what a page header asks for. A damaged header may ask for gigabytes, so
//! that each is compared with the bytes that the page really has. And the decoder counts to the
//! end of lists that it does not know, where a list of truth values says that it has two thousand
//! million of them in no bytes; no footer and no header has such a list.

use std::io::{Read, Seek, SeekFrom};

/// Bytes that a text of a dictionary takes beside its letters, and any other value of one.
const DICTIONARY_VALUE_BYTES: (i64, i64) = (40, 12);

/// Bytes that the decoder reserves for the length of a delta-encoded text, twice.
const LENGTH_BYTES: i64 = 16;

/// The numbers of the encodings that start with a list of lengths.
const DELTA_TEXTS: [i64; 2] = [6, 7];

/// How much is read to find a header; statistics with long texts need the second.
const LOOKS: [u64; 2] = [1 << 12, 1 << 20];

/// Structs and lists within each other; a real header has two, a real footer eight.
const DEPTH_MAX: u32 = 16;

/// How a file ends, after the length of its footer.
const MAGIC: &[u8; 4] = b"PAR1";

/// What a header says of its page; -1 where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Bytes of the page unpacked.
    unpacked: i64,
    /// Bytes of the page as it lies, without the header.
    packed: i64,
    /// Values in a dictionary.
    dictionary_values: i64,
    /// Values in a page of data, and how they are encoded.
    values: i64,
    encoding: i64,
    /// Bytes of the header itself.
    bytes: u64,
}

/// Checks that the footer's lists have the elements that they claim.
///
/// A file without a footer is left to the decoder, which says so.
///
/// # Errors
///
/// A list that ends after the footer does, or one of truth values.
pub(super) fn check_footer(file: &mut (impl Read + Seek), size: u64) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut end = [0; 8];
    let Some(start) = size.checked_sub(8) else { return Ok(()) };
    file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut end)).map_err(failed)?;
    let [length @ .., _, _, _, _] = end;
    let length = u64::from(u32::from_le_bytes(length));
    let Some(start) = start.checked_sub(length).filter(|_| end.ends_with(MAGIC)) else {
        return Ok(());
    };
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(start));
    read.and_then(|_| file.take(length).read_to_end(&mut bytes)).map_err(failed)?;
    let mut cursor = Cursor { bytes: &bytes, at: 0 };
    cursor.fields(0, &mut |_, _| {}).ok_or_else(|| "its footer is damaged".to_owned())
}

/// Checks every page header in a part of a file, and gives the bytes of memory that the decoder
/// needs for them: the dictionary, and the largest page.
///
/// # Errors
///
/// A header that contradicts itself, or that is none.
pub(super) fn check(
    file: &mut (impl Read + Seek),
    start: u64,
    end: u64,
    holds_text: bool,
) -> Result<u64, String> {
    let mut at = start;
    let (mut dictionaries, mut largest) = (0_u64, 0_u64);
    while at < end {
        let header = header_at(file, at)?;
        if header.packed < 0 || header.unpacked < 0 {
            return Err(format!("the page at byte {at} has an impossible size"));
        }
        // The smallest value of a dictionary has two bytes.
        if header.unpacked / 2 < header.dictionary_values {
            return Err(format!("the dictionary at byte {at} has an impossible length"));
        }
        let cost = header.cost(holds_text);
        if header.dictionary_values < 0 {
            largest = largest.max(cost);
        } else {
            dictionaries = dictionaries.saturating_add(cost);
        }
        at = at.saturating_add(header.bytes).saturating_add(header.packed.unsigned_abs());
    }
    Ok(dictionaries.saturating_add(largest))
}

impl Header {
    /// Bytes of memory that the decoder needs for the page.
    fn cost(&self, holds_text: bool) -> u64 {
        let (text, other) = DICTIONARY_VALUE_BYTES;
        let value = if holds_text { text } else { other };
        let lengths = if DELTA_TEXTS.contains(&self.encoding) { LENGTH_BYTES } else { 0 };
        let parts = [
            self.packed,
            self.unpacked,
            self.dictionary_values.max(0).saturating_mul(value),
            self.values.max(0).saturating_mul(lengths),
        ];
        parts.into_iter().fold(0, i64::saturating_add).unsigned_abs()
    }
}

fn header_at(file: &mut (impl Read + Seek), at: u64) -> Result<Header, String> {
    for look in LOOKS {
        let mut bytes = Vec::new();
        let read =
            file.seek(SeekFrom::Start(at)).and_then(|_| file.take(look).read_to_end(&mut bytes));
        read.map_err(|error| error.to_string())?;
        if let Some(header) = parse(&bytes) {
            return Ok(header);
        }
    }
    Err(format!("there is no page at byte {at}"))
}

/// Parses Thrift's compact protocol as far as a page header needs it.
fn parse(bytes: &[u8]) -> Option<Header> {
    let mut header = Header {
        unpacked: -1,
        packed: -1,
        dictionary_values: -1,
        values: -1,
        encoding: -1,
        bytes: 0,
    };
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.fields(0, &mut |path, value| match path {
        [2] => header.unpacked = value,
        [3] => header.packed = value,
        [7, 1] => header.dictionary_values = value,
        [5 | 8, 1] => header.values = value,
        [5, 2] | [8, 4] => header.encoding = value,
        _ => {}
    })?;
    header.bytes = cursor.at as u64;
    Some(header)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(count).ok()?)?;
        self.at = (end <= self.bytes.len()).then_some(end)?;
        Some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
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

    /// Reads a struct of the header and of the structs in it; integers go to `found`, with the
    /// numbers of the fields that lead to them.
    fn fields(&mut self, depth: u32, found: &mut dyn FnMut(&[i64], i64)) -> Option<()> {
        let mut number = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            number = match head >> 4 {
                0 => self.signed()?,
                step => number + i64::from(step),
            };
            match head & 0x0f {
                4..=6 => {
                    let value = self.signed()?;
                    found(&[number], value);
                }
                12 if depth < DEPTH_MAX => {
                    self.fields(depth + 1, &mut |path, value| {
                        if let [inner] = path {
                            found(&[number, *inner], value);
                        }
                    })?;
                }
                // A truth value is part of the field's head.
                1 | 2 => {}
                kind => self.skip_value(kind, depth)?,
            }
        }
    }

    fn skip_value(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            1..=3 => self.skip(1),
            4..=6 => self.unsigned().map(|_| ()),
            7 => self.skip(8),
            8 => {
                let length = self.unsigned()?;
                self.skip(length)
            }
            9 | 10 if depth < DEPTH_MAX => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.unsigned()?,
                    count => u64::from(count),
                };
                // Each element has a byte at least, so that a false count ends with the bytes; the
                // decoder disagrees where elements are truth values.
                if 0 < count && matches!(head & 0x0f, 1 | 2) {
                    return None;
                }
                (0..count).try_for_each(|_| self.skip_value(head & 0x0f, depth + 1))
            }
            12 if depth < DEPTH_MAX => self.fields(depth + 1, &mut |_, _| {}),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor as File;

    use super::*;

    /// A header: type 0, sizes, and a dictionary of so many values.
    fn header(unpacked: u64, packed: u64, values: u64) -> Vec<u8> {
        let varint = |value: u64| {
            let mut value = value << 1;
            let mut bytes = Vec::new();
            while 0x7f < value {
                bytes.push((value as u8 & 0x7f) | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
            bytes
        };
        let mut bytes = vec![0x15, 0];
        for size in [unpacked, packed] {
            bytes.push(0x15);
            bytes.extend(varint(size));
        }
        bytes.extend([0x4c, 0x15]);
        bytes.extend(varint(values));
        bytes.extend([0x15, 0, 0x11, 0, 0]);
        bytes
    }

    #[test]
    fn a_header_is_read_to_its_end() {
        let bytes = header(1000, 300, 20);
        let wanted = Header {
            unpacked: 1000,
            packed: 300,
            dictionary_values: 20,
            values: -1,
            encoding: -1,
            bytes: bytes.len() as u64,
        };
        assert_eq!(parse(&bytes), Some(wanted));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), None);
        }
    }

    #[test]
    fn headers_say_what_their_pages_cost() {
        let page = |unpacked, packed: u64, values| {
            let mut bytes = header(unpacked, packed, values);
            bytes.resize(bytes.len() + packed as usize, 0xff);
            let end = bytes.len() as u64;
            check(&mut File::new(bytes), 0, end, true)
        };
        assert_eq!(page(1000, 300, 20), Ok(1000 + 300 + 20 * 40));
        assert_eq!(page(1 << 40, 10, 0), Ok((1 << 40) + 10));
        assert_eq!(
            page(1000, 300, 501),
            Err("the dictionary at byte 0 has an impossible length".into())
        );
        assert_eq!(
            check(&mut File::new(vec![0xff; 9]), 0, 9, true),
            Err("there is no page at byte 0".into())
        );
    }

    #[test]
    fn a_footer_whose_lists_are_longer_than_itself_is_refused() {
        let file = |footer: &[u8]| {
            let length = (footer.len() as u32).to_le_bytes();
            let bytes = [MAGIC, footer, &length, MAGIC].concat();
            let size = bytes.len() as u64;
            check_footer(&mut File::new(bytes), size)
        };
        // Field 15 is a list of three bytes; of three truth values; of 2^31 - 1 of them.
        assert_eq!(file(&[0xf9, 0x33, 1, 2, 3, 0]), Ok(()));
        for footer in [&[0xf9, 0x31, 1, 2, 3, 0][..], &[0xf9, 0xf1, 255, 255, 255, 255, 7, 0]] {
            assert_eq!(file(footer), Err("its footer is damaged".into()));
        }
        assert_eq!(file(&[0xf9, 0x33, 1, 2]), Err("its footer is damaged".into()));
        // What has no footer is for the decoder to name.
        assert_eq!(check_footer(&mut File::new(b"PAR1"), 4), Ok(()));
        assert_eq!(check_footer(&mut File::new([0xff; 12]), 12), Ok(()));
    }

    #[test]
    fn lengths_of_delta_encoded_texts_are_part_of_the_cost() {
        // A page of data: 1000 bytes unpacked, none packed; five values in encoding 6.
        let bytes = [0x15, 0, 0x15, 0xd0, 0xf, 0x15, 0, 0x2c, 0x15, 10, 0x15, 12, 0, 0];
        let end = bytes.len() as u64;
        assert_eq!(check(&mut File::new(bytes), 0, end, true), Ok(1000 + 5 * 16));
    }
}
