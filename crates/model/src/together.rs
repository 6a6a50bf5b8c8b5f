//! Several answers written at once: a prompt is read once for all its answers, and the weights once
//! for a token of all of them.
//!
//! Every answer has the bits that it has alone.

use crate::{Error, Generation, Past, Policy, Sampler, StopReason};

/// A prompt, and how each of its answers is drawn.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// What is read before the answers.
    pub prompt: &'a [u32],
    /// A sampler for each answer.
    pub samplers: Vec<Sampler>,
}

/// An answer in the making.
struct Answer {
    past: Past,
    sampler: Sampler,
    tokens: Vec<u32>,
    stop: Option<StopReason>,
}

impl Policy {
    /// Writes all answers to all prompts, each until an end, a limit, or `on_token` returning false
    /// for it; answers are counted through, prompt by prompt.
    ///
    /// `adapter: false` is the base model.
    ///
    /// # Errors
    ///
    /// As [`Policy::read`].
    pub fn generate_together(
        &self,
        asked: Vec<Asked<'_>>,
        (tokens_max, adapter): (usize, bool),
        on_token: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<Vec<Generation>, Error> {
        let config = self.config();
        let mut answers = Vec::new();
        let mut next: Vec<Vec<f32>> = Vec::new();
        for Asked { prompt, samplers } in asked {
            let mut past = Past::new(config);
            let logits = self.read(&mut past, prompt, adapter)?;
            for mut sampler in samplers {
                sampler.read(prompt);
                next.push(logits.clone());
                answers.push(Answer { past: past.clone(), sampler, tokens: vec![], stop: None });
            }
        }
        while !next.is_empty() {
            let mut logits = next.into_iter();
            for (index, answer) in answers.iter_mut().enumerate() {
                if answer.stop.is_some() {
                    continue;
                }
                let is_full = answer.past.length() == config.context;
                if is_full || answer.tokens.len() == tokens_max {
                    answer.stop = Some(StopReason::Length);
                    logits.next();
                } else if let Some(logits) = logits.next() {
                    answer.take(&logits, &config.eos, &mut |token| on_token(index, token));
                }
            }
            let mut going: Vec<&mut Answer> =
                answers.iter_mut().filter(|answer| answer.stop.is_none()).collect();
            if going.is_empty() {
                break;
            }
            let tokens: Vec<u32> =
                going.iter().filter_map(|answer| answer.tokens.last().copied()).collect();
            let mut pasts: Vec<&mut Past> =
                going.iter_mut().map(|answer| &mut answer.past).collect();
            let logits = self.step(&mut pasts, &tokens, adapter)?;
            next = (0..logits.rows()).map(|row| logits.row(row).to_vec()).collect();
        }
        let done = |answer: Answer| Generation {
            tokens: answer.tokens,
            stop: answer.stop.unwrap_or(StopReason::Length),
        };
        Ok(answers.into_iter().map(done).collect())
    }
}

impl Answer {
    /// Draws a token, and ends where it is an end or nobody wants more.
    fn take(&mut self, logits: &[f32], ends: &[u32], on_token: &mut dyn FnMut(u32) -> bool) {
        let token = self.sampler.next(logits);
        if ends.contains(&token) {
            self.stop = Some(StopReason::End);
            return;
        }
        self.tokens.push(token);
        if !on_token(token) {
            self.stop = Some(StopReason::Cancelled);
        }
    }
}
