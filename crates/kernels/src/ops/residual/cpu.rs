//! The sum on processors: fixed runs of elements in parallel.

use rayon::prelude::*;

use crate::cpu::{Cpu, Loop};

/// Elements of a task: long enough to pay for it, short enough to stay in the second cache.
const TASK: usize = 1 << 14;

/// `x += y`.
pub(super) fn add(cpu: Cpu, x: &mut [f32], y: &[f32]) {
    x.par_chunks_mut(TASK).zip(y.par_chunks(TASK)).for_each(|(x, y)| cpu.run(Add { x, y }));
}

struct Add<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Loop for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (x, y) in self.x.iter_mut().zip(self.y) {
            *x += y;
        }
    }
}

/// `x = factor * x + y`.
pub(super) fn scale_and_add(cpu: Cpu, x: &mut [f32], factor: f32, y: &[f32]) {
    let parts = x.par_chunks_mut(TASK).zip(y.par_chunks(TASK));
    parts.for_each(|(x, y)| cpu.run(ScaleAndAdd { x, factor, y }));
}

/// `x = factor * x`.
pub(super) fn scale(cpu: Cpu, x: &mut [f32], factor: f32) {
    x.par_chunks_mut(TASK).for_each(|x| cpu.run(Scale { x, factor }));
}

struct ScaleAndAdd<'a> {
    x: &'a mut [f32],
    factor: f32,
    y: &'a [f32],
}

impl Loop for ScaleAndAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (x, y) in self.x.iter_mut().zip(self.y) {
            *x = self.factor * *x + y;
        }
    }
}

struct Scale<'a> {
    x: &'a mut [f32],
    factor: f32,
}

impl Loop for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for x in self.x {
            *x *= self.factor;
        }
    }
}
