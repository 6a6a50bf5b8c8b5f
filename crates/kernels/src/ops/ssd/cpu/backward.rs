//! The backward scan: a block of heads of a tree is one unit; chunks go backwards, branches first.
//!
//! States before each chunk are computed once more, so that nothing but the results is kept.

use rayon::prelude::*;

use super::forward::advance;
use super::gradient::{ChunkOf, Scratch, Unit};
use super::lines;
use super::shared::{self, Found};
use super::steps::StepGradient;
use super::{Frame, Gradients, Part, head_len};
use crate::cpu::Loop;
use crate::cpu::tiles::Shared;
use crate::cpu::words::{Words, with_scratch};
use crate::{Device, Tensor};

/// The blocks that the heads of a group are cut into, at most: what each finds for `B` and `C` is
/// kept apart until all are done.
const BLOCKS: usize = 8;

/// Writes the gradients by `x`, `B`, `C` and the raw steps, and adds those by the weights.
pub(super) fn backward(frame: &Frame<'_>, dy: &Tensor, into: Gradients<'_>, d_xbc: &mut Tensor) {
    let layout = frame.layout;
    let per_group = layout.heads / layout.groups;
    let blocks = per_group.clamp(1, BLOCKS);
    let (chunks, trees) = (frame.plan.chunks.len(), frame.plan.trees.len());
    let found_len = Found::new(layout).len();
    let mut found = Words::unwritten(chunks * layout.groups * blocks * found_len);
    let turned_c = shared::turned_c(frame);
    let device = Device::Cpu(frame.cpu);
    let mut d_dt = Tensor::zeros(&device, frame.input.xbc.rows(), layout.heads);
    let mut sums = Tensor::zeros(&device, trees, 2 * layout.heads);
    let stride = d_xbc.cols();
    let d_xbc = Shared::new(d_xbc.as_mut_slice(), stride);
    {
        let pass = Pass {
            frame,
            dy,
            turned_c: &turned_c,
            d_xbc,
            d_dt: Shared::new(d_dt.as_mut_slice(), layout.heads),
            sums: Shared::new(sums.as_mut_slice(), 2 * layout.heads),
        };
        let stride = layout.groups * blocks;
        let found = Shared::new(found.as_f32_mut(), found_len);
        let places = |row: usize| Places { found, len: found_len, stride, row };
        (0..trees * stride).into_par_iter().for_each(|unit| {
            let (tree, of_tree) = (unit / stride, unit % stride);
            let (group, block) = (of_tree / blocks, of_tree % blocks);
            let heads = block * per_group / blocks..(block + 1) * per_group / blocks;
            for (index, head) in heads.enumerate() {
                pass.head(tree, group * per_group + head, (places(of_tree), index == 0));
            }
        });
    }
    let all = &mut found.as_f32_mut()[..chunks * layout.groups * blocks * found_len];
    shared::gradients(frame, (all, blocks), d_xbc);
    weights(frame, (d_dt, &sums), into);
}

/// Hands the gradients by steps on to raw steps, and adds up those by the weights.
fn weights(frame: &Frame<'_>, (mut d_dt, sums): (Tensor, &Tensor), into: Gradients<'_>) {
    let heads = frame.layout.heads;
    let (first, stride) = (into.dt.first, into.dt.tensor.cols());
    let out = Shared::new(into.dt.tensor.as_mut_slice(), stride);
    let values = Shared::new(d_dt.as_mut_slice(), heads);
    frame.plan.chunks.par_iter().for_each(|rows| {
        for row in rows.clone() {
            // SAFETY: a row belongs to one chunk.
            let (d_dt, out) =
                unsafe { (values.slice(row, 0..heads), out.slice(row, first..first + heads)) };
            let raw = frame.input.dt.row(row, heads);
            frame.cpu.run(StepGradient { raw, scan: frame.scan, d_dt: &mut *d_dt });
            out.copy_from_slice(d_dt);
        }
    });
    let Some(grads) = into.weights else { return };
    for head in 0..heads {
        let over_trees = |col: usize| -> f64 {
            (0..sums.rows()).map(|tree| f64::from(sums.row(tree)[col])).sum()
        };
        grads.a_log[head] += (frame.steps.decay[head] * over_trees(head)) as f32;
        grads.d[head] += over_trees(heads + head) as f32;
        let rows = frame.plan.chunks.iter().flat_map(Clone::clone);
        grads.dt_bias[head] += rows.map(|row| f64::from(d_dt.row(row)[head])).sum::<f64>() as f32;
    }
}

/// What all units share.
pub(super) struct Pass<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) dy: &'a Tensor,
    /// What [`shared::turned_c`] gives.
    pub(super) turned_c: &'a [u32],
    pub(super) d_xbc: Shared<'a>,
    /// The gradients by steps, `[T, H]`.
    pub(super) d_dt: Shared<'a>,
    /// Of each tree, the sum of `dt da` of each head, then that of `x dy`: `[trees, 2 H]`.
    sums: Shared<'a>,
}

/// Where one unit puts what it found for the chunks of its tree.
#[derive(Clone, Copy)]
struct Places<'a> {
    /// A row for each chunk, group and block of heads.
    found: Shared<'a>,
    len: usize,
    /// Rows from one chunk to the next.
    stride: usize,
    /// The row of the unit's group and block.
    row: usize,
}

impl<'a> Places<'a> {
    fn of_chunk(&self, chunk: usize) -> &'a mut [f32] {
        // SAFETY: the row of a chunk and a block of heads belongs to one unit, which runs once and
        // lets go of one before it asks for the next.
        unsafe { self.found.slice(chunk * self.stride + self.row, 0..self.len) }
    }
}

impl Pass<'_> {
    /// One head of one tree; the first head of a block sets what is found, others add to it.
    fn head(&self, tree: usize, head: usize, (places, is_first): (Places<'_>, bool)) {
        let (frame, plan) = (self.frame, self.frame.plan);
        let len = head_len(frame.layout);
        let count = (plan.of_tree(tree).len() + 2) * len;
        with_scratch(count + Scratch::len(frame), |words| {
            let words = &mut words.as_f32_mut()[..count + Scratch::len(frame)];
            let (states, rest) = words.split_at_mut(count);
            let (states, both) = states.split_at_mut(count - 2 * len);
            let (now, prompt) = both.split_at_mut(len);
            let mut scratch = Scratch::new(frame, rest);
            self.states((tree, head), (states, now, prompt), &mut scratch);
            let mut unit = Unit { pass: self, head, scratch, sums: [0.0; 2] };
            unit.tree(tree, (states, now, prompt), (places, is_first));
            for (col, sum) in [head, frame.layout.heads + head].into_iter().zip(unit.sums) {
                // SAFETY: a head of a tree belongs to one unit.
                let place = unsafe { self.sums.slice(tree, col..col + 1) };
                place[0] = sum as f32;
            }
        });
    }

    /// The states before the chunks of a tree, where they are not zero.
    fn states(
        &self,
        (tree, head): (usize, usize),
        (states, now, prompt): (&mut [f32], &mut [f32], &mut [f32]),
        scratch: &mut Scratch<'_>,
    ) {
        let (frame, plan) = (self.frame, self.frame.plan);
        let first = plan.of_tree(tree).start;
        for index in plan.trees[tree].clone() {
            let run = &plan.runs[index];
            if run.before.is_empty() {
                now.fill(0.0);
            } else {
                now.copy_from_slice(prompt);
            }
            let chunks = plan.of_run[index].clone();
            for chunk in chunks.clone() {
                states[(chunk - first) * now.len()..][..now.len()].copy_from_slice(now);
                if plan.is_continued(index) || chunk + 1 < chunks.end {
                    let rows = &plan.chunks[chunk];
                    let mut column = frame.steps.column(frame.cpu, rows, head);
                    for (left, dt) in column.to_end.iter_mut().zip(column.dt) {
                        *left *= dt;
                    }
                    let x = Part::of_head(frame.layout, frame.input.xbc, head);
                    lines::pack(
                        frame,
                        (x, rows, plan.chunks.get(chunk + 1)),
                        Some(&column.to_end),
                        scratch.values,
                    );
                    advance(frame, (rows, head), column.whole, (scratch.values, now));
                }
            }
            if plan.is_continued(index) {
                prompt.copy_from_slice(now);
            }
        }
    }
}

impl Unit<'_> {
    /// The chunks of a tree backwards, its branches before its prompt.
    fn tree(
        &mut self,
        tree: usize,
        (states, now, prompt): (&[f32], &mut [f32], &mut [f32]),
        (places, is_first): (Places<'_>, bool),
    ) {
        let plan = self.pass.frame.plan;
        let (first, len) = (plan.of_tree(tree).start, now.len());
        let state = |chunk: usize| &states[(chunk - first) * len..][..len];
        // Whether the gradient by the state at the prompt's end is known, and which chunk begins there.
        let mut follower = None;
        for index in plan.trees[tree].clone().rev() {
            let (run, chunks) = (&plan.runs[index], plan.of_run[index].clone());
            let dh = if run.is_prompt { &mut *prompt } else { &mut *now };
            let mut after = follower.filter(|_| run.is_prompt);
            for chunk in chunks.clone().rev() {
                let starts_at_zero = chunk == chunks.start && run.before.is_empty();
                let part = ChunkOf {
                    index: chunk,
                    rows: &plan.chunks[chunk],
                    next: chunk.checked_sub(1).map(|next| &plan.chunks[next]),
                    column: self.pass.frame.steps.column(
                        self.pass.frame.cpu,
                        &plan.chunks[chunk],
                        self.head,
                    ),
                    before: (!starts_at_zero).then(|| state(chunk)),
                    after: after.map(state),
                };
                self.chunk(&part, dh, (places.of_chunk(chunk), is_first));
                after = Some(chunk);
            }
            if !run.before.is_empty() && !chunks.is_empty() {
                match follower {
                    None => prompt.copy_from_slice(now),
                    Some(_) => self.pass.frame.cpu.run(AddAll { from: now, to: prompt }),
                }
                follower = Some(chunks.start);
            }
        }
    }
}

struct AddAll<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Loop for AddAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to += from;
        }
    }
}
