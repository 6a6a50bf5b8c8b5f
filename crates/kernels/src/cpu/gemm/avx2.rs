//! Register tiles of up to 6 rows and 16 columns in 256-bit vectors; f32 only.

use std::arch::x86_64::{
    __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::{PANEL, Tile};

/// The columns of a vector.
const LANES: usize = 8;
/// The columns of a tile: half a panel.
const WIDTH: usize = 2 * LANES;
/// The rows of the largest tile.
const ROWS_MAX: usize = 6;

/// A whole tile of rows, 6 at a time and half a panel at a time.
///
/// # Safety
///
/// Every read and write of `rows` rows must be inside; AVX2 and FMA must be present.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn rows(tile: Tile, rows: usize) {
    for half in 0..PANEL / WIDTH {
        let Some(cols) = tile.cols.checked_sub(half * WIDTH).filter(|cols| *cols > 0) else {
            return;
        };
        let mut part = Tile {
            panel: tile.panel.wrapping_add(half * WIDTH),
            out: tile.out.wrapping_add(half * WIDTH),
            cols: cols.min(WIDTH),
            ..tile
        };
        for _ in 0..rows / ROWS_MAX {
            // SAFETY: passed on.
            unsafe { tile_rows::<ROWS_MAX>(part) };
            part.left = part.left.wrapping_add(ROWS_MAX * part.row_stride);
            part.out = part.out.wrapping_add(ROWS_MAX * part.out_stride);
        }
        // SAFETY: passed on.
        unsafe {
            match rows % ROWS_MAX {
                1 => tile_rows::<1>(part),
                2 => tile_rows::<2>(part),
                3 => tile_rows::<3>(part),
                4 => tile_rows::<4>(part),
                5 => tile_rows::<5>(part),
                _ => {}
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_rows<const ROWS: usize>(tile: Tile) {
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    if tile.add {
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the row's columns are inside the target.
            *sums = unsafe { load(tile.out.wrapping_add(row * tile.out_stride), tile.cols) };
        }
    }
    let (mut panel, mut left) = (tile.panel, tile.left);
    for _ in 0..tile.words {
        // SAFETY: the panel has `words` lines of 32 words, the left side `words` words a row.
        unsafe {
            let low = _mm256_loadu_ps(panel.cast());
            let high = _mm256_loadu_ps(panel.cast::<f32>().add(LANES));
            for (row, sums) in sums.iter_mut().enumerate() {
                let word = _mm256_set1_ps(left.add(row * tile.row_stride).cast::<f32>().read());
                sums[0] = _mm256_fmadd_ps(word, low, sums[0]);
                sums[1] = _mm256_fmadd_ps(word, high, sums[1]);
            }
        }
        panel = panel.wrapping_add(PANEL);
        left = left.wrapping_add(tile.word_stride);
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: the row's columns are inside the target.
        unsafe { store(tile.out.wrapping_add(row * tile.out_stride), tile.cols, *sums) };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(at: *const f32, cols: usize) -> [__m256; 2] {
    // SAFETY: only the first `cols` columns are read.
    unsafe {
        if cols == WIDTH {
            return [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(LANES))];
        }
        let mut values = [0.0; WIDTH];
        std::ptr::copy_nonoverlapping(at, values.as_mut_ptr(), cols);
        [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(LANES))]
    }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(at: *mut f32, cols: usize, sums: [__m256; 2]) {
    // SAFETY: only the first `cols` columns are written.
    unsafe {
        if cols == WIDTH {
            _mm256_storeu_ps(at, sums[0]);
            _mm256_storeu_ps(at.add(LANES), sums[1]);
        } else {
            let mut values = [0.0; WIDTH];
            _mm256_storeu_ps(values.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(LANES), sums[1]);
            std::ptr::copy_nonoverlapping(values.as_ptr(), at, cols);
        }
    }
}
