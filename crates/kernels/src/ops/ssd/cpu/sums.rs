//! The loops between the products of a chunk's gradients.

use std::ops::Range;

use super::lines::scaled;
use super::shared::added;
use super::steps::Column;
use super::{BAND, CHUNK, Part};
use crate::cpu::gemm::PANEL;
use crate::cpu::{Loop, lanes};

/// The gradient by decays: what passes from before a row to it or further, times its gradient.
pub(super) struct Passed {
    /// From earlier rows of the chunk to this and later ones.
    pub(super) pairs: [f32; CHUNK],
    /// From the state before the chunk to each row.
    pub(super) read: [f32; CHUNK],
    /// From each row to the state after the chunk.
    pub(super) left: [f32; CHUNK],
    /// From the state before to the state after.
    pub(super) whole: f32,
}

impl Default for Passed {
    fn default() -> Self {
        let zeros = [0.0; CHUNK];
        Self { pairs: zeros, read: zeros, left: zeros, whole: 0.0 }
    }
}

/// Sums of pairs of rows: for each row, over all earlier rows and over it and all later ones.
pub(super) struct Pairs<'a> {
    pub(super) rows: usize,
    pub(super) mixed: &'a [f32],
    pub(super) products: &'a [f32],
    pub(super) passed: &'a mut [f32; CHUNK],
}

impl Loop for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // Of each earlier row, the sum over the rows from here on.
        let mut sums = [0.0; CHUNK];
        let rows = self.mixed.as_chunks::<CHUNK>().0.iter().zip(self.products.as_chunks().0);
        for (i, (mixed, products)) in rows.take(self.rows).enumerate().rev() {
            let products: &[f32; CHUNK] = products;
            // Products above the diagonal band were never made.
            for band in 0..=i / BAND {
                let of = band * BAND..(band + 1) * BAND;
                let (mixed, products) = (&mixed[of.clone()], &products[of.clone()]);
                for ((sum, mixed), product) in sums[of].iter_mut().zip(mixed).zip(products) {
                    *sum += mixed * product;
                }
            }
            // What ends at this row has not passed it.
            sums[i..].fill(0.0);
            self.passed[i] = lanes::sum(&sums);
        }
    }
}

/// Hands on a band of a gradient through a state.
pub(super) struct Through<'a> {
    /// `[N][32]`.
    pub(super) band: &'a [f32],
    /// `[N][32]`: `C` of the rows, turned.
    pub(super) c: &'a [f32],
    pub(super) is_first: bool,
    /// Lines `CHUNK` apart.
    pub(super) out: &'a mut [f32],
    /// Where the products with `C` go.
    pub(super) read: Option<&'a mut [f32; PANEL]>,
}

impl Loop for Through<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let band = self.band.as_chunks::<PANEL>().0;
        for (out, band) in self.out.chunks_mut(CHUNK).zip(band) {
            if let Some(out) = out.first_chunk_mut::<PANEL>() {
                *out = if self.is_first { *band } else { added(*out, band) };
            }
        }
        if let Some(read) = self.read {
            let mut sums = [0.0; PANEL];
            for (c, band) in self.c.as_chunks::<PANEL>().0.iter().zip(band) {
                for ((sum, c), value) in sums.iter_mut().zip(c).zip(band) {
                    *sum += c * value;
                }
            }
            *read = sums;
        }
    }
}

pub(super) struct Dot<'a>(pub(super) &'a [f32], pub(super) &'a [f32]);

impl Loop for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        lanes::dot(self.0, self.1)
    }
}

/// What rows leave in the state after a chunk: scales it, and multiplies it with them.
pub(super) struct Leaving<'a> {
    pub(super) x: Part<'a>,
    pub(super) rows: Range<usize>,
    pub(super) column: &'a Column,
    /// `[CHUNK][P rounded up]`.
    pub(super) d_values: &'a mut [f32],
    pub(super) left: &'a mut [f32; CHUNK],
}

impl Loop for Leaving<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = self.d_values.len() / CHUNK;
        let d_values = self.d_values.chunks_exact_mut(width);
        for (i, (row, values)) in self.rows.zip(d_values).enumerate() {
            let scale = self.column.to_end[i];
            for line in values.as_chunks_mut::<PANEL>().0 {
                *line = scaled(*line, scale);
            }
            let x = self.x.row(row);
            self.left[i] = self.column.dt[i] * lanes::dot(x, &values[..x.len()]);
        }
    }
}

/// Products of slopes and values times decays, on and below the diagonal bands.
pub(super) struct ByScores<'a> {
    pub(super) rows: usize,
    pub(super) is_first: bool,
    pub(super) kept: &'a [f32],
    pub(super) products: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl Loop for ByScores<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let bands = |values: &'_ [f32; CHUNK], band: usize| values.as_chunks::<BAND>().0[band];
        let out = self.out.as_chunks_mut::<CHUNK>().0.iter_mut().take(self.rows);
        let from = self.kept.as_chunks::<CHUNK>().0.iter().zip(self.products.as_chunks().0);
        for (i, (out, (kept, products))) in out.zip(from).enumerate() {
            for band in 0..=i / BAND {
                let mut values = bands(kept, band);
                for (value, product) in values.iter_mut().zip(bands(products, band)) {
                    *value *= product;
                }
                let out = &mut out.as_chunks_mut::<BAND>().0[band];
                *out = if self.is_first { values } else { added(*out, &values) };
            }
        }
    }
}

/// The gradient by `x` of one row, and its products `x dy` and `x d_value`.
pub(super) struct Row<'a> {
    pub(super) dy: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) d_value: &'a [f32],
    /// The step, and what passes by the state.
    pub(super) scales: (f32, f32),
    pub(super) dx: &'a mut [f32],
}

impl Loop for Row<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn run(self) -> [f32; 2] {
        let (dt, d) = self.scales;
        for ((dx, dy), d_value) in self.dx.iter_mut().zip(self.dy).zip(self.d_value) {
            *dx = dt * d_value + d * dy;
        }
        [lanes::dot(self.x, self.dy), lanes::dot(self.x, self.d_value)]
    }
}
