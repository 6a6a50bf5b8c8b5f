//! What is carried from tile to tile for each row, and how it ends.

use crate::cpu::Loop;
use crate::cpu::exp::exp;

/// Independent partial sums and maxima: two 512-bit vectors.
const LANES: usize = 32;
/// A logit that no other is below: its exponential is 0, and 0 times it is 0 too.
const HIDDEN: f32 = -1e30;

/// Sums over all tokens of the tiles so far except the target.
#[derive(Clone, Debug)]
pub(super) struct Others {
    /// The largest logit.
    max: f32,
    /// The sum of `e = exp(z - max)`.
    sum: f64,
    /// The sum of `e^2`.
    squares: f64,
    /// The sum of `e (z - max)`.
    moment: f64,
    /// The sum of `z`, the target's too.
    logits: f64,
    /// The target's logit, once its tile has come.
    target: f32,
}

/// What a row says about its target.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Score {
    pub(in super::super) logp: f32,
    pub(in super::super) lse: f32,
    pub(in super::super) entropy: f32,
    pub(in super::super) mean_logit: f32,
    pub(in super::super) ln_sum_p2: f32,
    pub(in super::super) is_argmax: bool,
}

impl Others {
    pub(super) fn new() -> Self {
        Self { max: HIDDEN, sum: 0.0, squares: 0.0, moment: 0.0, logits: 0.0, target: f32::NAN }
    }

    /// The target's logit.
    pub(super) fn target(&self) -> f32 {
        self.target
    }

    /// The row's score, and the two factors of its gradient: of the target's weight, `1 - p_y`, and
    /// of the sum over the others.
    pub(super) fn finish(&self, vocabulary: usize) -> (Score, [f32; 2]) {
        let (others, target) = (f64::from(self.max), f64::from(self.target));
        let max = others.max(target);
        let (own, shrink) = ((target - max).exp(), (others - max).exp());
        let rest = self.sum * shrink;
        let total = rest + own;
        // Where the target leads, `own` is 1 and small sums of the others keep all their digits.
        let logp = if target >= others { -rest.ln_1p() } else { target - max - total.ln() };
        let moment = shrink * (self.moment + self.sum * (others - max)) + own * (target - max);
        let squares = self.squares * shrink * shrink + own * own;
        let score = Score {
            logp: logp as f32,
            lse: (max + total.ln()) as f32,
            entropy: (total.ln() - moment / total) as f32,
            mean_logit: (self.logits / vocabulary as f64) as f32,
            ln_sum_p2: (squares.ln() - 2.0 * total.ln()) as f32,
            is_argmax: self.target > self.max,
        };
        (score, [(rest / total) as f32, (shrink / total) as f32])
    }
}

/// Takes a tile of a row's logits into its sums and replaces each logit by `exp(z - max)`, the
/// target's by 0.
///
/// Returns by how much the sums of earlier tiles shrink.
pub(super) struct Tile<'a> {
    pub(super) logits: &'a mut [f32],
    /// Where the target is, if it is in this tile.
    pub(super) target: Option<usize>,
    pub(super) others: &'a mut Others,
}

impl Loop for Tile<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let Self { logits, target, others } = self;
        others.logits += f64::from(sum(logits));
        if let Some(target) = target {
            others.target = logits[target];
            logits[target] = HIDDEN;
        }
        let max = max(logits, others.max);
        if max <= HIDDEN {
            // The target is all there is so far.
            logits.fill(0.0);
            return 1.0;
        }
        let shrink = exp(others.max - max);
        let [sum, squares, moment] = exponentials(logits, max);
        let (old, wide) = (others.sum, f64::from(shrink));
        others.moment =
            (others.moment + old * f64::from(others.max - max)) * wide + f64::from(moment);
        others.squares = others.squares * wide * wide + f64::from(squares);
        others.sum = old * wide + f64::from(sum);
        others.max = max;
        shrink
    }
}

#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let mut halves = lanes;
    let mut count = LANES / 2;
    while count > 0 {
        for i in 0..count {
            halves[i] += halves[i + count];
        }
        count /= 2;
    }
    halves[0]
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    total(lanes)
}

#[inline(always)]
fn max(values: &[f32], least: f32) -> f32 {
    let mut lanes = [least; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = if value > *lane { value } else { *lane };
    }
    lanes.into_iter().fold(least, |max, lane| if lane > max { lane } else { max })
}

/// Replaces each logit by `e = exp(z - max)`; the sums of `e`, `e^2` and `e (z - max)`.
#[inline(always)]
fn exponentials(logits: &mut [f32], max: f32) -> [f32; 3] {
    let (mut sum, mut squares, mut moment) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let (chunks, rest) = logits.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            let below = chunk[i] - max;
            let e = exp(below);
            sum[i] += e;
            squares[i] += e * e;
            moment[i] += e * below;
            chunk[i] = e;
        }
    }
    for (i, z) in rest.iter_mut().enumerate() {
        let below = *z - max;
        let e = exp(below);
        sum[i] += e;
        squares[i] += e * e;
        moment[i] += e * below;
        *z = e;
    }
    [total(sum), total(squares), total(moment)]
}
