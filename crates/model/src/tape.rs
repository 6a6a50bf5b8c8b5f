//! A tape of coarse operations: forward records, backward replays in reverse.
//!
//! Each node holds what its backward needs and nothing else. A value that no gradient reaches
//! records no node, so the pass back stops by itself below the lowest trained tensor.
//! A segment records only its input and runs again in backward (gradient checkpointing).

use std::rc::Rc;

use kernels::{
    Device, Operand, Tensor,
    ops::{attention, embedding, linear, residual, rms_norm, rope, rows, swiglu},
};

use crate::{
    Arena, Decoder,
    context::{Context, attention_shape, heads},
    decoder::{Group, Linear, Trained},
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
    Mlp(usize),
    Final,
}

enum Node {
    Embed { out: usize, ids: Vec<u32> },
    Norm { x: Var<Tensor>, inv_rms: Vec<f32>, norm: Norm, out: usize },
    Project { x: usize, remake: Remake, low: Vec<Option<Operand>>, at: (usize, Group), out: usize },
    Rope { x: usize, out: usize },
    Attention { qkv: Var<Tensor>, out: Var<Operand>, lse: Vec<f32> },
    SwiGlu { gate_up: Var<Tensor>, out: usize },
    Add { a: usize, b: usize, out: usize },
    Gather { x: usize, row_count: usize, rows: Vec<u32>, out: usize },
    Segment { x: Var<Tensor>, layer: usize, out: usize },
}

/// How backward gets the input of a product: from what is kept anyway where that is cheap, so that
/// rounded copies of normed and gated values take no memory.
enum Remake {
    Kept(Rc<Operand>),
    Norm(Var<Tensor>, Norm),
    Gate(Var<Tensor>),
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
        let table = &ctx.decoder.embedding;
        let trained = table.slot.is_some();
        let out = self.var(embedding::forward(ctx.device, &table.value, ids), trained);
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
        let normed = self.normed(ctx, x, Norm::Attention(layer));
        let qkv = self.project(ctx, normed, layer, Group::Qkv);
        let qkv = self.rope(ctx, qkv);
        let mixed = self.attention(ctx, qkv);
        let mixed = Input { remake: Remake::Kept(Rc::clone(&mixed.value)), x: mixed };
        let out = self.project(ctx, mixed, layer, Group::Output);
        let x = self.add(ctx, x, out);
        let normed = self.normed(ctx, &x, Norm::Mlp(layer));
        let gate_up = self.project(ctx, normed, layer, Group::GateUp);
        let remake = Remake::Gate(gate_up.clone());
        let gated = Input { x: self.swiglu(ctx, gate_up), remake };
        let out = self.project(ctx, gated, layer, Group::Down);
        self.add(ctx, &x, out)
    }

    fn normed(&mut self, ctx: &Context<'_>, x: &Var<Tensor>, norm: Norm) -> Input {
        Input { x: self.norm(ctx, x, norm), remake: Remake::Norm(x.clone(), norm) }
    }

    /// RMSNorm, rounded as an operand of products.
    pub(crate) fn norm(&mut self, ctx: &Context<'_>, x: &Var<Tensor>, norm: Norm) -> Var<Operand> {
        let (weight, slot) = norm_weight(ctx.decoder, norm);
        let eps = ctx.decoder.config.norm_eps;
        let (out, inv_rms) = rms_norm::forward(ctx.device, ctx.precision, &x.value, weight, eps);
        let needed = self.needs(x.id) || slot.is_some();
        let out = self.var(out, needed);
        self.record(needed, Node::Norm { x: x.clone(), inv_rms, norm, out: out.id });
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

    fn rope(&mut self, ctx: &Context<'_>, x: Var<Tensor>) -> Var<Tensor> {
        let mut value = owned(x.value);
        rope::forward(ctx.device, &mut value, heads(ctx), &ctx.decoder.rope, ctx.positions);
        let needed = self.needs(x.id);
        let out = self.var(value, needed);
        self.record(needed, Node::Rope { x: x.id, out: out.id });
        out
    }

    fn attention(&mut self, ctx: &Context<'_>, qkv: Var<Tensor>) -> Var<Operand> {
        let (out, lse) =
            attention::forward(ctx.device, ctx.precision, &qkv.value, attention_shape(ctx));
        let needed = self.needs(qkv.id);
        let out = self.var(out, needed);
        self.record(needed, Node::Attention { qkv, out: out.clone(), lse });
        out
    }

    fn swiglu(&mut self, ctx: &Context<'_>, gate_up: Var<Tensor>) -> Var<Operand> {
        let needed = self.needs(gate_up.id);
        let out = self.var(swiglu::forward(ctx.device, ctx.precision, &gate_up.value), needed);
        self.record(needed, Node::SwiGlu { gate_up, out: out.id });
        out
    }

    /// `a + b`, computed in the memory of `b`.
    fn add(&mut self, ctx: &Context<'_>, a: &Var<Tensor>, b: Var<Tensor>) -> Var<Tensor> {
        let needed = self.needs(a.id) || self.needs(b.id);
        let mut value = owned(b.value);
        residual::add(ctx.device, &mut value, &a.value);
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
            Node::Norm { x, inv_rms, norm, out } => self.norm(&x, &inv_rms, norm, out),
            Node::Project { x, remake, low, at, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let input = self.remake(remake);
                let dx =
                    self.project(&dy, linear::Saved { x: &input, low: &low }, at, self.needed[x]);
                drop(dy);
                self.give(x, dx);
            }
            Node::Rope { x, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let mut dy = owned(dy);
                let (table, positions) = (&self.ctx.decoder.rope, self.ctx.positions);
                rope::backward(self.ctx.device, &mut dy, heads(self.ctx), table, positions);
                self.give(x, Some(dy));
            }
            Node::Attention { qkv, out, lse } => {
                let Some(dy) = self.gradients[out.id].take() else { return };
                let dx = self.attention(&dy, &qkv, &out, &lse);
                self.give(qkv.id, Some(dx));
            }
            Node::SwiGlu { gate_up, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let dx = swiglu::backward(self.ctx.device, &dy, &gate_up.value);
                self.give(gate_up.id, Some(dx));
            }
            Node::Add { a, b, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                self.share(a, &dy);
                self.share(b, &dy);
            }
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
        let range = self.ctx.arena.slots()[slot].range.clone();
        embedding::backward(self.ctx.device, &dy, ids, &mut self.slots[range]);
    }

    fn norm(&mut self, x: &Var<Tensor>, inv_rms: &[f32], norm: Norm, out: usize) {
        let Some(dy) = self.gradients[out].take() else { return };
        let (weight, slot) = norm_weight(self.ctx.decoder, norm);
        let dweight = slot.map(|slot| &mut self.slots[self.ctx.arena.slots()[slot].range.clone()]);
        let saved = rms_norm::Saved { x: &x.value, weight, inv_rms };
        let dx = rms_norm::backward(self.ctx.device, &dy, saved, dweight);
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
            Remake::Gate(gate_up) => Rc::new(swiglu::forward(device, precision, &gate_up.value)),
            Remake::Norm(x, norm) => {
                let (weight, _) = norm_weight(self.ctx.decoder, norm);
                let eps = self.ctx.decoder.config.norm_eps;
                Rc::new(rms_norm::forward(device, precision, &x.value, weight, eps).0)
            }
        }
    }

    fn attention(&self, dy: &Tensor, qkv: &Var<Tensor>, out: &Var<Operand>, lse: &[f32]) -> Tensor {
        let forward = attention::Saved { qkv: &qkv.value, out: &out.value, lse };
        attention::backward(self.ctx.device, dy, forward, attention_shape(self.ctx))
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

fn norm_weight(decoder: &Decoder, norm: Norm) -> (&[f32], Option<usize>) {
    let norm = match norm {
        Norm::Attention(layer) => &decoder.blocks[layer].attention_norm,
        Norm::Mlp(layer) => &decoder.blocks[layer].mlp_norm,
        Norm::Final => &decoder.norm,
    };
    (&norm.value, norm.slot)
}

fn trains(ctx: &Context<'_>, layer: usize) -> bool {
    let block = &ctx.decoder.blocks[layer];
    block.attention_norm.slot.is_some()
        || block.mlp_norm.slot.is_some()
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
