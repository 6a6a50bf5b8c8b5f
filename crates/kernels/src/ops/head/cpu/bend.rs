//! From products with the head to logits, and the slopes of that.

use super::super::Logits;
use crate::cpu::Loop;
use crate::cpu::tanh::tanh;

/// Scales values and bends them towards the cap.
pub(super) struct Bend<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) logits: Logits,
}

impl Loop for Bend<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Logits { scale, softcap } = self.logits;
        if let Some(cap) = softcap {
            for value in self.values {
                *value = cap * tanh(*value * scale / cap);
            }
        } else if scale.to_bits() != 1.0_f32.to_bits() {
            for value in self.values {
                *value *= scale;
            }
        }
    }
}

/// The slopes of the cap at capped values, without the scale.
pub(super) struct Slopes<'a> {
    values: &'a [f32],
    cap: f32,
    out: &'a mut [f32],
}

impl<'a> Slopes<'a> {
    /// For as many values as there are places for slopes: all under a cap, none without.
    pub(super) fn of(values: &'a [f32], logits: Logits, slopes: &'a mut [f32]) -> Self {
        Self { values, cap: logits.softcap.unwrap_or(f32::INFINITY), out: slopes }
    }
}

impl Loop for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (slope, value) in self.out.iter_mut().zip(self.values) {
            let part = value / self.cap;
            *slope = 1.0 - part * part;
        }
    }
}
