//! The model in training: a decoder, its trainable tensors, and the pass forward and back.

use std::{borrow::Cow, path::Path};

use formats::peft::{Adapter, AdapterConfig};
use kernels::{
    Device, Operand, Precision, Tensor,
    ops::{head, rope},
};

use crate::{
    Arena, Checkpoint, Coefficient, Config, Decoder, Dropout, Error, MicroBatch, Scores,
    context::Context,
    decoder::{Linear, Scan, Trained},
    load::load,
    meter::{Meter, Part, Pass, Spent},
    tape::{Norm, Tape, Var},
};

/// What of a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Training {
    /// Nothing; the model only scores and generates.
    Nothing,
    /// An adapter, fresh ([`LoraSettings::fresh`](crate::LoraSettings::fresh)) or from an earlier run.
    Lora(Box<Adapter>),
    /// Every weight.
    Full,
}

/// How the weights are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The precision of products.
    pub precision: Precision,
    /// Whether the linears of the blocks, if they are not trained, hold what is left of them after
    /// 4-bit storage ([`kernels::Nf4`]); embeddings and head stay as they are, as with bitsandbytes.
    pub load_in_4bit: bool,
    /// Whether frozen weights stay in the few bits that the file, or 4-bit storage, has them in.
    /// It changes memory and time, and no bit of any result.
    pub packed: bool,
}

impl From<Precision> for Weights {
    fn from(precision: Precision) -> Self {
        Self { precision, load_in_4bit: false, packed: true }
    }
}

/// A decoder with what of it is trained.
pub struct Policy {
    device: Device,
    precision: Precision,
    decoder: Decoder,
    arena: Arena,
    adapter_config: Option<AdapterConfig>,
    recompute: bool,
    meter: Meter,
}

/// A forward pass that waits for its coefficients.
pub struct Pending {
    tape: Tape,
    last: Var<Tensor>,
    hidden: Var<Operand>,
    gradient: Option<Tensor>,
    lse: Vec<f32>,
    scores: Scores,
}

impl Pending {
    /// What the model said.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    #[cfg(test)]
    pub(crate) fn tape(&self) -> &Tape {
        &self.tape
    }
}

impl Policy {
    /// Loads and packs a checkpoint.
    ///
    /// # Errors
    ///
    /// A tensor that is missing, has another shape or is not finite; adapter targets that the
    /// model does not have.
    pub fn load(
        checkpoint: &Checkpoint,
        device: &Device,
        weights: impl Into<Weights>,
        training: &Training,
    ) -> Result<Self, Error> {
        let weights = weights.into();
        let precision = weights.precision;
        let is_full = matches!(training, Training::Full);
        let (decoder, arena) = load(checkpoint, device, weights, is_full)?;
        let mut policy = Self {
            device: device.clone(),
            precision,
            decoder,
            arena,
            adapter_config: None,
            recompute: false,
            meter: Meter::default(),
        };
        if let Training::Lora(adapter) = training {
            policy.attach(adapter, checkpoint.path())?;
        }
        Ok(policy)
    }

    /// Takes away whatever adapter there is and attaches another one, on the same packed weights:
    /// the policy is then what [`Self::load`] would give.
    ///
    /// # Errors
    ///
    /// Adapter targets that the model does not have; `origin` is named in the error.
    ///
    /// # Panics
    ///
    /// If the weights themselves were trained.
    pub fn with_adapter(mut self, adapter: &Adapter, origin: &Path) -> Result<Self, Error> {
        self.arena = Arena::default();
        self.adapter_config = None;
        self.recompute = false;
        let (linears, _) = self.parts_mut();
        for linear in linears {
            assert!(!matches!(linear.trained, Trained::Full { .. }), "frozen weights are shared");
            linear.trained = Trained::Nothing;
        }
        self.attach(adapter, origin)?;
        Ok(self)
    }

    /// Every linear, and the arena, for an adapter to be attached.
    pub(crate) fn parts_mut(&mut self) -> (impl Iterator<Item = &mut Linear>, &mut Arena) {
        (self.decoder.blocks.iter_mut().flat_map(|block| &mut block.linears), &mut self.arena)
    }

    /// The shape of the model.
    pub fn config(&self) -> &Config {
        &self.decoder.config
    }

    /// The machine it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The precision of its products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The bytes of memory that its matrices take.
    pub fn weight_bytes(&self) -> usize {
        let linears = self.decoder.blocks.iter().flat_map(|block| &block.linears);
        let tables = std::iter::once(&self.decoder.embedding).chain(&self.decoder.head);
        linears.map(|linear| linear.weight.bytes()).sum::<usize>()
            + tables.map(|table| table.value.bytes()).sum::<usize>()
    }

    /// Whether all that it trains is an adapter.
    pub fn is_adapted(&self) -> bool {
        self.adapter_config.is_some()
    }

    /// The adapter's settings, if it has one.
    pub fn adapter_config(&self) -> Option<&AdapterConfig> {
        self.adapter_config.as_ref()
    }

    pub(crate) fn adapter_config_mut(&mut self) -> &mut Option<AdapterConfig> {
        &mut self.adapter_config
    }

    /// The trainable tensors.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The trainable tensors, for the optimizer; [`Self::sync`] must follow a change.
    pub fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// Whether blocks run again in backward in place of being kept (gradient checkpointing).
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// What passes took since the last call, part by part.
    pub fn take_spent(&self) -> Vec<Spent> {
        self.meter.take()
    }

    /// Brings packed weights, norms and biases up to date with the arena.
    pub fn sync(&mut self) {
        let (arena, device) = (&self.arena, &self.device);
        for block in &mut self.decoder.blocks {
            for norm in block.norms_mut() {
                norm.sync(arena);
            }
            for part in block.scan.iter_mut().flat_map(Scan::parts_mut) {
                if let Some(slot) = part.slot {
                    part.value.copy_from_slice(arena.value(slot));
                }
            }
            for linear in &mut block.linears {
                if let Trained::Full { weight, bias } = linear.trained {
                    linear.weight.repack_from(device, arena.value(weight));
                    if let (Some(slot), Some(values)) = (bias, &mut linear.bias) {
                        values.copy_from_slice(arena.value(slot));
                    }
                }
            }
        }
        self.decoder.norm.sync(arena);
        let tables = std::iter::once(&mut self.decoder.embedding).chain(&mut self.decoder.head);
        for table in tables.chain(&mut self.decoder.positions) {
            if let Some(slot) = table.slot {
                table.value.repack_from(device, arena.value(slot));
            }
        }
    }

    pub(crate) fn context<'a>(
        &'a self,
        positions: &'a [u32],
        branches: &'a kernels::Branches,
        (adapter, dropout): (bool, Option<&'a Dropout>),
    ) -> Context<'a> {
        Context {
            device: &self.device,
            precision: self.precision,
            decoder: &self.decoder,
            arena: &self.arena,
            adapter,
            positions,
            branches,
            dropout,
            pass: Pass::Forward,
            meter: &self.meter,
        }
    }

    /// Scores the completions of a micro-batch; `adapter: false` is the base model.
    ///
    /// # Errors
    ///
    /// A token outside the vocabulary.
    pub fn score(&self, batch: &MicroBatch, adapter: bool) -> Result<Scores, Error> {
        Ok(self.pass(batch, adapter, false)?.scores)
    }

    /// Scores the completions and keeps what [`Self::backward`] needs.
    ///
    /// # Errors
    ///
    /// A token outside the vocabulary.
    pub fn forward(&self, batch: &MicroBatch) -> Result<Pending, Error> {
        self.pass(batch, true, true)
    }

    fn pass(&self, batch: &MicroBatch, adapter: bool, record: bool) -> Result<Pending, Error> {
        self.check_tokens(batch)?;
        let positions = self.positions(batch);
        let how = (adapter, batch.dropout.as_ref());
        let ctx = self.context(&positions, &batch.branches, how);
        let mut tape = Tape::new(record);
        let mut x = tape.embed(&ctx, &batch.tokens);
        for layer in 0..self.decoder.blocks.len() {
            x = tape.block(&ctx, x, layer, self.recompute);
        }
        let rows = batch.scored.iter().map(|scored| scored.row).collect();
        let last = tape.gather(&ctx, &x, rows);
        drop(x);
        let (hidden, _) = tape.norm(&ctx, &last, Norm::Final);
        let targets: Vec<u32> = batch.scored.iter().map(|scored| scored.target).collect();
        let mut out = ctx.time(Part::Head, self.head_flops(batch, record), || {
            head::forward(&self.device, &hidden.value, self.head(), &targets, record)
        });
        let scores = Scores::collect(batch, &out);
        let gradient = out.gradient.take();
        Ok(Pending { tape, last, hidden, gradient, lse: out.lse, scores })
    }

    /// Adds the gradient of `sum over completions of coefficient * logp` to the arena.
    ///
    /// `coefficients` has one entry a completion: the derivative of the loss by its
    /// log-probability.
    ///
    /// # Panics
    ///
    /// When `coefficients` has another length.
    pub fn backward(&mut self, batch: &MicroBatch, pending: Pending, coefficients: &[Coefficient]) {
        assert_eq!(coefficients.len(), batch.completions, "one coefficient a completion");
        let of_row: Vec<f32> = batch
            .scored
            .iter()
            .map(|scored| {
                let Coefficient { head, tail } = coefficients[scored.completion as usize];
                if scored.in_tail { tail as f32 } else { head as f32 }
            })
            .collect();
        let mut gradients = std::mem::take(&mut self.arena.gradients);
        if let Some(slot) = self.decoder.head_slot() {
            let targets: Vec<u32> = batch.scored.iter().map(|scored| scored.target).collect();
            let range = self.arena.slots()[slot].range.clone();
            let scored = head::Scored {
                hidden: &pending.hidden.value,
                targets: &targets,
                lse: &pending.lse,
                coefficients: &of_row,
            };
            let flops = self.head_flops(batch, true);
            self.meter.time((Pass::Backward, Part::Head), flops, || {
                head::backward_weight(&self.device, self.head(), scored, &mut gradients[range]);
            });
        }
        if let Some(unscaled) = pending.gradient {
            let seed = self.meter.time((Pass::Backward, Part::Head), 0, || {
                head::backward_hidden(&self.device, unscaled, &of_row)
            });
            let how = (true, batch.dropout.as_ref());
            let positions = self.positions(batch);
            let ctx = self.context(&positions, &batch.branches, how);
            let ctx = Context { pass: Pass::Backward, ..ctx };
            drop(pending.last);
            pending.tape.backward(&ctx, pending.hidden.id(), seed, &mut gradients);
        }
        self.arena.gradients = gradients;
    }

    /// The head with what becomes of its products.
    /// Operations of the logits of all scored tokens, with their gradient or without.
    fn head_flops(&self, batch: &MicroBatch, with_gradient: bool) -> u64 {
        let weight = self.decoder.head_weight();
        let products = 1 + u64::from(with_gradient);
        2 * products * (batch.scored.len() * weight.outputs() * weight.inputs()) as u64
    }

    fn head(&self) -> head::Head<'_> {
        head::Head { weight: self.decoder.head_weight(), logits: self.decoder.config.logits }
    }

    /// The positions of a micro-batch, marked in trees with a sequence longer than the first
    /// context where that changes the frequencies.
    fn positions<'a>(&self, batch: &'a MicroBatch) -> Cow<'a, [u32]> {
        let Some(short) = self.decoder.config.short_context() else {
            return Cow::Borrowed(&batch.positions);
        };
        let mut positions = batch.positions.clone();
        for tree in &batch.branches.trees {
            let longest = tree.prompt + tree.completions.iter().max().copied().unwrap_or(0);
            if short < longest {
                for position in &mut positions[tree.start..tree.start + tree.rows()] {
                    *position |= rope::LONG;
                }
            }
        }
        Cow::Owned(positions)
    }

    fn check_tokens(&self, batch: &MicroBatch) -> Result<(), Error> {
        let vocabulary = self.decoder.config.vocabulary;
        let ids =
            batch.tokens.iter().copied().chain(batch.scored.iter().map(|scored| scored.target));
        for id in ids {
            if id as usize >= vocabulary {
                return Err(Error::Token { id, vocabulary });
            }
        }
        // A table of positions ends; frequencies do not.
        let context = self.decoder.config.context;
        match batch.positions.iter().max() {
            Some(last) if self.decoder.positions.is_some() && context <= *last as usize => {
                Err(Error::TooLong { tokens: *last as usize + 1, context })
            }
            _ => Ok(()),
        }
    }
}
