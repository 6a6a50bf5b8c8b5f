//! The convolution in plain loops, over rows of any float.

use crate::branches::Run;
use crate::{Branches, Real};

/// What the convolution reads.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, R> {
    /// The trees of the rows.
    pub branches: &'a Branches,
    /// `[T, C]`.
    pub x: &'a [R],
    /// `[C, K]`.
    pub weight: &'a [R],
    /// `[C]`.
    pub bias: &'a [R],
}

/// The gradients of the convolution.
#[derive(Clone, Debug)]
pub struct Gradients<R> {
    /// By `x`, `[T, C]`.
    pub x: Vec<R>,
    /// By the weight, `[C, K]`.
    pub weight: Vec<R>,
    /// By the bias, `[C]`.
    pub bias: Vec<R>,
}

impl<R: Real> Problem<'_, R> {
    fn channels(&self) -> usize {
        self.bias.len()
    }

    fn taps(&self) -> usize {
        self.weight.len() / self.channels()
    }

    /// The row that a tap of a run's row sees, if it exists.
    fn source(&self, run: &Run, row: usize, tap: usize) -> Option<usize> {
        let back = self.taps() - 1 - tap;
        let own = row - run.rows.start;
        if back <= own {
            return Some(row - back);
        }
        (run.before.end - run.before.start)
            .checked_sub(back - own)
            .map(|place| run.before.start + place)
    }

    fn pre(&self, run: &Run, row: usize, channel: usize) -> R {
        let (channels, taps) = (self.channels(), self.taps());
        let mut sum = self.bias[channel];
        for tap in 0..taps {
            if let Some(source) = self.source(run, row, tap) {
                sum += self.weight[channel * taps + tap] * self.x[source * channels + channel];
            }
        }
        sum
    }
}

/// The convolved channels `[T, C]`.
pub fn forward<R: Real>(problem: Problem<'_, R>) -> Vec<R> {
    let channels = problem.channels();
    let mut y = vec![R::ZERO; problem.x.len()];
    for run in problem.branches.runs() {
        for row in run.rows.clone() {
            for channel in 0..channels {
                let pre = problem.pre(&run, row, channel);
                y[row * channels + channel] = pre / (R::ONE + (-pre).exp());
            }
        }
    }
    y
}

/// The gradients for the gradient `dy [T, C]` by the result.
pub fn backward<R: Real>(problem: Problem<'_, R>, dy: &[R]) -> Gradients<R> {
    let (channels, taps) = (problem.channels(), problem.taps());
    let mut gradients = Gradients {
        x: vec![R::ZERO; problem.x.len()],
        weight: vec![R::ZERO; problem.weight.len()],
        bias: vec![R::ZERO; channels],
    };
    for run in problem.branches.runs() {
        for row in run.rows.clone() {
            for channel in 0..channels {
                let pre = problem.pre(&run, row, channel);
                let s = R::ONE / (R::ONE + (-pre).exp());
                let dpre = dy[row * channels + channel] * s * (R::ONE + pre * (R::ONE - s));
                gradients.bias[channel] += dpre;
                for tap in 0..taps {
                    if let Some(source) = problem.source(&run, row, tap) {
                        let (place, at) = (channel * taps + tap, source * channels + channel);
                        gradients.x[at] += problem.weight[place] * dpre;
                        gradients.weight[place] += problem.x[at] * dpre;
                    }
                }
            }
        }
    }
    gradients
}
