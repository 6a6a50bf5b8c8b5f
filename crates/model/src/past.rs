//! What was read of a sequence, and how the model reads on: a part of one sequence, or the next
//! token of several at once.
//!
//! No row of any operation depends on the rows beside it, so a sequence has the same bits however
//! many others are read with it.

use kernels::{
    Branches, Operand, Tensor,
    ops::{
        activation, attention, embedding, head, head_norm, linear, residual, rms_norm, rope, rows,
    },
};

use crate::{
    BlockShape, Config, Error, Mixer, Policy,
    context::{Context, decoder_heads, scoring},
    decoder::{Group, Norm},
    norms,
    scan::{Carried, Scanning},
};

/// Rows whose logits are held at once: those of a whole prompt would be larger than the model.
const LOGITS_ROWS: usize = 32;

/// As many rows are computed by threads that stay awake: their loops are short.
const FEW_ROWS: usize = 8;

/// What was read of one sequence: its keys and values in every block.
///
/// A clone is a fork: both go on by themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    caches: Vec<Cache>,
    length: usize,
}

/// What a block keeps of a sequence.
#[derive(Clone, Debug, PartialEq)]
enum Cache {
    Attention(attention::KvCache),
    Scan(Carried),
}

impl Past {
    /// Nothing was read yet.
    pub fn new(config: &Config) -> Self {
        let heads = decoder_heads(config);
        let cache = |block: &BlockShape| match (block.mixer, &config.scan) {
            (Mixer::Scan, Some(shape)) => Cache::Scan(Carried::new(shape)),
            _ => Cache::Attention(attention::KvCache::new(heads)),
        };
        Self { caches: config.blocks.iter().map(cache).collect(), length: 0 }
    }

    /// Number of tokens read so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes of memory that its keys, values and states take.
    pub fn bytes(&self) -> usize {
        let bytes = |cache: &Cache| match cache {
            Cache::Attention(cache) => cache.bytes(),
            Cache::Scan(carried) => carried.bytes(),
        };
        self.caches.iter().map(bytes).sum()
    }
}

/// How many of a prompt's `left` tokens to read next, about `most` of them, so that a prompt read in
/// parts has the bits of a prompt read at once.
///
/// All of them where positions turn otherwise in a sequence of that length: its first part must not
/// be taken for a short one.
pub fn part_of_prompt(config: &Config, left: usize, most: usize) -> usize {
    let is_long = config.short_context().is_some_and(|short| short < left);
    if is_long { left } else { attention::part_rows(left, most) }
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
        let mut read = || {
            let x = self.read_on(past, tokens, adapter)?;
            let ctx = self.context(&[], &NO_BRANCHES, (adapter, None));
            Ok(logits(&ctx, &x, &[x.rows() as u32 - 1]).into_vec())
        };
        if tokens.len() <= FEW_ROWS { kernels::together(read) } else { rayon::scope(|_| read()) }
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
        if FEW_ROWS < tokens.len() {
            return Ok(rayon::scope(|_| self.step_in_pool(pasts, tokens, adapter)));
        }
        Ok(kernels::together(|| self.step_in_pool(pasts, tokens, adapter)))
    }

    /// As [`Self::step`], on a thread of the pool, for what was checked.
    fn step_in_pool(&self, pasts: &mut [&mut Past], tokens: &[u32], adapter: bool) -> Tensor {
        let short = self.config().short_context();
        let positions: Vec<u32> =
            pasts.iter().flat_map(|past| positions(past.length..past.length + 1, short)).collect();
        let ctx = self.context(&positions, &NO_BRANCHES, (adapter, None));
        let mut x = embedded(&ctx, tokens);
        for layer in 0..ctx.decoder.blocks.len() {
            let (mut attended, mut carried) = (Vec::new(), Vec::new());
            for past in pasts.iter_mut() {
                match &mut past.caches[layer] {
                    Cache::Attention(cache) => attended.push(cache),
                    Cache::Scan(state) => carried.push(state),
                }
            }
            x = block(&ctx, &x, layer, |projected| {
                if let Some(mixer) = Scanning::of(&ctx, layer) {
                    return mixer.decode_each(projected, carried);
                }
                let scoring = scoring(&ctx.decoder.config, layer);
                let (device, precision) = (ctx.device, ctx.precision);
                attention::decode_each(device, precision, projected, &mut attended, scoring)
            });
        }
        for past in pasts.iter_mut() {
            past.length += 1;
        }
        let rows: Vec<u32> = (0..x.rows() as u32).collect();
        logits(&ctx, &x, &rows)
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
        let positions = positions(past.length..total, self.config().short_context());
        let ctx = self.context(&positions, &NO_BRANCHES, (adapter, None));
        let mut x = embedded(&ctx, tokens);
        for (layer, cache) in past.caches.iter_mut().enumerate() {
            x = block(&ctx, &x, layer, |projected| match cache {
                Cache::Scan(carried) => match Scanning::of(&ctx, layer) {
                    Some(mixer) => mixer.decode(projected, carried),
                    None => unreachable!("a block that carries a state has what carries it"),
                },
                Cache::Attention(cache) => {
                    let scoring = scoring(&ctx.decoder.config, layer);
                    attention::decode(ctx.device, ctx.precision, projected, cache, scoring)
                }
            });
        }
        past.length = total;
        Ok(x)
    }
}

/// Sequences in the making have none.
static NO_BRANCHES: Branches = Branches { trees: Vec::new() };

/// The positions of some places of a sequence that ends behind them, marked where it is long.
pub(crate) fn positions(places: std::ops::Range<usize>, short: Option<usize>) -> Vec<u32> {
    let is_long = short.is_some_and(|short| short < places.end);
    let mark = if is_long { rope::LONG } else { 0 };
    places.map(|place| place as u32 | mark).collect()
}

/// Token rows `[T, hidden]`, as the first block reads them.
pub(crate) fn embedded(ctx: &Context<'_>, tokens: &[u32]) -> Tensor {
    let mut x = embedding::forward(ctx.device, &ctx.decoder.embedding.value, tokens);
    if ctx.decoder.config.embedding_scale.to_bits() != 1.0_f32.to_bits() {
        residual::scale(ctx.device, &mut x, ctx.decoder.config.embedding_scale);
    }
    if let Some(table) = &ctx.decoder.positions {
        let places = embedding::forward(ctx.device, &table.value, ctx.positions);
        residual::add(ctx.device, &mut x, &places);
    }
    x
}

/// `x` and what a block makes of it, in the memory of the latter.
pub(crate) fn add_output(ctx: &Context<'_>, output: &mut Tensor, x: &Tensor) {
    let scale = ctx.decoder.config.residual_scale;
    if scale.to_bits() == 1.0_f32.to_bits() {
        residual::add(ctx.device, output, x);
    } else {
        residual::scale_and_add(ctx.device, output, scale, x);
    }
}

/// A block; `mix` attends from turned queries, keys and values, or carries a state along what was
/// projected.
fn block(
    ctx: &Context<'_>,
    x: &Tensor,
    layer: usize,
    mix: impl FnOnce(&Tensor) -> Operand,
) -> Tensor {
    let block = &ctx.decoder.blocks[layer];
    let config = &ctx.decoder.config;
    let (normed, _) = norms::forward(ctx, x, &block.attention_norm);
    let mut qkv = project(ctx, &normed, layer, Group::Qkv);
    let heads = decoder_heads(config);
    if let Some([q, k]) = &block.head_norms {
        let weights: [&[f32]; 2] = [&q.weight.value, &k.weight.value];
        (qkv, _) = head_norm::forward(ctx.device, &qkv, heads, weights, config.norm_eps);
    }
    if let Some(table) = block.shape.rope.map(|rope| &ctx.decoder.ropes[rope]) {
        rope::forward(ctx.device, &mut qkv, heads, table, ctx.positions);
    }
    let mixed = mix(&qkv);
    let mut sum = project(ctx, &mixed, layer, Group::Output);
    normalize_output(ctx, &mut sum, block.post_attention_norm.as_ref());
    add_output(ctx, &mut sum, x);
    let (normed, _) = norms::forward(ctx, &sum, &block.mlp_norm);
    let inner = project(ctx, &normed, layer, Group::GateUp);
    let (bent, _) = activation::forward(ctx.device, ctx.precision, &inner, config.activation);
    let mut out = project(ctx, &bent, layer, Group::Down);
    normalize_output(ctx, &mut out, block.post_mlp_norm.as_ref());
    add_output(ctx, &mut out, &sum);
    out
}

fn normalize_output(ctx: &Context<'_>, output: &mut Tensor, norm: Option<&Norm>) {
    let Some(norm) = norm else { return };
    let eps = ctx.decoder.config.norm_eps;
    let weight = &norm.weight.value;
    (*output, _) = rms_norm::forward_exact(ctx.device, ctx.precision, output, weight, eps);
}

fn project(ctx: &Context<'_>, x: &Operand, layer: usize, group: Group) -> Tensor {
    linear::forward(ctx.device, x, &ctx.projections(layer, group)).0
}

/// The logits of some rows.
fn logits(ctx: &Context<'_>, x: &Tensor, index: &[u32]) -> Tensor {
    let picked = rows::gather(ctx.device, x, index);
    let (hidden, _) = norms::forward(ctx, &picked, &ctx.decoder.norm);
    let projection =
        linear::Projection { weight: ctx.decoder.head_weight(), bias: None, lora: None };
    let mut products = linear::forward(ctx.device, &hidden, &[projection]).0;
    head::bend(ctx.device, &mut products, ctx.decoder.config.logits);
    products
}
