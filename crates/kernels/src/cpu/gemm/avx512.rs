//! Register tiles of up to 12 rows and 32 columns in 512-bit vectors.

use std::arch::x86_64::{
    __m512, __m512bh, __mmask16, _mm512_castsi512_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::{PANEL, TILE_ROWS, Tile};

/// The columns of a vector.
const LANES: usize = 16;

macro_rules! tiles {
    ($features:literal, $rows:ident, $tile:ident, $step:ident) => {
        /// A whole tile of rows, 12 at a time; the rest in a smaller tile of the same chains.
        ///
        /// # Safety
        ///
        /// Every read and write of `rows` rows must be inside; the features must be present.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $rows(mut tile: Tile, rows: usize) {
            for _ in 0..rows / TILE_ROWS {
                // SAFETY: passed on.
                unsafe {
                    $tile::<TILE_ROWS>(tile);
                    tile.left = tile.left.add(TILE_ROWS * tile.row_stride);
                    tile.out = tile.out.wrapping_add(TILE_ROWS * tile.out_stride);
                }
            }
            // SAFETY: passed on.
            unsafe {
                match rows % TILE_ROWS {
                    1 => $tile::<1>(tile),
                    2 => $tile::<2>(tile),
                    3 => $tile::<3>(tile),
                    4 => $tile::<4>(tile),
                    5 => $tile::<5>(tile),
                    6 => $tile::<6>(tile),
                    7 => $tile::<7>(tile),
                    8 => $tile::<8>(tile),
                    9 => $tile::<9>(tile),
                    10 => $tile::<10>(tile),
                    11 => $tile::<11>(tile),
                    _ => {}
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $tile<const ROWS: usize>(tile: Tile) {
            let masks = column_masks(tile.cols);
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            if tile.add {
                // SAFETY: the rows and the masked columns are inside the target.
                sums = unsafe { load(tile, masks) };
            }
            let (mut panel, mut left) = (tile.panel, tile.left);
            for _ in 0..tile.words {
                // SAFETY: the panel has `words` lines of 32 words, and the left side `words`
                // words in each of `ROWS` rows.
                unsafe {
                    let low = _mm512_loadu_ps(panel.cast());
                    let high = _mm512_loadu_ps(panel.cast::<f32>().add(LANES));
                    for row in 0..ROWS {
                        let word = left.add(row * tile.row_stride).cast::<i32>().read_unaligned();
                        let word = _mm512_castsi512_ps(_mm512_set1_epi32(word));
                        sums[row][0] = $step(word, low, sums[row][0]);
                        sums[row][1] = $step(word, high, sums[row][1]);
                    }
                }
                panel = panel.wrapping_add(PANEL);
                left = left.wrapping_add(tile.word_stride);
            }
            // SAFETY: the rows and the masked columns are inside the target.
            unsafe { store(tile, masks, sums) };
        }
    };
}

tiles!("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", rows_bf16, tile_bf16, step_bf16);
tiles!("avx512f,avx512bw,avx512dq,avx512vl", rows_f32, tile_f32, step_f32);

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn step_bf16(left: __m512, panel: __m512, sum: __m512) -> __m512 {
    // SAFETY: the same 512 bits under another name.
    let (left, panel) = unsafe {
        (
            std::mem::transmute::<__m512, __m512bh>(left),
            std::mem::transmute::<__m512, __m512bh>(panel),
        )
    };
    _mm512_dpbf16_ps(sum, left, panel)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn step_f32(left: __m512, panel: __m512, sum: __m512) -> __m512 {
    _mm512_fmadd_ps(left, panel, sum)
}

/// The columns that exist, of each half of a panel.
fn column_masks(cols: usize) -> [__mmask16; 2] {
    let all = u32::MAX.checked_shr((PANEL - cols) as u32).unwrap_or(0);
    [all as u16, (all >> LANES) as u16]
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load<const ROWS: usize>(tile: Tile, masks: [__mmask16; 2]) -> [[__m512; 2]; ROWS] {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        for (half, sum) in sums.iter_mut().enumerate() {
            let at = tile.out.wrapping_add(row * tile.out_stride + half * LANES);
            // SAFETY: masked columns are not read; the caller vouches for the others.
            *sum = unsafe { _mm512_maskz_loadu_ps(masks[half], at) };
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const ROWS: usize>(tile: Tile, masks: [__mmask16; 2], sums: [[__m512; 2]; ROWS]) {
    for (row, sums) in sums.iter().enumerate() {
        for (half, sum) in sums.iter().enumerate() {
            let at = tile.out.wrapping_add(row * tile.out_stride + half * LANES);
            // SAFETY: masked columns are not written; the caller vouches for the others.
            unsafe {
                // Masked stores are slow on Zen 4, so whole vectors take the plain one.
                if masks[half] == __mmask16::MAX {
                    _mm512_storeu_ps(at, *sum);
                } else {
                    _mm512_mask_storeu_ps(at, masks[half], *sum);
                }
            }
        }
    }
}
