//! The scan on processors: chunks as products of matrices, heads in parallel.
//!
//! A head's state is kept as panels `[P / 32][N][32]`, so that it is the right side of its products
//! as it lies; `B` and `C` are left sides as they lie in the input. What the heads of a group share
//! is computed once.

mod backward;
mod decode;
mod forward;
mod gradient;
mod lines;
mod shared;
mod steps;
mod sums;

use std::ops::Range;

use super::state::{head_len, panels};
use super::{CHUNK, Gradients, Input, Layout, Scan, State};
use crate::branches::Run;
use crate::cpu::Cpu;
use crate::cpu::gemm::{Element, Left, PANEL};
use crate::{Branches, Tensor};

pub(super) use decode::{decode, decode_each};

/// Rows that are multiplied at once where a triangle of scores need not be whole.
const BAND: usize = PANEL;

/// The runs of rows and their chunks.
pub(super) struct Plan {
    runs: Vec<Run>,
    /// The runs of each tree.
    trees: Vec<Range<usize>>,
    /// The rows of each chunk, run after run.
    chunks: Vec<Range<usize>>,
    /// The chunks of each run.
    of_run: Vec<Range<usize>>,
}

impl Plan {
    fn new(branches: &Branches) -> Self {
        let runs: Vec<Run> = branches.runs().collect();
        let mut plan = Self { runs, trees: Vec::new(), chunks: Vec::new(), of_run: Vec::new() };
        for (index, run) in plan.runs.iter().enumerate() {
            if run.is_prompt {
                plan.trees.push(index..index);
            }
            if let Some(tree) = plan.trees.last_mut() {
                tree.end = index + 1;
            }
            let first = plan.chunks.len();
            let starts = run.rows.clone().step_by(CHUNK);
            plan.chunks.extend(starts.map(|start| start..run.rows.end.min(start + CHUNK)));
            plan.of_run.push(first..plan.chunks.len());
        }
        plan
    }

    /// The chunks of a tree.
    fn of_tree(&self, tree: usize) -> Range<usize> {
        let runs = &self.trees[tree];
        self.of_run[runs.start].start..self.of_run[runs.end - 1].end
    }

    /// Whether rows of other runs continue a run.
    fn is_continued(&self, run: usize) -> bool {
        let tree = &self.trees[self.runs[run].tree];
        self.runs[run].is_prompt && self.of_run[run + 1..tree.end].iter().any(|of| !of.is_empty())
    }
}

/// What all parts of a call share.
struct Frame<'a> {
    cpu: Cpu,
    layout: Layout,
    input: Input<'a>,
    scan: &'a Scan<'a>,
    plan: &'a Plan,
    steps: steps::Steps,
    /// `B` of all rows, then `C`, each `[G][T][N]` without the columns between: rows that lie far
    /// apart would fall into the same few sets of the cache.
    b_c: [Tensor; 2],
    /// The products of `C` and `B` of the rows of a chunk, `[G][T][CHUNK]`; undefined above the
    /// diagonal bands.
    scores: Tensor,
}

impl<'a> Frame<'a> {
    fn new(cpu: Cpu, (input, scan): (Input<'a>, &'a Scan<'a>), plan: &'a Plan) -> Self {
        let steps = steps::Steps::new(cpu, input, scan, plan);
        let b_c = shared::close_together(cpu, scan.layout, input);
        let scores = shared::scores(cpu, scan.layout, &b_c, plan);
        Self { cpu, layout: scan.layout, input, scan, plan, steps, b_c, scores }
    }

    /// How the product is told what words are.
    fn kind(&self) -> (Cpu, Element) {
        (self.cpu, Element::F32)
    }

    fn group(&self, head: usize) -> usize {
        head / (self.layout.heads / self.layout.groups)
    }

    /// The columns of a panel of a head: their place among the head's, and how many there are.
    fn panel_cols(&self, panel: usize) -> (usize, usize) {
        (panel * PANEL, PANEL.min(self.layout.dim - panel * PANEL))
    }

    /// The scores of a chunk's row, `[CHUNK]` for each row.
    fn scores(&self, group: usize, rows: &Range<usize>) -> &[f32] {
        let start = (group * self.input.xbc.rows() + rows.start) * CHUNK;
        &self.scores.as_slice()[start..start + rows.len() * CHUNK]
    }

    fn of_b(&self, group: usize) -> Part<'_> {
        Part::of_group(&self.b_c[0], self.layout, group)
    }

    fn of_c(&self, group: usize) -> Part<'_> {
        Part::of_group(&self.b_c[1], self.layout, group)
    }
}

/// Consecutive columns of a tensor, as a left side.
#[derive(Clone, Copy)]
struct Part<'a> {
    values: &'a [f32],
    stride: usize,
    first: usize,
    cols: usize,
}

impl<'a> Part<'a> {
    fn of_b(layout: Layout, xbc: &'a Tensor, group: usize) -> Self {
        let first = layout.inner() + group * layout.state;
        Self { values: xbc.as_slice(), stride: xbc.cols(), first, cols: layout.state }
    }

    fn of_c(layout: Layout, xbc: &'a Tensor, group: usize) -> Self {
        let b = Self::of_b(layout, xbc, group);
        Self { first: b.first + layout.groups * layout.state, ..b }
    }

    /// The rows of a group in a tensor `[G][T][N]`.
    fn of_group(tensor: &'a Tensor, layout: Layout, group: usize) -> Self {
        let len = tensor.as_slice().len() / layout.groups;
        let values = &tensor.as_slice()[group * len..(group + 1) * len];
        Self { values, stride: layout.state, first: 0, cols: layout.state }
    }

    /// The columns of a head in a tensor whose heads begin with its first column.
    fn of_head(layout: Layout, tensor: &'a Tensor, head: usize) -> Self {
        let first = head * layout.dim;
        Self { values: tensor.as_slice(), stride: tensor.cols(), first, cols: layout.dim }
    }

    /// The columns of one row.
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [f32] {
        let start = row * self.stride + self.first;
        &self.values[start..start + self.cols]
    }

    /// Asks for a row ahead of time: rows lie too far apart for the machine to guess.
    #[inline]
    fn prefetch(&self, row: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in self.row(row).chunks(16) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a hint on an address inside the array; it reads and writes nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = row;
    }

    /// Some rows as a left side.
    fn rows(&self, rows: &Range<usize>) -> Left<'a> {
        Left::new(self.words(rows), rows.len(), self.cols).with_strides(self.stride, 1)
    }

    /// The columns of some rows as a left side.
    fn turned(&self, rows: &Range<usize>) -> Left<'a> {
        Left::new(self.words(rows), self.cols, rows.len()).with_strides(1, self.stride)
    }

    fn words(&self, rows: &Range<usize>) -> &'a [u32] {
        bytemuck::cast_slice(&self.values[rows.start * self.stride + self.first..])
    }
}

/// Writes the scanned rows of all trees.
pub(super) fn forward(
    cpu: Cpu,
    (input, scan): (Input<'_>, &Scan<'_>),
    branches: &Branches,
    y: &mut Tensor,
) {
    let plan = Plan::new(branches);
    forward::forward(&Frame::new(cpu, (input, scan), &plan), None, y);
}

/// Writes the gradients.
pub(super) fn backward(
    cpu: Cpu,
    (dy, input): (&Tensor, Input<'_>),
    (scan, branches): (&Scan<'_>, &Branches),
    into: Gradients<'_>,
    d_xbc: &mut Tensor,
) {
    let plan = Plan::new(branches);
    backward::backward(&Frame::new(cpu, (input, scan), &plan), dy, into, d_xbc);
}
