//! Which pairs make up which step, and their rows in the model's terms.

use std::sync::Arc;

use data::{
    pack::{self, PackSettings},
    tokenize::Example,
};
use model::{MicroBatch, Sequence};

/// The steps of a run over a number of pairs.
#[derive(Clone, Debug)]
pub struct Batches {
    settings: PackSettings,
    /// What is shuffled and counted: pairs, or packs of several rows.
    pairs: usize,
    /// The rows of each pack; a pair is its own pack without.
    packs: Option<Arc<[Vec<usize>]>>,
    batch_size: usize,
    total_steps: u64,
}

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Passes over the data.
    pub epochs: u64,
    /// Steps, in place of those passes.
    pub max_steps: Option<u64>,
    /// Passes that the steps may not go beyond.
    pub max_epochs: Option<u64>,
}

/// Rows, and which pairs they are.
pub struct PairRows {
    /// The pairs, as indices of the examples.
    pub pairs: Vec<usize>,
    /// Their rows.
    pub rows: MicroBatch,
}

impl Batches {
    /// The steps over `pairs` pairs.
    ///
    /// `batch_size` is transformers' micro-batch, which sets how epochs are counted.
    pub fn new(settings: PackSettings, pairs: usize, batch_size: usize, length: Length) -> Self {
        let of = |epochs: u64| (settings.steps_per_epoch(pairs) as u64).saturating_mul(epochs);
        let total_steps = match length.max_steps {
            None => of(length.epochs),
            Some(steps) => length.max_epochs.map_or(steps, |epochs| steps.min(of(epochs))),
        };
        Self { settings, pairs, packs: None, batch_size, total_steps }
    }

    /// The steps over packs of rows, each of which counts as a pair does.
    pub fn of_packs(
        settings: PackSettings,
        packs: Vec<Vec<usize>>,
        batch_size: usize,
        length: Length,
    ) -> Self {
        let batches = Self::new(settings, packs.len(), batch_size, length);
        Self { packs: Some(packs.into()), ..batches }
    }

    /// The rows of what was shuffled.
    fn unpack(&self, of_step: impl Iterator<Item = usize>) -> Vec<usize> {
        match &self.packs {
            Some(packs) => of_step.flat_map(|pack| packs[pack].iter().copied()).collect(),
            None => of_step.collect(),
        }
    }

    /// Optimizer steps of the run.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// The pairs of a step, counted from 1, in order.
    pub fn of_step(&self, step: u64) -> Vec<usize> {
        let (epoch, index) = self.place(step);
        let order = self.settings.order(self.pairs, epoch);
        let size = self.settings.examples_per_step;
        self.unpack(order.into_iter().skip(index * size).take(size))
    }

    /// The pairs of each step of an epoch, counted from 0.
    pub fn of_epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let order = self.settings.order(self.pairs, epoch);
        let steps = order.chunks(self.settings.examples_per_step.max(1));
        steps.map(|step| self.unpack(step.iter().copied())).collect()
    }

    /// Every pair that the run trains on, in the order of the examples.
    pub fn visited(&self) -> Vec<usize> {
        let per_epoch = self.settings.steps_per_epoch(self.pairs) as u64;
        if per_epoch <= self.total_steps {
            let mut all = self.unpack(0..self.pairs);
            all.sort_unstable();
            return all;
        }
        let mut visited: Vec<usize> =
            (1..=self.total_steps).flat_map(|step| self.of_step(step)).collect();
        visited.sort_unstable();
        visited
    }

    /// Passes over the data done after a step, with the fraction of the current one, counted in
    /// micro-batches as transformers counts them.
    pub fn epoch(&self, step: u64) -> f64 {
        if step == 0 {
            return 0.0;
        }
        let (epoch, index) = self.place(step);
        let pairs = ((index + 1) * self.settings.examples_per_step).min(self.pairs);
        let micro_batches = |pairs: usize| pairs.div_ceil(self.batch_size.max(1)) as f64;
        epoch as f64 + micro_batches(pairs) / micro_batches(self.pairs)
    }

    /// Passes over the data that the run starts, the last of which it may not complete.
    pub fn epochs(&self) -> u64 {
        self.total_steps.div_ceil(self.settings.steps_per_epoch(self.pairs).max(1) as u64)
    }

    /// Epoch of a step, which counts from 1, and its place inside the epoch, both from 0.
    pub fn place(&self, step: u64) -> (usize, usize) {
        let per_epoch = self.settings.steps_per_epoch(self.pairs).max(1);
        let done = step.saturating_sub(1) as usize;
        (done / per_epoch, done % per_epoch)
    }
}

/// Cuts pairs, in order, into micro-batches of at most so many tokens.
pub fn micro_batches<'a>(
    examples: &'a [Example],
    pairs: &'a [usize],
    tokens_per_micro_batch: usize,
) -> impl Iterator<Item = PairRows> + 'a {
    pack::cut(examples, pairs, tokens_per_micro_batch).into_iter().map(move |range| {
        let pairs = pairs[range].to_vec();
        let sequences: Vec<_> = pairs.iter().map(|pair| sequence(&examples[*pair])).collect();
        PairRows { rows: MicroBatch::new(&sequences), pairs }
    })
}

fn sequence(example: &Example) -> Sequence<'_> {
    let completions =
        example.completions.iter().map(Vec::as_slice).zip(example.unscored.iter().copied());
    let (completions, spans) = (completions.collect(), &example.spans[..]);
    Sequence { prompt: &example.prompt, completions, spans }
}
