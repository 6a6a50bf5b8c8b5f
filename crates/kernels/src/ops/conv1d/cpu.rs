//! The convolution on processors: a row at a time over all channels, rows in parallel.

use rayon::prelude::*;

use super::{Kernel, State, WeightGrads};
use crate::branches::Run;
use crate::cpu::tiles::Shared;
use crate::cpu::{Cpu, Loop, exp::exp};
use crate::{Branches, Columns, ColumnsMut, Device, Tensor};

/// The rows of a task.
const TASK_ROWS: usize = 8;

/// Columns of a task that sums over rows.
const TASK_COLS: usize = 128;

/// Channels whose sums stay in registers.
const LANES: usize = 32;

/// The weights with the channels of a tap side by side: `[K, C]`, and the bias or zeros.
struct Taps {
    weight: Vec<f32>,
    bias: Vec<f32>,
    channels: usize,
}

impl Taps {
    fn new(kernel: Kernel<'_>) -> Self {
        let channels = kernel.channels();
        let mut weight = vec![0.0; kernel.weight.len()];
        for (channel, taps) in kernel.weight.chunks_exact(kernel.taps).enumerate() {
            for (tap, value) in taps.iter().enumerate() {
                weight[tap * channels + channel] = *value;
            }
        }
        let bias = kernel.bias.map_or_else(|| vec![0.0; channels], <[f32]>::to_vec);
        Self { weight, bias, channels }
    }

    fn of(&self, tap: usize) -> &[f32] {
        &self.weight[tap * self.channels..(tap + 1) * self.channels]
    }

    fn count(&self) -> usize {
        self.weight.len() / self.channels.max(1)
    }
}

/// Tasks of a few rows: the index of their run, and the rows.
fn tasks(runs: &[Run]) -> Vec<(usize, std::ops::Range<usize>)> {
    let cut = |(index, run): (usize, &Run)| {
        let rows = run.rows.clone();
        let starts = rows.clone().step_by(TASK_ROWS);
        starts.map(move |start| (index, start..rows.end.min(start + TASK_ROWS))).collect::<Vec<_>>()
    };
    runs.iter().enumerate().flat_map(cut).collect()
}

/// The row that lies `back` rows before a row of a run, if there is one.
fn row_before(run: &Run, row: usize, back: usize) -> Option<usize> {
    let own = row - run.rows.start;
    if back <= own {
        return Some(row - back);
    }
    run.before.len().checked_sub(back - own).map(|place| run.before.start + place)
}

/// Writes the convolved rows of all trees.
pub(super) fn forward(
    cpu: Cpu,
    x: Columns<'_>,
    kernel: Kernel<'_>,
    branches: &Branches,
    y: &mut Tensor,
) {
    let taps = Taps::new(kernel);
    let y = Shared::new(y.as_mut_slice(), taps.channels);
    each_row(&taps, (x, branches), |row, rows| {
        // SAFETY: a row belongs to one task.
        let y = unsafe { y.slice(row, 0..taps.channels) };
        cpu.run(Convolve { taps: &taps, rows, slope: None, y });
    });
}

/// Calls `body` with each row of each tree and the rows that its taps see.
fn each_row(
    taps: &Taps,
    (x, branches): (Columns<'_>, &Branches),
    body: impl Fn(usize, &[&[f32]]) + Sync,
) {
    let runs: Vec<Run> = branches.runs().collect();
    let nothing = vec![0.0; taps.channels];
    tasks(&runs).into_par_iter().for_each(|(run, rows)| {
        let mut seen: Vec<&[f32]> = Vec::with_capacity(taps.count());
        for row in rows {
            seen.clear();
            seen.extend((0..taps.count()).rev().map(|back| {
                let source = row_before(&runs[run], row, back);
                source.map_or(&nothing[..], |source| x.row(source, taps.channels))
            }));
            body(row, &seen);
        }
    });
}

/// One row of the convolution: its result, or the gradient before the activation.
struct Convolve<'a> {
    taps: &'a Taps,
    /// The rows that the taps see.
    rows: &'a [&'a [f32]],
    /// The gradient by the result, where `y` is to become that before the activation.
    slope: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl Loop for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (block, y) in self.y.chunks_mut(LANES).enumerate() {
            let first = block * LANES;
            let mut pre = lane(&self.taps.bias, first);
            for (tap, row) in self.rows.iter().enumerate() {
                let (weight, x) = (lane(self.taps.of(tap), first), lane(row, first));
                for ((pre, weight), x) in pre.iter_mut().zip(weight).zip(x) {
                    *pre += weight * x;
                }
            }
            let mut out = pre;
            match self.slope {
                None => {
                    for out in &mut out {
                        *out /= 1.0 + exp(-*out);
                    }
                }
                Some(dy) => {
                    for (out, dy) in out.iter_mut().zip(lane(dy, first)) {
                        let s = 1.0 / (1.0 + exp(-*out));
                        *out = dy * s * (1.0 + *out * (1.0 - s));
                    }
                }
            }
            store(y, &out);
        }
    }
}

/// `LANES` values, zeros past the last one.
#[inline(always)]
fn lane(values: &[f32], first: usize) -> [f32; LANES] {
    let values = &values[first..];
    if let Some(whole) = values.first_chunk() {
        return *whole;
    }
    let mut padded = [0.0; LANES];
    padded[..values.len()].copy_from_slice(values);
    padded
}

/// Stores as many values as there are places.
#[inline(always)]
fn store(out: &mut [f32], values: &[f32; LANES]) {
    match out.first_chunk_mut() {
        Some(out) => *out = *values,
        None => out.copy_from_slice(&values[..out.len()]),
    }
}

/// Writes the gradient by `x`, and adds those by the weights.
pub(super) fn backward(
    cpu: Cpu,
    dy: &Tensor,
    (x, kernel, branches): (Columns<'_>, Kernel<'_>, &Branches),
    dx: ColumnsMut<'_>,
    weights: Option<WeightGrads<'_>>,
) {
    let taps = Taps::new(kernel);
    let mut dpre = Tensor::unwritten(&Device::Cpu(cpu), dy.rows(), dy.cols());
    let shared = Shared::new(dpre.as_mut_slice(), taps.channels);
    each_row(&taps, (x, branches), |row, rows| {
        // SAFETY: a row belongs to one task.
        let y = unsafe { shared.slice(row, 0..taps.channels) };
        cpu.run(Convolve { taps: &taps, rows, slope: Some(dy.row(row)), y });
    });
    let ColumnsMut { tensor, first } = dx;
    let stride = tensor.cols();
    let dx = Shared::new(tensor.as_mut_slice(), stride);
    input_gradient(cpu, &taps, (&dpre, branches), (dx, first));
    if let Some(weights) = weights {
        weight_gradient(cpu, &taps, (x, &dpre, branches), weights);
    }
}

fn input_gradient(
    cpu: Cpu,
    taps: &Taps,
    (dpre, branches): (&Tensor, &Branches),
    (dx, first): (Shared<'_>, usize),
) {
    let runs: Vec<Run> = branches.runs().collect();
    let cols = first..first + taps.channels;
    tasks(&runs).into_par_iter().for_each(|(index, rows)| {
        let run = &runs[index];
        let mut readers: Vec<(usize, &[f32])> = Vec::new();
        for row in rows {
            readers.clear();
            for ahead in 0..taps.count() {
                let tap = taps.count() - 1 - ahead;
                if row + ahead < run.rows.end {
                    readers.push((tap, dpre.row(row + ahead)));
                    continue;
                }
                // Past the end of a prompt, each of its branches goes on.
                let place = row + ahead - run.rows.end;
                let others = runs[index + 1..].iter().take_while(|other| other.tree == run.tree);
                for other in others.filter(|_| run.is_prompt && !run.rows.is_empty()) {
                    if place < other.rows.len() {
                        readers.push((tap, dpre.row(other.rows.start + place)));
                    }
                }
            }
            // SAFETY: a row belongs to one task.
            let dx = unsafe { dx.slice(row, cols.clone()) };
            cpu.run(Collect { taps, readers: &readers, dx });
        }
    });
}

/// The gradient by one row, from the rows that see it.
struct Collect<'a> {
    taps: &'a Taps,
    /// The tap by which a row sees this one, and its gradient.
    readers: &'a [(usize, &'a [f32])],
    dx: &'a mut [f32],
}

impl Loop for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (block, dx) in self.dx.chunks_mut(LANES).enumerate() {
            let mut sums = [0.0; LANES];
            for (tap, dpre) in self.readers {
                let first = block * LANES;
                let (weight, dpre) = (lane(self.taps.of(*tap), first), lane(dpre, first));
                for ((sum, weight), dpre) in sums.iter_mut().zip(weight).zip(dpre) {
                    *sum += weight * dpre;
                }
            }
            store(dx, &sums);
        }
    }
}

/// Adds the gradients by the weights; a task sums its channels over all rows, in order.
fn weight_gradient(
    cpu: Cpu,
    taps: &Taps,
    (x, dpre, branches): (Columns<'_>, &Tensor, &Branches),
    grads: WeightGrads<'_>,
) {
    let runs: Vec<Run> = branches.runs().collect();
    let count = taps.count();
    let weights = grads.weight.par_chunks_mut(TASK_COLS * count).enumerate();
    weights.for_each(|(task, weight)| {
        cpu.run(SumWeight { runs: &runs, x, dpre, first: task * TASK_COLS, count, weight });
    });
    if let Some(bias) = grads.bias {
        bias.par_chunks_mut(TASK_COLS).enumerate().for_each(|(task, bias)| {
            cpu.run(SumBias { runs: &runs, dpre, first: task * TASK_COLS, bias });
        });
    }
}

struct SumWeight<'a> {
    runs: &'a [Run],
    x: Columns<'a>,
    dpre: &'a Tensor,
    /// The first channel.
    first: usize,
    /// The number of taps.
    count: usize,
    /// `[channels, K]`.
    weight: &'a mut [f32],
}

impl Loop for SumWeight<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let cols = self.first..self.first + self.weight.len() / self.count;
        for tap in 0..self.count {
            let mut sums = [0.0; TASK_COLS];
            for run in self.runs {
                for row in run.rows.clone() {
                    let Some(source) = row_before(run, row, self.count - 1 - tap) else { continue };
                    let x = &self.x.row(source, cols.end)[cols.clone()];
                    let dpre = &self.dpre.row(row)[cols.clone()];
                    for ((sum, x), dpre) in sums.iter_mut().zip(x).zip(dpre) {
                        *sum += x * dpre;
                    }
                }
            }
            for (weight, sum) in self.weight.chunks_exact_mut(self.count).zip(sums) {
                weight[tap] += sum;
            }
        }
    }
}

struct SumBias<'a> {
    runs: &'a [Run],
    dpre: &'a Tensor,
    first: usize,
    bias: &'a mut [f32],
}

impl Loop for SumBias<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let cols = self.first..self.first + self.bias.len();
        for run in self.runs {
            for row in run.rows.clone() {
                for (bias, dpre) in self.bias.iter_mut().zip(&self.dpre.row(row)[cols.clone()]) {
                    *bias += dpre;
                }
            }
        }
    }
}

/// Writes the rows that continue a sequence, and moves its state on.
pub(super) fn decode(
    cpu: Cpu,
    x: Columns<'_>,
    kernel: Kernel<'_>,
    state: &mut State,
    y: &mut Tensor,
) {
    let taps = Taps::new(kernel);
    let (channels, before) = (taps.channels, kernel.taps - 1);
    let rows = x.tensor.rows();
    let seen = |place: usize| match place.checked_sub(before) {
        None => &state.rows[place * channels..(place + 1) * channels],
        Some(row) => x.row(row, channels),
    };
    y.as_mut_slice().par_chunks_mut(channels.max(1)).enumerate().for_each(|(row, y)| {
        let rows: Vec<&[f32]> = (row..=row + before).map(seen).collect();
        cpu.run(Convolve { taps: &taps, rows: &rows, slope: None, y });
    });
    state.rows = (rows..rows + before).flat_map(|place| seen(place).iter().copied()).collect();
}

/// Writes one row of each of several sequences, and moves their states on.
pub(super) fn decode_each(
    cpu: Cpu,
    x: Columns<'_>,
    kernel: Kernel<'_>,
    states: &mut [&mut State],
    y: &mut Tensor,
) {
    let taps = Taps::new(kernel);
    let channels = taps.channels;
    let rows = y.as_mut_slice().par_chunks_mut(channels.max(1)).zip(states.par_iter_mut());
    rows.enumerate().for_each(|(row, (y, state))| {
        let own = x.row(row, channels);
        let mut rows: Vec<&[f32]> = state.rows.chunks_exact(channels.max(1)).collect();
        rows.push(own);
        cpu.run(Convolve { taps: &taps, rows: &rows, slope: None, y });
        if kernel.taps > 1 {
            state.rows.drain(..channels);
            state.rows.extend_from_slice(own);
        }
    });
}
