//! What was read of a sequence, and how the model reads on: a part of one sequence, or the next
//! token of several at once.
//!
//! No row of any operation depends on the rows beside it, so a sequence has the same bits however
//! many others are read with it.

use kernels::{
    Branches, Operand, Tensor,
    ops::{attention, embedding, linear, residual, rms_norm, rope, rows, swiglu},
};

use crate::{
    Config, Error, Policy,
    context::{Context, decoder_heads, score_scale},
    decoder::Group,
};

/// Rows whose logits are held at once: those of a whole prompt would be larger than the model.
const LOGITS_ROWS: usize = 32;

/// What was read of one sequence: its keys and values in every block.
///
/// A clone is a fork: both go on by themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    caches: Vec<attention::KvCache>,
    length: usize,
}

impl Past {
    /// Nothing was read yet.
    pub fn new(config: &Config) -> Self {
        let heads = decoder_heads(config);
        Self { caches: vec![attention::KvCache::new(heads); config.layers], length: 0 }
    }

    /// Number of tokens read so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes of memory that its keys and values take.
    pub fn bytes(&self) -> usize {
        self.caches.iter().map(attention::KvCache::bytes).sum()
    }
}

/// How many of a prompt's `left` tokens to read next, about `most` of them, so that a prompt read in
/// parts has the bits of a prompt read at once.
pub fn part_of_prompt(left: usize, most: usize) -> usize {
    attention::part_rows(left, most)
}

impl Policy {
    /// Reads on in a sequence and returns the logits `[vocabulary]` for the token that follows;
    /// zeros where there is nothing to read.
    ///
    /// `adapter: false` is the base model.
    ///
    /// # Errors
    ///
    /// A token outside the vocabulary, or more tokens than the context holds.
    pub fn read(&self, past: &mut Past, tokens: &[u32], adapter: bool) -> Result<Vec<f32>, Error> {
        if tokens.is_empty() {
            return Ok(vec![0.0; self.config().vocabulary]);
        }
        let x = self.read_on(past, tokens, adapter)?;
        let ctx = self.context(&[], &NO_BRANCHES, (adapter, None));
        Ok(logits(&ctx, &x, &[x.rows() as u32 - 1]).into_vec())
    }

    /// Reads on in a sequence; `on_logits` gets the logits `[vocabulary]` for what follows each
    /// token, in order.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_each(
        &self,
        past: &mut Past,
        tokens: &[u32],
        adapter: bool,
        on_logits: &mut dyn FnMut(&[f32]),
    ) -> Result<(), Error> {
        let x = self.read_on(past, tokens, adapter)?;
        let ctx = self.context(&[], &NO_BRANCHES, (adapter, None));
        let rows: Vec<u32> = (0..x.rows() as u32).collect();
        for rows in rows.chunks(LOGITS_ROWS) {
            let logits = logits(&ctx, &x, rows);
            for row in 0..logits.rows() {
                on_logits(logits.row(row));
            }
        }
        Ok(())
    }

    /// Reads one token in each of several sequences, and returns the logits `[sequences,
    /// vocabulary]` for those that follow. The weights are read once for all of them.
    ///
    /// # Errors
    ///
    /// As [`Self::read`]; no sequence is changed then.
    ///
    /// # Panics
    ///
    /// If there is not one token for each sequence, and at least one.
    pub fn step(
        &self,
        pasts: &mut [&mut Past],
        tokens: &[u32],
        adapter: bool,
    ) -> Result<Tensor, Error> {
        assert_eq!(pasts.len(), tokens.len(), "a token for each sequence");
        for (past, token) in pasts.iter().zip(tokens) {
            self.check_readable(past, &[*token])?;
        }
        let positions: Vec<u32> = pasts.iter().map(|past| past.length as u32).collect();
        let ctx = self.context(&positions, &NO_BRANCHES, (adapter, None));
        let mut x = embedding::forward(ctx.device, &ctx.decoder.embedding.value, tokens);
        for layer in 0..ctx.decoder.blocks.len() {
            let mut caches: Vec<_> = pasts.iter_mut().map(|past| &mut past.caches[layer]).collect();
            x = block(&ctx, &x, layer, |qkv| {
                let scale = score_scale(&ctx);
                attention::decode_each(ctx.device, ctx.precision, qkv, &mut caches, scale)
            });
        }
        for past in pasts.iter_mut() {
            past.length += 1;
        }
        let rows: Vec<u32> = (0..x.rows() as u32).collect();
        Ok(logits(&ctx, &x, &rows))
    }

    fn check_readable(&self, past: &Past, tokens: &[u32]) -> Result<(), Error> {
        let config = self.config();
        let total = past.length + tokens.len();
        if total > config.context {
            return Err(Error::TooLong { tokens: total, context: config.context });
        }
        match tokens.iter().find(|id| **id as usize >= config.vocabulary) {
            Some(id) => Err(Error::Token { id: *id, vocabulary: config.vocabulary }),
            None => Ok(()),
        }
    }

    /// The hidden states of new tokens `[tokens, hidden]`.
    fn read_on(&self, past: &mut Past, tokens: &[u32], adapter: bool) -> Result<Tensor, Error> {
        self.check_readable(past, tokens)?;
        let total = past.length + tokens.len();
        let positions: Vec<u32> = (past.length as u32..total as u32).collect();
        let ctx = self.context(&positions, &NO_BRANCHES, (adapter, None));
        let mut x = embedding::forward(ctx.device, &ctx.decoder.embedding.value, tokens);
        for (layer, cache) in past.caches.iter_mut().enumerate() {
            x = block(&ctx, &x, layer, |qkv| {
                attention::decode(ctx.device, ctx.precision, qkv, cache, score_scale(&ctx))
            });
        }
        past.length = total;
        Ok(x)
    }
}

/// Sequences in the making have none.
static NO_BRANCHES: Branches = Branches { trees: Vec::new() };

/// A block; `mix` attends from turned queries, keys and values.
fn block(
    ctx: &Context<'_>,
    x: &Tensor,
    layer: usize,
    mix: impl FnOnce(&Tensor) -> Operand,
) -> Tensor {
    let block = &ctx.decoder.blocks[layer];
    let eps = ctx.decoder.config.norm_eps;
    let (normed, _) =
        rms_norm::forward(ctx.device, ctx.precision, x, &block.attention_norm.value, eps);
    let mut qkv = project(ctx, &normed, layer, Group::Qkv);
    let heads = decoder_heads(&ctx.decoder.config);
    rope::forward(ctx.device, &mut qkv, heads, &ctx.decoder.rope, ctx.positions);
    let mixed = mix(&qkv);
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

/// The logits of some rows.
fn logits(ctx: &Context<'_>, x: &Tensor, index: &[u32]) -> Tensor {
    let picked = rows::gather(ctx.device, x, index);
    let eps = ctx.decoder.config.norm_eps;
    let (hidden, _) =
        rms_norm::forward(ctx.device, ctx.precision, &picked, &ctx.decoder.norm.value, eps);
    let head = linear::Projection { weight: ctx.decoder.head_weight(), bias: None, lora: None };
    linear::forward(ctx.device, &hidden, &[head]).0
}
