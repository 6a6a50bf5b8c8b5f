//! The scan a row at a time, over any float.

use super::Layout;
use crate::branches::Run;
use crate::{Branches, Real};

/// What the scan reads.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, R> {
    /// The trees of the rows.
    pub branches: &'a Branches,
    /// The division of columns.
    pub layout: Layout,
    /// The least and the largest step.
    pub limit: (R, R),
    /// `x`, `B` and `C`, `[T, H P + 2 G N]`.
    pub xbc: &'a [R],
    /// The raw steps, `[T, H]`.
    pub dt: &'a [R],
    /// `[H]`.
    pub a_log: &'a [R],
    /// `[H]`.
    pub d: &'a [R],
    /// `[H]`.
    pub dt_bias: &'a [R],
}

/// The gradients of the scan.
#[derive(Clone, Debug)]
pub struct Gradients<R> {
    /// By `x`, `B` and `C`, `[T, H P + 2 G N]`.
    pub xbc: Vec<R>,
    /// By the raw steps, `[T, H]`.
    pub dt: Vec<R>,
    /// By `a_log`, `[H]`.
    pub a_log: Vec<R>,
    /// By `d`, `[H]`.
    pub d: Vec<R>,
    /// By `dt_bias`, `[H]`.
    pub dt_bias: Vec<R>,
}

impl<R: Real> Gradients<R> {
    /// Zeros of a problem's shape.
    pub(super) fn zeros(problem: &Problem<'_, R>) -> Self {
        let heads = || vec![R::ZERO; problem.layout.heads];
        Self {
            xbc: vec![R::ZERO; problem.xbc.len()],
            dt: vec![R::ZERO; problem.dt.len()],
            a_log: heads(),
            d: heads(),
            dt_bias: heads(),
        }
    }
}

impl<R: Real> Problem<'_, R> {
    /// The places among `xbc` where a row's `x` of a head, its `B` and its `C` begin.
    pub(super) fn places(&self, row: usize, head: usize) -> [usize; 3] {
        let Layout { heads, dim, groups, state } = self.layout;
        let group = head / (heads / groups);
        let start = row * self.layout.xbc_cols();
        let b = start + self.layout.inner() + group * state;
        [start + head * dim, b, b + groups * state]
    }

    /// The decay of a head, below 0.
    pub(super) fn decay(&self, head: usize) -> R {
        -self.a_log[head].exp()
    }

    /// The step of a row and head before the limits, and its slope by the raw step.
    fn softplus(&self, row: usize, head: usize) -> (R, R) {
        let raw = self.dt[row * self.layout.heads + head] + self.dt_bias[head];
        let small = (-raw.abs()).exp();
        (raw.max(R::ZERO) + (R::ONE + small).ln(), R::ONE / (R::ONE + (-raw).exp()))
    }

    /// The step of a row and head.
    pub(super) fn step(&self, row: usize, head: usize) -> R {
        let step = self.softplus(row, head).0.max(self.limit.0);
        if step > self.limit.1 { self.limit.1 } else { step }
    }

    /// Adds the gradient `d_step` by a step to those by what it is made of.
    pub(super) fn step_gradient(
        &self,
        (row, head): (usize, usize),
        d_step: R,
        into: &mut Gradients<R>,
    ) {
        let (step, slope) = self.softplus(row, head);
        if self.limit.0 <= step && step <= self.limit.1 {
            into.dt[row * self.layout.heads + head] += d_step * slope;
            into.dt_bias[head] += d_step * slope;
        }
    }

    /// The state of a head after each row `[N, P]`, in the order of the rows.
    fn states(&self, head: usize) -> Vec<Vec<R>> {
        let Layout { dim, state, .. } = self.layout;
        let mut states = vec![Vec::new(); self.branches.rows()];
        for run in self.branches.runs() {
            for row in run.rows.clone() {
                let before = self.before(&run, row, &states);
                let ([x, b, _], step) = (self.places(row, head), self.step(row, head));
                let kept = (self.decay(head) * step).exp();
                let value = |at: usize| {
                    let (n, p) = (at / dim, at % dim);
                    kept * before[at] + step * self.xbc[b + n] * self.xbc[x + p]
                };
                states[row] = (0..state * dim).map(value).collect();
            }
        }
        states
    }

    /// The state before a row, of those after each.
    fn before(&self, run: &Run, row: usize, states: &[Vec<R>]) -> Vec<R> {
        if run.rows.start < row {
            states[row - 1].clone()
        } else if run.before.is_empty() {
            vec![R::ZERO; self.layout.state * self.layout.dim]
        } else {
            states[run.before.end - 1].clone()
        }
    }
}

/// The scanned rows `[T, H P]`.
pub fn forward<R: Real>(problem: Problem<'_, R>) -> Vec<R> {
    let Layout { heads, dim, state, .. } = problem.layout;
    let mut y = vec![R::ZERO; problem.branches.rows() * heads * dim];
    for head in 0..heads {
        let states = problem.states(head);
        for row in problem.branches.runs().flat_map(|run| run.rows) {
            let [x, _, c] = problem.places(row, head);
            for p in 0..dim {
                let mut sum = problem.d[head] * problem.xbc[x + p];
                for n in 0..state {
                    sum += problem.xbc[c + n] * states[row][n * dim + p];
                }
                y[(row * heads + head) * dim + p] = sum;
            }
        }
    }
    y
}

/// The gradients for the gradient `dy [T, H P]` by the result.
pub fn backward<R: Real>(problem: Problem<'_, R>, dy: &[R]) -> Gradients<R> {
    let mut gradients = Gradients::zeros(&problem);
    let runs: Vec<Run> = problem.branches.runs().collect();
    let len = problem.layout.state * problem.layout.dim;
    for head in 0..problem.layout.heads {
        let states = problem.states(head);
        let mut at_prompt_end = vec![vec![R::ZERO; len]; problem.branches.trees.len()];
        // Branches come after their prompt, so backwards they come first.
        for run in runs.iter().rev() {
            let collected = at_prompt_end[run.tree].clone();
            let mut dh = if run.is_prompt { collected } else { vec![R::ZERO; len] };
            for row in run.rows.clone().rev() {
                let before = problem.before(run, row, &states);
                let now = (&states[row][..], &before[..]);
                row_backward(&problem, (row, head), now, (dy, &mut dh), &mut gradients);
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

/// One row of one head; `dh` is the gradient by the state after it, and becomes that before it.
fn row_backward<R: Real>(
    problem: &Problem<'_, R>,
    (row, head): (usize, usize),
    (after, before): (&[R], &[R]),
    (dy, dh): (&[R], &mut [R]),
    into: &mut Gradients<R>,
) {
    let Layout { heads, dim, state, .. } = problem.layout;
    let [x, b, c] = problem.places(row, head);
    let dy = &dy[(row * heads + head) * dim..][..dim];
    let (step, decay) = (problem.step(row, head), problem.decay(head));
    let kept = (decay * step).exp();
    let (mut d_step, mut d_decay) = (R::ZERO, R::ZERO);
    for (p, dy) in dy.iter().enumerate() {
        into.xbc[x + p] += problem.d[head] * *dy;
        into.d[head] += problem.xbc[x + p] * *dy;
    }
    for n in 0..state {
        for (p, dy) in dy.iter().enumerate() {
            let at = n * dim + p;
            into.xbc[c + n] += after[at] * *dy;
            dh[at] += problem.xbc[c + n] * *dy;
            let taken = problem.xbc[b + n] * problem.xbc[x + p];
            into.xbc[x + p] += step * problem.xbc[b + n] * dh[at];
            into.xbc[b + n] += step * problem.xbc[x + p] * dh[at];
            d_step += taken * dh[at] + decay * kept * before[at] * dh[at];
            d_decay += step * kept * before[at] * dh[at];
            dh[at] = kept * dh[at];
        }
    }
    into.a_log[head] += decay * d_decay;
    problem.step_gradient((row, head), d_step, into);
}
