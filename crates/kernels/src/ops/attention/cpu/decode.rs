//! Attention from a few new rows to a cache, or from many.

use super::super::segments::of_branches;
use super::super::{KvCache, Scoring};
use super::forward::{self, Queries};
use super::{Columns, Frame};
use crate::cpu::exp::exp;
use crate::cpu::lanes::dot;
use crate::cpu::round::{Rounding, to_bf16};
use crate::cpu::tanh::tanh;
use crate::cpu::team;
use crate::cpu::words::with_scratch;
use crate::cpu::{Cpu, Loop};
use crate::{Branches, Operand, Tensor, Tree};

/// From this many rows on, packing the cache pays.
pub(in super::super) const PACKED_ROWS: usize = 16;

/// Writes the attended values of the cache's last `qkv.rows()` rows.
pub(in super::super) fn decode(
    cpu: Cpu,
    qkv: &Tensor,
    (cache, scoring): (&KvCache, Scoring),
    out: &mut Operand,
) {
    let heads = cache.heads();
    let before = cache.len() - qkv.rows();
    if qkv.rows() >= PACKED_ROWS {
        let [queries, ..] = Columns::of_tensor(qkv, heads);
        // The rows of the cache are a prompt, the new ones its only branch.
        let tree = Tree { start: 0, prompt: before, completions: vec![qkv.rows()] };
        let segments = of_branches(&Branches::new(vec![tree]));
        let frame = Frame::new((cpu, out.rounding()), heads, scoring, &segments);
        let queries = Queries { columns: queries, row: before, segments: &segments[1..] };
        forward::forward(&frame, queries, columns(cache), (out, None));
        return;
    }
    each_row(cpu, qkv, scoring, |row| (cache, before + row + 1), out);
}

/// Writes the attended values of the last row of each cache.
pub(in super::super) fn decode_each(
    cpu: Cpu,
    qkv: &Tensor,
    (caches, scoring): (&[&KvCache], Scoring),
    out: &mut Operand,
) {
    each_row(cpu, qkv, scoring, |row| (caches[row], caches[row].len()), out);
}

/// The keys and the values of a cache.
fn columns(cache: &KvCache) -> [Columns<'_>; 2] {
    [cache.keys(), cache.values()].map(|values| Columns {
        values,
        stride: cache.cols(),
        first: 0,
        dim: cache.heads().dim,
    })
}

/// Attends from each row by itself; `cache_of` gives its cache and how many rows of that it sees.
fn each_row<'a>(
    cpu: Cpu,
    qkv: &Tensor,
    scoring: Scoring,
    cache_of: impl Fn(usize) -> (&'a KvCache, usize) + Sync,
    out: &mut Operand,
) {
    let heads = cache_of(0).0.heads();
    let [queries, ..] = Columns::of_tensor(qkv, heads);
    let frame = Frame::new((cpu, out.rounding()), heads, scoring, &[]);
    let writer = out.writer();
    team::for_each(qkv.rows() * heads.query, |unit| {
        let (row, head) = (unit / heads.query, unit % heads.query);
        let (cache, seen) = cache_of(row);
        let [keys, values] = columns(cache);
        let first = scoring.first_seen(seen - 1);
        with_scratch(seen - first + 2 * heads.dim, |scratch| {
            let (scores, rest) = scratch.as_f32_mut().split_at_mut(seen - first);
            let (query, rest) = rest.split_at_mut(heads.dim);
            let sums = &mut rest[..heads.dim];
            query.copy_from_slice(queries.row(row, head));
            let group = frame.group(head);
            let rounds = frame.rounding != Rounding::Exact;
            cpu.run(Step { scoring, rounds, group, keys, values, first, query, scores, sums });
            // SAFETY: each head of each row is one unit, and a unit runs once.
            unsafe { writer.write(row, head * heads.dim, sums) };
        });
    });
}

/// Rows of values that are added at a time.
const ROWS: usize = 8;

/// One head of one row.
struct Step<'a> {
    scoring: Scoring,
    /// Whether factors of products are rounded to bf16; the cache is already.
    rounds: bool,
    group: usize,
    keys: Columns<'a>,
    values: Columns<'a>,
    /// The first row that is seen.
    first: usize,
    /// `[D]`.
    query: &'a mut [f32],
    /// One place for each row that is seen.
    scores: &'a mut [f32],
    /// `[D]`.
    sums: &'a mut [f32],
}

impl Loop for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        if self.rounds {
            for value in self.query.iter_mut() {
                *value = to_bf16(*value);
            }
        }
        let mut max = f32::NEG_INFINITY;
        for (row, score) in (self.first..).zip(self.scores.iter_mut()) {
            *score = self.scoring.scale * dot(self.query, self.keys.row(row, self.group));
            if let Some(cap) = self.scoring.softcap {
                *score = cap * tanh(*score / cap);
            }
            max = if *score > max { *score } else { max };
        }
        for score in self.scores.iter_mut() {
            *score = exp(*score - max);
        }
        self.sums.fill(0.0);
        let mut total = 0.0;
        for score in self.scores.iter_mut() {
            total += *score;
            *score = if self.rounds { to_bf16(*score) } else { *score };
        }
        // Several rows at a time: the sums are read and written once for all of them.
        let (whole, rest) = self.scores.as_chunks::<ROWS>();
        for (part, p) in whole.iter().enumerate() {
            let first = self.first + part * ROWS;
            let rows: [&[f32]; ROWS] = std::array::from_fn(|row| {
                &self.values.row(first + row, self.group)[..self.sums.len()]
            });
            for (column, sum) in self.sums.iter_mut().enumerate() {
                for (row, p) in rows.iter().zip(p) {
                    *sum += p * row[column];
                }
            }
        }
        for (row, p) in (self.first + whole.len() * ROWS..).zip(rest) {
            for (sum, value) in self.sums.iter_mut().zip(self.values.row(row, self.group)) {
                *sum += p * value;
            }
        }
        for sum in self.sums.iter_mut() {
            *sum /= total;
        }
    }
}
