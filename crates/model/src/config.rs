//! What a decoder looks like, whichever file said so.
//!
//! A family is a way to fill this in; what computes reads nothing else.

use kernels::ops::{activation::Activation, head::Logits};

use crate::decoder::Group;

/// The shape and the constants of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family that it was read as, in the words of `model_type`; nothing computes by it.
    pub family: &'static str,
    /// Width of the residual stream.
    pub hidden: usize,
    /// The blocks, first to last.
    pub blocks: Vec<BlockShape>,
    /// Query heads of a block.
    pub heads: usize,
    /// Key and value heads of a block; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head. Need not be `hidden / heads`.
    pub head_dim: usize,
    /// Width inside the feed-forward.
    pub intermediate: usize,
    /// Number of tokens that embedding and head know.
    pub vocabulary: usize,
    /// The linears of a block, in the order of their groups.
    pub linears: Vec<LinearShape>,
    /// How rows are normalized.
    pub norm: NormKind,
    /// Added to the mean square (or the variance) before its root.
    pub norm_eps: f32,
    /// The activation of the feed-forward.
    pub activation: Activation,
    /// The rotary tables that blocks turn by.
    pub ropes: Vec<RopeShape>,
    /// What products of queries and keys are multiplied by.
    pub score_scale: f32,
    /// The limit that attention scores bend towards.
    pub score_softcap: Option<f32>,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// What a block's outputs are multiplied by before they are added.
    pub residual_scale: f32,
    /// How products with the head become logits.
    pub logits: Logits,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Longest sequence that the model was made for, in tokens.
    pub context: usize,
    /// Token that opens a sequence.
    pub bos: Option<u32>,
    /// Tokens that end a completion.
    pub eos: Vec<u32>,
    /// What the tensors are called.
    pub names: Names,
}

/// How rows are normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// By their root mean square.
    Rms,
    /// The same, with weights that are stored less one.
    RmsPlusOne,
    /// Centred first, with a bias.
    Layer,
}

/// What sets a block apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// How many tokens a token attends to, itself too; all before it if absent.
    pub window: Option<usize>,
    /// The rotary table by its index; none if absent.
    pub rope: Option<usize>,
}

/// A linear of every block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Its name within the block.
    pub name: &'static str,
    /// The group that it is computed with.
    pub group: Group,
    /// Rows of the weight.
    pub outputs: usize,
    /// Columns of the weight.
    pub inputs: usize,
    /// Whether there is a bias.
    pub has_bias: bool,
}

/// A rotary table.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeShape {
    /// How many columns of a head turn; even.
    pub dim: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
    /// What turned columns are multiplied by.
    pub magnitude: f32,
}

/// How rotary frequencies are stretched beyond the context of pre-training.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As they are.
    None,
    /// Divided by a factor.
    Linear {
        /// The factor; at least 1.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, a ramp between (`llama3`).
    Ramp {
        /// The factor for low frequencies.
        factor: f64,
        /// Below `original / low` wavelengths are kept out of the low band.
        low_freq_factor: f64,
        /// Above `original / high` wavelengths leave the high band.
        high_freq_factor: f64,
        /// Context of pre-training, in tokens.
        original_context: usize,
    },
    /// One divisor a frequency.
    Factors(Vec<f32>),
    /// One divisor a frequency, others in sequences longer than the first context (`longrope`).
    ByLength {
        /// Divisors in short sequences.
        short: Vec<f32>,
        /// Divisors in longer ones.
        long: Vec<f32>,
        /// The longest short sequence, in tokens.
        original_context: usize,
    },
}

/// What the tensors of a checkpoint are called, where they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The token table.
    pub embedding: &'static str,
    /// The table of positions.
    pub positions: Option<&'static str>,
    /// What comes before the number of a block.
    pub block: &'static str,
    /// The norm before attention, within the block.
    pub attention_norm: &'static str,
    /// The norm of what attention gives.
    pub post_attention_norm: Option<&'static str>,
    /// The norm before the feed-forward.
    pub mlp_norm: &'static str,
    /// The norm of what the feed-forward gives.
    pub post_mlp_norm: Option<&'static str>,
    /// The norms of query heads and of key heads.
    pub head_norms: Option<[&'static str; 2]>,
    /// The norm before the head.
    pub norm: &'static str,
    /// The head, where it is not the token table.
    pub head: &'static str,
    /// Whether the linears of blocks are stored `[inputs, outputs]`.
    pub are_linears_turned: bool,
}

impl Config {
    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// Columns of q, k and v side by side.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Columns of the attention's output.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of what goes into the activation: gate and up, where there is a gate.
    pub fn activation_width(&self) -> usize {
        if self.activation.is_gated { 2 * self.intermediate } else { self.intermediate }
    }

    /// The full name of something in a block.
    pub fn in_block(&self, layer: usize, name: &str) -> String {
        format!("{}{layer}.{name}", self.names.block)
    }

    /// The names of the norms of a block, each with its width.
    pub fn block_norms(&self) -> Vec<(&'static str, usize)> {
        let names = &self.names;
        let [q, k] = names.head_norms.map_or([None, None], |names| names.map(Some));
        let whole = [
            Some(names.attention_norm),
            names.post_attention_norm,
            Some(names.mlp_norm),
            names.post_mlp_norm,
        ];
        let of_rows = whole.into_iter().flatten().map(|name| (name, self.hidden));
        of_rows.chain([q, k].into_iter().flatten().map(|name| (name, self.head_dim))).collect()
    }

    /// Number of weights, the embedding counted once when it is tied.
    pub fn parameter_count(&self) -> usize {
        let linear = |it: &LinearShape| it.outputs * (it.inputs + usize::from(it.has_bias));
        let linears: usize = self.linears.iter().map(linear).sum();
        let norm_parts = if self.norm == NormKind::Layer { 2 } else { 1 };
        let norms: usize = self.block_norms().iter().map(|(_, width)| width).sum();
        let tables = self.vocabulary * if self.tied { 1 } else { 2 };
        let positions = if self.names.positions.is_some() { self.context } else { 0 };
        self.layers() * (linears + norm_parts * norms)
            + norm_parts * self.hidden
            + (tables + positions) * self.hidden
    }

    /// The longest sequence whose rows are not marked as long; every one if absent.
    pub fn short_context(&self) -> Option<usize> {
        self.ropes.iter().find_map(|rope| match rope.scaling {
            RopeScaling::ByLength { original_context, .. } => Some(original_context),
            _ => None,
        })
    }

    /// Floating-point operations of one token's forward pass through the linears.
    pub fn linear_flops_per_token(&self) -> f64 {
        let block: usize = self.linears.iter().map(|it| it.outputs * it.inputs).sum();
        2.0 * self.layers() as f64 * block as f64
    }
}
