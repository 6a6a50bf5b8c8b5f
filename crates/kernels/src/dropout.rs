//! Dropout as a function of what is dropped, not of an order of draws.
//!
//! Whether an element is dropped follows from a key of its row, a number of its projection and its
//! column alone: the same in the backward pass and in a pass that runs again, however rows are put
//! together, and in a run that goes on after a break.

use rayon::prelude::*;

use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop};
use crate::{Device, Operand};

/// Inverted dropout of a matrix: elements become 0 with a probability, the others grow by the
/// inverse of the rest (Srivastava et al. 2014).
#[derive(Clone, Copy, Debug)]
pub struct Dropout<'a> {
    /// A key for each row; rows with the same key lose the same columns.
    pub rows: &'a [u64],
    /// Tells the matrices apart that take the same rows.
    pub salt: u64,
    /// The share of elements that are dropped; at least 0, below 1.
    pub probability: f32,
}

impl Dropout<'_> {
    /// Drops elements of a row, in which `values` start at column `first`.
    ///
    /// # Panics
    ///
    /// If the row has no key.
    pub(crate) fn apply(&self, cpu: Cpu, row: usize, first: usize, values: &mut [f32]) {
        let key = mix(self.rows[row] ^ mix(self.salt));
        let keys = [key as u32, (key >> 32) as u32];
        let probability = self.probability;
        let scale = 1.0 / (1.0 - probability);
        cpu.run(Apply { keys, first: first as u32, probability, scale, values });
    }

    /// What each element of a row is multiplied by: 0, or `1 / (1 - probability)`.
    ///
    /// # Panics
    ///
    /// If the row has no key.
    pub fn factors(&self, device: &Device, row: usize, cols: usize) -> Vec<f32> {
        let Device::Cpu(cpu) = device;
        let mut factors = vec![1.0; cols];
        self.apply(*cpu, row, 0, &mut factors);
        factors
    }

    /// A matrix with its elements dropped, rounded as it was.
    pub(crate) fn of(&self, (device, cpu): (&Device, Cpu), x: &Operand) -> Operand {
        let (cols, rounding) = (x.cols(), x.rounding());
        let mut dropped = Operand::unwritten(device, x.precision(), x.rows(), cols);
        let words = rounding.element().words(cols);
        dropped.par_rows_mut().enumerate().for_each(|(row, out)| {
            with_scratch(cols, |scratch| {
                let values = &mut scratch.as_f32_mut()[..cols];
                x.read(row, 0, values);
                self.apply(cpu, row, 0, values);
                rounding.write(cpu, values, &mut out[..words]);
                out[words..].fill(0);
            });
        });
        dropped
    }
}

/// A number whose bits all depend on all bits of another one (Steele et al. 2014, `SplitMix64`).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

struct Apply<'a> {
    keys: [u32; 2],
    first: u32,
    probability: f32,
    scale: f32,
    values: &'a mut [f32],
}

impl Loop for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (index, value) in self.values.iter_mut().enumerate() {
            let uniform = uniform(self.keys, self.first.wrapping_add(index as u32));
            *value = if self.probability <= uniform { *value * self.scale } else { 0.0 };
        }
    }
}

/// A number in [0, 1) from a key and a column, in steps of 2^-24 (the mixing of `MurmurHash3`).
#[inline(always)]
fn uniform([one, other]: [u32; 2], column: u32) -> f32 {
    let bits = column.wrapping_mul(0x9e37_79b9) ^ one;
    let bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b).wrapping_add(other);
    let bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    // A signed number becomes a float in one instruction; 24 bits have no sign.
    ((bits ^ (bits >> 16)) >> 8).cast_signed() as f32 / 16_777_216.0
}

#[cfg(test)]
mod tests {
    use testkit::tolerance::DROPPED_SIGMAS;

    use super::*;

    fn factors(rows: &[u64], salt: u64, probability: f32) -> Vec<Vec<f32>> {
        let dropout = Dropout { rows, salt, probability };
        (0..rows.len()).map(|row| dropout.factors(&Device::cpu(), row, 1000)).collect()
    }

    /// Checks a share of so many draws.
    fn check(what: &str, share: f64, want: f64, draws: f64) {
        let limit = DROPPED_SIGMAS * 0.5 / draws.sqrt();
        assert!((share - want).abs() < limit, "{what}: {share}, not {want}");
    }

    #[test]
    fn the_share_that_is_dropped_is_the_probability() {
        let rows: Vec<u64> = (0..100).collect();
        for probability in [0.0, 0.05, 0.5, 0.9] {
            let factors = factors(&rows, 7, probability);
            let kept = 1.0 - f64::from(probability);
            let share = |of: &mut dyn Iterator<Item = &f32>| {
                let (mut stayed, mut all) = (0.0, 0.0);
                for factor in of {
                    stayed += f64::from(u8::from(0.0 < *factor));
                    all += 1.0;
                }
                (stayed / all, all)
            };
            let (all, draws) = share(&mut factors.iter().flatten());
            check("all", all, kept, draws);
            for row in &factors {
                let (of_row, draws) = share(&mut row.iter());
                check("a row", of_row, kept, draws);
            }
            for column in 0..1000 {
                let (of_column, draws) = share(&mut factors.iter().map(|row| &row[column]));
                check("a column", of_column, kept, draws);
            }
        }
    }

    #[test]
    fn what_is_kept_grows_so_that_the_mean_stays() {
        let kept = factors(&[1], 0, 0.75);
        assert!(kept[0].iter().all(|factor| *factor <= 0.0 || factor.to_bits() == 4_f32.to_bits()));
    }

    #[test]
    fn a_row_keeps_its_columns_wherever_it_lies() {
        let there = factors(&[3, 1, 4], 1, 0.3);
        let here = factors(&[4, 3], 1, 0.3);
        assert_eq!((&there[0], &there[2]), (&here[1], &here[0]));
        assert_ne!(there[0], there[1]);
        assert_ne!(factors(&[3], 2, 0.3)[0], there[0], "another matrix");
        let dropout = Dropout { rows: &[3], salt: 1, probability: 0.3 };
        let Device::Cpu(cpu) = Device::cpu();
        let mut part = vec![1.0; 500];
        dropout.apply(cpu, 0, 500, &mut part);
        assert_eq!(part, there[0][500..], "the second half alone");
    }

    #[test]
    fn neighbours_are_dropped_independently() {
        let rows: Vec<u64> = (0..200).collect();
        let factors = factors(&rows, 0, 0.5);
        let beside = factors.iter().flat_map(|row| row.windows(2)).map(|two| two[0] * two[1]);
        let below = factors.windows(2).flat_map(|two| two[0].iter().zip(&two[1]));
        for (what, products) in [
            ("beside", beside.collect::<Vec<f32>>()),
            ("below", below.map(|(a, b)| a * b).collect()),
        ] {
            let both = products.iter().filter(|product| 0.0 < **product).count() as f64;
            let draws = products.len() as f64;
            check(what, both / draws, 0.25, draws);
        }
    }

    #[test]
    fn every_instruction_set_drops_the_same() {
        let dropout = Dropout { rows: &[5, 6], salt: 9, probability: 0.4 };
        let all: Vec<_> = Device::every_cpu().iter().map(|it| dropout.factors(it, 1, 77)).collect();
        assert!(all.windows(2).all(|two| two[0] == two[1]));
    }
}
