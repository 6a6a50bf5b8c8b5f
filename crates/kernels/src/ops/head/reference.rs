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

/// A weight `[V, d]`, and how products with it become logits.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a, R> {
    /// The weight, row-major.
    pub weight: &'a [R],
    /// What products are multiplied by.
    pub scale: R,
    /// The limit that logits bend towards, if there is one.
    pub softcap: Option<R>,
}

impl<R: Real> Head<'_, R> {
    /// The slope of a logit by its product.
    fn slope(&self, logit: R) -> R {
        let cap = self.softcap.map_or(R::ONE, |cap| R::ONE - (logit / cap) * (logit / cap));
        self.scale * cap
    }
}

fn logits<R: Real>(hidden: &[R], head: Head<'_, R>) -> Vec<R> {
    let product = |row: &[R]| {
        let mut sum = R::ZERO;
        for (&h, &w) in hidden.iter().zip(row) {
            sum += h * w;
        }
        sum * head.scale
    };
    let cap = |logit: R| head.softcap.map_or(logit, |cap| cap * (logit / cap).tanh());
    head.weight.chunks(hidden.len()).map(product).map(cap).collect()
}

/// Scores one hidden state `[d]`.
pub fn forward<R: Real>(hidden: &[R], head: Head<'_, R>, target: usize) -> Row<R> {
    let z = logits(hidden, head);
    let weight = head.weight;
    let max = z.iter().copied().fold(z[0], R::max);
    let mut sum = R::ZERO;
    let mut mean_logit = R::ZERO;
    for &z in &z {
        sum += (z - max).exp();
        mean_logit += z / R::of(weight.len() as f64 / hidden.len() as f64);
    }
    let lse = max + sum.ln();
    let (mut entropy, mut sum_p2) = (R::ZERO, R::ZERO);
    let own = &weight[target * hidden.len()..][..hidden.len()];
    let mut gradient: Vec<R> = own.iter().map(|&w| head.slope(z[target]) * w).collect();
    for (&z, row) in z.iter().zip(weight.chunks(hidden.len())) {
        let p = (z - lse).exp();
        entropy += p * (lse - z);
        sum_p2 += p * p;
        for (gradient, &w) in gradient.iter_mut().zip(row) {
            *gradient -= p * head.slope(z) * w;
        }
    }
    let is_argmax = z.iter().enumerate().all(|(v, &z_v)| v == target || z[target] > z_v);
    let logp = z[target] - lse;
    Row { logp, lse, entropy, mean_logit, ln_sum_p2: sum_p2.ln(), is_argmax, gradient }
}

/// Adds a row's share of the gradient by the weight, for the derivative `coefficient` by its `logp`.
pub fn backward_weight<R: Real>(
    hidden: &[R],
    head: Head<'_, R>,
    (target, coefficient): (usize, R),
    d_weight: &mut [R],
) {
    let z = logits(hidden, head);
    let lse = forward(hidden, head, target).lse;
    for (v, (&z, row)) in z.iter().zip(d_weight.chunks_mut(hidden.len())).enumerate() {
        let hit = if v == target { R::ONE } else { R::ZERO };
        let factor = coefficient * (hit - (z - lse).exp()) * head.slope(z);
        for (d, &h) in row.iter_mut().zip(hidden) {
            *d += factor * h;
        }
    }
}
