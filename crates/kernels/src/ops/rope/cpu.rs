//! The rotation on processors: a row at a time, rows in parallel.

use rayon::prelude::*;

use super::Table;
use super::sincos::sin_cos;
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop};
use crate::{Heads, Tensor};

/// Fewer rows than this are not worth a task of their own.
const TASK_ROWS: usize = 8;

/// Turns the query and key heads, which come first in a row, backwards if `BACK`.
pub(super) fn turn<const BACK: bool>(
    cpu: Cpu,
    qkv: &mut Tensor,
    heads: Heads,
    table: &Table,
    positions: &[u32],
) {
    if table.inverse_frequencies().is_empty() {
        return;
    }
    let (dim, turned_cols) = (heads.dim, (heads.query + heads.key_value) * heads.dim);
    let magnitude = table.magnitude();
    // A tensor without columns has no chunks either.
    let cols = qkv.cols().max(1);
    let rows = qkv.as_mut_slice().par_chunks_mut(cols).zip(positions).with_min_len(TASK_ROWS);
    rows.for_each(|(qkv, &position)| {
        let (position, frequencies) = table.of_row(position);
        with_scratch(2 * frequencies.len(), |scratch| {
            let (sin, cos) = scratch.as_f32_mut().split_at_mut(frequencies.len());
            let cos = &mut cos[..frequencies.len()];
            let heads = &mut qkv[..turned_cols];
            cpu.run(Turn::<BACK> { heads, dim, frequencies, magnitude, position, sin, cos });
        });
    });
}

struct Turn<'a, const BACK: bool> {
    heads: &'a mut [f32],
    /// Columns of a head, turned or not.
    dim: usize,
    frequencies: &'a [f32],
    magnitude: f32,
    position: u32,
    sin: &'a mut [f32],
    cos: &'a mut [f32],
}

impl<const BACK: bool> Loop for Turn<'_, BACK> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { heads, dim, frequencies, magnitude, position, sin, cos } = self;
        let position = position as f32;
        for ((sin, cos), frequency) in sin.iter_mut().zip(cos.iter_mut()).zip(frequencies) {
            // The product rounds to f32 before it becomes a sine, as in transformers: at position
            // 100,000 that rounding is part of what the model was trained on.
            (*sin, *cos) = sin_cos(position * frequency);
            *sin *= magnitude;
            *cos *= magnitude;
            if BACK {
                *sin = -*sin;
            }
        }
        for head in heads.chunks_exact_mut(dim) {
            let (first, second) = head[..2 * frequencies.len()].split_at_mut(frequencies.len());
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(&*cos).zip(&*sin) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}
