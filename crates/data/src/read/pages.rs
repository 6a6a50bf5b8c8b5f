//! The page headers of a Parquet column, read before the decoder reads them.
//!
//! The decoder reserves what a header asks for. A damaged header may ask for gigabytes, so that
//! each is compared with the bytes that the page really has.

use std::io::{Read, Seek, SeekFrom};

/// What a page may hold unpacked whatever its packed size, in bytes, and beyond that how many times
/// its packed size; writers close a page at one to a hundred megabytes.
const PAGE: (i64, i64) = (64 << 20, 4096);

/// The same for dictionaries, whose values the decoder spreads out in memory.
const DICTIONARY: (i64, i64) = (16 << 20, 256);

/// How much is read to find a header; statistics with long texts need the second.
const LOOKS: [u64; 2] = [1 << 12, 1 << 20];

/// Structs and lists within each other in a header; a real one has two.
const DEPTH_MAX: u32 = 8;

/// What a header says of its page; -1 where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Bytes of the page unpacked.
    unpacked: i64,
    /// Bytes of the page as it lies, without the header.
    packed: i64,
    /// Values in a dictionary.
    dictionary_values: i64,
    /// Bytes of the header itself.
    bytes: u64,
}

/// Checks every page header in a part of a file.
///
/// # Errors
///
/// A header that asks for more than its page can hold, or that is none.
pub(super) fn check(file: &mut (impl Read + Seek), start: u64, end: u64) -> Result<(), String> {
    let mut at = start;
    while at < end {
        let header = header_at(file, at)?;
        let (free, times) = if header.dictionary_values < 0 { PAGE } else { DICTIONARY };
        let most = free.max(header.packed.saturating_mul(times));
        if header.packed < 0 || header.unpacked < 0 || most < header.unpacked {
            return Err(format!("the page at byte {at} has an impossible size"));
        }
        // The smallest value of a dictionary has two bytes.
        if header.unpacked / 2 < header.dictionary_values {
            return Err(format!("the dictionary at byte {at} has an impossible length"));
        }
        at = at.saturating_add(header.bytes).saturating_add(header.packed.unsigned_abs());
    }
    Ok(())
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
    let mut header = Header { unpacked: -1, packed: -1, dictionary_values: -1, bytes: 0 };
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.fields(0, &mut |path, value| match path {
        [2] => header.unpacked = value,
        [3] => header.packed = value,
        [7, 1] => header.dictionary_values = value,
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
                // Each element has a byte at least, so that a false count ends with the bytes.
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
            bytes: bytes.len() as u64,
        };
        assert_eq!(parse(&bytes), Some(wanted));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), None);
        }
    }

    #[test]
    fn headers_that_ask_for_too_much_are_refused() {
        let page = |unpacked, packed: u64, values| {
            let mut bytes = header(unpacked, packed, values);
            bytes.resize(bytes.len() + packed as usize, 0xff);
            let end = bytes.len() as u64;
            check(&mut File::new(bytes), 0, end)
        };
        assert_eq!(page(1000, 300, 20), Ok(()));
        assert_eq!(page(16 << 20, 10, 0), Ok(()));
        assert_eq!(
            page((16 << 20) + 1, 10, 0),
            Err("the page at byte 0 has an impossible size".into())
        );
        assert_eq!(page(20 << 20, 100_000, 0), Ok(()));
        assert_eq!(
            page(1000, 300, 501),
            Err("the dictionary at byte 0 has an impossible length".into())
        );
        assert_eq!(
            check(&mut File::new(vec![0xff; 9]), 0, 9),
            Err("there is no page at byte 0".into())
        );
    }
}
