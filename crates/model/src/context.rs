//! What every operation of a pass reads: the model, and how it is asked.

use kernels::{
    Branches, Device, Heads, Precision,
    ops::{attention, linear},
};

use crate::{
    Arena, Config, Decoder, Dropout,
    decoder::{Group, Linear},
    meter::{Meter, Part, Pass},
};

/// What every operation reads.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) device: &'a Device,
    pub(crate) precision: Precision,
    pub(crate) decoder: &'a Decoder,
    pub(crate) arena: &'a Arena,
    pub(crate) adapter: bool,
    pub(crate) positions: &'a [u32],
    pub(crate) branches: &'a Branches,
    pub(crate) dropout: Option<&'a Dropout>,
    pub(crate) pass: Pass,
    pub(crate) meter: &'a Meter,
}

impl<'a> Context<'a> {
    /// Computes a part of this pass that needs `flops` operations.
    pub(crate) fn time<T>(&self, part: Part, flops: u64, run: impl FnOnce() -> T) -> T {
        self.meter.time((self.pass, part), flops, run)
    }

    /// The same in backward, for what forward computed before.
    pub(crate) fn again(&self) -> Self {
        Self { pass: Pass::Again, ..*self }
    }

    /// A group of linears as the kernels take them, each dropping for itself.
    pub(crate) fn projections(&self, layer: usize, group: Group) -> Vec<linear::Projection<'a>> {
        let of_group = |(index, linear): (usize, &'a Linear)| {
            let salt = (layer * Group::COUNT + group as usize) * GROUP_MAX + index;
            let dropout = self.dropout.map(|dropout| dropout.of(salt as u64));
            linear.projection(self.arena, (self.adapter, dropout))
        };
        self.decoder.blocks[layer].group(group).iter().enumerate().map(of_group).collect()
    }
}

/// The most linears of a group.
const GROUP_MAX: usize = 3;

/// How queries, keys and values divide into heads.
pub(crate) fn heads(ctx: &Context<'_>) -> Heads {
    decoder_heads(&ctx.decoder.config)
}

/// How a decoder's queries, keys and values divide into heads.
pub(crate) fn decoder_heads(config: &Config) -> Heads {
    Heads { query: config.heads, key_value: config.kv_heads, dim: config.head_dim }
}

/// How the attention of a block takes the rows.
pub(crate) fn attention_shape<'a>(ctx: &Context<'a>, layer: usize) -> attention::Shape<'a> {
    let scoring = scoring(&ctx.decoder.config, layer);
    attention::Shape { branches: ctx.branches, heads: heads(ctx), scoring }
}

/// How the attention scores of a block are made.
pub(crate) fn scoring(config: &Config, layer: usize) -> attention::Scoring {
    attention::Scoring {
        scale: config.score_scale,
        softcap: config.score_softcap,
        window: config.blocks[layer].window,
    }
}
