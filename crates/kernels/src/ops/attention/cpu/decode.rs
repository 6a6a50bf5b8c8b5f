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
            if rounds {
                for value in query.iter_mut() {
                    *value = to_bf16(*value);
                }
            }
            let keys = Seen { columns: keys, group, first };
            let values = Seen { columns: values, group, first };
            products(cpu, query, keys, scores);
            let total = cpu.run(Softmax { scoring, rounds, scores: &mut *scores });
            sums.fill(0.0);
            weighted_sums(cpu, scores, values, sums);
            for sum in sums.iter_mut() {
                *sum /= total;
            }
            // SAFETY: each head of each row is one unit, and a unit runs once.
            unsafe { writer.write(row, head * heads.dim, sums) };
        });
    });
}

/// The rows of a cache that a query sees, of its group of heads.
#[derive(Clone, Copy)]
struct Seen<'a> {
    columns: Columns<'a>,
    group: usize,
    /// The first row that is seen.
    first: usize,
}

impl<'a> Seen<'a> {
    /// Row `index` of those that are seen.
    #[inline(always)]
    fn row(self, index: usize) -> &'a [f32] {
        self.columns.row(self.first + index, self.group)
    }
}

/// `out[row] = query . keys[row]`, summed as [`dot`] sums.
fn products(cpu: Cpu, query: &[f32], keys: Seen<'_>, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::takes(cpu, query.len()) {
        // SAFETY: the features are present where a `Cpu` has these sets.
        unsafe { x86::products(query, keys, out) };
        return;
    }
    cpu.run(Products { query, keys, out });
}

struct Products<'a> {
    /// `[D]`.
    query: &'a [f32],
    keys: Seen<'a>,
    out: &'a mut [f32],
}

impl Loop for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (row, out) in self.out.iter_mut().enumerate() {
            *out = dot(self.query, self.keys.row(row));
        }
    }
}

/// From products to probabilities, not yet divided by their sum, which is returned.
struct Softmax<'a> {
    scoring: Scoring,
    /// Whether factors of products are rounded to bf16; the cache is already.
    rounds: bool,
    /// One place for each row that is seen.
    scores: &'a mut [f32],
}

impl Loop for Softmax<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let mut max = f32::NEG_INFINITY;
        for score in self.scores.iter_mut() {
            *score *= self.scoring.scale;
            if let Some(cap) = self.scoring.softcap {
                *score = cap * tanh(*score / cap);
            }
            max = if *score > max { *score } else { max };
        }
        for score in self.scores.iter_mut() {
            *score = exp(*score - max);
        }
        let mut total = 0.0;
        for score in self.scores.iter_mut() {
            total += *score;
            *score = if self.rounds { to_bf16(*score) } else { *score };
        }
        total
    }
}

/// `sums += sum over rows of p[row] * values[row]`, row after row.
fn weighted_sums(cpu: Cpu, p: &[f32], values: Seen<'_>, sums: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::takes(cpu, sums.len()) {
        // SAFETY: the features are present where a `Cpu` has these sets.
        unsafe { x86::weighted_sums(p, values, sums) };
        return;
    }
    cpu.run(WeightedSums { p, values, sums });
}

struct WeightedSums<'a> {
    p: &'a [f32],
    values: Seen<'a>,
    /// `[D]`.
    sums: &'a mut [f32],
}

impl Loop for WeightedSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (row, &p) in self.p.iter().enumerate() {
            for (sum, value) in self.sums.iter_mut().zip(self.values.row(row)) {
                *sum += p * value;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The same in vector registers: no instruction is contracted, and no sum has another order.

    use std::arch::x86_64::{
        _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm512_add_ps, _mm512_castps512_ps256,
        _mm512_extractf32x8_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    use super::Seen;
    use crate::cpu::{Cpu, Isa};

    /// The lanes of [`super::dot`]: two vectors.
    const LANES: usize = 32;
    /// How many rows ahead a row is asked for.
    const AHEAD: usize = 8;

    /// Whether heads of this width are taken here.
    pub(super) fn takes(cpu: Cpu, dim: usize) -> bool {
        matches!(cpu.isa(), Isa::Avx512Bf16 | Isa::Avx512) && dim.is_multiple_of(LANES)
    }

    #[target_feature(enable = "avx512f,avx512dq,avx2")]
    pub(super) fn products(query: &[f32], keys: Seen<'_>, out: &mut [f32]) {
        let count = out.len();
        for (row, out) in out.iter_mut().enumerate() {
            if row + AHEAD < count {
                keys.columns.prefetch(keys.first + row + AHEAD, keys.group);
            }
            let mut lanes = [_mm512_setzero_ps(); 2];
            let key = keys.row(row).as_chunks::<LANES>().0;
            for (query, key) in query.as_chunks::<LANES>().0.iter().zip(key) {
                for (half, lanes) in lanes.iter_mut().enumerate() {
                    // SAFETY: 16 values of 32.
                    let (query, key) = unsafe {
                        (
                            _mm512_loadu_ps(query.as_ptr().add(16 * half)),
                            _mm512_loadu_ps(key.as_ptr().add(16 * half)),
                        )
                    };
                    *lanes = _mm512_add_ps(*lanes, _mm512_mul_ps(query, key));
                }
            }
            let sum = _mm512_add_ps(lanes[0], lanes[1]);
            let (low, high) = (_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum));
            let sum = _mm256_add_ps(low, high);
            let (low, high) = (_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
            let sum = _mm_add_ps(low, high);
            let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
            *out = _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps::<1>(sum, sum)));
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn weighted_sums(p: &[f32], values: Seen<'_>, sums: &mut [f32]) {
        let count = p.len();
        for (part, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            // SAFETY: 16 values of 32 each.
            let mut lanes =
                unsafe { [_mm512_loadu_ps(sums.as_ptr()), _mm512_loadu_ps(sums.as_ptr().add(16))] };
            for (row, p) in p.iter().enumerate() {
                if part == 0 && row + AHEAD < count {
                    values.columns.prefetch(values.first + row + AHEAD, values.group);
                }
                let p = _mm512_set1_ps(*p);
                let value = &values.row(row)[part * LANES..(part + 1) * LANES];
                for (half, lanes) in lanes.iter_mut().enumerate() {
                    // SAFETY: 16 values of 32.
                    let value = unsafe { _mm512_loadu_ps(value.as_ptr().add(16 * half)) };
                    *lanes = _mm512_add_ps(*lanes, _mm512_mul_ps(p, value));
                }
            }
            // SAFETY: 16 values of 32 each.
            unsafe {
                _mm512_storeu_ps(sums.as_mut_ptr(), lanes[0]);
                _mm512_storeu_ps(sums.as_mut_ptr().add(16), lanes[1]);
            }
        }
    }
}
