//! Rows that continue sequences: one as a step of the recurrence, several in chunks.

use rayon::prelude::*;

use super::steps::StepRow;
use super::{Frame, Input, Part, Plan, Scan, State, forward, head_len};
use crate::cpu::gemm::PANEL;
use crate::cpu::tiles::Shared;
use crate::cpu::{Cpu, Loop, exp::exp};
use crate::{Branches, Tensor};

/// Writes the rows that continue a sequence, and moves its state on.
pub(in super::super) fn decode(
    cpu: Cpu,
    (input, scan): (Input<'_>, &Scan<'_>),
    state: &mut State,
    y: &mut Tensor,
) {
    if input.xbc.rows() == 1 {
        decode_each(cpu, (input, scan), &mut [state], y);
        return;
    }
    let plan = Plan::new(&Branches::sequence(input.xbc.rows()));
    forward::forward(&Frame::new(cpu, (input, scan), &plan), Some(state.values_mut()), y);
}

/// Writes one row of each of several sequences, and moves their states on.
pub(in super::super) fn decode_each(
    cpu: Cpu,
    (input, scan): (Input<'_>, &Scan<'_>),
    states: &mut [&mut State],
    y: &mut Tensor,
) {
    let layout = scan.layout;
    let heads = layout.heads;
    let inner = layout.inner();
    let y = Shared::new(y.as_mut_slice(), inner);
    states.par_iter_mut().enumerate().for_each(|(row, state)| {
        let mut dt = vec![0.0; heads];
        cpu.run(StepRow { raw: input.dt.row(row, heads), scan, dt: &mut dt });
        let values = state.values_mut().par_chunks_exact_mut(head_len(layout)).enumerate();
        values.for_each(|(head, state)| {
            let group = head / (heads / layout.groups);
            // SAFETY: a head of a row is one unit, and a unit runs once.
            let y = unsafe { y.slice(row, head * layout.dim..(head + 1) * layout.dim) };
            cpu.run(Step {
                dt: dt[head],
                decay: -f64::from(scan.a_log[head]).exp(),
                d: scan.d[head],
                x: Part::of_head(layout, input.xbc, head).row(row),
                b: Part::of_b(layout, input.xbc, group).row(row),
                c: Part::of_c(layout, input.xbc, group).row(row),
                state,
                y,
            });
        });
    });
}

/// One row of one head.
struct Step<'a> {
    dt: f32,
    decay: f64,
    d: f32,
    x: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
    /// `[P / 32][N][32]`.
    state: &'a mut [f32],
    y: &'a mut [f32],
}

impl Loop for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let kept = exp((self.decay * f64::from(self.dt)) as f32);
        let len = self.b.len() * PANEL;
        let parts = self.state.chunks_exact_mut(len).zip(self.y.chunks_mut(PANEL));
        for ((state, y), x) in parts.zip(self.x.chunks(PANEL)) {
            let mut taken = [0.0; PANEL];
            for (taken, x) in taken.iter_mut().zip(x) {
                *taken = self.dt * x;
            }
            let mut sums = [0.0; PANEL];
            let lines = state.as_chunks_mut::<PANEL>().0.iter_mut();
            for (line, (b, c)) in lines.zip(self.b.iter().zip(self.c)) {
                for ((state, taken), sum) in line.iter_mut().zip(&taken).zip(&mut sums) {
                    *state = kept * *state + b * taken;
                    *sum += c * *state;
                }
            }
            for ((y, x), sum) in y.iter_mut().zip(x).zip(sums) {
                *y = sum + self.d * x;
            }
        }
    }
}
