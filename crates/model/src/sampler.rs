//! From logits to the next token.

use std::{borrow::Cow, collections::BTreeSet};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f64,
    /// Keep tokens that have this share of the probability of the most likely one; 0 keeps all.
    pub min_p: f64,
    /// Divides the logits above 0, and multiplies those below, of tokens that were read or written
    /// before (Keskar et al. 2019, arXiv:1909.05858); 1 changes none.
    pub repetition_penalty: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Sampling {
    /// Always the most likely token; the first one among equals.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        seed: 0,
    };
}

/// Draws tokens; the n-th draw is a function of the seed and of n alone.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    draws: u64,
    /// Tokens that a penalty for repetitions falls on.
    seen: BTreeSet<u32>,
}

impl Sampler {
    /// A sampler before its first draw.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, draws: 0, seen: BTreeSet::new() }
    }

    /// Tells of tokens that the model reads, as the prompt.
    pub fn read(&mut self, tokens: &[u32]) {
        self.seen.extend(tokens);
    }

    /// The next token, from the logits of the vocabulary; `logits` must not be empty.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        let token = self.choose(&self.penalized(logits));
        self.draws += 1;
        self.seen.insert(token);
        token
    }

    fn penalized<'a>(&self, logits: &'a [f32]) -> Cow<'a, [f32]> {
        let penalty = self.sampling.repetition_penalty as f32;
        let mut logits = Cow::Borrowed(logits);
        if penalty.to_bits() == 1.0_f32.to_bits() {
            return logits;
        }
        for token in &self.seen {
            if let Some(logit) = logits.to_mut().get_mut(*token as usize) {
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
        logits
    }

    fn choose(&self, logits: &[f32]) -> u32 {
        let draw = self.draws;
        if self.sampling.temperature <= 0.0 {
            return most_likely(logits);
        }
        let kept = self.kept(logits);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut left = uniform(self.sampling.seed, draw) * total;
        for (token, weight) in &kept {
            left -= weight;
            if left <= 0.0 {
                return *token;
            }
        }
        kept.last().map_or(0, |(token, _)| *token)
    }

    /// The tokens that may be drawn, most likely first, with unnormalized probabilities.
    fn kept(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let top_k = if self.sampling.top_k == 0 { logits.len() } else { self.sampling.top_k };
        let order = by_logit(logits, top_k);
        let largest = f64::from(logits[order[0] as usize]);
        let temperature = self.sampling.temperature;
        let weight =
            |token: u32| ((f64::from(logits[token as usize]) - largest) / temperature).exp();
        let mut kept: Vec<(u32, f64)> =
            order.into_iter().map(|token| (token, weight(token))).collect();
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut reached = 0.0;
        let enough = kept.iter().position(|(_, weight)| {
            reached += weight / total;
            reached >= self.sampling.top_p
        });
        kept.truncate(enough.map_or(kept.len(), |index| index + 1));
        // The most likely token has the weight 1.
        kept.retain(|(_, weight)| self.sampling.min_p <= *weight);
        kept
    }
}

/// The tokens of the `count` largest logits, largest first; of equals the first token first.
pub(crate) fn by_logit(logits: &[f32], count: usize) -> Vec<u32> {
    // Integers sort several times faster than floats with an order of their own.
    let mut keys: Vec<u64> =
        (0_u32..).zip(logits).map(|(token, logit)| sorting_key(token, *logit)).collect();
    if count == 0 {
        return Vec::new();
    }
    if count < keys.len() {
        keys.select_nth_unstable(count - 1);
        keys.truncate(count);
    }
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

/// Ascends as logits descend, then as tokens ascend.
fn sorting_key(token: u32, logit: f32) -> u64 {
    // A negative zero is a zero.
    let bits = (logit + 0.0).to_bits();
    let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(!ascending) << 32 | u64::from(token)
}

fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// A number in [0, 1) from seed and index.
fn uniform(seed: u64, index: u64) -> f64 {
    let mut hasher = blake3::Hasher::new_derive_key("trueup 2026 sampling");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    let bytes = *hasher.finalize().as_bytes();
    let word = u64::from_le_bytes([
        bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
    ]);
    (word >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_may_be_drawn_is_what_transformers_leaves() {
        let text = fs_err::read_to_string(testkit::golden("model/sampling.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(cases.len(), 32);
        for case in cases {
            let list = |key: &str| -> Vec<f64> {
                case[key].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
            };
            let number = |key: &str| case[key].as_f64().unwrap();
            let mut sampler = Sampler::new(Sampling {
                temperature: number("temperature"),
                top_k: case["top_k"].as_u64().unwrap() as usize,
                top_p: number("top_p"),
                min_p: number("min_p"),
                repetition_penalty: number("repetition_penalty"),
                seed: 0,
            });
            let seen = case["seen"].as_array().unwrap().iter().filter_map(Value::as_u64);
            sampler.read(&seen.map(|token| token as u32).collect::<Vec<_>>());
            let logits: Vec<f32> = list("logits").iter().map(|logit| *logit as f32).collect();
            let mut kept = sampler.kept(&sampler.penalized(&logits));
            let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
            kept.sort_by_key(|(token, _)| *token);
            let tokens: Vec<f64> = kept.iter().map(|(token, _)| f64::from(*token)).collect();
            assert_eq!(tokens, list("kept"), "{case}");
            for ((_, weight), wanted) in kept.iter().zip(list("probabilities")) {
                let off = (weight / total / wanted - 1.0).abs();
                assert!(off < testkit::tolerance::SAMPLED_PROBABILITY, "{off:e}: {case}");
            }
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(Sampler::new(Sampling::GREEDY).next(&[0.0, 2.0, 2.0, -1.0]), 1);
    }

    #[test]
    fn top_k_and_top_p_leave_out_the_rest() {
        let logits = [0.0, 3.0, 2.0, -9.0];
        for seed in 0..64 {
            let drawn = Sampling { temperature: 1.0, seed, ..Sampling::GREEDY };
            let two = Sampling { top_k: 2, ..drawn };
            assert!([1, 2].contains(&Sampler::new(two).next(&logits)));
            let half = Sampling { top_p: 0.5, ..drawn };
            assert_eq!(Sampler::new(half).next(&logits), 1);
            // e^-1 of the largest is more than a third, e^-3 is not.
            let third = Sampling { min_p: 1.0 / 3.0, ..drawn };
            assert!([1, 2].contains(&Sampler::new(third).next(&logits)));
        }
    }

    #[test]
    fn tokens_that_were_there_are_less_likely() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(sampling);
        let logits = [3.0, 2.0, -0.5, -0.8];
        assert_eq!([sampler.next(&logits), sampler.next(&logits)], [0, 1]);
        let mut sampler = Sampler::new(sampling);
        sampler.read(&[0, 1, 2]);
        assert_eq!(sampler.next(&[-3.0, -2.0, -0.5, -0.8]), 3);
    }

    /// Pearson's test of draws against the softmax, at several temperatures and seeds.
    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [1.5_f32, -0.5, 0.0, 2.0, -2.0, 0.7, 1.0, -1.0];
        for (temperature, seed) in [(1.0, 7), (0.5, 8), (2.0, 9), (1.0, 10)] {
            let mut sampler = Sampler::new(Sampling { temperature, seed, ..Sampling::GREEDY });
            let mut drawn = [0.0_f64; 8];
            for _ in 0..20_000 {
                drawn[sampler.next(&logits) as usize] += 1.0;
            }
            let weights = logits.map(|logit| (f64::from(logit) / temperature).exp());
            let total: f64 = weights.iter().sum();
            let wanted = weights.map(|weight| weight / total * 20_000.0);
            let off = |(drawn, wanted): (&f64, &f64)| (drawn - wanted).powi(2) / wanted;
            let statistic: f64 = drawn.iter().zip(&wanted).map(off).sum();
            assert!(statistic < testkit::tolerance::CHI_SQUARE_7, "{statistic} at {temperature}");
        }
    }
}
