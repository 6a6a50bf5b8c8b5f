//! A decoder in memory: packed weights, and which of them (or which adapters) are trained.

use kernels::{
    Weight,
    ops::{linear, rope},
};

use crate::{Arena, BlockShape, Config, meter::Part};

/// A decoder.
pub struct Decoder {
    /// Shape and constants.
    pub config: Config,
    /// The token table `[vocabulary, hidden]`; also the head where that is tied.
    pub embedding: Trainable<Weight>,
    /// The table of positions `[context, hidden]`, where they are learned.
    pub positions: Option<Trainable<Weight>>,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// The norm before the head.
    pub norm: Norm,
    /// The head `[vocabulary, hidden]`, unless it is the token table.
    pub head: Option<Trainable<Weight>>,
    /// Rotary frequencies, as [`Config::ropes`] orders them.
    pub ropes: Vec<rope::Table>,
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

/// The weights of a norm.
pub struct Norm {
    /// What columns are multiplied by, as the kernels read it.
    pub weight: Trainable<Vec<f32>>,
    /// What is added afterwards, where something is.
    pub bias: Option<Trainable<Vec<f32>>>,
    /// By how much the weight is larger than what is stored and trained.
    pub offset: f32,
}

impl Norm {
    /// Brings the weights up to date with the arena.
    pub(crate) fn sync(&mut self, arena: &Arena) {
        if let Some(slot) = self.weight.slot {
            for (value, stored) in self.weight.value.iter_mut().zip(arena.value(slot)) {
                *value = stored + self.offset;
            }
        }
        if let Some((slot, bias)) = self.bias.as_mut().and_then(|bias| Some((bias.slot?, bias))) {
            bias.value.copy_from_slice(arena.value(slot));
        }
    }

    /// Whether it is trained.
    pub(crate) fn is_trained(&self) -> bool {
        self.weight.slot.is_some()
    }
}

/// The weights of a mixer that carries a state, linears left out.
pub struct Scan {
    /// The convolution `[channels, taps]`.
    pub conv: Trainable<Vec<f32>>,
    /// Its biases `[channels]`.
    pub conv_bias: Option<Trainable<Vec<f32>>>,
    /// What is added to the steps `[heads]`.
    pub dt_bias: Trainable<Vec<f32>>,
    /// Logarithms of the rates of decay `[heads]`.
    pub a_log: Trainable<Vec<f32>>,
    /// What passes by the state `[heads]`.
    pub d: Trainable<Vec<f32>>,
    /// The gated norm.
    pub norm: Norm,
}

impl Scan {
    /// All tensors but the norm, in the order of their slots.
    pub(crate) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Trainable<Vec<f32>>> {
        let rest = [&mut self.dt_bias, &mut self.a_log, &mut self.d];
        std::iter::once(&mut self.conv).chain(&mut self.conv_bias).chain(rest)
    }

    /// All tensors but the norm, in the order of their slots.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Trainable<Vec<f32>>> {
        let rest = [&self.dt_bias, &self.a_log, &self.d];
        std::iter::once(&self.conv).chain(&self.conv_bias).chain(rest)
    }
}

/// One block: attention (or a scan) and a feed-forward, each behind a norm.
pub struct Block {
    /// What sets it apart from others.
    pub shape: BlockShape,
    /// The norm before attention.
    pub attention_norm: Norm,
    /// The norm of what attention gives, where there is one.
    pub post_attention_norm: Option<Norm>,
    /// The norm before the feed-forward.
    pub mlp_norm: Norm,
    /// The norm of what the feed-forward gives, where there is one.
    pub post_mlp_norm: Option<Norm>,
    /// The norms of query heads and of key heads, where there are such.
    pub head_norms: Option<[Norm; 2]>,
    /// The mixer that carries a state, in blocks that do not attend.
    pub scan: Option<Scan>,
    /// The linears, as [`Config::block_linears`] orders them.
    pub linears: Vec<Linear>,
}

/// A linear map with an optional bias, and what of it is trained.
pub struct Linear {
    /// Its full name in a Hugging Face checkpoint, without `.weight`.
    pub name: String,
    /// The group that it is computed with.
    pub(crate) group: Group,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What goes into the mixer: queries, keys and values.
    Qkv,
    /// What comes out of the mixer.
    Output,
    /// Gate and up; up alone where nothing is gated.
    GateUp,
    /// Down.
    Down,
}

impl Group {
    /// The number of groups in a block.
    pub(crate) const COUNT: usize = 4;

    /// What its products are a part of.
    pub(crate) fn part(self) -> Part {
        match self {
            Self::Qkv => Part::Qkv,
            Self::Output => Part::Output,
            Self::GateUp => Part::GateUp,
            Self::Down => Part::Down,
        }
    }
}

impl Block {
    pub(crate) fn group(&self, group: Group) -> &[Linear] {
        let start = self.linears.partition_point(|linear| linear.group < group);
        let end = self.linears.partition_point(|linear| linear.group <= group);
        &self.linears[start..end]
    }

    /// All norms that there are.
    pub(crate) fn norms(&self) -> impl Iterator<Item = &Norm> {
        let whole = [&self.attention_norm, &self.mlp_norm];
        let after = [&self.post_attention_norm, &self.post_mlp_norm];
        let of_heads = self.head_norms.iter().flatten();
        let of_scan = self.scan.iter().map(|scan| &scan.norm);
        whole.into_iter().chain(after.into_iter().flatten()).chain(of_heads).chain(of_scan)
    }

    /// All norms that there are.
    pub(crate) fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        let whole = [&mut self.attention_norm, &mut self.mlp_norm];
        let after = [&mut self.post_attention_norm, &mut self.post_mlp_norm];
        let of_heads = self.head_norms.iter_mut().flatten();
        let of_scan = self.scan.iter_mut().map(|scan| &mut scan.norm);
        whole.into_iter().chain(after.into_iter().flatten()).chain(of_heads).chain(of_scan)
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
