//! Memory in whole cache lines, and scratch that threads keep.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use super::arena::{PIECE_MIN, Piece};

/// A cache line: 16 words of 32 bits, each one f32 or a pair of 16-bit floats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line([u32; LINE_WORDS]);

/// The words of a cache line.
pub(crate) const LINE_WORDS: usize = 16;

// SAFETY: an array of integers without padding; every bit pattern, zero too, is a value.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

#[cfg(test)]
impl Line {
    /// A line of the same words.
    pub(crate) fn of(word: u32) -> Self {
        Self([word; LINE_WORDS])
    }
}

/// A slice of 32-bit words that starts at a cache line.
#[derive(Debug)]
pub(crate) struct Words(Memory);

#[derive(Debug)]
enum Memory {
    /// From the system's allocator.
    Own(Vec<Line>),
    /// From the arena.
    Piece(Piece),
}

impl Default for Words {
    fn default() -> Self {
        Self(Memory::Own(Vec::new()))
    }
}

impl Clone for Words {
    fn clone(&self) -> Self {
        let mut words = Self::unwritten(self.len());
        words.copy_from_slice(self);
        words
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Words {
    /// At least `count` zero words, rounded up to whole lines; for what stays.
    pub(crate) fn zeros(count: usize) -> Self {
        Self(Memory::Own(vec![Line::default(); count.div_ceil(LINE_WORDS)]))
    }

    /// Zero words in memory that serves again and again.
    pub(crate) fn pooled(count: usize) -> Self {
        let mut words = Self::unwritten(count);
        words.fill(0);
        words
    }

    /// Words that the caller overwrites before they are read.
    pub(crate) fn unwritten(count: usize) -> Self {
        let lines = count.div_ceil(LINE_WORDS);
        if lines < PIECE_MIN { Self::zeros(count) } else { Self(Memory::Piece(Piece::new(lines))) }
    }

    /// Makes room for at least `count` words; what is there stays, new words are zero.
    pub(crate) fn reserve(&mut self, count: usize) {
        let lines = count.div_ceil(LINE_WORDS);
        if let Memory::Own(own) = &mut self.0
            && own.len() < lines
        {
            own.resize(lines, Line::default());
        }
        debug_assert!(count <= self.len(), "only words of their own grow");
    }

    /// The words as f32.
    pub(crate) fn as_f32(&self) -> &[f32] {
        bytemuck::cast_slice(self.lines())
    }

    /// The words as f32, to change.
    pub(crate) fn as_f32_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.lines_mut())
    }

    fn lines(&self) -> &[Line] {
        match &self.0 {
            Memory::Own(lines) => lines,
            Memory::Piece(piece) => piece.lines(),
        }
    }

    fn lines_mut(&mut self) -> &mut [Line] {
        match &mut self.0 {
            Memory::Own(lines) => lines,
            Memory::Piece(piece) => piece.lines_mut(),
        }
    }
}

impl Deref for Words {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        bytemuck::cast_slice(self.lines())
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(self.lines_mut())
    }
}

thread_local! {
    static SCRATCH: Cell<Vec<Words>> = const { Cell::new(Vec::new()) };
}

/// Calls `body` with a buffer of at least `count` words that this thread keeps for next time.
///
/// The contents are whatever the last user left. Calls may nest: each gets its own buffer, also
/// where rayon runs another task inside the body.
pub(crate) fn with_scratch<R>(count: usize, body: impl FnOnce(&mut Words) -> R) -> R {
    let mut kept = SCRATCH.take();
    let mut words = kept.pop().unwrap_or_default();
    SCRATCH.set(kept);
    words.reserve(count);
    let result = body(&mut words);
    let mut kept = SCRATCH.take();
    kept.push(words);
    SCRATCH.set(kept);
    result
}
