//! The gradient of a trained head: 32 tokens at a time over all rows.

use rayon::prelude::*;

use super::super::{Head, Scored};
use super::Times;
use super::bend::{Bend, Slopes};
use crate::cpu::exp::exp;
use crate::cpu::gemm::{Left, Mode, Out, PANEL, panel_count, panel_words, product};
use crate::cpu::pack::{operand_as_lines, transpose_words};
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop};

/// Adds the gradient by the weight.
pub(in super::super) fn backward_weight(
    cpu: Cpu,
    head: Head<'_>,
    scored: Scored<'_>,
    d_weight: &mut [f32],
) {
    let hidden = scored.hidden;
    let (rows, width) = (hidden.rows(), hidden.cols());
    if rows == 0 || width == 0 {
        return;
    }
    let element = hidden.element();
    let across_words = panel_words(element.words(width));
    let down_words = panel_words(element.words(rows));
    let (across_total, down_total) =
        (across_words * panel_count(rows), down_words * panel_count(width));
    with_scratch(across_total + down_total, |packed| {
        let (across, rest) = packed.split_at_mut(across_total);
        let down = &mut rest[..down_total];
        across.par_chunks_exact_mut(across_words).enumerate().for_each(|(index, panel)| {
            rows_as_columns(cpu, scored, index * PANEL, panel);
        });
        down.par_chunks_exact_mut(down_words).enumerate().for_each(|(index, panel)| {
            let words = |row: usize| hidden.row_words(row);
            operand_as_lines((cpu, element), 0..rows, index * PANEL, words, panel);
        });
        let pass = Pass { cpu, head, scored, across, down };
        d_weight.par_chunks_mut(PANEL * width).enumerate().for_each(|(panel, d_weight)| {
            pass.panel(panel, d_weight);
        });
    });
}

/// Packs 32 rows of the hidden states as the columns of a panel.
fn rows_as_columns(cpu: Cpu, scored: Scored<'_>, first: usize, panel: &mut [u32]) {
    let hidden = scored.hidden;
    let words = hidden.element().words(hidden.cols());
    with_scratch(words * PANEL, |scratch| {
        let scratch = &mut scratch[..words * PANEL];
        for (row, out) in (first..).zip(scratch.chunks_exact_mut(words)) {
            if row < hidden.rows() {
                out.copy_from_slice(&hidden.row_words(row)[..words]);
            } else {
                out.fill(0);
            }
        }
        transpose_words(cpu, scratch, words, panel);
    });
}

struct Pass<'a> {
    cpu: Cpu,
    head: Head<'a>,
    scored: Scored<'a>,
    /// Rows as columns, `[T / 32][words(d)][32]`.
    across: &'a [u32],
    /// Rows as lines, `[d / 32][words(T)][32]`.
    down: &'a [u32],
}

impl Pass<'_> {
    /// The gradient of 32 tokens: logits with tokens down and rows across, factors, then the
    /// product with the rows.
    fn panel(&self, panel: usize, d_weight: &mut [f32]) {
        let hidden = self.scored.hidden;
        let (rows, width) = (hidden.rows(), hidden.cols());
        let kind = (self.cpu, hidden.element());
        let tokens = d_weight.len() / width;
        let row_words = kind.1.words(rows.next_multiple_of(PANEL));
        with_scratch(PANEL * row_words + PANEL * PANEL, |scratch| {
            let (factors, logits) = scratch.split_at_mut(PANEL * row_words);
            let logits: &mut [f32] = bytemuck::cast_slice_mut(&mut logits[..PANEL * PANEL]);
            self.head.weight.with_panel(kind, panel, |weight| {
                let words = kind.1.words(width);
                let left = Left::of_panel(weight, tokens, words);
                for (index, across) in self.across.chunks_exact(words * PANEL).enumerate() {
                    let mut out = Out::new(logits, PANEL, PANEL);
                    product(kind, left, across, &mut out, Mode::Replace);
                    let at = kind.1.words(index * PANEL);
                    self.factors((panel, index), logits, (&mut factors[at..], row_words));
                }
            });
            let left = Left::new(factors, tokens, kind.1.words(rows)).with_strides(row_words, 1);
            let down = self.down.chunks_exact(panel_words(kind.1.words(rows)));
            for (first, down) in (0..width).step_by(PANEL).zip(down) {
                let cols = PANEL.min(width - first);
                let mut out = Out::new(&mut d_weight[first..], width, cols);
                product(kind, left, down, &mut out, Mode::Add);
            }
        });
    }

    /// From logits `[tokens, 32 rows]` to words of `coefficient (1[v = y] - p)`.
    fn factors(
        &self,
        (panel, block): (usize, usize),
        logits: &mut [f32],
        (words, stride): (&mut [u32], usize),
    ) {
        let scored = self.scored;
        let first = block * PANEL;
        let rows = first..scored.targets.len().min(first + PANEL);
        let (mut lse, mut coefficients) = ([0.0; PANEL], [0.0; PANEL]);
        lse[..rows.len()].copy_from_slice(&scored.lse[rows.clone()]);
        coefficients[..rows.len()].copy_from_slice(&scored.coefficients[rows.clone()]);
        let cap_slopes = self.head.logits.softcap.map_or(0, |_| logits.len());
        let mut slopes = [0.0; PANEL * PANEL];
        let slopes = &mut slopes[..cap_slopes];
        self.cpu.run(Bend { values: logits, logits: self.head.logits });
        self.cpu.run(Slopes::of(logits, self.head.logits, slopes));
        for coefficient in &mut coefficients {
            *coefficient *= self.head.logits.scale;
        }
        self.cpu.run(Factors { logits, lse: &lse, coefficients: &coefficients });
        for (column, row) in rows.enumerate() {
            let place = (scored.targets[row] as usize).checked_sub(panel * PANEL);
            if let Some(place) = place.filter(|place| *place < PANEL) {
                logits[place * PANEL + column] += coefficients[column];
            }
        }
        self.cpu.run(Times { values: logits, by: slopes });
        let rounding = scored.hidden.rounding();
        let count = rounding.element().words(PANEL);
        for (values, words) in logits.chunks_exact(PANEL).zip(words.chunks_mut(stride)) {
            rounding.write(self.cpu, values, &mut words[..count]);
        }
    }
}

/// Replaces each logit by `-coefficient * exp(z - lse)`.
struct Factors<'a> {
    logits: &'a mut [f32],
    /// Of each column; slices, so that the compiler does not take the lines apart by columns.
    lse: &'a [f32],
    coefficients: &'a [f32],
}

impl Loop for Factors<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for line in self.logits.chunks_exact_mut(self.lse.len()) {
            for ((logit, lse), coefficient) in line.iter_mut().zip(self.lse).zip(self.coefficients)
            {
                *logit = -coefficient * exp(*logit - lse);
            }
        }
    }
}
