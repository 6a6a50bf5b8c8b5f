//! What a decoder looks like, whichever file said so.
//!
//! A family is a way to fill this in; what computes reads nothing else.

use std::path::Path;

use kernels::ops::{activation::Activation, head::Logits, ssd};

use crate::{Error, decoder::Group, families};

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
    /// The linears of blocks of either kind, in the order of their groups.
    pub linears: Vec<LinearShape>,
    /// The mixer of blocks that carry a state in place of attending.
    pub scan: Option<ScanShape>,
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
    /// How tokens reach each other.
    pub mixer: Mixer,
    /// How many tokens a token attends to, itself too; all before it if absent.
    pub window: Option<usize>,
    /// The rotary table by its index; none if absent.
    pub rope: Option<usize>,
}

/// How the tokens of a block reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Each attends to those before it.
    Attention,
    /// A state is carried along (Mamba-2).
    Scan,
}

/// The mixer of blocks that carry a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScanShape {
    /// How its columns divide into heads and groups.
    pub layout: ssd::Layout,
    /// Tokens that the convolution before it sees, the last one's own included.
    pub taps: usize,
    /// Whether that convolution has biases.
    pub has_conv_bias: bool,
    /// The least and the largest step.
    pub limit: (f32, f32),
}

impl ScanShape {
    /// Columns of what is projected in: the gate, what is convolved, the steps.
    pub fn input_width(&self) -> usize {
        self.layout.inner() + self.layout.xbc_cols() + self.layout.heads
    }
}

/// A linear of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// The kind of block that has it; both if absent.
    pub mixer: Option<Mixer>,
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
    /// Low frequencies divided, high ones kept, a ramp between.
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
    /// The tensors of the mixer that carries a state.
    pub scan: Option<ScanNames>,
    /// The norm before the head.
    pub norm: &'static str,
    /// The head, where it is not the token table.
    pub head: &'static str,
    /// Whether the linears of blocks are stored `[inputs, outputs]`.
    pub are_linears_turned: bool,
}

/// What the tensors of a mixer that carries a state are called, within the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanNames {
    /// The convolution.
    pub conv: &'static str,
    /// Logarithms of the rates of decay.
    pub a_log: &'static str,
    /// What passes by the state.
    pub d: &'static str,
    /// What is added to the steps.
    pub dt_bias: &'static str,
    /// The gated norm.
    pub norm: &'static str,
}

impl Config {
    /// Reads a `config.json` by itself; the second part names keys that were not understood.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a model that is not supported.
    pub fn read(path: &Path) -> Result<(Self, Vec<String>), Error> {
        families::read(path)
    }

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

    /// The linears of a block, in the order of their groups.
    pub fn block_linears(&self, layer: usize) -> impl Iterator<Item = &LinearShape> {
        let mixer = self.blocks[layer].mixer;
        self.linears.iter().filter(move |linear| linear.mixer.is_none_or(|of| of == mixer))
    }

    /// Parameters of a block that are neither linears nor norms, by full name and shape.
    pub fn scan_tensors(&self, layer: usize) -> Vec<(String, Vec<usize>)> {
        let (Mixer::Scan, Some(names), Some(shape)) =
            (self.blocks[layer].mixer, self.names.scan, self.scan)
        else {
            return Vec::new();
        };
        let (heads, channels) = (shape.layout.heads, shape.layout.xbc_cols());
        let of_block = |name: &str| self.in_block(layer, name);
        let mut tensors = vec![(of_block(names.conv) + ".weight", vec![channels, 1, shape.taps])];
        if shape.has_conv_bias {
            tensors.push((of_block(names.conv) + ".bias", vec![channels]));
        }
        let of_heads = [names.dt_bias, names.a_log, names.d];
        tensors.extend(of_heads.map(|name| (of_block(name), vec![heads])));
        tensors
    }

    /// The names of the norms of a block, each with its width.
    pub fn block_norms(&self, layer: usize) -> Vec<(&'static str, usize)> {
        let names = &self.names;
        let inner = self.scan.map_or(0, |scan| scan.layout.inner());
        let (of_heads, of_scan) = match self.blocks[layer].mixer {
            Mixer::Attention => (names.head_norms, None),
            Mixer::Scan => (None, names.scan.map(|names| (names.norm, inner))),
        };
        let [q, k] = of_heads.map_or([None, None], |names| names.map(Some));
        let whole = [
            Some(names.attention_norm),
            names.post_attention_norm,
            Some(names.mlp_norm),
            names.post_mlp_norm,
        ];
        let of_rows = whole.into_iter().flatten().map(|name| (name, self.hidden));
        let of_heads = [q, k].into_iter().flatten().map(|name| (name, self.head_dim));
        of_rows.chain(of_heads).chain(of_scan).collect()
    }

    /// Every tensor of a Hugging Face folder, with its shape there, in order of their names.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let names = &self.names;
        let table = |name: &str, rows| (name.to_owned(), vec![rows, self.hidden]);
        let mut tensors = vec![table(names.embedding, self.vocabulary)];
        tensors.extend(names.positions.map(|name| table(name, self.context)));
        tensors.extend((!self.tied).then(|| table(names.head, self.vocabulary)));
        let mut norms = vec![(names.norm.to_owned(), self.hidden)];
        for layer in 0..self.layers() {
            let of_block = self.block_norms(layer).into_iter();
            norms.extend(of_block.map(|(name, width)| (self.in_block(layer, name), width)));
            tensors.extend(self.scan_tensors(layer));
            for linear in self.block_linears(layer) {
                let name = self.in_block(layer, linear.name);
                let mut shape = vec![linear.outputs, linear.inputs];
                if names.are_linears_turned {
                    shape.reverse();
                }
                tensors.push((format!("{name}.weight"), shape));
                if linear.has_bias {
                    tensors.push((format!("{name}.bias"), vec![linear.outputs]));
                }
            }
        }
        for (name, width) in norms {
            tensors.push((format!("{name}.weight"), vec![width]));
            if self.norm == NormKind::Layer {
                tensors.push((format!("{name}.bias"), vec![width]));
            }
        }
        tensors.sort_unstable();
        tensors
    }

    /// Number of weights, the embedding counted once when it is tied.
    pub fn parameter_count(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
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
        let of_block = |layer: usize| self.block_linears(layer).map(|it| it.outputs * it.inputs);
        let all: usize = (0..self.layers()).flat_map(of_block).sum();
        2.0 * all as f64
    }
}
