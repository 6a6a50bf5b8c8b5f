//! Writing disjoint parts of one array from several threads.

use std::marker::PhantomData;
use std::ops::Range;

use super::gemm::Out;

/// A row-major f32 array that threads write in disjoint tiles.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    stride: usize,
    array: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only used through `tile` and `slice`, whose callers promise that no two
// threads touch the same element.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// An array whose rows are `stride` elements apart.
    pub(crate) fn new(values: &'a mut [f32], stride: usize) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), stride, array: PhantomData }
    }

    /// The elements of the given rows and columns as the target of a product.
    ///
    /// # Safety
    ///
    /// While the result lives, nothing else may touch an element of the tile.
    pub(crate) unsafe fn tile(&self, rows: Range<usize>, cols: Range<usize>) -> Out<'a> {
        assert!(cols.end <= self.stride, "a tile lies inside its rows");
        assert!(rows.is_empty() || (rows.end - 1) * self.stride + cols.end <= self.len, "inside");
        // SAFETY: the offset is inside the array by the assertions (or the tile is empty), and the
        // caller promises that nobody else touches the elements.
        unsafe {
            let start = self.start.add((rows.start * self.stride + cols.start).min(self.len));
            Out::from_raw(start, rows.len(), self.stride, cols.len())
        }
    }

    /// A run of elements of one row.
    ///
    /// # Safety
    ///
    /// While the result lives, nothing else may touch these elements.
    pub(crate) unsafe fn slice(&self, row: usize, cols: Range<usize>) -> &'a mut [f32] {
        assert!(cols.end <= self.stride, "a slice lies inside its row");
        let start = row * self.stride + cols.start;
        assert!(start + cols.len() <= self.len, "a slice lies inside its array");
        // SAFETY: inside the array by the assertions; the caller promises that it is not aliased.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), cols.len()) }
    }
}
