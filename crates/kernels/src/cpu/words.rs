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
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// At least `used` lines, of which the first count.
    lines: Vec<Line>,
    used: usize,
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Words {
    /// At least `count` zero words, rounded up to whole lines.
    pub(crate) fn zeros(count: usize) -> Self {
        let used = count.div_ceil(LINE_WORDS);
        Self { lines: vec![Line([0; LINE_WORDS]); used], used }
    }

    /// Zero words in memory that was recycled, where there is some.
    pub(crate) fn pooled(count: usize) -> Self {
        let used = count.div_ceil(LINE_WORDS);
        Self { lines: POOL.filled(used, Line([0; LINE_WORDS])), used }
    }

    /// Words that the caller overwrites before they are read.
    pub(crate) fn unwritten(count: usize) -> Self {
        let used = count.div_ceil(LINE_WORDS);
        Self { lines: POOL.unwritten(used, Line([0; LINE_WORDS])), used }
    }

    /// Leaves the memory to the next user.
    pub(crate) fn recycle(&mut self) {
        self.used = 0;
        POOL.keep(std::mem::take(&mut self.lines));
    }

    /// Makes room for at least `count` words; what is there stays, new words are zero.
    pub(crate) fn reserve(&mut self, count: usize) {
        let lines = count.div_ceil(LINE_WORDS);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; LINE_WORDS]));
        }
        self.used = self.lines.len();
    }

    /// The words as f32, to change.
    pub(crate) fn as_f32_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines[..self.used])
    }
}

impl Deref for Words {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        bytemuck::cast_slice(&self.lines[..self.used])
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.lines[..self.used])
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
