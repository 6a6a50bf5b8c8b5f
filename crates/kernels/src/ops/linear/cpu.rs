//! Projections on the processor: tiles of a block of rows and a panel, split over threads.

use std::ops::Range;

use rayon::prelude::*;

use super::panels::{Panels, columns_of};
use super::{Lora, Projection, ProjectionGrad, Saved};
use crate::cpu::gemm::{
    Element, Left, Mode, Out, PANEL, TILE_ROWS, panel_count, panel_words, product,
};
use crate::cpu::team;
use crate::cpu::tiles::Shared;
use crate::cpu::words::with_scratch;
use crate::{Cpu, Device, Dropout, Operand, Tensor, Weight};

/// The bytes of left rows that a thread keeps in its second-level cache.
const LEFT_BYTES: usize = 384 << 10;
/// The most rows of a block: enough to forget the cost of bringing in a panel.
const ROWS_MAX: usize = 16 * TILE_ROWS;
/// The most rows of a block whose panels are turned first, which costs more.
const ROWS_MAX_TURNED: usize = 64 * TILE_ROWS;
/// The forward panels that are turned at a time: 512 outputs, so that the rows' part of the sum
/// stays in the cache for the next panel of inputs.
const TURNED_PANELS: usize = 16;
/// The panels of inputs that a task does together.
const TURNED_GROUP: usize = 3;
/// The rows of a sum over rows that are packed at a time.
const SUM_ROWS: usize = 2048;

/// The rows of each block: so many that they stay in the cache, in whole register tiles.
fn block_rows(left_words: usize, rows_max: usize) -> usize {
    let fitting = LEFT_BYTES / size_of::<u32>() / left_words.max(1);
    (fitting / TILE_ROWS * TILE_ROWS).clamp(4 * TILE_ROWS, rows_max)
}

/// Cuts rows and panels into tiles, all panels of a block of rows first, and does each tile once.
fn for_each_tile(
    (rows, block): (usize, usize),
    panels: usize,
    body: impl Fn(Range<usize>, usize) + Sync,
) {
    let blocks = rows.div_ceil(block);
    team::for_each(blocks * panels, |tile| {
        let first = tile / panels * block;
        body(first..rows.min(first + block), tile % panels);
    });
}

/// The panels of several projections, counted through: which projection, and which of its panels.
fn flat_panels(counts: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    counts.enumerate().flat_map(|(owner, count)| (0..count).map(move |i| (owner, i))).collect()
}

/// The columns of a panel of a matrix.
fn panel_columns(index: usize, cols: usize) -> Range<usize> {
    index * PANEL..cols.min((index + 1) * PANEL)
}

pub(super) fn forward(
    (device, cpu): (&Device, Cpu),
    x: &Operand,
    projections: &[Projection<'_>],
) -> (Tensor, Vec<Option<Operand>>) {
    let element = x.element();
    let by_rank: Vec<Option<Panels>> = projections
        .iter()
        .map(|p| p.lora.map(|lora| Panels::of_transposed((cpu, x.rounding()), lora.a, x.cols())))
        .collect();
    let loras: Vec<Option<Lora<'_>>> = projections.iter().map(|p| p.lora).collect();
    let dropped = dropped((device, cpu), x, &loras);
    let inputs: Vec<&Operand> = dropped.iter().map(|it| it.as_ref().unwrap_or(x)).collect();
    let low = narrow((device, cpu), &inputs, &loras, &by_rank);
    let by_output: Vec<Option<Panels>> = loras
        .iter()
        .map(|l| l.map(|lora| Panels::of_transposed((cpu, x.rounding()), lora.b, lora.rank)))
        .collect();
    let mut offsets = vec![0];
    for projection in projections {
        offsets.push(offsets[offsets.len() - 1] + projection.weight.outputs());
    }
    let outs = offsets[projections.len()];
    let mut y = Tensor::unwritten(device, x.rows(), outs);
    let target = Shared::new(y.as_mut_slice(), outs);
    let panels = flat_panels(projections.iter().map(|p| p.weight.panels()));
    let block = block_rows(x.left().words(), ROWS_MAX);
    for_each_tile((x.rows(), block), panels.len(), |rows, tile| {
        let (owner, index) = panels[tile];
        let Projection { weight, bias, .. } = projections[owner];
        let cols = panel_columns(index, weight.outputs());
        let at = offsets[owner] + cols.start..offsets[owner] + cols.end;
        // SAFETY: each tile is its own block of rows and panel of columns, and is done once.
        let mut out = unsafe { target.tile(rows.clone(), at) };
        let mode = bias.map_or(Mode::Replace, |bias| {
            out.fill(Some(&bias[cols]));
            Mode::Add
        });
        let left = x.left().row_range(rows.clone());
        weight.product((cpu, element), left, index, (&mut out, mode));
        if let (Some(low), Some(by_output)) = (&low[owner], &by_output[owner]) {
            let left = low.left().row_range(rows);
            product((cpu, element), left, by_output.get(index), &mut out, Mode::Add);
        }
    });
    (y, low)
}

/// What each adapter sees of the input, where it is not all.
fn dropped(
    arithmetic: (&Device, Cpu),
    x: &Operand,
    loras: &[Option<Lora<'_>>],
) -> Vec<Option<Operand>> {
    let of = |lora: &Option<Lora<'_>>| Some(lora.as_ref()?.dropout?.of(arithmetic, x));
    loras.iter().map(of).collect()
}

/// `scale * input * panels` of each adapter, rounded: `s` from `x`, `ds` from `dy`.
fn narrow(
    (device, cpu): (&Device, Cpu),
    inputs: &[&Operand],
    loras: &[Option<Lora<'_>>],
    panels: &[Option<Panels>],
) -> Vec<Option<Operand>> {
    let mut results: Vec<Option<Operand>> = inputs
        .iter()
        .zip(loras)
        .map(|(input, lora)| {
            lora.map(|lora| Operand::zeros(device, input.precision(), input.rows(), lora.rank))
        })
        .collect();
    let (Some(rows), Some(words)) = (
        inputs.iter().map(|input| input.rows()).max(),
        inputs.iter().map(|input| input.left().words()).max(),
    ) else {
        return results;
    };
    let counts = loras.iter().map(|lora| lora.map_or(0, |lora| panel_count(lora.rank)));
    let flat = flat_panels(counts);
    let writers: Vec<_> = results.iter_mut().map(|r| r.as_mut().map(Operand::writer)).collect();
    for_each_tile((rows, block_rows(words, ROWS_MAX)), flat.len(), |rows, tile| {
        let (owner, index) = flat[tile];
        let (Some(lora), Some(panels), Some(writer)) =
            (loras[owner], &panels[owner], &writers[owner])
        else {
            return;
        };
        let left = inputs[owner].left().row_range(rows.clone());
        let arithmetic = (cpu, inputs[owner].element());
        let cols = panel_columns(index, lora.rank);
        with_scratch(rows.len() * PANEL, |scratch| {
            let sums = &mut scratch.as_f32_mut()[..rows.len() * PANEL];
            let mut out = Out::new(sums, PANEL, PANEL);
            product(arithmetic, left, panels.get(index), &mut out, Mode::Replace);
            for (row, sums) in rows.zip(sums.chunks_exact_mut(PANEL)) {
                let sums = &mut sums[..cols.len()];
                for sum in &mut *sums {
                    *sum *= lora.scale;
                }
                // SAFETY: each tile is its own rows and columns, and is done once.
                unsafe { writer.write(row, cols.start, sums) };
            }
        });
    });
    results
}

pub(super) fn backward(
    (device, cpu): (&Device, Cpu),
    dy: &Tensor,
    saved: Saved<'_>,
    projections: &[Projection<'_>],
    (grads, want_dx): (&mut [ProjectionGrad<'_>], bool),
) -> Option<Tensor> {
    let x = saved.x;
    let mut first = 0;
    let mut dys = Vec::new();
    for (projection, grad) in projections.iter().zip(grads.iter_mut()) {
        let columns = first..first + projection.weight.outputs();
        first = columns.end;
        if let ProjectionGrad::Full { bias: Some(bias), .. } = grad {
            sum_rows(dy, columns.start, bias);
        }
        dys.push(Operand::of_columns(device, x.precision(), dy, columns));
    }
    // An adapter's low-rank gradient serves its own training and the input's gradient.
    let loras: Vec<Option<Lora<'_>>> = projections
        .iter()
        .zip(grads.iter())
        .map(|(p, grad)| p.lora.filter(|_| want_dx || matches!(grad, ProjectionGrad::Lora { .. })))
        .collect();
    let by_rank: Vec<Option<Panels>> = loras
        .iter()
        .map(|l| l.map(|lora| Panels::of((cpu, x.rounding()), lora.b, lora.rank)))
        .collect();
    let ds = narrow((device, cpu), &dys.iter().collect::<Vec<_>>(), &loras, &by_rank);
    let pass = Pass { cpu, element: x.element(), projections, dys: &dys, ds: &ds };
    let is_trained = |grad: &ProjectionGrad<'_>| matches!(grad, ProjectionGrad::Lora { .. });
    let trained: Vec<_> =
        loras.iter().zip(grads.iter()).map(|(l, grad)| l.filter(|_| is_trained(grad))).collect();
    let dropped = dropped((device, cpu), x, &trained);
    pass.add_to_inner(x, grads, |owner| dropped[owner].is_none());
    for (owner, x) in dropped.iter().enumerate() {
        if let Some(x) = x {
            pass.add_to_inner(x, grads, |other| other == owner);
        }
    }
    pass.add_to_outer(saved.low, grads);
    want_dx.then(|| pass.input_gradient(device, x))
}

/// Adds every row to `sums`, in order, from column `first` on.
fn sum_rows(values: &Tensor, first: usize, sums: &mut [f32]) {
    sums.par_chunks_mut(PANEL).enumerate().for_each(|(index, sums)| {
        let first = first + index * PANEL;
        for row in 0..values.rows() {
            let values = &values.row(row)[first..first + sums.len()];
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        }
    });
}

/// What the parts of a backward pass share.
struct Pass<'a> {
    cpu: Cpu,
    element: Element,
    projections: &'a [Projection<'a>],
    dys: &'a [Operand],
    ds: &'a [Option<Operand>],
}

impl Pass<'_> {
    /// `dx = sum over projections of dy W + ds A`.
    fn input_gradient(&self, device: &Device, x: &Operand) -> Tensor {
        let arithmetic = (self.cpu, x.rounding());
        let (rows, inputs) = (x.rows(), x.cols());
        let by_input: Vec<Option<Panels>> = self
            .projections
            .iter()
            .map(|p| p.lora.map(|lora| Panels::of(arithmetic, lora.a, inputs)))
            .collect();
        let mut dx = Tensor::unwritten(device, rows, inputs);
        let target = Shared::new(dx.as_mut_slice(), inputs);
        let panels = panel_count(inputs);
        let block = rows.div_ceil(rows.div_ceil(ROWS_MAX_TURNED).max(1));
        let block = block.next_multiple_of(TILE_ROWS).max(TILE_ROWS);
        for_each_tile((rows, block), panels.div_ceil(TURNED_GROUP), |rows, group| {
            let first = group * TURNED_GROUP;
            let panels = first..panels.min(first + TURNED_GROUP);
            // SAFETY: each tile is its own block of rows and panels of columns, and is done once.
            let tile = |index| unsafe { target.tile(rows.clone(), panel_columns(index, inputs)) };
            for (owner, projection) in self.projections.iter().enumerate() {
                let left = self.dys[owner].left().row_range(rows.clone());
                // The first projection's product replaces what was in the memory.
                let mode = if owner == 0 { Mode::Replace } else { Mode::Add };
                self.add_turned((projection.weight, mode), panels.clone(), left, tile);
                let (Some(ds), Some(by_input)) = (&self.ds[owner], &by_input[owner]) else {
                    continue;
                };
                let left = ds.left().row_range(rows.clone());
                for index in panels.clone() {
                    let panel = by_input.get(index);
                    let Some(dropout) = projection.lora.and_then(|lora| lora.dropout) else {
                        product((self.cpu, self.element), left, panel, &mut tile(index), Mode::Add);
                        continue;
                    };
                    let cols = panel_columns(index, inputs);
                    self.add_dropped(&dropout, (left, panel), (rows.clone(), cols), target);
                }
            }
        });
        dx
    }

    /// Adds `drop(left * panel)` to a tile, which nobody else may touch.
    fn add_dropped(
        &self,
        dropout: &Dropout<'_>,
        (left, panel): (Left<'_>, &[u32]),
        (rows, cols): (Range<usize>, Range<usize>),
        target: Shared<'_>,
    ) {
        with_scratch(rows.len() * PANEL, |scratch| {
            let values = &mut scratch.as_f32_mut()[..rows.len() * PANEL];
            let mut out = Out::new(values, PANEL, PANEL);
            product((self.cpu, self.element), left, panel, &mut out, Mode::Replace);
            for (row, values) in rows.zip(values.chunks_exact_mut(PANEL)) {
                let values = &mut values[..cols.len()];
                dropout.apply(self.cpu, row, cols.start, values);
                // SAFETY: the caller has the tile for itself, and no other view of it lives.
                let sums = unsafe { target.slice(row, cols.clone()) };
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += *value;
                }
            }
        });
    }

    /// Adds `left * W` for some panels of inputs, or replaces what is there.
    fn add_turned<'t>(
        &self,
        (weight, mode): (&Weight, Mode),
        panels: Range<usize>,
        left: Left<'_>,
        tile: impl Fn(usize) -> Out<'t>,
    ) {
        let arithmetic = (self.cpu, self.element);
        for first in (0..weight.panels()).step_by(TURNED_PANELS) {
            let mode = if first == 0 { mode } else { Mode::Add };
            let outputs = first..weight.panels().min(first + TURNED_PANELS);
            let start = self.element.words(outputs.start * PANEL);
            let end = left.words().min(self.element.words(outputs.end * PANEL));
            for index in panels.clone() {
                weight.with_turned_panel(arithmetic, index, outputs.clone(), |panel| {
                    let left = left.word_range(start..end);
                    product(arithmetic, left, panel, &mut tile(index), mode);
                });
            }
        }
    }

    /// `dA += ds^T x` and `dW += dy^T x` for those that take this input: each panel of it is packed
    /// once for all.
    fn add_to_inner(
        &self,
        x: &Operand,
        grads: &mut [ProjectionGrad<'_>],
        takes: impl Fn(usize) -> bool,
    ) {
        let mut sums = Vec::new();
        for (owner, grad) in grads.iter_mut().enumerate().filter(|(owner, _)| takes(*owner)) {
            let (left, values) = match (grad, &self.ds[owner]) {
                (ProjectionGrad::Lora { a, .. }, Some(ds)) => (ds, &mut **a),
                (ProjectionGrad::Full { weight, .. }, _) => (&self.dys[owner], &mut **weight),
                _ => continue,
            };
            let target = Shared::new(values, x.cols());
            sums.push((Panels::of_operand(self.cpu, left), left.cols(), target));
        }
        if sums.is_empty() {
            return;
        }
        (0..panel_count(x.cols())).into_par_iter().for_each(|index| {
            let cols = panel_columns(index, x.cols());
            self.for_each_part(x, index, |words, panel| {
                for (lefts, left_cols, target) in &sums {
                    for left in 0..panel_count(*left_cols) {
                        let rows = panel_columns(left, *left_cols);
                        let part = lefts.part(left, &words);
                        let side = Left::of_panel(part, rows.len(), words.len());
                        // SAFETY: the columns are this task's alone.
                        let mut out = unsafe { target.tile(rows, cols.clone()) };
                        product((self.cpu, self.element), side, panel, &mut out, Mode::Add);
                    }
                }
            });
        });
    }

    /// `dB += dy^T s`: each panel of the gradient is packed once and read sideways.
    fn add_to_outer(&self, low: &[Option<Operand>], grads: &mut [ProjectionGrad<'_>]) {
        let mut sums = Vec::new();
        for (owner, grad) in grads.iter_mut().enumerate() {
            if let (ProjectionGrad::Lora { b, .. }, Some(low)) = (grad, &low[owner]) {
                let target = Shared::new(b, low.cols());
                sums.push((owner, Panels::of_operand(self.cpu, low), low.cols(), target));
            }
        }
        let counts = sums.iter().map(|(owner, ..)| panel_count(self.dys[*owner].cols()));
        flat_panels(counts).into_par_iter().for_each(|(sum, index)| {
            let (owner, rights, rank, target) = &sums[sum];
            let dy = &self.dys[*owner];
            let rows = panel_columns(index, dy.cols());
            self.for_each_part(dy, index, |words, panel| {
                let side = Left::of_panel(panel, rows.len(), words.len());
                for right in 0..panel_count(*rank) {
                    // SAFETY: the rows are this task's alone.
                    let mut out = unsafe { target.tile(rows.clone(), panel_columns(right, *rank)) };
                    let right = rights.part(right, &words);
                    product((self.cpu, self.element), side, right, &mut out, Mode::Add);
                }
            });
        });
    }

    /// Packs 32 columns of an operand, some rows at a time: `body(words of the sum, panel)`.
    fn for_each_part(&self, operand: &Operand, index: usize, body: impl Fn(Range<usize>, &[u32])) {
        for first in (0..operand.rows()).step_by(SUM_ROWS) {
            let rows = first..operand.rows().min(first + SUM_ROWS);
            let start = self.element.words(first);
            let words = start..start + self.element.words(rows.len());
            with_scratch(panel_words(words.len()), |panel| {
                let panel = &mut panel[..panel_words(words.len())];
                columns_of(self.cpu, operand, index, rows, panel);
                body(words, panel);
            });
        }
    }
}
