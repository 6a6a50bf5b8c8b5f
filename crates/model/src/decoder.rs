//! A decoder in memory: packed weights, and which of them (or which adapters) are trained.

use kernels::{
    Weight,
    ops::{linear, rope},
};

use crate::{Arena, Config};

/// A decoder of the Llama family.
pub struct Decoder {
    /// Shape and constants.
    pub config: Config,
    /// The token table `[vocabulary, hidden]`; also the head where that is tied.
    pub embedding: Trainable<Weight>,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// Weight of the norm before the head.
    pub norm: Trainable<Vec<f32>>,
    /// The head `[vocabulary, hidden]`, unless it is the token table.
    pub head: Option<Trainable<Weight>>,
    /// Rotary frequencies.
    pub rope: rope::Table,
}

/// A tensor, and its slot in the arena if it is trained in full.
pub struct Trainable<T> {
    /// The tensor as the kernels read it.
    pub value: T,
    /// Index of its slot.
    pub slot: Option<usize>,
}

impl<T> Trainable<T> {
    pub(crate) fn frozen(value: T) -> Self {
        Self { value, slot: None }
    }
}

/// One block: attention and a gated feed-forward, each behind a norm.
pub struct Block {
    /// Weight of the norm before attention.
    pub attention_norm: Trainable<Vec<f32>>,
    /// Weight of the norm before the feed-forward.
    pub mlp_norm: Trainable<Vec<f32>>,
    /// q, k, v, o, gate, up, down, as [`Config::linears`] orders them.
    pub linears: [Linear; 7],
}

/// A linear map with an optional bias, and what of it is trained.
pub struct Linear {
    /// Its full name in a Hugging Face checkpoint, without `.weight`.
    pub name: String,
    /// The weight `[out, in]`.
    pub weight: Weight,
    /// The bias `[out]`.
    pub bias: Option<Vec<f32>>,
    /// What is trained.
    pub trained: Trained,
}

/// What of a linear is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Trained {
    /// Nothing.
    Nothing,
    /// A low-rank adapter; slots of A `[r, in]` and B `[out, r]`.
    Lora {
        /// Slot of A.
        a: usize,
        /// Slot of B.
        b: usize,
        /// The rank.
        rank: usize,
        /// The factor before `B A x`.
        scale: f32,
    },
    /// The weight itself, and its bias.
    Full {
        /// Slot of the weight.
        weight: usize,
        /// Slot of the bias.
        bias: Option<usize>,
    },
}

/// A group of linears that read the same input and are computed as one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Queries, keys and values.
    Qkv,
    /// The attention's output.
    Output,
    /// Gate and up.
    GateUp,
    /// Down.
    Down,
}

impl Group {
    /// The number of groups in a block.
    pub(crate) const COUNT: usize = 4;
}

impl Block {
    pub(crate) fn group(&self, group: Group) -> &[Linear] {
        match group {
            Group::Qkv => &self.linears[0..3],
            Group::Output => &self.linears[3..4],
            Group::GateUp => &self.linears[4..6],
            Group::Down => &self.linears[6..7],
        }
    }
}

impl Linear {
    /// The linear as the kernels take it, its adapter left out if `adapter` is false.
    pub(crate) fn projection<'a>(
        &'a self,
        arena: &'a Arena,
        (adapter, dropout): (bool, Option<kernels::Dropout<'a>>),
    ) -> linear::Projection<'a> {
        let lora = match self.trained {
            Trained::Lora { a, b, rank, scale } if adapter => {
                let (a, b) = (arena.value(a), arena.value(b));
                Some(linear::Lora { a, b, rank, scale, dropout })
            }
            _ => None,
        };
        linear::Projection { weight: &self.weight, bias: self.bias.as_deref(), lora }
    }

    /// The slots that it trains, ascending.
    pub(crate) fn slots(&self) -> Vec<usize> {
        match self.trained {
            Trained::Nothing => Vec::new(),
            Trained::Lora { a, b, .. } => vec![a, b],
            Trained::Full { weight, bias } => std::iter::once(weight).chain(bias).collect(),
        }
    }
}

impl Decoder {
    /// The head's weight, whether tied or not.
    pub(crate) fn head_weight(&self) -> &Weight {
        self.head.as_ref().map_or(&self.embedding.value, |head| &head.value)
    }

    /// The slot of the head's weight, whether tied or not.
    pub(crate) fn head_slot(&self) -> Option<usize> {
        self.head.as_ref().map_or(self.embedding.slot, |head| head.slot)
    }
}
