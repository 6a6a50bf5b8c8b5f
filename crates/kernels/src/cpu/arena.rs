//! Memory of large buffers: regions from which pieces are cut, and in which they grow together again.
//!
//! A pass makes and drops many buffers, of sizes that differ from micro-batch to micro-batch. The
//! system's allocator would map and unmap the large ones, a page fault each 4 KiB, or leave holes
//! between those that stay and those that go. Here a piece comes from the lowest place that it fits
//! into, so what lives long lies together and what lives short takes turns above it.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::words::Line;

/// The least lines of a piece; smaller buffers are left to the system's allocator.
pub(crate) const PIECE_MIN: usize = (16 << 10) / size_of::<Line>();

/// The lines of a region, unless a piece needs more. The system gives memory page by page when it is
/// first written, so what is never used costs nothing.
const REGION: usize = (64 << 20) / size_of::<Line>();

static ARENA: Mutex<Arena> = Mutex::new(Arena { regions: Vec::new() });

/// Regions, in the order in which they were added; none is ever given back.
struct Arena {
    regions: Vec<Region>,
}

struct Region {
    start: NonNull<Line>,
    /// Free lines: where they begin, and how many there are; no two of them touch.
    free: BTreeMap<usize, usize>,
}

// SAFETY: the pointer is to memory that is never freed, and used through pieces alone.
unsafe impl Send for Region {}

/// Lines that belong to their holder until it is dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    start: NonNull<Line>,
    count: usize,
    region: usize,
    /// The first line in the region.
    first: usize,
}

// SAFETY: a piece is the only owner of its lines, which are plain numbers.
unsafe impl Send for Piece {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Piece {}

impl Piece {
    /// A piece of `count` lines, with what the last user left, or zeros.
    pub(crate) fn new(count: usize) -> Self {
        lock().take(count)
    }

    pub(crate) fn lines(&self) -> &[Line] {
        // SAFETY: the lines are inside a region, initialized, and this piece's alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    pub(crate) fn lines_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        lock().regions[self.region].give_back(self.first, self.count);
    }
}

fn lock() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    fn take(&mut self, count: usize) -> Piece {
        for (index, region) in self.regions.iter_mut().enumerate() {
            if let Some(first) = region.cut(count) {
                return self.piece(index, first, count);
            }
        }
        let lines = count.max(REGION);
        let rest = (count < lines).then_some((count, lines - count));
        self.regions.push(Region { start: zeros(lines), free: rest.into_iter().collect() });
        self.piece(self.regions.len() - 1, 0, count)
    }

    fn piece(&self, region: usize, first: usize, count: usize) -> Piece {
        // SAFETY: the lines were cut out of the region, so they lie inside it.
        let start = unsafe { self.regions[region].start.add(first) };
        Piece { start, count, region, first }
    }
}

impl Region {
    /// Takes lines from the lowest place that has enough of them.
    fn cut(&mut self, count: usize) -> Option<usize> {
        let (&first, &length) = self.free.iter().find(|(_, length)| count <= **length)?;
        self.free.remove(&first);
        if count < length {
            self.free.insert(first + count, length - count);
        }
        Some(first)
    }

    fn give_back(&mut self, first: usize, count: usize) {
        let (mut first, mut length) = (first, count);
        if let Some(after) = self.free.remove(&(first + count)) {
            length += after;
        }
        if let Some((&before, &lines)) = self.free.range(..first).next_back()
            && before + lines == first
        {
            first = before;
            length += lines;
        }
        self.free.insert(first, length);
    }
}

/// Zero lines that are never freed.
fn zeros(lines: usize) -> NonNull<Line> {
    let Ok(layout) = Layout::array::<Line>(lines) else {
        handle_alloc_error(Layout::new::<Line>());
    };
    // SAFETY: a region has lines, and a line has a size.
    let start = unsafe { alloc_zeroed(layout) };
    NonNull::new(start.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(arena: &Arena) -> Vec<Vec<(usize, usize)>> {
        let of = |region: &Region| region.free.iter().map(|(a, b)| (*a, *b)).collect();
        arena.regions.iter().map(of).collect()
    }

    #[test]
    fn pieces_come_from_the_lowest_place_and_grow_together() {
        let mut arena = Arena { regions: Vec::new() };
        let pieces = [10, 20, 30].map(|count| std::mem::ManuallyDrop::new(arena.take(count)));
        assert_eq!(pieces.each_ref().map(|piece| piece.first), [0, 10, 30]);
        assert_eq!(free(&arena), [[(60, REGION - 60)]]);
        arena.regions[0].give_back(0, 10);
        assert_eq!(free(&arena), [[(0, 10), (60, REGION - 60)]]);
        let low = std::mem::ManuallyDrop::new(arena.take(4));
        let high = std::mem::ManuallyDrop::new(arena.take(7));
        assert_eq!((low.first, high.first), (0, 60));
        arena.regions[0].give_back(30, 30);
        assert_eq!(free(&arena), [[(4, 6), (30, 30), (67, REGION - 67)]]);
        arena.regions[0].give_back(10, 20);
        assert_eq!(free(&arena), [[(4, 56), (67, REGION - 67)]]);
        arena.regions[0].give_back(60, 7);
        arena.regions[0].give_back(0, 4);
        assert_eq!(free(&arena), [[(0, REGION)]], "as at first");
    }

    #[test]
    fn what_fits_nowhere_gets_a_region_of_its_own() {
        let mut arena = Arena { regions: Vec::new() };
        let all = std::mem::ManuallyDrop::new(arena.take(REGION));
        let more = std::mem::ManuallyDrop::new(arena.take(REGION + 1));
        assert_eq!((all.region, more.region), (0, 1));
        assert_eq!(free(&arena), [[], []] as [[(usize, usize); 0]; 2]);
        assert!(more.lines().iter().all(|line| *line == Line::default()));
    }

    #[test]
    fn threads_never_share_a_line() {
        std::thread::scope(|scope| {
            for mark in 1..5_u32 {
                scope.spawn(move || {
                    for round in 0..200 {
                        let mut pieces =
                            [PIECE_MIN, PIECE_MIN + round, 3 * PIECE_MIN].map(Piece::new);
                        for piece in &mut pieces {
                            piece.lines_mut().fill(Line::of(mark));
                        }
                        let is_mine =
                            |piece: &Piece| piece.lines().iter().all(|it| *it == Line::of(mark));
                        assert!(pieces.iter().all(is_mine), "lines of thread {mark}");
                    }
                });
            }
        });
    }
}
