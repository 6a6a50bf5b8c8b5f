//! Register tiles of 4 rows and 8 columns in plain loops, for any machine; f32 only.

use super::{PANEL, Tile};

/// The columns of a tile: two vectors of the oldest x86-64 and of NEON.
const WIDTH: usize = 8;
/// The rows of the largest tile.
const ROWS_MAX: usize = 4;

/// A whole tile of rows, 4 at a time and 8 columns at a time.
///
/// # Safety
///
/// Every read and write of `rows` rows must be inside.
pub(super) unsafe fn rows(tile: Tile, rows: usize) {
    for first in (0..tile.cols).step_by(WIDTH) {
        let mut part = Tile {
            panel: tile.panel.wrapping_add(first),
            out: tile.out.wrapping_add(first),
            cols: (tile.cols - first).min(WIDTH),
            ..tile
        };
        for _ in 0..rows / ROWS_MAX {
            // SAFETY: passed on.
            unsafe { tile_rows::<ROWS_MAX>(part) };
            part.left = part.left.wrapping_add(ROWS_MAX * part.row_stride);
            part.out = part.out.wrapping_add(ROWS_MAX * part.out_stride);
        }
        for _ in 0..rows % ROWS_MAX {
            // SAFETY: passed on.
            unsafe { tile_rows::<1>(part) };
            part.left = part.left.wrapping_add(part.row_stride);
            part.out = part.out.wrapping_add(part.out_stride);
        }
    }
}

unsafe fn tile_rows<const ROWS: usize>(tile: Tile) {
    let mut sums = [[0.0f32; WIDTH]; ROWS];
    if tile.add {
        for (row, sums) in sums.iter_mut().enumerate() {
            for (col, sum) in sums[..tile.cols].iter_mut().enumerate() {
                // SAFETY: the column of the row is inside the target.
                *sum = unsafe { tile.out.add(row * tile.out_stride + col).read() };
            }
        }
    }
    for word in 0..tile.words {
        // SAFETY: the panel has `words` lines of 32 words.
        let line: [f32; WIDTH] =
            unsafe { tile.panel.add(word * PANEL).cast::<[f32; WIDTH]>().read() };
        for (row, sums) in sums.iter_mut().enumerate() {
            let at = row * tile.row_stride + word * tile.word_stride;
            // SAFETY: the left side has `words` words in each of `ROWS` rows.
            let value = f32::from_bits(unsafe { tile.left.add(at).read() });
            for (sum, panel) in sums.iter_mut().zip(line) {
                *sum += value * panel;
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (col, sum) in sums[..tile.cols].iter().enumerate() {
            // SAFETY: the column of the row is inside the target.
            unsafe { tile.out.add(row * tile.out_stride + col).write(*sum) };
        }
    }
}
