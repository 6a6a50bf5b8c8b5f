//! What a model says about the next token, in log-probabilities.

use crate::sampler::by_logit;

/// The distribution that logits stand for, as the model gives it: before temperature and penalties.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<'a> {
    logits: &'a [f32],
    /// The logarithm of the sum of all exponentials.
    lse: f64,
}

impl<'a> Distribution<'a> {
    /// The softmax of logits `[vocabulary]`; `logits` must not be empty.
    pub fn new(logits: &'a [f32]) -> Self {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
        Self { logits, lse: largest + sum.ln() }
    }

    /// The log-probability of a token of the vocabulary, in nats.
    pub fn logp(&self, token: u32) -> f64 {
        f64::from(self.logits[token as usize]) - self.lse
    }

    /// The most likely tokens with their log-probabilities, most likely first.
    pub fn top(&self, count: usize) -> Vec<(u32, f64)> {
        by_logit(self.logits, count).into_iter().map(|token| (token, self.logp(token))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_the_largest_come_first() {
        let logits = [0.5_f32, 3.0, -40.0, 3.0, -0.0, 0.0];
        let distribution = Distribution::new(&logits);
        let all = distribution.top(9);
        let order: Vec<u32> = all.iter().map(|(token, _)| *token).collect();
        assert_eq!(order, [1, 3, 0, 4, 5, 2], "of equals the first token first");
        let sum: f64 = all.iter().map(|(_, logp)| logp.exp()).sum();
        assert!((sum - 1.0).abs() < testkit::tolerance::SAME_F64_ARITHMETIC, "{sum}");
        assert_eq!(distribution.top(2), all[..2]);
        assert_eq!(distribution.top(0), []);
        let apart = distribution.logp(1) - distribution.logp(0);
        assert!((apart - 2.5).abs() < testkit::tolerance::SAME_F64_ARITHMETIC, "{apart}");
    }
}
