//! Memory in whole cache lines, and scratch that threads keep.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use super::pool::Pool;

/// Memory of recycled words.
static POOL: Pool<Line> = Pool::new();

/// A cache line: 16 words of 32 bits, each one f32 or a pair of 16-bit floats.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
struct Line([u32; LINE_WORDS]);

/// The words of a cache line.
pub(crate) const LINE_WORDS: usize = 16;

// SAFETY: an array of integers without padding; every bit pattern, zero too, is a value.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// A slice of 32-bit words that starts at a cache line; zeros at first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Words {
    lines: Vec<Line>,
}

impl Words {
    /// At least `count` zero words, rounded up to whole lines.
    pub(crate) fn zeros(count: usize) -> Self {
        Self { lines: vec![Line([0; LINE_WORDS]); count.div_ceil(LINE_WORDS)] }
    }

    /// Zero words in memory that was recycled, where there is some.
    pub(crate) fn pooled(count: usize) -> Self {
        Self { lines: POOL.filled(count.div_ceil(LINE_WORDS), Line([0; LINE_WORDS])) }
    }

    /// Words that the caller overwrites before they are read.
    pub(crate) fn unwritten(count: usize) -> Self {
        Self { lines: POOL.unwritten(count.div_ceil(LINE_WORDS), Line([0; LINE_WORDS])) }
    }

    /// Leaves the memory to the next user.
    pub(crate) fn recycle(&mut self) {
        POOL.keep(std::mem::take(&mut self.lines));
    }

    /// Makes room for at least `count` words; what is there stays, new words are zero.
    pub(crate) fn reserve(&mut self, count: usize) {
        let lines = count.div_ceil(LINE_WORDS);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; LINE_WORDS]));
        }
    }

    /// The words as f32, to change.
    pub(crate) fn as_f32_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

impl Deref for Words {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        bytemuck::cast_slice(&self.lines)
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.lines)
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
