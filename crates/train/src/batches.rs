//! Which pairs make up which step, and their rows in the model's terms.

use data::{
    pack::{self, PackSettings},
    tokenize::Example,
};
use model::{MicroBatch, Sequence};

/// The steps of a run over a number of pairs.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    settings: PackSettings,
    pairs: usize,
    batch_size: usize,
    total_steps: u64,
}

/// Rows, and which pairs they are.
pub struct PairRows {
    /// The pairs, as indices of the examples.
    pub pairs: Vec<usize>,
    /// Their rows.
    pub rows: MicroBatch,
}

impl Batches {
    /// The steps of `epochs` epochs over `pairs` pairs, or of `max_steps` if that is given.
    ///
    /// `batch_size` is transformers' micro-batch, which sets how epochs are counted.
    pub fn new(
        settings: PackSettings,
        pairs: usize,
        batch_size: usize,
        (epochs, max_steps): (u64, Option<u64>),
    ) -> Self {
        let all = settings.steps_per_epoch(pairs) as u64 * epochs;
        Self { settings, pairs, batch_size, total_steps: max_steps.unwrap_or(all) }
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
        order.into_iter().skip(index * size).take(size).collect()
    }

    /// The pairs of each step of an epoch, counted from 0.
    pub fn of_epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let order = self.settings.order(self.pairs, epoch);
        order.chunks(self.settings.examples_per_step.max(1)).map(<[usize]>::to_vec).collect()
    }

    /// Every pair that the run trains on, in the order of the examples.
    pub fn visited(&self) -> Vec<usize> {
        let per_epoch = self.settings.steps_per_epoch(self.pairs) as u64;
        if per_epoch <= self.total_steps {
            return (0..self.pairs).collect();
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
    Sequence { prompt: &example.prompt, completions: completions.collect() }
}
