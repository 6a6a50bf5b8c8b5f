//! Steps and decays: what depends on a row and a head alone.

use std::ops::Range;

use rayon::prelude::*;

use super::{BAND, CHUNK, Input, Plan, Scan};
use crate::cpu::tiles::Shared;
use crate::cpu::{Cpu, Loop, exp::exp};

/// The steps of all rows and heads.
pub(super) struct Steps {
    heads: usize,
    /// `A` of each head.
    pub(super) decay: Vec<f64>,
    /// `[T, H]`.
    dt: Vec<f32>,
    /// The sum of `A dt` over the rows of a chunk up to and with each, `[T, H]`. It may be far
    /// larger than the differences that count, so it is wide.
    cum: Vec<f64>,
}

/// The steps of the rows of a chunk for one head.
pub(super) struct Column {
    /// Zero past the last row.
    pub(super) dt: [f32; CHUNK],
    /// Zero past the last row.
    pub(super) cum: [f64; CHUNK],
    /// What is left of the state before the chunk at each row.
    pub(super) from_start: [f32; CHUNK],
    /// What is left of each row at the chunk's end.
    pub(super) to_end: [f32; CHUNK],
    /// What is left of the state before the chunk at its end.
    pub(super) whole: f32,
}

impl Steps {
    pub(super) fn new(cpu: Cpu, input: Input<'_>, scan: &Scan<'_>, plan: &Plan) -> Self {
        let (heads, rows) = (scan.layout.heads, input.xbc.rows());
        let decay: Vec<f64> = scan.a_log.iter().map(|a_log| -f64::from(*a_log).exp()).collect();
        let (mut dt, mut cum) = (vec![0.0; rows * heads], vec![0.0; rows * heads]);
        let shared = Shared::new(&mut dt, heads);
        plan.chunks.par_iter().for_each(|chunk| {
            for row in chunk.clone() {
                // SAFETY: a row belongs to one chunk.
                let dt = unsafe { shared.slice(row, 0..heads) };
                cpu.run(StepRow { raw: input.dt.row(row, heads), scan, dt });
            }
        });
        for chunk in &plan.chunks {
            for row in chunk.clone() {
                let (before, now) = cum.split_at_mut(row * heads);
                let before = &before[before.len() - if row == chunk.start { 0 } else { heads }..];
                let dt = &dt[row * heads..(row + 1) * heads];
                for (head, (now, (dt, decay))) in
                    now.iter_mut().zip(dt.iter().zip(&decay)).enumerate()
                {
                    *now = before.get(head).unwrap_or(&0.0) + decay * f64::from(*dt);
                }
            }
        }
        Self { heads, decay, dt, cum }
    }

    /// The steps of a chunk's rows for one head.
    pub(super) fn column(&self, cpu: Cpu, rows: &Range<usize>, head: usize) -> Column {
        let mut column = Column {
            dt: [0.0; CHUNK],
            cum: [0.0; CHUNK],
            from_start: [0.0; CHUNK],
            to_end: [0.0; CHUNK],
            whole: 0.0,
        };
        for (i, row) in rows.clone().enumerate() {
            column.dt[i] = self.dt[row * self.heads + head];
            column.cum[i] = self.cum[row * self.heads + head];
        }
        let last = column.cum[rows.len() - 1];
        cpu.run(Ends { last, column: &mut column });
        column.to_end[rows.len()..].fill(0.0);
        column.whole = column.from_start[rows.len() - 1];
        column
    }
}

struct Ends<'a> {
    last: f64,
    column: &'a mut Column,
}

impl Loop for Ends<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Column { cum, from_start, to_end, .. } = self.column;
        for ((cum, start), end) in cum.iter().zip(from_start).zip(to_end) {
            *start = exp(*cum as f32);
            *end = exp((self.last - cum) as f32);
        }
    }
}

/// The logarithm of 1 plus `e^x`, within a few units in the last place, also where it is tiny.
#[inline(always)]
fn softplus(x: f32) -> f32 {
    // ln(1 + u) is twice the inverse hyperbolic tangent of z, which is at most 1/3.
    let u = exp(-x.abs());
    let z = u / (2.0 + u);
    let square = z * z;
    let mut sum = 1.0 / 15.0;
    sum = sum * square + 1.0 / 13.0;
    sum = sum * square + 1.0 / 11.0;
    sum = sum * square + 1.0 / 9.0;
    sum = sum * square + 1.0 / 7.0;
    sum = sum * square + 1.0 / 5.0;
    sum = sum * square + 1.0 / 3.0;
    let above = if x > 0.0 { x } else { 0.0 };
    above + (z + z) * (1.0 + sum * square)
}

/// A number held between two others; NaN stays NaN.
#[inline(always)]
fn limited(value: f32, (least, most): (f32, f32)) -> f32 {
    let value = if value < least { least } else { value };
    if most < value { most } else { value }
}

/// The steps of one row.
pub(super) struct StepRow<'a> {
    /// The raw steps.
    pub(super) raw: &'a [f32],
    pub(super) scan: &'a Scan<'a>,
    pub(super) dt: &'a mut [f32],
}

impl Loop for StepRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((dt, raw), bias) in self.dt.iter_mut().zip(self.raw).zip(self.scan.dt_bias) {
            *dt = limited(softplus(raw + bias), self.scan.limit);
        }
    }
}

/// The gradients by one row's raw steps, in place of those by its steps.
pub(super) struct StepGradient<'a> {
    /// The raw steps.
    pub(super) raw: &'a [f32],
    pub(super) scan: &'a Scan<'a>,
    pub(super) d_dt: &'a mut [f32],
}

impl Loop for StepGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((d_dt, raw), bias) in self.d_dt.iter_mut().zip(self.raw).zip(self.scan.dt_bias) {
            let (raw, limit) = (raw + bias, self.scan.limit);
            let dt = softplus(raw);
            let slope = 1.0 / (1.0 + exp(-raw));
            let passes = limit.0 <= dt && dt <= limit.1;
            *d_dt = if passes { *d_dt * slope } else { 0.0 };
        }
    }
}

/// Decays between the rows of a chunk, alone and times the scores; zeros above the diagonal.
pub(super) struct Decays<'a> {
    pub(super) rows: usize,
    pub(super) cum: &'a [f64; CHUNK],
    /// `[rows][CHUNK]`.
    pub(super) scores: &'a [f32],
    /// `[rows][CHUNK]`, written up to the end of each row's diagonal band.
    pub(super) mixed: &'a mut [f32],
    /// The decays alone, where they are wanted, as far.
    pub(super) kept: Option<&'a mut [f32]>,
}

impl Loop for Decays<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mixed = self.mixed.as_chunks_mut::<CHUNK>().0;
        let scores = self.scores.as_chunks::<CHUNK>().0;
        let mut kept = self.kept.map(|kept| kept.as_chunks_mut::<CHUNK>().0);
        for (i, (mixed, scores)) in mixed.iter_mut().zip(scores).take(self.rows).enumerate() {
            let own = self.cum[i];
            let bands = mixed.as_chunks_mut::<BAND>().0.iter_mut().take(i / BAND + 1);
            let sources = self.cum.as_chunks::<BAND>().0.iter().zip(scores.as_chunks::<BAND>().0);
            for (band, (mixed, (cum, scores))) in bands.zip(sources).enumerate() {
                let mut decays = [0.0; BAND];
                for (decay, cum) in decays.iter_mut().zip(cum) {
                    *decay = exp((own - cum) as f32);
                }
                let hidden = (i + 1).saturating_sub(band * BAND).min(BAND);
                decays[hidden..].fill(0.0);
                let mut products = *scores;
                for (product, decay) in products.iter_mut().zip(&decays) {
                    *product *= decay;
                }
                products[hidden..].fill(0.0);
                *mixed = products;
                if let Some(kept) = &mut kept {
                    kept[i].as_chunks_mut::<BAND>().0[band] = decays;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::softplus;

    #[test]
    fn softplus_is_close_to_f64() {
        let mut worst = 0.0_f64;
        for i in -8_600..=9_000 {
            let x = i as f32 * 1e-2 + 1.3e-4;
            let want = f64::from(x).exp().ln_1p();
            worst = worst.max((f64::from(softplus(x)) - want).abs() / want);
        }
        assert!(worst <= testkit::tolerance::SOFTPLUS_F32, "{worst:e}");
        assert!(softplus(f32::NAN).is_nan());
        assert_eq!(softplus(-1e30).to_bits(), 0.0_f32.to_bits());
        assert_eq!(softplus(1e30).to_bits(), 1e30_f32.to_bits());
    }
}
