//! How much memory a run takes, known before anything is loaded.

use formats::peft::Adapter;
use kernels::{LowBit, Precision, Rows as _, Stored};

use crate::{BlockShape, Checkpoint, Config, Error, LoraSettings, Mixer, Training, Weights};

/// Bytes by part; the sum is what a run needs at its peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// Packed weights.
    pub weights: u64,
    /// Trainable tensors, their gradients, and AdamW's two moments.
    pub trainable: u64,
    /// What the largest micro-batch keeps for its backward.
    pub activations: u64,
    /// Gradients and scratch in flight.
    pub scratch: u64,
}

impl MemoryPlan {
    /// The sum of all parts, in bytes.
    pub fn total(&self) -> u64 {
        self.weights + self.trainable + self.activations + self.scratch
    }
}

/// What decides the memory of a run beside the model.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Precision of the products.
    pub precision: Precision,
    /// Bytes of a weight as the file stores it, under f32 arithmetic.
    pub stored_bytes: usize,
    /// Bytes of all weights, if those of few bits stay so: [`packed_bytes`].
    pub packed_bytes: Option<u64>,
    /// What is trained.
    pub trained: TrainedSize,
    /// Rows of the largest micro-batch.
    pub rows: usize,
    /// Whether blocks run again in backward.
    pub recompute: bool,
}

/// What is trained, as far as a plan must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainedSize {
    /// How many numbers.
    pub numbers: usize,
    /// The rank of adapters; 0 without.
    pub rank: usize,
    /// Whether all weights are trained.
    pub is_full: bool,
}

impl TrainedSize {
    /// What these settings train.
    pub fn of(config: &Config, training: &Training) -> Self {
        match training {
            Training::Nothing => Self { numbers: 0, rank: 0, is_full: false },
            Training::Full => Self { numbers: config.parameter_count(), rank: 0, is_full: true },
            Training::Lora(adapter) => Self::of_adapter(adapter),
        }
    }

    /// What goes on training with an adapter.
    pub fn of_adapter(adapter: &Adapter) -> Self {
        let numbers = adapter.tensors.values().map(|(_, values)| values.len()).sum();
        Self { numbers, rank: adapter.config.r, is_full: false }
    }

    /// What a fresh adapter would train, without making it.
    ///
    /// # Errors
    ///
    /// Targets that the decoder does not have.
    pub fn of_fresh(config: &Config, settings: &LoraSettings) -> Result<Self, Error> {
        let modules = settings.modules(config)?;
        let numbers = modules.iter().map(|(_, out, input)| settings.r * (out + input)).sum();
        Ok(Self { numbers, rank: settings.r, is_full: false })
    }
}

/// Bytes of all weights that are kept in `weights`' way; `None` where none of them is stored in few
/// bits.
pub fn packed_bytes(checkpoint: &Checkpoint, weights: Weights) -> Option<u64> {
    let config = checkpoint.config();
    let linears = (0..config.layers()).flat_map(|layer| {
        config.block_linears(layer).map(move |shape| {
            let name = format!("{}.weight", config.in_block(layer, shape.name));
            (name, [shape.outputs, shape.inputs], weights.load_in_4bit)
        })
    });
    let head = (!config.tied).then_some((config.names.head, config.vocabulary));
    let tables = [(config.names.embedding, config.vocabulary)].into_iter().chain(head);
    let positions = config.names.positions.map(|name| (name, config.context));
    let tables =
        tables.chain(positions).map(|(name, rows)| (name.to_owned(), [rows, config.hidden], false));
    let mut is_packed = false;
    let mut bytes = 0;
    for (name, [out, input], four_bit) in linears.chain(tables) {
        let rows = checkpoint.rows(&name, [out, input]).ok()?;
        let stored = if four_bit { LowBit::Nf4.fits(input) } else { rows.low_bit() };
        is_packed |= stored.is_some();
        let widened = match (weights.precision, rows.stored(), four_bit) {
            (Precision::F32, Stored::F32, false) => Stored::F32,
            _ => Stored::Bf16,
        };
        bytes += stored.map_or_else(|| widened.bytes(out, input), |kind| kind.bytes(out, input));
    }
    is_packed.then_some(bytes as u64)
}

/// Plans the memory of a run.
pub fn plan_memory(config: &Config, load: &Load) -> MemoryPlan {
    let weight_bytes = match (load.precision, load.trained.is_full) {
        (Precision::Bf16, _) => 2,
        (Precision::F32, true) => 4,
        (Precision::F32, false) => load.stored_bytes,
    };
    let kept_layers = if load.recompute { 1 } else { config.layers() };
    let block_inputs = if load.recompute { config.layers() * config.hidden * 4 } else { 0 };
    // The blocks that take most, where not all are kept.
    let mut of_blocks: Vec<usize> =
        config.blocks.iter().map(|block| block_bytes(config, block, load)).collect();
    of_blocks.sort_unstable_by(|a, b| b.cmp(a));
    let per_token = of_blocks.iter().take(kept_layers).sum::<usize>() + block_inputs;
    let scanned = config.scan.map_or(0, |scan| scan.input_width());
    let widest = 3 * config.intermediate.max(config.qkv_width()).max(scanned) + 4 * config.hidden;
    MemoryPlan {
        weights: load.packed_bytes.unwrap_or((config.parameter_count() * weight_bytes) as u64),
        trainable: (4 * load.trained.numbers * 4) as u64,
        activations: (load.rows * per_token) as u64,
        scratch: (load.rows * widest * 4 + 2 * load.rows * config.hidden * 4) as u64 + (32 << 20),
    }
}

/// Bytes that one token leaves behind in a block when nothing is recomputed.
fn block_bytes(config: &Config, block: &BlockShape, load: &Load) -> usize {
    let operand = match load.precision {
        Precision::Bf16 => 2,
        Precision::F32 => 4,
    };
    let (d, qkv) = (config.hidden, config.qkv_width());
    let (mixer, mixed) = match (block.mixer, config.scan) {
        (Mixer::Scan, Some(scan)) => {
            let inner = scan.layout.inner();
            (scan.input_width() + scan.layout.xbc_cols() + inner + 1, inner)
        }
        _ => (config.heads, qkv + config.attention_width()),
    };
    // What goes into a norm of heads is kept beside what comes out.
    let post_norms = [config.names.post_attention_norm, config.names.post_mlp_norm];
    let norms = 2 + post_norms.iter().flatten().count();
    let floats = norms + mixer + config.names.head_norms.map_or(0, |_| qkv);
    // What products and curves read is kept as they see it; scaled and gated values are made again.
    let operands = norms * d + mixed + config.activation_width() + 7 * load.trained.rank;
    4 * floats + operand * operands
}
