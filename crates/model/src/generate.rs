//! Generation with a key-value cache.

use kernels::{
    Operand, Tensor,
    ops::{attention, embedding, linear, residual, rms_norm, rope, swiglu},
};

use crate::{
    Error, Policy, Sampler,
    context::{Context, decoder_heads, score_scale},
    decoder::Group,
};

/// One sequence in the making: the keys and values of what was read so far.
pub struct Session<'a> {
    policy: &'a Policy,
    adapter: bool,
    caches: Vec<attention::KvCache>,
    length: usize,
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
        let heads = decoder_heads(policy.config());
        let caches = (0..policy.config().layers).map(|_| attention::KvCache::new(heads)).collect();
        Self { policy, adapter, caches, length: 0 }
    }

    /// Number of tokens read so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Reads tokens and returns the logits `[vocabulary]` for the one that follows.
    ///
    /// # Errors
    ///
    /// A token outside the vocabulary, or more tokens than the context holds.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let config = self.policy.config();
        let total = self.length + tokens.len();
        if total > config.context {
            return Err(Error::TooLong { tokens: total, context: config.context });
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= config.vocabulary) {
            return Err(Error::Token { id: *id, vocabulary: config.vocabulary });
        }
        if tokens.is_empty() {
            return Ok(vec![0.0; config.vocabulary]);
        }
        let positions: Vec<u32> = (self.length as u32..total as u32).collect();
        let branches = kernels::Branches::default();
        let ctx = self.policy.context(&positions, &branches, (self.adapter, None));
        let mut x = embedding::forward(ctx.device, &ctx.decoder.embedding.value, tokens);
        for (layer, cache) in self.caches.iter_mut().enumerate() {
            x = block(&ctx, &x, layer, cache);
        }
        self.length = total;
        Ok(logits(&ctx, &x))
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
            if tokens.len() == tokens_max || self.length == self.policy.config().context {
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

fn block(ctx: &Context<'_>, x: &Tensor, layer: usize, cache: &mut attention::KvCache) -> Tensor {
    let block = &ctx.decoder.blocks[layer];
    let eps = ctx.decoder.config.norm_eps;
    let (normed, _) =
        rms_norm::forward(ctx.device, ctx.precision, x, &block.attention_norm.value, eps);
    let mut qkv = project(ctx, &normed, layer, Group::Qkv);
    let heads = decoder_heads(&ctx.decoder.config);
    rope::forward(ctx.device, &mut qkv, heads, &ctx.decoder.rope, ctx.positions);
    let mixed = attention::decode(ctx.device, ctx.precision, &qkv, cache, score_scale(ctx));
    let mut sum = project(ctx, &mixed, layer, Group::Output);
    residual::add(ctx.device, &mut sum, x);
    let (normed, _) =
        rms_norm::forward(ctx.device, ctx.precision, &sum, &block.mlp_norm.value, eps);
    let gate_up = project(ctx, &normed, layer, Group::GateUp);
    let gated = swiglu::forward(ctx.device, ctx.precision, &gate_up);
    let mut out = project(ctx, &gated, layer, Group::Down);
    residual::add(ctx.device, &mut out, &sum);
    out
}

fn project(ctx: &Context<'_>, x: &Operand, layer: usize, group: Group) -> Tensor {
    linear::forward(ctx.device, x, &ctx.projections(layer, group)).0
}

/// The logits of the last row.
fn logits(ctx: &Context<'_>, x: &Tensor) -> Vec<f32> {
    let last = kernels::ops::rows::gather(ctx.device, x, &[x.rows() as u32 - 1]);
    let eps = ctx.decoder.config.norm_eps;
    let (hidden, _) =
        rms_norm::forward(ctx.device, ctx.precision, &last, &ctx.decoder.norm.value, eps);
    let head = linear::Projection { weight: ctx.decoder.head_weight(), bias: None, lora: None };
    linear::forward(ctx.device, &hidden, &[head]).0.into_vec()
}
