//! Attention in plain loops, over any float.

use super::segments::of_branches;
use crate::{Branches, Heads, Real};

/// Where the parts of a row of `qkv` begin, and what is asked of them.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, R> {
    /// The trees of the rows.
    pub branches: &'a Branches,
    /// The division of columns into heads.
    pub heads: Heads,
    /// What scores are multiplied by.
    pub scale: R,
    /// The limit that scores bend towards, if there is one.
    pub softcap: Option<R>,
    /// How many rows a row sees, itself too; all before it if absent.
    pub window: Option<usize>,
}

impl<R: Real> Problem<'_, R> {
    /// The columns of a row where query head `h`, its key head and its value head begin.
    fn columns(&self, head: usize) -> [usize; 3] {
        let Heads { query, key_value, dim } = self.heads;
        let group = head / (query / key_value);
        [head * dim, (query + group) * dim, (query + key_value + group) * dim]
    }

    /// The places that each row sees, itself last.
    fn visible(&self) -> Vec<Vec<usize>> {
        let mut visible = vec![Vec::new(); self.branches.rows()];
        for segment in of_branches(self.branches) {
            for row in segment.rows.clone() {
                let seen = segment.before.clone().chain(segment.rows.start..=row);
                let all = seen.clone().count();
                visible[row] = seen.skip(all - all.min(self.window.unwrap_or(all))).collect();
            }
        }
        visible
    }

    fn scores(&self, qkv: &[R], row: usize, (head, seen): (usize, &[usize])) -> Vec<R> {
        let (cols, [q, k, _]) = (self.heads.qkv_cols(), self.columns(head));
        let product = |key: usize| {
            let mut sum = R::ZERO;
            for d in 0..self.heads.dim {
                sum += qkv[row * cols + q + d] * qkv[key * cols + k + d];
            }
            self.scale * sum
        };
        let cap = |score: R| self.softcap.map_or(score, |cap| cap * (score / cap).tanh());
        seen.iter().map(|&key| cap(product(key))).collect()
    }

    /// The slope of a capped score by the score before.
    fn slope(&self, capped: R) -> R {
        self.softcap.map_or(R::ONE, |cap| R::ONE - (capped / cap) * (capped / cap))
    }
}

/// The attended values `[T, H D]` and the logarithms of the sums `[T, H]`.
pub fn forward<R: Real>(problem: Problem<'_, R>, qkv: &[R]) -> (Vec<R>, Vec<R>) {
    let Heads { query, dim, .. } = problem.heads;
    let cols = problem.heads.qkv_cols();
    let rows = problem.branches.rows();
    let (mut out, mut lse) = (vec![R::ZERO; rows * query * dim], vec![R::ZERO; rows * query]);
    for (row, seen) in problem.visible().iter().enumerate() {
        for head in 0..query {
            let scores = problem.scores(qkv, row, (head, seen));
            let max = scores.iter().copied().fold(scores[0], R::max);
            let mut sum = R::ZERO;
            for &score in &scores {
                sum += (score - max).exp();
            }
            lse[row * query + head] = max + sum.ln();
            let v = problem.columns(head)[2];
            for (&key, &score) in seen.iter().zip(&scores) {
                let p = (score - max).exp() / sum;
                for d in 0..dim {
                    out[(row * query + head) * dim + d] += p * qkv[key * cols + v + d];
                }
            }
        }
    }
    (out, lse)
}

/// The gradient by `qkv` for the gradient `d_out` by the attended values.
///
/// `out` and `lse` are what [`forward`] gave; `out` may have been rounded since.
pub fn backward<R: Real>(
    problem: Problem<'_, R>,
    qkv: &[R],
    (out, lse): (&[R], &[R]),
    d_out: &[R],
) -> Vec<R> {
    let Heads { query, dim, .. } = problem.heads;
    let cols = problem.heads.qkv_cols();
    let mut d_qkv = vec![R::ZERO; qkv.len()];
    for (row, seen) in problem.visible().iter().enumerate() {
        for head in 0..query {
            let [q, k, v] = problem.columns(head);
            let at = (row * query + head) * dim;
            let (d_out, out) = (&d_out[at..at + dim], &out[at..at + dim]);
            let mut mean = R::ZERO;
            for (&d_out, &out) in d_out.iter().zip(out) {
                mean += d_out * out;
            }
            let scores = problem.scores(qkv, row, (head, seen));
            for (&key, score) in seen.iter().zip(scores) {
                let p = (score - lse[row * query + head]).exp();
                let mut dp = R::ZERO;
                for d in 0..dim {
                    dp += d_out[d] * qkv[key * cols + v + d];
                    d_qkv[key * cols + v + d] += p * d_out[d];
                }
                let ds = problem.scale * p * (dp - mean) * problem.slope(score);
                for d in 0..dim {
                    d_qkv[row * cols + q + d] += ds * qkv[key * cols + k + d];
                    d_qkv[key * cols + k + d] += ds * qkv[row * cols + q + d];
                }
            }
        }
    }
    d_qkv
}
