//! The head in plain loops, over any float.

use crate::Real;

/// What a row says about its target.
#[derive(Clone, Debug)]
pub struct Row<R> {
    /// Log-probability of the target.
    pub logp: R,
    /// Logarithm of the sum of all exponentials of logits.
    pub lse: R,
    /// Entropy of the distribution.
    pub entropy: R,
    /// Mean logit.
    pub mean_logit: R,
    /// Logarithm of the sum of squared probabilities.
    pub ln_sum_p2: R,
    /// Whether the target's logit is larger than every other.
    pub is_argmax: bool,
    /// The gradient of `logp` by the hidden state.
    pub gradient: Vec<R>,
}

fn logits<R: Real>(hidden: &[R], weight: &[R]) -> Vec<R> {
    let product = |row: &[R]| {
        let mut sum = R::ZERO;
        for (&h, &w) in hidden.iter().zip(row) {
            sum += h * w;
        }
        sum
    };
    weight.chunks(hidden.len()).map(product).collect()
}

/// Scores one hidden state `[d]` under a weight `[V, d]`.
pub fn forward<R: Real>(hidden: &[R], weight: &[R], target: usize) -> Row<R> {
    let z = logits(hidden, weight);
    let max = z.iter().copied().fold(z[0], R::max);
    let mut sum = R::ZERO;
    let mut mean_logit = R::ZERO;
    for &z in &z {
        sum += (z - max).exp();
        mean_logit += z / R::of(weight.len() as f64 / hidden.len() as f64);
    }
    let lse = max + sum.ln();
    let (mut entropy, mut sum_p2) = (R::ZERO, R::ZERO);
    let mut gradient = weight[target * hidden.len()..][..hidden.len()].to_vec();
    for (&z, row) in z.iter().zip(weight.chunks(hidden.len())) {
        let p = (z - lse).exp();
        entropy += p * (lse - z);
        sum_p2 += p * p;
        for (gradient, &w) in gradient.iter_mut().zip(row) {
            *gradient -= p * w;
        }
    }
    let is_argmax = z.iter().enumerate().all(|(v, &z_v)| v == target || z[target] > z_v);
    let logp = z[target] - lse;
    Row { logp, lse, entropy, mean_logit, ln_sum_p2: sum_p2.ln(), is_argmax, gradient }
}

/// Adds a row's share of the gradient by the weight, for the derivative `coefficient` by its `logp`.
pub fn backward_weight<R: Real>(
    hidden: &[R],
    weight: &[R],
    (target, coefficient): (usize, R),
    d_weight: &mut [R],
) {
    let z = logits(hidden, weight);
    let lse = forward(hidden, weight, target).lse;
    for (v, (&z, row)) in z.iter().zip(d_weight.chunks_mut(hidden.len())).enumerate() {
        let hit = if v == target { R::ONE } else { R::ZERO };
        let factor = coefficient * (hit - (z - lse).exp());
        for (d, &h) in row.iter_mut().zip(hidden) {
            *d += factor * h;
        }
    }
}
