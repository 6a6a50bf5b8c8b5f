//! From a checkpoint to a decoder in memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use kernels::{Coded, Device, LowBit, Nf4, Rows, Stored, Weight, ops::rope};

use crate::{
    Arena, Checkpoint, Config, Decoder, Error, LinearShape, Mixer, NormKind, RopeScaling,
    RopeShape, Weights,
    decoder::{self, Block, Linear, Scan, Trainable, Trained},
    weights::TensorRows,
};

/// Loads and packs a checkpoint; in the arena is what is trained, all of it or nothing.
pub(crate) fn load(
    checkpoint: &Checkpoint,
    device: &Device,
    weights: Weights,
    full: bool,
) -> Result<(Decoder, Arena), Error> {
    let mut loader = Loader { checkpoint, device, weights, full, arena: Arena::default() };
    let decoder = loader.decoder()?;
    Ok((decoder, loader.arena))
}

/// Loads a checkpoint tensor by tensor, and adds to the arena what is trained in full.
struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    weights: Weights,
    full: bool,
    arena: Arena,
}

impl Loader<'_> {
    fn decoder(&mut self) -> Result<Decoder, Error> {
        let config = self.checkpoint.config().clone();
        let (vocabulary, hidden) = (config.vocabulary, config.hidden);
        let embedding = self.table(config.names.embedding, vocabulary, hidden)?;
        let of_positions = |name| self.table(name, config.context, hidden);
        let positions = config.names.positions.map(of_positions).transpose()?;
        let mut blocks = Vec::with_capacity(config.layers());
        for layer in 0..config.layers() {
            blocks.push(self.block(&config, layer)?);
            // What was packed need not be in memory a second time.
            self.checkpoint.release();
        }
        let norm = self.norm(&config, config.names.norm, hidden)?;
        let head = if config.tied {
            None
        } else {
            Some(self.table(config.names.head, vocabulary, hidden)?)
        };
        let ropes = config.ropes.iter().map(rope_table).collect();
        Ok(Decoder { config, embedding, positions, blocks, norm, head, ropes })
    }

    fn block(&mut self, config: &Config, layer: usize) -> Result<Block, Error> {
        let names = &config.names;
        let mut norm = |name: &str, width| self.norm(config, &config.in_block(layer, name), width);
        let attention_norm = norm(names.attention_norm, config.hidden)?;
        let mut optional =
            |name: Option<&str>| name.map(|name| norm(name, config.hidden)).transpose();
        let post_attention_norm = optional(names.post_attention_norm)?;
        let post_mlp_norm = optional(names.post_mlp_norm)?;
        let mlp_norm = norm(names.mlp_norm, config.hidden)?;
        let head_norms = match (names.head_norms, config.blocks[layer].mixer) {
            (Some([q, k]), Mixer::Attention) => {
                Some([norm(q, config.head_dim)?, norm(k, config.head_dim)?])
            }
            _ => None,
        };
        let scan = self.scan(config, layer)?;
        let linears = config
            .block_linears(layer)
            .map(|shape| self.linear(config.in_block(layer, shape.name), shape))
            .collect::<Result<_, _>>()?;
        Ok(Block {
            shape: config.blocks[layer],
            attention_norm,
            post_attention_norm,
            mlp_norm,
            post_mlp_norm,
            head_norms,
            scan,
            linears,
        })
    }

    fn scan(&mut self, config: &Config, layer: usize) -> Result<Option<Scan>, Error> {
        let (Mixer::Scan, Some(names), Some(shape)) =
            (config.blocks[layer].mixer, config.names.scan, config.scan)
        else {
            return Ok(None);
        };
        let (heads, channels) = (shape.layout.heads, shape.layout.xbc_cols());
        let name = |name: &str| config.in_block(layer, name);
        // In the order of `Scan::parts`: slots ascend.
        let conv = self.tensor(name(names.conv) + ".weight", &[channels, 1, shape.taps])?;
        let conv_bias = if shape.has_conv_bias {
            Some(self.tensor(name(names.conv) + ".bias", &[channels])?)
        } else {
            None
        };
        let dt_bias = self.tensor(name(names.dt_bias), &[heads])?;
        let a_log = self.tensor(name(names.a_log), &[heads])?;
        let d = self.tensor(name(names.d), &[heads])?;
        let norm = self.norm(config, &name(names.norm), shape.layout.inner())?;
        Ok(Some(Scan { conv, conv_bias, dt_bias, a_log, d, norm }))
    }

    fn linear(&mut self, name: String, shape: &LinearShape) -> Result<Linear, Error> {
        let four_bit = self.weights.load_in_4bit && !self.full;
        let (outputs, inputs) = (shape.outputs, shape.inputs);
        let file_name = format!("{name}.weight");
        let (weight, weight_slot) = self.matrix(&file_name, [outputs, inputs], four_bit)?;
        if let Some(slot) = weight_slot.filter(|_| self.checkpoint.is_turned(&file_name)) {
            self.arena.turn(slot);
        }
        let mut bias = None;
        let mut bias_slot = None;
        if shape.has_bias {
            let file_name = format!("{name}.bias");
            let values = self.checkpoint.vector(&file_name, outputs)?;
            bias_slot = self.full.then(|| self.arena.add(file_name, &[outputs], false, &values));
            bias = Some(values);
        }
        let trained = match weight_slot {
            Some(weight) => Trained::Full { weight, bias: bias_slot },
            None => Trained::Nothing,
        };
        Ok(Linear { name, group: shape.group, weight, bias, trained })
    }

    fn table(&mut self, name: &str, rows: usize, cols: usize) -> Result<Trainable<Weight>, Error> {
        let (value, slot) = self.matrix(name, [rows, cols], false)?;
        Ok(Trainable { value, slot })
    }

    fn matrix(
        &mut self,
        name: &str,
        shape: [usize; 2],
        four_bit: bool,
    ) -> Result<(Weight, Option<usize>), Error> {
        let rows: TensorRows<'_> = self.checkpoint.rows(name, shape)?;
        let kind = rows.low_bit().filter(|_| self.weights.packed && !self.full && !four_bit);
        let bad_row = || AtomicUsize::new(usize::MAX);
        let codes = kind.map(|kind| CheckedCodes { rows: &rows, kind, bad_row: bad_row() });
        let source = Checked { rows: &rows, widen: self.full, codes, bad_row: bad_row() };
        let precision = self.weights.precision;
        let weight = if four_bit {
            let rounded = Nf4::new(&source);
            let rounded = if self.weights.packed { rounded.packed() } else { rounded };
            Weight::pack(self.device, precision, &rounded)
        } else {
            Weight::pack(self.device, precision, &source)
        };
        let of_codes = source.codes.map_or(usize::MAX, |codes| codes.bad_row.into_inner());
        let bad_row = source.bad_row.into_inner().min(of_codes);
        if bad_row < usize::MAX {
            return Err(Error::NotFinite { name: name.into(), row: bad_row });
        }
        let slot = self.full.then(|| self.arena.add(name.into(), &shape, true, &rows.to_vec()));
        Ok((weight, slot))
    }

    fn norm(&mut self, config: &Config, name: &str, width: usize) -> Result<decoder::Norm, Error> {
        let offset = if config.norm == NormKind::RmsPlusOne { 1.0 } else { 0.0 };
        let mut weight = self.tensor(format!("{name}.weight"), &[width])?;
        for value in &mut weight.value {
            *value += offset;
        }
        let bias = match config.norm {
            NormKind::Layer => Some(self.tensor(format!("{name}.bias"), &[width])?),
            _ => None,
        };
        Ok(decoder::Norm { weight, bias, offset })
    }

    /// A tensor that is kept as it is; weight decay acts on it if it has two dimensions or more.
    fn tensor(&mut self, name: String, shape: &[usize]) -> Result<Trainable<Vec<f32>>, Error> {
        let values = self.checkpoint.values(&name, shape)?;
        let decay = 1 < shape.len();
        let slot = self.full.then(|| self.arena.add(name, shape, decay, &values));
        Ok(Trainable { slot, ..Trainable::frozen(values) })
    }
}

/// The rows of a matrix on their way into panels.
struct Checked<'a> {
    rows: &'a TensorRows<'a>,
    /// A trained matrix leaves its stored type: under f32 arithmetic an update must not be rounded
    /// away.
    widen: bool,
    /// The same in few bits, if they are to stay few.
    codes: Option<CheckedCodes<'a>>,
    /// The first row that held a value that is not finite.
    bad_row: AtomicUsize,
}

impl Rows for Checked<'_> {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn cols(&self) -> usize {
        self.rows.cols()
    }

    fn stored(&self) -> Stored {
        if self.widen { Stored::F32 } else { self.rows.stored() }
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.rows.read_row(row, out);
        if out.iter().any(|value| !value.is_finite()) {
            self.bad_row.fetch_min(row, Ordering::Relaxed);
        }
    }

    fn coded(&self) -> Option<&dyn Coded> {
        self.codes.as_ref().map(|codes| codes as &dyn Coded)
    }
}

/// The rows of a matrix in few bits on their way into panels.
struct CheckedCodes<'a> {
    rows: &'a TensorRows<'a>,
    kind: LowBit,
    /// The first row that held a scale that is not finite.
    bad_row: AtomicUsize,
}

impl Coded for CheckedCodes<'_> {
    fn kind(&self) -> LowBit {
        self.kind
    }

    fn read_codes(&self, row: usize, codes: &mut [u8], scales: &mut [u32]) {
        // The view was checked when it was made, so a row cannot fail.
        let is_read = self.rows.read_codes(row, codes, scales).is_some();
        if !is_read || !self.kind.is_finite(scales) {
            self.bad_row.fetch_min(row, Ordering::Relaxed);
        }
    }
}

pub(crate) fn rope_table(shape: &RopeShape) -> rope::Table {
    let scaling = match &shape.scaling {
        RopeScaling::None => rope::Scaling::None,
        RopeScaling::Factors(factors) => rope::Scaling::Factors(factors.clone()),
        RopeScaling::Linear { factor } => rope::Scaling::Linear { factor: *factor },
        RopeScaling::Ramp { factor, low_freq_factor, high_freq_factor, original_context } => {
            rope::Scaling::Ramp {
                factor: *factor,
                low_freq_factor: *low_freq_factor,
                high_freq_factor: *high_freq_factor,
                original_max_position_embeddings: *original_context as f64,
            }
        }
        RopeScaling::ByLength { short, long, .. } => {
            rope::Scaling::ByLength { short: short.clone(), long: long.clone() }
        }
    };
    rope::Table::new(shape.dim, shape.theta, &scaling).with_magnitude(shape.magnitude)
}
