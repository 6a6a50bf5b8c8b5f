//! What a decoder looks like, whichever file said so.

/// The shape and the constants of a decoder of the Llama family.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads of a block.
    pub heads: usize,
    /// Key and value heads of a block; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even. Need not be `hidden / heads`.
    pub head_dim: usize,
    /// Width inside the gated feed-forward.
    pub intermediate: usize,
    /// Number of tokens that embedding and head know.
    pub vocabulary: usize,
    /// Added to the mean square before its root.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Whether q, k, v and o have biases.
    pub attention_bias: bool,
    /// Whether gate, up and down have biases.
    pub mlp_bias: bool,
    /// Longest sequence that the model was made for, in tokens.
    pub context: usize,
    /// Token that opens a sequence.
    pub bos: Option<u32>,
    /// Tokens that end a completion.
    pub eos: Vec<u32>,
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
    /// Llama 3: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The factor for low frequencies.
        factor: f64,
        /// Below `original / low` wavelengths are kept out of the low band.
        low_freq_factor: f64,
        /// Above `original / high` wavelengths leave the high band.
        high_freq_factor: f64,
        /// Context of pre-training, in tokens.
        original_context: usize,
    },
    /// One divisor a frequency, as GGUF stores Llama 3 scaling.
    Factors(Vec<f32>),
}

impl Config {
    /// Columns of q, k and v side by side.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Columns of the attention's output.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Names, outputs and inputs of the linears of a block, in the order of the checkpoint.
    pub fn linears(&self) -> [(&'static str, usize, usize, bool); 7] {
        let (d, f) = (self.hidden, self.intermediate);
        let (q, kv) = (self.attention_width(), self.kv_heads * self.head_dim);
        [
            ("self_attn.q_proj", q, d, self.attention_bias),
            ("self_attn.k_proj", kv, d, self.attention_bias),
            ("self_attn.v_proj", kv, d, self.attention_bias),
            ("self_attn.o_proj", d, q, self.attention_bias),
            ("mlp.gate_proj", f, d, self.mlp_bias),
            ("mlp.up_proj", f, d, self.mlp_bias),
            ("mlp.down_proj", d, f, self.mlp_bias),
        ]
    }

    /// Number of weights, the embedding counted once when it is tied.
    pub fn parameter_count(&self) -> usize {
        let linears = self.linears();
        let block: usize = linears
            .iter()
            .map(|(_, out, input, bias)| out * input + if *bias { *out } else { 0 })
            .sum();
        let tables = if self.tied { 1 } else { 2 };
        self.layers * (block + 2 * self.hidden)
            + self.hidden
            + tables * self.vocabulary * self.hidden
    }

    /// Floating-point operations of one token's forward pass through the linears.
    pub fn linear_flops_per_token(&self) -> f64 {
        let block: usize = self.linears().iter().map(|(_, out, input, _)| out * input).sum();
        2.0 * self.layers as f64 * block as f64
    }
}
