//! A tape of coarse operations: forward records, backward replays in reverse.
//!
//! Each node holds what its backward needs and nothing else. A value that no gradient reaches
//! records no node, so the pass back stops by itself below the lowest trained tensor.
//! A segment records only its input and runs again in backward (gradient checkpointing).

use std::rc::Rc;

use kernels::{
    Device, Operand, Tensor,
    ops::{activation, attention, embedding, head_norm, linear, residual, rms_norm, rope, rows},
};

use crate::{
    Arena, Decoder,
    context::{Context, attention_shape, heads},
    decoder::{self, Group, Linear, Trained},
    norms,
    past::{add_output, embedded},
};

/// A value on the tape.
pub(crate) struct Var<T> {
    id: usize,
    pub(crate) value: Rc<T>,
}

impl<T> Clone for Var<T> {
    fn clone(&self) -> Self {
        Self { id: self.id, value: Rc::clone(&self.value) }
    }
}

/// Which norm of the decoder.
#[derive(Clone, Copy)]
pub(crate) enum Norm {
    Attention(usize),
    PostAttention(usize),
    Mlp(usize),
    PostMlp(usize),
    Final,
}

enum Node {
    Embed { out: usize, ids: Vec<u32> },
    Norm { x: Var<Tensor>, saved: Vec<f32>, norm: Norm, out: usize },
    HeadNorm { x: Var<Tensor>, inv_rms: Vec<f32>, layer: usize, out: usize },
    Project { x: usize, remake: Remake, low: Vec<Option<Operand>>, at: (usize, Group), out: usize },
    Rope { x: usize, layer: usize, out: usize },
    Attention { qkv: Var<Tensor>, out: Var<Operand>, lse: Vec<f32>, layer: usize },
    Activation { x: Var<Tensor>, out: usize },
    Add { a: usize, b: usize, out: usize },
    Gather { x: usize, row_count: usize, rows: Vec<u32>, out: usize },
    Segment { x: Var<Tensor>, layer: usize, out: usize },
}

/// How backward gets the input of a product: from what is kept anyway where that is cheap, so that
/// rounded copies of normed and gated values take no memory.
enum Remake {
    Kept(Rc<Operand>),
    Norm(Var<Tensor>, Norm),
    Activation(Var<Tensor>),
}

/// The input of a product, and how to get it again.
struct Input {
    x: Var<Operand>,
    remake: Remake,
}

/// The record of a forward pass.
#[derive(Default)]
pub(crate) struct Tape {
    nodes: Vec<Node>,
    /// Whether a gradient has to reach the value of each id.
    needed: Vec<bool>,
    recording: bool,
}

impl Tape {
    /// A tape that records, or one that only computes.
    pub(crate) fn new(recording: bool) -> Self {
        Self { recording, ..Self::default() }
    }

    fn var<T>(&mut self, value: T, needed: bool) -> Var<T> {
        self.needed.push(needed && self.recording);
        Var { id: self.needed.len() - 1, value: Rc::new(value) }
    }

    fn needs(&self, id: usize) -> bool {
        self.needed[id]
    }

    fn record(&mut self, needed: bool, node: Node) {
        if needed && self.recording {
            self.nodes.push(node);
        }
    }

    /// Token rows `[T, hidden]`.
    pub(crate) fn embed(&mut self, ctx: &Context<'_>, ids: &[u32]) -> Var<Tensor> {
        let trained = ctx.decoder.embedding.slot.is_some();
        let out = self.var(embedded(ctx, ids), trained);
        self.record(trained, Node::Embed { out: out.id, ids: ids.to_vec() });
        out
    }

    /// One block of the decoder, recorded whole or as a segment to be run again.
    pub(crate) fn block(
        &mut self,
        ctx: &Context<'_>,
        x: Var<Tensor>,
        layer: usize,
        recompute: bool,
    ) -> Var<Tensor> {
        if !(recompute && self.recording) {
            return self.block_body(ctx, &x, layer);
        }
        let needed = self.needs(x.id) || trains(ctx, layer);
        let mut inner = Self::new(false);
        let start = inner.adopt(&x, false);
        let value = inner.block_body(ctx, &start, layer).value;
        self.needed.push(needed);
        let out = Var { id: self.needed.len() - 1, value };
        self.record(needed, Node::Segment { x, layer, out: out.id });
        out
    }

    /// Brings a value of another tape onto this one.
    fn adopt(&mut self, x: &Var<Tensor>, needed: bool) -> Var<Tensor> {
        self.needed.push(needed);
        Var { id: self.needed.len() - 1, value: Rc::clone(&x.value) }
    }

    fn block_body(&mut self, ctx: &Context<'_>, x: &Var<Tensor>, layer: usize) -> Var<Tensor> {
        let shape = &ctx.decoder.blocks[layer];
        let normed = self.normed(ctx, x, Norm::Attention(layer));
        let mut qkv = self.project(ctx, normed, layer, Group::Qkv);
        if shape.head_norms.is_some() {
            qkv = self.head_norm(ctx, qkv, layer);
        }
        if shape.shape.rope.is_some() {
            qkv = self.rope(ctx, qkv, layer);
        }
        let mixed = self.attention(ctx, qkv, layer);
        let mixed = Input { remake: Remake::Kept(Rc::clone(&mixed.value)), x: mixed };
        let mut out = self.project(ctx, mixed, layer, Group::Output);
        if shape.post_attention_norm.is_some() {
            out = self.output_norm(ctx, out, Norm::PostAttention(layer));
        }
        let x = self.add(ctx, x, out);
        let normed = self.normed(ctx, &x, Norm::Mlp(layer));
        let inner = self.project(ctx, normed, layer, Group::GateUp);
        let remake = Remake::Activation(inner.clone());
        let bent = Input { x: self.activation(ctx, inner), remake };
        let mut out = self.project(ctx, bent, layer, Group::Down);
        if shape.post_mlp_norm.is_some() {
            out = self.output_norm(ctx, out, Norm::PostMlp(layer));
        }
        self.add(ctx, &x, out)
    }

    fn normed(&mut self, ctx: &Context<'_>, x: &Var<Tensor>, norm: Norm) -> Input {
        Input { x: self.norm(ctx, x, norm), remake: Remake::Norm(x.clone(), norm) }
    }

    /// Normalized rows, rounded as an operand of products.
    pub(crate) fn norm(&mut self, ctx: &Context<'_>, x: &Var<Tensor>, norm: Norm) -> Var<Operand> {
        let weights = norm_of(ctx.decoder, norm);
        let (out, saved) = norms::forward(ctx, &x.value, weights);
        let needed = self.needs(x.id) || weights.is_trained();
        let out = self.var(out, needed);
        self.record(needed, Node::Norm { x: x.clone(), saved, norm, out: out.id });
        out
    }

    /// The norm of what attention or feed-forward gives, not rounded.
    fn output_norm(&mut self, ctx: &Context<'_>, x: Var<Tensor>, norm: Norm) -> Var<Tensor> {
        let weights = norm_of(ctx.decoder, norm);
        let eps = ctx.decoder.config.norm_eps;
        let (out, saved) =
            rms_norm::forward_exact(ctx.device, &x.value, &weights.weight.value, eps);
        let needed = self.needs(x.id) || weights.is_trained();
        let out = self.var(out, needed);
        self.record(needed, Node::Norm { x, saved, norm, out: out.id });
        out
    }

    fn head_norm(&mut self, ctx: &Context<'_>, x: Var<Tensor>, layer: usize) -> Var<Tensor> {
        let Some([q, k]) = &ctx.decoder.blocks[layer].head_norms else { return x };
        let weights: [&[f32]; 2] = [&q.weight.value, &k.weight.value];
        let eps = ctx.decoder.config.norm_eps;
        let (out, inv_rms) = head_norm::forward(ctx.device, &x.value, heads(ctx), weights, eps);
        let needed = self.needs(x.id) || q.is_trained();
        let out = self.var(out, needed);
        self.record(needed, Node::HeadNorm { x, inv_rms, layer, out: out.id });
        out
    }

    fn project(
        &mut self,
        ctx: &Context<'_>,
        Input { x, remake }: Input,
        layer: usize,
        group: Group,
    ) -> Var<Tensor> {
        let linears = ctx.decoder.blocks[layer].group(group);
        let projections = ctx.projections(layer, group);
        let (out, low) = linear::forward(ctx.device, &x.value, &projections);
        let needed =
            self.needs(x.id) || linears.iter().any(|linear| linear.trained != Trained::Nothing);
        let out = self.var(out, needed);
        let at = (layer, group);
        self.record(needed, Node::Project { x: x.id, remake, low, at, out: out.id });
        out
    }

    fn rope(&mut self, ctx: &Context<'_>, x: Var<Tensor>, layer: usize) -> Var<Tensor> {
        let Some(table) = rope_of(ctx, layer) else { return x };
        let mut value = owned(x.value);
        rope::forward(ctx.device, &mut value, heads(ctx), table, ctx.positions);
        let needed = self.needs(x.id);
        let out = self.var(value, needed);
        self.record(needed, Node::Rope { x: x.id, layer, out: out.id });
        out
    }

    fn attention(&mut self, ctx: &Context<'_>, qkv: Var<Tensor>, layer: usize) -> Var<Operand> {
        let shape = attention_shape(ctx, layer);
        let (out, lse) = attention::forward(ctx.device, ctx.precision, &qkv.value, shape);
        let needed = self.needs(qkv.id);
        let out = self.var(out, needed);
        self.record(needed, Node::Attention { qkv, out: out.clone(), lse, layer });
        out
    }

    fn activation(&mut self, ctx: &Context<'_>, x: Var<Tensor>) -> Var<Operand> {
        let needed = self.needs(x.id);
        let form = ctx.decoder.config.activation;
        let out = self.var(activation::forward(ctx.device, ctx.precision, &x.value, form), needed);
        self.record(needed, Node::Activation { x, out: out.id });
        out
    }

    /// The stream `a` and what a block makes of it, `b`, in whose memory it is computed.
    fn add(&mut self, ctx: &Context<'_>, a: &Var<Tensor>, b: Var<Tensor>) -> Var<Tensor> {
        let needed = self.needs(a.id) || self.needs(b.id);
        let mut value = owned(b.value);
        add_output(ctx, &mut value, &a.value);
        let out = self.var(value, needed);
        self.record(needed, Node::Add { a: a.id, b: b.id, out: out.id });
        out
    }

    /// The rows that predict a scored token, in scored order; a row may come twice.
    pub(crate) fn gather(
        &mut self,
        ctx: &Context<'_>,
        x: &Var<Tensor>,
        indices: Vec<u32>,
    ) -> Var<Tensor> {
        let needed = self.needs(x.id);
        let out = self.var(rows::gather(ctx.device, &x.value, &indices), needed);
        let row_count = x.value.rows();
        self.record(needed, Node::Gather { x: x.id, row_count, rows: indices, out: out.id });
        out
    }

    /// Replays the tape from the gradient of `of`, and adds up the gradients of all slots.
    pub(crate) fn backward(self, ctx: &Context<'_>, of: usize, seed: Tensor, slots: &mut [f32]) {
        self.replay(ctx, of, Rc::new(seed), slots);
    }

    /// Replays; returns the gradients that no node took: those of the values that came from outside.
    fn replay(
        self,
        ctx: &Context<'_>,
        of: usize,
        seed: Rc<Tensor>,
        slots: &mut [f32],
    ) -> Vec<Option<Rc<Tensor>>> {
        let mut pass = Pass { ctx, needed: self.needed, gradients: Vec::new(), slots };
        pass.gradients.resize_with(pass.needed.len(), || None);
        pass.gradients[of] = Some(seed);
        for node in self.nodes.into_iter().rev() {
            pass.step(node);
        }
        pass.gradients
    }
}

impl<T> Var<T> {
    /// The value's place on the tape.
    pub(crate) fn id(&self) -> usize {
        self.id
    }
}

/// One pass back over a tape.
struct Pass<'a, 'b> {
    ctx: &'a Context<'a>,
    needed: Vec<bool>,
    gradients: Vec<Option<Rc<Tensor>>>,
    slots: &'b mut [f32],
}

impl Pass<'_, '_> {
    /// Runs the backward of one node and frees what it held.
    fn step(&mut self, node: Node) {
        match node {
            Node::Embed { out, ids } => self.embed(out, &ids),
            Node::Norm { x, saved, norm, out } => self.norm(&x, &saved, norm, out),
            Node::HeadNorm { x, inv_rms, layer, out } => self.head_norm(&x, &inv_rms, layer, out),
            Node::Project { x, remake, low, at, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let input = self.remake(remake);
                let dx =
                    self.project(&dy, linear::Saved { x: &input, low: &low }, at, self.needed[x]);
                drop(dy);
                self.give(x, dx);
            }
            Node::Rope { x, layer, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let mut dy = owned(dy);
                if let Some(table) = rope_of(self.ctx, layer) {
                    let positions = self.ctx.positions;
                    rope::backward(self.ctx.device, &mut dy, heads(self.ctx), table, positions);
                }
                self.give(x, Some(dy));
            }
            Node::Attention { qkv, out, lse, layer } => {
                let Some(dy) = self.gradients[out.id].take() else { return };
                let saved = attention::Saved { qkv: &qkv.value, out: &out.value, lse: &lse };
                let shape = attention_shape(self.ctx, layer);
                let dx = attention::backward(self.ctx.device, &dy, saved, shape);
                self.give(qkv.id, Some(dx));
            }
            Node::Activation { x, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let form = self.ctx.decoder.config.activation;
                let dx = activation::backward(self.ctx.device, &dy, &x.value, form);
                self.give(x.id, Some(dx));
            }
            Node::Add { a, b, out } => self.add(a, b, out),
            Node::Gather { x, row_count, rows: indices, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let mut dx = Tensor::zeros(self.ctx.device, row_count, dy.cols());
                rows::scatter_add(self.ctx.device, &dy, &indices, &mut dx);
                self.give(x, Some(dx));
            }
            Node::Segment { x, layer, out } => self.segment(&x, layer, out),
        }
    }

    // DIFFERENCE(trl): transformers gives the embedding of `pad_token_id` no gradient. Nothing is
    // padded here, so a token that is read has one, an end token that serves as padding elsewhere too.
    fn embed(&mut self, out: usize, ids: &[u32]) {
        let (Some(dy), Some(slot)) = (self.gradients[out].take(), self.ctx.decoder.embedding.slot)
        else {
            return;
        };
        let device = self.ctx.device;
        let range = |slot: usize| self.ctx.arena.slots()[slot].range.clone();
        if let Some(slot) = self.ctx.decoder.positions.as_ref().and_then(|table| table.slot) {
            embedding::backward(device, &dy, self.ctx.positions, &mut self.slots[range(slot)]);
        }
        let scale = self.ctx.decoder.config.embedding_scale;
        let mut dy = owned(dy);
        if scale.to_bits() != 1.0_f32.to_bits() {
            residual::scale(device, &mut dy, scale);
        }
        embedding::backward(device, &dy, ids, &mut self.slots[range(slot)]);
    }

    /// The stream takes the gradient as it is, the block's output its share.
    fn add(&mut self, a: usize, b: usize, out: usize) {
        let Some(dy) = self.gradients[out].take() else { return };
        self.share(a, &dy);
        let scale = self.ctx.decoder.config.residual_scale;
        if scale.to_bits() == 1.0_f32.to_bits() {
            self.share(b, &dy);
        } else if self.needed[b] {
            let mut part = owned(dy);
            residual::scale(self.ctx.device, &mut part, scale);
            self.give(b, Some(part));
        }
    }

    fn norm(&mut self, x: &Var<Tensor>, saved: &[f32], norm: Norm, out: usize) {
        let Some(dy) = self.gradients[out].take() else { return };
        let weights = norm_of(self.ctx.decoder, norm);
        let dx = norms::backward(self.ctx, &dy, (&x.value, saved), weights, self.slots);
        self.give(x.id, Some(dx));
    }

    fn head_norm(&mut self, x: &Var<Tensor>, inv_rms: &[f32], layer: usize, out: usize) {
        let Some(dy) = self.gradients[out].take() else { return };
        let Some(norms @ [q, k]) = &self.ctx.decoder.blocks[layer].head_norms else { return };
        let slots = norms.iter().filter_map(|norm| norm.weight.slot);
        let ranges = slots.map(|slot| self.ctx.arena.slots()[slot].range.clone());
        let mut parts = Arena::gradients_of(self.slots, ranges).into_iter();
        let dweights = parts.next().zip(parts.next()).map(|(q, k)| [q, k]);
        let weights: [&[f32]; 2] = [&q.weight.value, &k.weight.value];
        let saved = head_norm::Saved { qkv: &x.value, weights, inv_rms };
        let dx = head_norm::backward(self.ctx.device, &dy, heads(self.ctx), saved, dweights);
        self.give(x.id, Some(dx));
    }

    fn project(
        &mut self,
        dy: &Tensor,
        saved: linear::Saved<'_>,
        at: (usize, Group),
        want_dx: bool,
    ) -> Option<Tensor> {
        let linears = self.ctx.decoder.blocks[at.0].group(at.1);
        let projections = self.ctx.projections(at.0, at.1);
        let ranges = linears
            .iter()
            .flat_map(Linear::slots)
            .map(|slot| self.ctx.arena.slots()[slot].range.clone());
        let mut parts = Arena::gradients_of(self.slots, ranges).into_iter();
        let mut gradients: Vec<_> =
            linears.iter().map(|linear| slot_gradient(linear, &mut parts)).collect();
        linear::backward(self.ctx.device, dy, saved, &projections, (&mut gradients, want_dx))
    }

    /// The input of a product once more, with the bits it had.
    fn remake(&self, remake: Remake) -> Rc<Operand> {
        let (device, precision) = (self.ctx.device, self.ctx.precision);
        match remake {
            Remake::Kept(input) => input,
            Remake::Activation(x) => {
                let form = self.ctx.decoder.config.activation;
                Rc::new(activation::forward(device, precision, &x.value, form))
            }
            Remake::Norm(x, norm) => {
                Rc::new(norms::forward(self.ctx, &x.value, norm_of(self.ctx.decoder, norm)).0)
            }
        }
    }

    fn segment(&mut self, x: &Var<Tensor>, layer: usize, out: usize) {
        let Some(dy) = self.gradients[out].take() else { return };
        let mut tape = Tape::new(true);
        let start = tape.adopt(x, self.needed[x.id]);
        let end = tape.block_body(self.ctx, &start, layer).id;
        let mut left = tape.replay(self.ctx, end, dy, self.slots);
        if let Some(dx) = left[start.id].take() {
            self.share(x.id, &dx);
        }
    }

    /// Adds a gradient that nobody else holds.
    fn give(&mut self, id: usize, gradient: Option<Tensor>) {
        let Some(gradient) = gradient.filter(|_| self.needed[id]) else { return };
        match &mut self.gradients[id] {
            Some(sum) => add_to(self.ctx.device, sum, &gradient),
            none => *none = Some(Rc::new(gradient)),
        }
    }

    /// Adds a gradient that others may hold too.
    fn share(&mut self, id: usize, gradient: &Rc<Tensor>) {
        if !self.needed[id] {
            return;
        }
        match &mut self.gradients[id] {
            Some(sum) => add_to(self.ctx.device, sum, gradient),
            none => *none = Some(Rc::clone(gradient)),
        }
    }
}

fn add_to(device: &Device, sum: &mut Rc<Tensor>, term: &Tensor) {
    residual::add(device, Rc::make_mut(sum), term);
}

/// The value itself if nobody else holds it, else a copy.
fn owned(value: Rc<Tensor>) -> Tensor {
    Rc::try_unwrap(value).unwrap_or_else(|shared| (*shared).clone())
}

/// The weights of a norm; blocks have all norms that are asked for.
fn norm_of(decoder: &Decoder, norm: Norm) -> &decoder::Norm {
    let block = |layer: usize| &decoder.blocks[layer];
    match norm {
        Norm::Attention(layer) => &block(layer).attention_norm,
        Norm::PostAttention(layer) => {
            block(layer).post_attention_norm.as_ref().unwrap_or(&decoder.norm)
        }
        Norm::Mlp(layer) => &block(layer).mlp_norm,
        Norm::PostMlp(layer) => block(layer).post_mlp_norm.as_ref().unwrap_or(&decoder.norm),
        Norm::Final => &decoder.norm,
    }
}

/// The rotary table of a block, where it has one.
fn rope_of<'a>(ctx: &Context<'a>, layer: usize) -> Option<&'a rope::Table> {
    ctx.decoder.blocks[layer].shape.rope.map(|rope| &ctx.decoder.ropes[rope])
}

fn trains(ctx: &Context<'_>, layer: usize) -> bool {
    let block = &ctx.decoder.blocks[layer];
    block.norms().any(decoder::Norm::is_trained)
        || block.linears.iter().any(|linear| linear.trained != Trained::Nothing)
}

/// The gradient buffers of a linear, taken from its group's in slot order.
fn slot_gradient<'a>(
    linear: &Linear,
    parts: &mut impl Iterator<Item = &'a mut [f32]>,
) -> linear::ProjectionGrad<'a> {
    match (&linear.trained, parts) {
        (Trained::Nothing, _) => linear::ProjectionGrad::Frozen,
        (Trained::Lora { .. }, parts) => match (parts.next(), parts.next()) {
            (Some(a), Some(b)) => linear::ProjectionGrad::Lora { a, b },
            _ => linear::ProjectionGrad::Frozen,
        },
        (Trained::Full { bias, .. }, parts) => {
            let weight = parts.next();
            let bias = if bias.is_some() { parts.next() } else { None };
            weight.map_or(linear::ProjectionGrad::Frozen, |weight| linear::ProjectionGrad::Full {
                weight,
                bias,
            })
        }
    }
}
