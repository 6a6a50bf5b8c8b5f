//! The way back over a tape: nodes in reverse, each freed once its gradient went on.

use std::rc::Rc;

use kernels::{
    Operand, Tensor,
    ops::{
        activation, attention, embedding, head_norm, linear, normed::Normed, residual, rope, rows,
    },
};

use super::{Node, Remake, Tape, Var, norm_of, output_norm_of, owned, rope_of};
use crate::{
    Arena,
    context::{Context, attention_shape, heads},
    decoder::{self, Group, Linear, Trained},
    meter::Part,
    norms,
    scan::Scanning,
    work,
};

impl Tape {
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
            Node::Embed { out, ids } => {
                let ctx = self.ctx;
                ctx.time(Part::Embedding, 0, || self.embed(out, &ids));
            }
            Node::Norm { x, normed, norm, out } => {
                self.norm(x, &normed, norm_of(self.ctx.decoder, norm), out);
            }
            Node::OutputNorm { x, normed, norm, out } => {
                let Some(weights) = output_norm_of(self.ctx.decoder, norm) else { return };
                self.norm(x, &normed, weights, out);
            }
            Node::HeadNorm { x, inv_rms, layer, out } => self.head_norm(&x, &inv_rms, layer, out),
            Node::Project { x, remake, low, at, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let input = self.remake(remake);
                let saved = linear::Saved { x: &input, low: &low };
                let dx = self.project(&dy, saved, at, self.needed[x]);
                drop(dy);
                self.give(x, dx);
            }
            Node::Rope { x, layer, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let mut dy = owned(dy);
                if let Some(table) = rope_of(self.ctx, layer) {
                    let positions = self.ctx.positions;
                    self.ctx.time(Part::Rope, 0, || {
                        rope::backward(self.ctx.device, &mut dy, heads(self.ctx), table, positions);
                    });
                }
                self.give(x, Some(dy));
            }
            Node::Attention { x, qkv, out, lse, layer } => {
                let Some(dy) = self.gradients[out.id].take() else { return };
                let saved = attention::Saved { qkv: &qkv, out: &out.value, lse: &lse };
                let shape = attention_shape(self.ctx, layer);
                let attention::Shape { branches, heads, scoring } = shape;
                let flops = work::attention_backward(branches, heads, scoring.window);
                let dx = self.ctx.time(Part::Attention, flops, || {
                    attention::backward(self.ctx.device, &dy, saved, shape)
                });
                self.give(x, Some(dx));
            }
            Node::Scan { x, saved, layer, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let Some(mixer) = Scanning::of(self.ctx, layer) else { return };
                let slots = &mut *self.slots;
                let dx =
                    self.ctx.time(Part::Scan, 0, || mixer.backward(&dy, &x.value, &saved, slots));
                self.give(x.id, Some(dx));
            }
            Node::Activation { x, kept, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let form = self.ctx.decoder.config.activation;
                let dx = self.ctx.time(Part::Activation, 0, || {
                    activation::backward(self.ctx.device, &dy, &kept, form)
                });
                self.give(x, Some(dx));
            }
            Node::Add { a, b, out } => self.add(a, b, out),
            Node::Gather { x, row_count, rows: indices, out } => {
                let Some(dy) = self.gradients[out].take() else { return };
                let mut dx = Tensor::zeros(self.ctx.device, row_count, dy.cols());
                self.ctx.time(Part::Rows, 0, || {
                    rows::scatter_add(self.ctx.device, &dy, &indices, &mut dx);
                });
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
            self.ctx.time(Part::Residual, 0, || {
                residual::scale(self.ctx.device, &mut part, scale);
            });
            self.give(b, Some(part));
        }
    }

    fn norm(&mut self, x: usize, normed: &Normed, weights: &decoder::Norm, out: usize) {
        let Some(dy) = self.gradients[out].take() else { return };
        let dx = self
            .ctx
            .time(Part::Norm, 0, || norms::backward(self.ctx, &dy, normed, weights, self.slots));
        self.give(x, Some(dx));
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
        let dx = self.ctx.time(Part::Norm, 0, || {
            head_norm::backward(self.ctx.device, &dy, heads(self.ctx), saved, dweights)
        });
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
        let is_full = linears.iter().any(|linear| matches!(linear.trained, Trained::Full { .. }));
        let flops = work::backward(dy.rows(), &projections, (want_dx, is_full));
        self.ctx.time(at.1.part(), flops, || {
            linear::backward(self.ctx.device, dy, saved, &projections, (&mut gradients, want_dx))
        })
    }

    /// The input of a product once more, with the bits it had.
    fn remake(&self, remake: Remake) -> Rc<Operand> {
        let ctx = self.ctx.again();
        match remake {
            Remake::Kept(input) => input,
            Remake::Activation(kept) => {
                let form = ctx.decoder.config.activation;
                let again = || activation::again(ctx.device, &kept, form);
                Rc::new(ctx.time(Part::Activation, 0, again))
            }
            Remake::Norm(normed, norm) => {
                let norm = norm_of(ctx.decoder, norm);
                Rc::new(ctx.time(Part::Norm, 0, || norms::again(&ctx, &normed, norm)))
            }
        }
    }

    fn segment(&mut self, x: &Var<Tensor>, layer: usize, out: usize) {
        let Some(dy) = self.gradients[out].take() else { return };
        let mut tape = Tape::new(true);
        let start = tape.adopt(x, self.needed[x.id]);
        let end = tape.block_body(&self.ctx.again(), &start, layer).id;
        let mut left = tape.replay(self.ctx, end, dy, self.slots);
        if let Some(dx) = left[start.id].take() {
            self.share(x.id, &dx);
        }
    }

    /// Adds a gradient that nobody else holds.
    fn give(&mut self, id: usize, gradient: Option<Tensor>) {
        let Some(gradient) = gradient.filter(|_| self.needed[id]) else { return };
        match &mut self.gradients[id] {
            Some(sum) => add_to(self.ctx, sum, &gradient),
            none => *none = Some(Rc::new(gradient)),
        }
    }

    /// Adds a gradient that others may hold too.
    fn share(&mut self, id: usize, gradient: &Rc<Tensor>) {
        if !self.needed[id] {
            return;
        }
        match &mut self.gradients[id] {
            Some(sum) => add_to(self.ctx, sum, gradient),
            none => *none = Some(Rc::clone(gradient)),
        }
    }
}

fn add_to(ctx: &Context<'_>, sum: &mut Rc<Tensor>, term: &Tensor) {
    ctx.time(Part::Residual, 0, || residual::add(ctx.device, Rc::make_mut(sum), term));
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
