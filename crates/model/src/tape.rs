//! A tape of coarse operations: forward records, backward replays in reverse.
//!
//! Each node holds what its backward needs and nothing else. A value that no gradient reaches
//! records no node, so the pass back stops by itself below the lowest trained tensor.
//! A segment records only its input and runs again in backward (gradient checkpointing).

mod backward;

use std::rc::Rc;

use kernels::{
    Operand, Tensor,
    ops::{activation, attention, head_norm, linear, normed::Normed, rms_norm, rope, rows},
};

use crate::{
    Decoder,
    context::{Context, attention_shape, heads},
    decoder::{self, Group, Trained},
    meter::Part,
    norms,
    past::{add_output, embedded},
    scan::{Saved, Scanning},
    work,
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

/// A norm before products, which every decoder has.
#[derive(Clone, Copy)]
pub(crate) enum Norm {
    Attention(usize),
    Mlp(usize),
    Final,
}

/// A norm of what attention or feed-forward gives, which some decoders have.
#[derive(Clone, Copy)]
enum OutputNorm {
    Attention(usize),
    Mlp(usize),
}

enum Node {
    Embed { out: usize, ids: Vec<u32> },
    Norm { x: usize, normed: Rc<Normed>, norm: Norm, out: usize },
    OutputNorm { x: usize, normed: Normed, norm: OutputNorm, out: usize },
    HeadNorm { x: Var<Tensor>, inv_rms: Vec<f32>, layer: usize, out: usize },
    Project { x: usize, remake: Remake, low: Vec<Option<Operand>>, at: (usize, Group), out: usize },
    Rope { x: usize, layer: usize, out: usize },
    Attention { x: usize, qkv: Operand, out: Var<Operand>, lse: Vec<f32>, layer: usize },
    Scan { x: Var<Tensor>, saved: Saved, layer: usize, out: usize },
    Activation { x: usize, kept: Rc<Operand>, out: usize },
    Add { a: usize, b: usize, out: usize },
    Gather { x: usize, row_count: usize, rows: Vec<u32>, out: usize },
    Segment { x: Var<Tensor>, layer: usize, out: usize },
}

/// How backward gets the input of a product: from what is kept anyway where that is cheap, so that
/// rounded copies of normed and gated values take no memory.
enum Remake {
    Kept(Rc<Operand>),
    Norm(Rc<Normed>, Norm),
    Activation(Rc<Operand>),
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
        let value = ctx.time(Part::Embedding, 0, || embedded(ctx, ids));
        let out = self.var(value, trained);
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
        let projected = self.project(ctx, normed, layer, Group::Qkv);
        let mixed = if let Some(mixer) = Scanning::of(ctx, layer) {
            self.scan(ctx, &mixer, projected, layer)
        } else {
            let qkv = self.head_norm(ctx, projected, layer);
            let qkv = self.rope(ctx, qkv, layer);
            self.attention(ctx, &qkv, layer)
        };
        let mixed = Input { remake: Remake::Kept(Rc::clone(&mixed.value)), x: mixed };
        let out = self.project(ctx, mixed, layer, Group::Output);
        let out = self.output_norm(ctx, out, OutputNorm::Attention(layer));
        let x = self.add(ctx, x, out);
        let normed = self.normed(ctx, &x, Norm::Mlp(layer));
        let inner = self.project(ctx, normed, layer, Group::GateUp);
        let bent = self.activation(ctx, &inner);
        drop(inner);
        let out = self.project(ctx, bent, layer, Group::Down);
        let out = self.output_norm(ctx, out, OutputNorm::Mlp(layer));
        self.add(ctx, &x, out)
    }

    /// A state carried along what was projected.
    fn scan(
        &mut self,
        ctx: &Context<'_>,
        mixer: &Scanning<'_>,
        x: Var<Tensor>,
        layer: usize,
    ) -> Var<Operand> {
        let (out, saved) = ctx.time(Part::Scan, 0, || mixer.forward(&x.value));
        let needed = self.needs(x.id) || mixer.is_trained();
        let out = self.var(out, needed);
        self.record(needed, Node::Scan { x, saved, layer, out: out.id });
        out
    }

    fn normed(&mut self, ctx: &Context<'_>, x: &Var<Tensor>, norm: Norm) -> Input {
        let (x, normed) = self.norm(ctx, x, norm);
        Input { x, remake: Remake::Norm(normed, norm) }
    }

    /// Normalized rows, rounded as an operand of products.
    pub(crate) fn norm(
        &mut self,
        ctx: &Context<'_>,
        x: &Var<Tensor>,
        norm: Norm,
    ) -> (Var<Operand>, Rc<Normed>) {
        let weights = norm_of(ctx.decoder, norm);
        let (out, normed) = ctx.time(Part::Norm, 0, || norms::forward(ctx, &x.value, weights));
        let normed = Rc::new(normed);
        let needed = self.needs(x.id) || weights.is_trained();
        let out = self.var(out, needed);
        let node = Node::Norm { x: x.id, normed: Rc::clone(&normed), norm, out: out.id };
        self.record(needed, node);
        (out, normed)
    }

    /// What attention or feed-forward gives, normalized and not rounded, where there is a norm.
    fn output_norm(&mut self, ctx: &Context<'_>, x: Var<Tensor>, norm: OutputNorm) -> Var<Tensor> {
        let Some(weights) = output_norm_of(ctx.decoder, norm) else { return x };
        let eps = ctx.decoder.config.norm_eps;
        let (out, normed) = ctx.time(Part::Norm, 0, || {
            let weight = &weights.weight.value;
            rms_norm::forward_exact(ctx.device, ctx.precision, &x.value, weight, eps)
        });
        let needed = self.needs(x.id) || weights.is_trained();
        let out = self.var(out, needed);
        self.record(needed, Node::OutputNorm { x: x.id, normed, norm, out: out.id });
        out
    }

    /// Queries and keys with normalized heads, where there are norms of heads.
    fn head_norm(&mut self, ctx: &Context<'_>, x: Var<Tensor>, layer: usize) -> Var<Tensor> {
        let Some([q, k]) = &ctx.decoder.blocks[layer].head_norms else { return x };
        let weights: [&[f32]; 2] = [&q.weight.value, &k.weight.value];
        let eps = ctx.decoder.config.norm_eps;
        let (out, inv_rms) = ctx.time(Part::Norm, 0, || {
            head_norm::forward(ctx.device, &x.value, heads(ctx), weights, eps)
        });
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
        let flops = work::forward(x.value.rows(), &projections);
        let (out, low) =
            ctx.time(group.part(), flops, || linear::forward(ctx.device, &x.value, &projections));
        let needed =
            self.needs(x.id) || linears.iter().any(|linear| linear.trained != Trained::Nothing);
        let out = self.var(out, needed);
        let at = (layer, group);
        self.record(needed, Node::Project { x: x.id, remake, low, at, out: out.id });
        out
    }

    /// Queries and keys turned to their positions, where the block turns.
    fn rope(&mut self, ctx: &Context<'_>, x: Var<Tensor>, layer: usize) -> Var<Tensor> {
        let Some(table) = rope_of(ctx, layer) else { return x };
        let mut value = owned(x.value);
        ctx.time(Part::Rope, 0, || {
            rope::forward(ctx.device, &mut value, heads(ctx), table, ctx.positions);
        });
        let needed = self.needs(x.id);
        let out = self.var(value, needed);
        self.record(needed, Node::Rope { x: x.id, layer, out: out.id });
        out
    }

    fn attention(&mut self, ctx: &Context<'_>, qkv: &Var<Tensor>, layer: usize) -> Var<Operand> {
        let shape = attention_shape(ctx, layer);
        let flops = work::attention(shape.branches, shape.heads, shape.scoring.window);
        let (out, lse) = ctx.time(Part::Attention, flops, || {
            attention::forward(ctx.device, ctx.precision, &qkv.value, shape)
        });
        let needed = self.needs(qkv.id);
        let out = self.var(out, needed);
        if needed && self.recording {
            // Products see them rounded, here and in backward.
            let kept = ctx
                .time(Part::Attention, 0, || Operand::new(ctx.device, ctx.precision, &qkv.value));
            let (x, qkv) = (qkv.id, kept);
            self.nodes.push(Node::Attention { x, qkv, out: out.clone(), lse, layer });
        }
        out
    }

    /// The activation of what gate and up give, as the input of the product that follows.
    fn activation(&mut self, ctx: &Context<'_>, x: &Var<Tensor>) -> Input {
        let needed = self.needs(x.id);
        let form = ctx.decoder.config.activation;
        let (value, kept) = ctx.time(Part::Activation, 0, || {
            activation::forward(ctx.device, ctx.precision, &x.value, form)
        });
        let (out, kept) = (self.var(value, needed), Rc::new(kept));
        let node = Node::Activation { x: x.id, kept: Rc::clone(&kept), out: out.id };
        self.record(needed, node);
        Input { x: out, remake: Remake::Activation(kept) }
    }

    /// The stream `a` and what a block makes of it, `b`, in whose memory it is computed.
    fn add(&mut self, ctx: &Context<'_>, a: &Var<Tensor>, b: Var<Tensor>) -> Var<Tensor> {
        let needed = self.needs(a.id) || self.needs(b.id);
        let mut value = owned(b.value);
        ctx.time(Part::Residual, 0, || add_output(ctx, &mut value, &a.value));
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
        let value = ctx.time(Part::Rows, 0, || rows::gather(ctx.device, &x.value, &indices));
        let out = self.var(value, needed);
        let row_count = x.value.rows();
        self.record(needed, Node::Gather { x: x.id, row_count, rows: indices, out: out.id });
        out
    }
}

impl<T> Var<T> {
    /// The value's place on the tape.
    pub(crate) fn id(&self) -> usize {
        self.id
    }
}

/// The value itself if nobody else holds it, else a copy.
fn owned(value: Rc<Tensor>) -> Tensor {
    Rc::try_unwrap(value).unwrap_or_else(|shared| (*shared).clone())
}

fn norm_of(decoder: &Decoder, norm: Norm) -> &decoder::Norm {
    match norm {
        Norm::Attention(layer) => &decoder.blocks[layer].attention_norm,
        Norm::Mlp(layer) => &decoder.blocks[layer].mlp_norm,
        Norm::Final => &decoder.norm,
    }
}

fn output_norm_of(decoder: &Decoder, norm: OutputNorm) -> Option<&decoder::Norm> {
    match norm {
        OutputNorm::Attention(layer) => decoder.blocks[layer].post_attention_norm.as_ref(),
        OutputNorm::Mlp(layer) => decoder.blocks[layer].post_mlp_norm.as_ref(),
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

#[cfg(test)]
mod tests {
    use formats::peft::Adapter;
    use kernels::{Device, Precision};

    use super::*;
    use crate::{
        Checkpoint, Layers, LoraSettings, MicroBatch, Policy, Sequence, Targets, Training,
    };

    impl Tape {
        /// The blocks whose nodes are kept for the way back, in order.
        pub(crate) fn blocks(&self) -> Vec<usize> {
            let block = |node: &Node| match node {
                Node::Norm { norm: Norm::Attention(layer) | Norm::Mlp(layer), .. }
                | Node::OutputNorm {
                    norm: OutputNorm::Attention(layer) | OutputNorm::Mlp(layer),
                    ..
                }
                | Node::HeadNorm { layer, .. }
                | Node::Project { at: (layer, _), .. }
                | Node::Rope { layer, .. }
                | Node::Attention { layer, .. }
                | Node::Scan { layer, .. }
                | Node::Segment { layer, .. } => Some(*layer),
                _ => None,
            };
            let mut blocks: Vec<usize> = self.nodes.iter().filter_map(block).collect();
            blocks.dedup();
            blocks
        }
    }

    /// An adapter on some blocks, whose B is not 0, so that A has a gradient too.
    fn adapter(base: &Checkpoint, layers: Layers) -> Adapter {
        let (r, lora_alpha, use_rslora, targets) = (2, 4.0, false, Targets::AllLinear);
        let settings = LoraSettings { r, lora_alpha, use_rslora, targets, layers };
        let mut adapter = settings.fresh(base.config(), 1).unwrap();
        let of_last = format!(".{}.", base.config().layers() - 1);
        for (name, (_, numbers)) in &mut adapter.tensors {
            if name.contains("lora_B") && name.contains(&of_last) {
                numbers.fill(0.01);
            }
        }
        adapter
    }

    #[test]
    fn nothing_is_kept_below_the_lowest_adapter() {
        let batch = MicroBatch::new(&[Sequence {
            prompt: &[1, 70, 71, 72, 9],
            completions: vec![(&[44, 7, 90, 20, 2], 0), (&[13, 14, 15], 0)],
            spans: &[],
        }]);
        for name in ["tied", "gqa"] {
            let base = Checkpoint::open(&testkit::golden("model").join(name)).unwrap();
            let all = base.config().layers();
            let gradients = |layers: Layers, recompute: bool| {
                let training = Training::Lora(Box::new(adapter(&base, layers)));
                let mut policy =
                    Policy::load(&base, &Device::cpu(), Precision::F32, &training).unwrap();
                policy.set_recompute(recompute);
                let pending = policy.forward(&batch).unwrap();
                let blocks = pending.tape().blocks();
                policy.backward(&batch, pending, &[1.0, -1.0].map(Into::into));
                let arena = policy.arena();
                let of = |slot: &crate::Slot| {
                    (slot.name.clone(), arena.gradients[slot.range.clone()].to_vec())
                };
                (blocks, arena.slots().iter().map(of).collect::<Vec<_>>())
            };
            for recompute in [false, true] {
                let (blocks, whole) = gradients(Layers::All, recompute);
                assert_eq!(blocks, (0..all).collect::<Vec<_>>(), "{name}");
                let (blocks, last) = gradients(Layers::Last(1), recompute);
                assert_eq!(blocks, [all - 1], "{name}");
                // The last block's gradients are the same, to the bit, and not all 0.
                let of_last = format!(".{}.", all - 1);
                let of_whole: Vec<_> =
                    whole.into_iter().filter(|(slot, _)| slot.contains(&of_last)).collect();
                assert!(last == of_whole && !last.is_empty(), "{name}");
                let is_moved = |slot: &(String, Vec<f32>)| slot.1.iter().any(|it| *it != 0.0);
                assert!(last.iter().all(is_moved), "{name}");
            }
            let named = gradients(Layers::Named(vec![all - 1]), false);
            assert!(named == gradients(Layers::Last(1), false), "{name}");
            assert!(gradients(Layers::Last(99), false) == gradients(Layers::All, false), "{name}");
        }
    }
}
