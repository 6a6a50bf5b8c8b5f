//! The head on processors: tiles of the vocabulary outside, blocks of rows inside.
//!
//! A tile's transposed panels are made once and serve all rows; the rows of a block share the
//! panels in cache. Nothing is summed across rows, so blocks do not reach the bits.

mod bend;
mod sums;
mod weight;

use rayon::prelude::*;

use crate::cpu::gemm::{Left, Mode, Out, PANEL, TILE_ROWS, product};
use crate::cpu::tiles::Shared;
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop};
use crate::{Operand, Tensor};

use super::{Head, Logits};

use bend::{Bend, Slopes};
pub(super) use sums::Score;
use sums::{Others, Tile};
pub(super) use weight::backward_weight;

/// The panels of a tile of the vocabulary.
const TILE_PANELS: usize = 32;
/// The most rows of a block: logits, probabilities and gradients of a block stay in a core's cache.
const BLOCK_ROWS: usize = 4 * TILE_ROWS;
/// The blocks that few rows are cut into.
const BLOCKS: usize = 16;

/// Scores all rows, and writes the gradients of their log-probabilities where there is a place.
pub(super) fn forward(
    cpu: Cpu,
    hidden: &Operand,
    head: Head<'_>,
    targets: &[u32],
    gradient: Option<&mut Tensor>,
) -> Vec<Score> {
    let weight = head.weight;
    let (rows, width) = (hidden.rows(), hidden.cols());
    let mut others = vec![Others::new(); rows];
    let block = rows.div_ceil(BLOCKS).next_multiple_of(TILE_ROWS).clamp(TILE_ROWS, BLOCK_ROWS);
    let element = hidden.element();
    let turned_words =
        if gradient.is_some() { element.words(PANEL) * TILE_PANELS * PANEL } else { 0 };
    let mut gradient = gradient;
    with_scratch(turned_words * width.div_ceil(PANEL), |turned| {
        for first in (0..weight.panels()).step_by(TILE_PANELS) {
            let panels = first..weight.panels().min(first + TILE_PANELS);
            if gradient.is_some() {
                turned
                    .par_chunks_exact_mut(turned_words)
                    .take(width.div_ceil(PANEL))
                    .enumerate()
                    .for_each(|(index, turned)| {
                        weight.with_turned_panel((cpu, element), index, panels.clone(), |panel| {
                            turned[..panel.len()].copy_from_slice(panel);
                        });
                    });
            }
            let pass = Pass {
                cpu,
                hidden,
                head,
                targets,
                panels,
                turned: (turned, turned_words),
                gradient: gradient
                    .as_deref_mut()
                    .map(|gradient| Shared::new(gradient.as_mut_slice(), width)),
            };
            let blocks = others.par_chunks_mut(block).enumerate().with_max_len(1);
            blocks.for_each(|(index, others)| pass.block(index * block, others));
        }
    });
    let finish = Finish { cpu, head, targets };
    match gradient {
        Some(gradient) if width > 0 => {
            let rows = gradient.as_mut_slice().par_chunks_exact_mut(width);
            rows.zip(&others)
                .enumerate()
                .map(|(row, (u, others))| finish.row(row, others, Some(u)))
                .collect()
        }
        _ => others.iter().enumerate().map(|(row, others)| finish.row(row, others, None)).collect(),
    }
}

/// A tile of the vocabulary, for all rows.
struct Pass<'a> {
    cpu: Cpu,
    hidden: &'a Operand,
    head: Head<'a>,
    targets: &'a [u32],
    panels: std::ops::Range<usize>,
    /// The tile's transposed panels, and the words of each.
    turned: (&'a [u32], usize),
    /// Sums over the vocabulary so far of `exp(z - max) W`.
    gradient: Option<Shared<'a>>,
}

impl Pass<'_> {
    /// Takes the tile into the sums of the rows from `start` on.
    fn block(&self, start: usize, others: &mut [Others]) {
        let kind = (self.cpu, self.hidden.element());
        let rows = start..start + others.len();
        let left = self.hidden.left().row_range(rows.clone());
        let first = self.panels.start * PANEL;
        let cols = (self.panels.end * PANEL).min(self.head.weight.outputs()) - first;
        // An odd number of lines between rows, as in operands.
        let stride = TILE_PANELS * PANEL + 16;
        let word_stride = kind.1.words(TILE_PANELS * PANEL) + 16;
        let words = kind.1.words(cols);
        let slope_count = if self.head.logits.softcap.is_some() { cols } else { 0 };
        with_scratch(others.len() * (stride + word_stride) + slope_count, |scratch| {
            let (logits, rest) = scratch.split_at_mut(others.len() * stride);
            let (p, slopes) = rest.split_at_mut(others.len() * word_stride);
            let slopes: &mut [f32] = bytemuck::cast_slice_mut(&mut slopes[..slope_count]);
            let logits: &mut [f32] = bytemuck::cast_slice_mut(logits);
            for (index, panel) in self.panels.clone().enumerate() {
                let at = index * PANEL;
                let mut out = Out::new(&mut logits[at..], stride, PANEL.min(cols - at));
                self.head.weight.product(kind, left, panel, (&mut out, Mode::Replace));
            }
            let lines = logits.chunks_mut(stride).zip(p.chunks_mut(word_stride));
            for ((row, others), (logits, p)) in rows.clone().zip(others.iter_mut()).zip(lines) {
                let logits = &mut logits[..cols];
                self.cpu.run(Bend { values: logits, logits: self.head.logits });
                self.cpu.run(Slopes::of(logits, self.head.logits, slopes));
                let target = (self.targets[row] as usize).checked_sub(first);
                let target = target.filter(|target| *target < cols);
                let shrink = self.cpu.run(Tile { logits, target, others });
                if let Some(gradient) = &self.gradient {
                    self.cpu.run(Times { values: logits, by: slopes });
                    self.hidden.rounding().write(self.cpu, logits, &mut p[..words]);
                    if shrink.to_bits() != 1.0_f32.to_bits() {
                        // SAFETY: a row is in one block, and a block runs once for each tile.
                        let u = unsafe { gradient.slice(row, 0..self.hidden.cols()) };
                        self.cpu.run(Scale { values: u, by: shrink });
                    }
                }
            }
            let Some(gradient) = &self.gradient else { return };
            let p = Left::new(p, others.len(), words).with_strides(word_stride, 1);
            let width = self.hidden.cols();
            let (turned, turned_words) = self.turned;
            for (index, turned) in
                turned.chunks_exact(turned_words).take(width.div_ceil(PANEL)).enumerate()
            {
                let cols = index * PANEL..width.min((index + 1) * PANEL);
                // Each tile is summed from zero: small terms would be lost, one after the other, if
                // they were added to what the whole vocabulary before them came to.
                product(kind, p, turned, &mut Out::new(logits, PANEL, cols.len()), Mode::Replace);
                for (row, part) in rows.clone().zip(logits.chunks_exact(PANEL)) {
                    // SAFETY: as above.
                    let sum = unsafe { gradient.slice(row, cols.clone()) };
                    self.cpu.run(AddTo { sum, part: &part[..cols.len()] });
                }
            }
        });
    }
}

/// The end of each row: the target joins the others.
struct Finish<'a> {
    cpu: Cpu,
    head: Head<'a>,
    targets: &'a [u32],
}

impl Finish<'_> {
    fn row(&self, row: usize, others: &Others, u: Option<&mut [f32]>) -> Score {
        let (score, [own, rest]) = others.finish(self.head.weight.outputs());
        // The others' slopes are in their sum already, but for the scale.
        let logits = self.head.logits;
        let (own, rest) = (own * logits.slope(others.target()), rest * logits.scale);
        if let Some(u) = u {
            with_scratch(u.len(), |scratch| {
                let target = &mut scratch.as_f32_mut()[..u.len()];
                self.head.weight.read_row(self.targets[row] as usize, target);
                self.cpu.run(Join { u, target, own, rest });
            });
        }
        score
    }
}

/// `u = own * target - rest * u`.
struct Join<'a> {
    u: &'a mut [f32],
    target: &'a [f32],
    own: f32,
    rest: f32,
}

impl Loop for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (u, target) in self.u.iter_mut().zip(self.target) {
            *u = self.own * target - self.rest * *u;
        }
    }
}

/// `sum += part`.
struct AddTo<'a> {
    sum: &'a mut [f32],
    part: &'a [f32],
}

impl Loop for AddTo<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (sum, part) in self.sum.iter_mut().zip(self.part) {
            *sum += part;
        }
    }
}

/// Multiplies values by factors, one each; by nothing where there are none.
struct Times<'a> {
    values: &'a mut [f32],
    by: &'a [f32],
}

impl Loop for Times<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (value, by) in self.values.iter_mut().zip(self.by) {
            *value *= by;
        }
    }
}

/// Multiplies all values by one factor.
struct Scale<'a> {
    values: &'a mut [f32],
    by: f32,
}

impl Loop for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for value in self.values {
            *value *= self.by;
        }
    }
}

/// Multiplies each row by its own factor.
pub(super) fn scale_rows(cpu: Cpu, tensor: &mut Tensor, factors: &[f32]) {
    let cols = tensor.cols().max(1);
    let rows = tensor.as_mut_slice().par_chunks_exact_mut(cols).zip(factors);
    rows.for_each(|(values, &by)| cpu.run(Scale { values, by }));
}

/// Turns products into logits.
pub(super) fn bend(cpu: Cpu, products: &mut Tensor, logits: Logits) {
    let cols = products.cols().max(1);
    let rows = products.as_mut_slice().par_chunks_exact_mut(cols);
    rows.for_each(|values| cpu.run(Bend { values, logits }));
}
