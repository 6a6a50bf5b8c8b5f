//! The scan in chunks, over any float: the algorithm of the fast version in plain loops.
//!
//! In a chunk, `cum_i` is the sum of `A dt` up to and with row `i`, `xd_j = dt_j x_j`, and with the
//! state `h0` before the chunk and `h1` after it (Dao and Gu 2024, arXiv:2405.21060, section 6):
//!
//! ```text
//! S_ij = C_i . B_j                                  shared by the heads of a group
//! E_ij = exp(cum_i - cum_j)                         j <= i
//! y_i  = sum_j E_ij S_ij xd_j + exp(cum_i) C_i h0 + D x_i
//! h1   = exp(cum_last) h0 + sum_j exp(cum_last - cum_j) B_j (outer) xd_j
//! ```
//!
//! Backwards, from `dy` and the gradient `dh1` by the state after the chunk:
//!
//! ```text
//! dxd_j  = exp(cum_last - cum_j) B_j dh1 + sum_i E_ij S_ij dy_i
//! dS_ij  = E_ij (dy_i . xd_j)
//! dC_i   = sum_j dS_ij B_j + exp(cum_i) h0 dy_i
//! dB_j   = sum_i dS_ij C_i + exp(cum_last - cum_j) dh1 xd_j
//! dh0    = exp(cum_last) dh1 + sum_i exp(cum_i) C_i (outer) dy_i
//! ```
//!
//! The gradient by `A dt_k` is that of all that passes from before row `k` to it or further. Summed
//! so, nothing cancels but what has two signs:
//!
//! ```text
//! da_k = sum_(j < k <= i) dS_ij S_ij + sum_(k <= i) exp(cum_i) dy_i C_i h0
//!        + sum_(j < k) exp(cum_last - cum_j) xd_j B_j dh1 + exp(cum_last) <h0, dh1>
//! ```

use std::ops::Range;

use super::reference::{Gradients, Problem};
use crate::Real;
use crate::branches::Run;

/// One chunk of one head.
struct Chunk<'a, R> {
    problem: &'a Problem<'a, R>,
    head: usize,
    rows: Range<usize>,
    /// The step of each row.
    dt: Vec<R>,
    /// The sum of `A dt` up to and with each row.
    cum: Vec<R>,
}

impl<'a, R: Real> Chunk<'a, R> {
    fn new(problem: &'a Problem<'a, R>, head: usize, rows: Range<usize>) -> Self {
        let dt: Vec<R> = rows.clone().map(|row| problem.step(row, head)).collect();
        let mut sum = R::ZERO;
        let decay = problem.decay(head);
        let mut add = |dt: &R| {
            sum += decay * *dt;
            sum
        };
        let cum = dt.iter().map(&mut add).collect();
        Self { problem, head, rows, dt, cum }
    }

    fn len(&self) -> usize {
        self.dt.len()
    }

    fn dim(&self) -> usize {
        self.problem.layout.dim
    }

    /// Where `x`, `B` and `C` of a row of the chunk begin.
    fn places(&self, i: usize) -> [usize; 3] {
        self.problem.places(self.rows.start + i, self.head)
    }

    fn scores(&self, i: usize, j: usize) -> R {
        let ([_, _, c], [_, b, _]) = (self.places(i), self.places(j));
        let xbc = self.problem.xbc;
        (0..self.problem.layout.state).fold(R::ZERO, |sum, n| sum + xbc[c + n] * xbc[b + n])
    }

    fn kept(&self, i: usize, j: usize) -> R {
        (self.cum[i] - self.cum[j]).exp()
    }

    /// How much of a row's state is left at the chunk's end.
    fn left(&self, j: usize) -> R {
        self.kept(self.len() - 1, j)
    }

    /// `y` without the part that passes by the state.
    fn outputs(&self, before: &[R]) -> Vec<R> {
        let (dim, xbc) = (self.dim(), self.problem.xbc);
        let mut y = vec![R::ZERO; self.len() * dim];
        for i in 0..self.len() {
            let c = self.places(i)[2];
            for p in 0..dim {
                for n in 0..self.problem.layout.state {
                    y[i * dim + p] += self.cum[i].exp() * xbc[c + n] * before[n * dim + p];
                }
            }
            for j in 0..=i {
                let weight = self.kept(i, j) * self.scores(i, j) * self.dt[j];
                let x = self.places(j)[0];
                for p in 0..dim {
                    y[i * dim + p] += weight * xbc[x + p];
                }
            }
        }
        y
    }

    fn state_after(&self, before: &[R]) -> Vec<R> {
        let (dim, xbc) = (self.dim(), self.problem.xbc);
        let all = self.cum[self.len() - 1].exp();
        let mut state: Vec<R> = before.iter().map(|value| all * *value).collect();
        for j in 0..self.len() {
            let [x, b, _] = self.places(j);
            for (at, state) in state.iter_mut().enumerate() {
                *state += self.left(j) * self.dt[j] * xbc[b + at / dim] * xbc[x + at % dim];
            }
        }
        state
    }

    /// Adds the gradients; `dh` is that by the state after the chunk, and becomes that before it.
    fn backward(&self, before: &[R], (dy, dh): (&[R], &mut Vec<R>), into: &mut Gradients<R>) {
        let (dim, len, xbc) = (self.dim(), self.len(), self.problem.xbc);
        let found = self.products(before, (dy, dh), into);
        let (decay, all) = (self.problem.decay(self.head), self.cum[len - 1].exp());
        let through = before.iter().zip(dh.iter()).fold(R::ZERO, |sum, (h, dh)| sum + *h * *dh);
        for k in 0..len {
            let mut d_decayed = all * through;
            for i in k..len {
                d_decayed += found.read[i];
                for j in 0..k {
                    d_decayed += found.pairs[i * len + j];
                }
            }
            for left in &found.left[..k] {
                d_decayed += *left;
            }
            into.a_log[self.head] += decay * self.dt[k] * d_decayed;
            let (x, at) = (self.places(k)[0], k * dim);
            let taken = (0..dim).fold(R::ZERO, |sum, p| sum + xbc[x + p] * found.values[at + p]);
            let row = self.rows.start + k;
            self.problem.step_gradient((row, self.head), decay * d_decayed + taken, into);
            for p in 0..dim {
                let passed = self.problem.d[self.head] * dy[at + p];
                into.xbc[x + p] += self.dt[k] * found.values[at + p] + passed;
                into.d[self.head] += dy[at + p] * xbc[x + p];
            }
        }
        for (at, dh) in dh.iter_mut().enumerate() {
            *dh = all * *dh;
            for i in 0..len {
                let c = self.places(i)[2];
                *dh += self.cum[i].exp() * xbc[c + at / dim] * dy[i * dim + at % dim];
            }
        }
    }

    /// Adds the gradients by `B` and `C`, and returns what else is needed.
    fn products(&self, before: &[R], (dy, dh): (&[R], &[R]), into: &mut Gradients<R>) -> Found<R> {
        let (dim, len, xbc) = (self.dim(), self.len(), self.problem.xbc);
        let mut found = Found::zeros(len, dim);
        for j in 0..len {
            let [x, b, c] = self.places(j);
            for n in 0..self.problem.layout.state {
                for p in 0..dim {
                    let (at, value) = (j * dim + p, self.dt[j] * xbc[x + p]);
                    let by_b = self.left(j) * dh[n * dim + p] * value;
                    let by_c = self.cum[j].exp() * before[n * dim + p] * dy[at];
                    found.values[at] += self.left(j) * xbc[b + n] * dh[n * dim + p];
                    found.left[j] += xbc[b + n] * by_b;
                    found.read[j] += xbc[c + n] * by_c;
                    into.xbc[b + n] += by_b;
                    into.xbc[c + n] += by_c;
                }
            }
            for i in j..len {
                let ([_, _, c], kept) = (self.places(i), self.kept(i, j));
                let score = self.scores(i, j);
                let mut d_score = R::ZERO;
                for p in 0..dim {
                    found.values[j * dim + p] += kept * score * dy[i * dim + p];
                    d_score += kept * dy[i * dim + p] * self.dt[j] * xbc[x + p];
                }
                found.pairs[i * len + j] = d_score * score;
                for n in 0..self.problem.layout.state {
                    into.xbc[c + n] += d_score * xbc[b + n];
                    into.xbc[b + n] += d_score * xbc[c + n];
                }
            }
        }
        found
    }
}

/// What the gradients of a chunk's products leave for others.
struct Found<R> {
    /// The gradient by `xd`, `[len, P]`.
    values: Vec<R>,
    /// `dS_ij S_ij`, `[len, len]`.
    pairs: Vec<R>,
    /// What each row reads of the state before the chunk, times its gradient.
    read: Vec<R>,
    /// What each row leaves in the state after the chunk, times its gradient.
    left: Vec<R>,
}

impl<R: Real> Found<R> {
    fn zeros(len: usize, dim: usize) -> Self {
        let zeros = |count: usize| vec![R::ZERO; count];
        Self {
            values: zeros(len * dim),
            pairs: zeros(len * len),
            read: zeros(len),
            left: zeros(len),
        }
    }
}

/// The chunks of a run.
fn chunks<'a, R: Real>(
    problem: &'a Problem<'a, R>,
    head: usize,
    (run, chunk): (&Run, usize),
) -> Vec<Chunk<'a, R>> {
    let end = run.rows.end;
    let starts = run.rows.clone().step_by(chunk);
    starts.map(|start| Chunk::new(problem, head, start..end.min(start + chunk))).collect()
}

/// The states of a head before each chunk of each run, and after the last.
fn states<R: Real>(problem: &Problem<'_, R>, head: usize, chunk: usize) -> Vec<Vec<Vec<R>>> {
    let mut states: Vec<Vec<Vec<R>>> = Vec::new();
    let mut prompt = 0;
    for (index, run) in problem.branches.runs().enumerate() {
        if run.is_prompt {
            prompt = index;
        }
        let zeros = || vec![R::ZERO; problem.layout.state * problem.layout.dim];
        let first = states.get(prompt).and_then(|states| states.last().cloned());
        let mut now = vec![first.unwrap_or_else(zeros)];
        for chunk in chunks(problem, head, (&run, chunk)) {
            now.push(chunk.state_after(&now[now.len() - 1]));
        }
        states.push(now);
    }
    states
}

/// The scanned rows `[T, H P]`, in chunks of at most `chunk` rows.
pub fn forward<R: Real>(problem: Problem<'_, R>, chunk: usize) -> Vec<R> {
    let (heads, dim) = (problem.layout.heads, problem.layout.dim);
    let mut y = vec![R::ZERO; problem.branches.rows() * heads * dim];
    for head in 0..heads {
        let states = states(&problem, head, chunk);
        for (run, states) in problem.branches.runs().zip(states) {
            for (chunk, before) in chunks(&problem, head, (&run, chunk)).iter().zip(states) {
                let out = chunk.outputs(&before);
                for (i, values) in out.chunks_exact(dim).enumerate() {
                    let (row, x) = (chunk.rows.start + i, chunk.places(i)[0]);
                    for (p, value) in values.iter().enumerate() {
                        let passed = problem.d[head] * problem.xbc[x + p];
                        y[(row * heads + head) * dim + p] = *value + passed;
                    }
                }
            }
        }
    }
    y
}

/// The gradients for the gradient `dy [T, H P]` by the result, in chunks of at most `chunk` rows.
pub fn backward<R: Real>(problem: Problem<'_, R>, dy: &[R], chunk: usize) -> Gradients<R> {
    let mut gradients = Gradients::zeros(&problem);
    let (heads, dim) = (problem.layout.heads, problem.layout.dim);
    let runs: Vec<Run> = problem.branches.runs().collect();
    for head in 0..heads {
        let states = states(&problem, head, chunk);
        let zeros = || vec![R::ZERO; problem.layout.state * dim];
        let mut at_prompt_end: Vec<Vec<R>> =
            problem.branches.trees.iter().map(|_| zeros()).collect();
        for (run, states) in runs.iter().zip(&states).rev() {
            let collected = at_prompt_end[run.tree].clone();
            let mut dh = if run.is_prompt { collected } else { zeros() };
            for (chunk, before) in chunks(&problem, head, (run, chunk)).iter().zip(states).rev() {
                let rows = chunk.rows.clone();
                let dy: Vec<R> =
                    rows.flat_map(|row| dy[(row * heads + head) * dim..][..dim].to_vec()).collect();
                chunk.backward(before, (&dy, &mut dh), &mut gradients);
            }
            if !run.is_prompt {
                for (sum, dh) in at_prompt_end[run.tree].iter_mut().zip(dh) {
                    *sum += dh;
                }
            }
        }
    }
    gradients
}
