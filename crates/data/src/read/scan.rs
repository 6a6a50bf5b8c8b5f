//! A scanner that finds where JSON values begin and end in a stream, without holding the stream.
//!
//! It counts lines and brackets and steps over strings; whether a value is well formed is for the
//! parser that gets its bytes.

use std::io::{self, BufRead};

use super::ROW_BYTES_MAX;

/// Why a value has no end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Reading failed.
    Io(io::Error),
    /// The file ends inside a value.
    End,
    /// The value is larger than [`ROW_BYTES_MAX`].
    TooLong,
    /// A byte that cannot be where it is.
    Byte(u8),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A byte stream with a line counter.
#[derive(Debug)]
pub(super) struct Scanner<R> {
    input: R,
    /// The line of the next byte, from 1.
    pub(super) line: u64,
}

impl<R: BufRead> Scanner<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 1 }
    }

    /// Steps over a byte order mark, where there is one.
    pub(super) fn skip_mark(&mut self) -> io::Result<()> {
        if self.input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.input.consume(3);
        }
        Ok(())
    }

    /// The next byte that is no white space, not yet consumed; nothing at the end.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let blank = chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.line += newlines(&chunk[..blank]);
            let next = chunk.get(blank).copied();
            self.input.consume(blank);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Consumes the byte that [`Self::peek`] showed.
    pub(super) fn bump(&mut self) {
        self.input.consume(1);
    }

    /// Consumes white space and then this byte.
    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        match self.peek()? {
            Some(byte) if byte == wanted => {
                self.bump();
                Ok(())
            }
            Some(byte) => Err(Stop::Byte(byte)),
            None => Err(Stop::End),
        }
    }

    /// Consumes one value; its bytes are appended to `keep`, where that is given.
    pub(super) fn value(&mut self, mut keep: Option<&mut Vec<u8>>) -> Result<(), Stop> {
        match self.peek()? {
            None => return Err(Stop::End),
            Some(byte @ (b',' | b']' | b'}' | b':')) => return Err(Stop::Byte(byte)),
            Some(_) => {}
        }
        let mut place = Place::default();
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return if place.scalar || place.finished { Ok(()) } else { Err(Stop::End) };
            }
            let end = chunk.iter().position(|&byte| place.ends_before(byte));
            let taken = end.unwrap_or(chunk.len());
            if let Some(keep) = keep.as_deref_mut() {
                if ROW_BYTES_MAX < keep.len() + taken {
                    return Err(Stop::TooLong);
                }
                keep.extend_from_slice(&chunk[..taken]);
            }
            self.line += newlines(&chunk[..taken]);
            self.input.consume(taken);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

/// Where in a value the scanner stands.
#[derive(Default)]
struct Place {
    depth: u64,
    started: bool,
    finished: bool,
    string: Quote,
    scalar: bool,
}

/// Whether the scanner stands in a string.
#[derive(Default, PartialEq)]
enum Quote {
    #[default]
    Outside,
    Inside,
    Escaped,
}

impl Place {
    /// Moves over one byte; true where the value ended before it.
    fn ends_before(&mut self, byte: u8) -> bool {
        if self.finished {
            return true;
        }
        match self.string {
            Quote::Escaped => self.string = Quote::Inside,
            Quote::Inside => match byte {
                b'\\' => self.string = Quote::Escaped,
                b'"' => {
                    self.string = Quote::Outside;
                    self.finished = self.depth == 0;
                }
                _ => {}
            },
            Quote::Outside => return self.outside(byte),
        }
        false
    }

    fn outside(&mut self, byte: u8) -> bool {
        match byte {
            b'"' if !self.scalar => self.string = Quote::Inside,
            b'{' | b'[' if !self.scalar => self.depth += 1,
            b'}' | b']' if self.depth != 0 => {
                self.depth -= 1;
                self.finished = self.depth == 0;
            }
            _ if self.depth != 0 => {}
            b',' | b'}' | b']' | b':' => return true,
            _ if byte.is_ascii_whitespace() => return self.started,
            _ => self.scalar = true,
        }
        self.started = true;
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn values_end_where_they_end_at_every_buffer_size() {
        let text = "\n {\"a\": \"}\\\"]\", \"b\": [1, {}]} \n12 true\"x\"[] ,";
        for size in 1..text.len() {
            let mut scanner = Scanner::new(BufReader::with_capacity(size, text.as_bytes()));
            let mut found = Vec::new();
            for _ in 0..3 {
                let mut bytes = Vec::new();
                scanner.value(Some(&mut bytes)).unwrap();
                found.push((scanner.line, String::from_utf8(bytes).unwrap()));
            }
            // A scalar runs on to the next delimiter; its parser will complain.
            let whole = "{\"a\": \"}\\\"]\", \"b\": [1, {}]}";
            let wanted = [(2, whole), (3, "12"), (3, "true\"x\"[")];
            let found: Vec<_> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
            assert_eq!(found, wanted, "buffers of {size}");
            assert!(matches!(scanner.value(None), Err(Stop::Byte(b']'))));
        }
    }

    #[test]
    fn a_value_may_end_with_the_file() {
        for text in ["{}", "[1]", "12", "\"x\"", "true"] {
            let mut bytes = Vec::new();
            Scanner::new(text.as_bytes()).value(Some(&mut bytes)).unwrap();
            assert_eq!(bytes, text.as_bytes());
        }
    }

    #[test]
    fn a_value_that_does_not_end_says_so() {
        for text in ["", "{", "[1, 2", "\"abc", "\"abc\\\""] {
            let mut scanner = Scanner::new(text.as_bytes());
            assert!(matches!(scanner.value(None), Err(Stop::End)), "{text}");
        }
    }
}
