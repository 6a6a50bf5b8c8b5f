//! Generation with a key-value cache.

use crate::{Error, Past, Policy, Sampler};

/// One sequence in the making, and the model that makes it.
pub struct Session<'a> {
    policy: &'a Policy,
    adapter: bool,
    past: Past,
}

/// What came out of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The new tokens, the one that ended it left out.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model said so.
    End,
    /// The limit of new tokens, or the model's context, was reached.
    Length,
    /// The listener asked for it.
    Cancelled,
}

impl<'a> Session<'a> {
    /// An empty sequence; `adapter: false` is the base model.
    pub fn new(policy: &'a Policy, adapter: bool) -> Self {
        Self { policy, adapter, past: Past::new(policy.config()) }
    }

    /// Number of tokens read so far.
    pub fn length(&self) -> usize {
        self.past.length()
    }

    /// Reads tokens and returns the logits `[vocabulary]` for the one that follows.
    ///
    /// # Errors
    ///
    /// A token outside the vocabulary, or more tokens than the context holds.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        self.policy.read(&mut self.past, tokens, self.adapter)
    }

    /// Reads a prompt and writes on until an end, a limit, or `on_token` returning false.
    ///
    /// # Errors
    ///
    /// As [`Self::feed`].
    pub fn generate(
        &mut self,
        prompt: &[u32],
        sampler: &mut Sampler,
        tokens_max: usize,
        on_token: &mut dyn FnMut(u32) -> bool,
    ) -> Result<Generation, Error> {
        let ends = &self.policy.config().eos;
        let mut tokens = Vec::new();
        sampler.read(prompt);
        let mut logits = self.feed(prompt)?;
        let stop = loop {
            if tokens.len() == tokens_max || self.length() == self.policy.config().context {
                break StopReason::Length;
            }
            let token = sampler.next(&logits);
            if ends.contains(&token) {
                break StopReason::End;
            }
            tokens.push(token);
            if !on_token(token) {
                break StopReason::Cancelled;
            }
            logits = self.feed(&[token])?;
        };
        Ok(Generation { tokens, stop })
    }
}
