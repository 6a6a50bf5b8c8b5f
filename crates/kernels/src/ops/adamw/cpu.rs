//! The step on processors: fixed runs of elements in parallel.

use rayon::prelude::*;

use super::{Arena, Factors, Span};
use crate::cpu::{Cpu, Loop, lanes};

/// Elements of a task: four arrays of this length fit the second cache.
const TASK: usize = 1 << 14;

/// Takes one step on the elements of the spans, which lie in order inside the arena.
pub(super) fn step(cpu: Cpu, factors: Factors, arena: Arena<'_>, spans: &[Span]) {
    let undecayed = Factors { keep: 1.0, ..factors };
    let mut tasks = Vec::new();
    let Arena { values, gradients, first_moments, second_moments } = arena;
    let mut rest = Update { factors, values, gradients, first_moments, second_moments };
    let mut at = 0;
    for Span { elements, decays } in spans {
        rest = rest.split_at(elements.start - at).1;
        at = elements.start;
        while at < elements.end {
            let count = TASK.min(elements.end - at);
            let (task, later) = rest.split_at(count);
            tasks.push(Update { factors: if *decays { factors } else { undecayed }, ..task });
            rest = later;
            at += count;
        }
    }
    tasks.into_par_iter().for_each(|task| cpu.run(task));
}

struct Update<'a> {
    factors: Factors,
    values: &'a mut [f32],
    gradients: &'a [f32],
    first_moments: &'a mut [f32],
    second_moments: &'a mut [f32],
}

impl Update<'_> {
    /// The first elements, and the others.
    fn split_at(self, count: usize) -> (Self, Self) {
        let factors = self.factors;
        let (values, later_values) = self.values.split_at_mut(count);
        let (gradients, later_gradients) = self.gradients.split_at(count);
        let (first_moments, later_first) = self.first_moments.split_at_mut(count);
        let (second_moments, later_second) = self.second_moments.split_at_mut(count);
        let now = Self { factors, values, gradients, first_moments, second_moments };
        let later = Self {
            factors,
            values: later_values,
            gradients: later_gradients,
            first_moments: later_first,
            second_moments: later_second,
        };
        (now, later)
    }
}

impl Loop for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let f = self.factors;
        let moments = self.first_moments.iter_mut().zip(self.second_moments);
        let values = self.values.iter_mut().zip(self.gradients);
        for ((value, gradient), (first, second)) in values.zip(moments) {
            let gradient = f.gradient * gradient;
            *first += f.first * (gradient - *first);
            *second = *second * f.second_old + f.second_new * gradient * gradient;
            let denominator = second.sqrt() / f.root + f.eps;
            *value = *value * f.keep + f.size * *first / denominator;
        }
    }
}

/// The sum of all squares: chunks in parallel, their sums in order.
pub(super) fn squares(cpu: Cpu, values: &[f32]) -> f64 {
    let sums: Vec<f64> =
        values.par_chunks(TASK).map(|values| cpu.run(Squares { values })).collect();
    sums.iter().sum()
}

struct Squares<'a> {
    values: &'a [f32],
}

impl Loop for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        lanes::squares_f64(self.values)
    }
}

/// The index of the first value that is not finite.
pub(super) fn first_not_finite(cpu: Cpu, values: &[f32]) -> Option<usize> {
    let tasks = values.par_chunks(TASK).enumerate();
    tasks.find_map_first(|(task, values)| {
        if cpu.run(AllFinite { values }) {
            return None;
        }
        let offset = values.iter().position(|value| !value.is_finite())?;
        Some(task * TASK + offset)
    })
}

struct AllFinite<'a> {
    values: &'a [f32],
}

impl Loop for AllFinite<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        // Without an early exit the loop vectorizes.
        self.values.iter().fold(true, |all, value| all & value.is_finite())
    }
}
