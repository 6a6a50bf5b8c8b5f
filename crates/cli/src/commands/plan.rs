//! What a run will take: tokens, memory by part, and the time, from a short measurement.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use data::tokenize::Example;
use kernels::{
    Device, Operand, Precision, Tensor, Weight,
    ops::linear::{self, Projection},
    weight::Matrix,
};
use train::align::Prepared;

use super::size;

/// Rows, outputs and inputs of the product that is timed.
const PROBE: [usize; 3] = [512, 1024, 576];

/// How long the probe may take.
const PROBE_TIME: Duration = Duration::from_millis(10);

/// What part of a plain product's rate whole steps reached when this was measured.
const STEP_SHARE: f64 = 0.65;

/// The plan of a run, for people.
pub(super) fn text(prepared: &Prepared) -> String {
    let pairs = prepared.pairs();
    let memory = prepared.memory();
    let epochs = prepared.batches().epoch(prepared.batches().total_steps());
    let tokens = |examples: &[Example]| examples.iter().map(Example::token_count).sum::<usize>();
    let (train, held_out) = (tokens(&pairs.train), tokens(&pairs.held_out));
    let mut text = String::from("plan:\n");
    let _ = writeln!(
        text,
        "  tokens      {train} to train on an epoch, {held_out} to evaluate on; each prompt once"
    );
    let _ = writeln!(text, "  epochs      {epochs:.2}");
    let _ = writeln!(
        text,
        "  memory      {}: weights {}, trained {}, activations {}, scratch {}",
        size(memory.total()),
        size(memory.weights),
        size(memory.trainable),
        size(memory.activations),
        size(memory.scratch),
    );
    let rate = products_per_second(prepared.precision());
    let seconds = seconds(prepared, reference_tokens(prepared), rate);
    let _ = writeln!(
        text,
        "  time        about {} without evaluation, at {:.0} GFLOP/s measured now",
        rounded(seconds),
        rate / 1e9
    );
    text
}

/// Tokens that the reference scores: of the pairs that a run comes to, and of those held out.
pub(super) fn reference_tokens(prepared: &Prepared) -> usize {
    if !prepared.recipe().alignment.objective.needs_reference() {
        return 0;
    }
    let pairs = prepared.pairs();
    let visited = prepared.batches().visited();
    let train: usize = visited.into_iter().map(|index| pairs.train[index].token_count()).sum();
    train + pairs.held_out.iter().map(Example::token_count).sum::<usize>()
}

/// How long a run takes without evaluation, at a rate of products, if its reference still has to
/// score that many tokens.
pub(super) fn seconds(prepared: &Prepared, reference_tokens: usize, rate: f64) -> f64 {
    let batches = prepared.batches();
    let train: usize = prepared.pairs().train.iter().map(Example::token_count).sum();
    let trained = train as f64 * batches.epoch(batches.total_steps());
    flops(prepared, trained, reference_tokens as f64) / (rate * STEP_SHARE)
}

/// Floating-point operations: 2 a weight forward, as many back; the reference pass once, forward.
fn flops(prepared: &Prepared, trained_tokens: f64, reference_tokens: f64) -> f64 {
    let config = prepared.files().checkpoint.config();
    let head = 2.0 * (config.vocabulary * config.hidden) as f64;
    let forward = config.linear_flops_per_token() + head;
    let again = match prepared.recipe().alignment.gradient_checkpointing {
        Some(true) => 1.0,
        _ => 0.0,
    };
    trained_tokens * forward * (2.0 + again) + reference_tokens * forward
}

/// The rate of one product on all threads.
pub(super) fn products_per_second(precision: Precision) -> f64 {
    let [rows, out, input] = PROBE;
    let device = Device::cpu();
    let values = vec![0.5_f32; out * input];
    let weight = Weight::pack(&device, precision, &Matrix::new(&values, input));
    let x = Tensor::from_vec(&device, rows, input, vec![0.5; rows * input]);
    let x = Operand::new(&device, precision, &x);
    let projection = Projection { weight: &weight, bias: None, lora: None };
    let started = Instant::now();
    let mut best = f64::MAX;
    while started.elapsed() < PROBE_TIME {
        let one = Instant::now();
        linear::forward(&device, &x, &[projection]);
        best = best.min(one.elapsed().as_secs_f64());
    }
    2.0 * (rows * out * input) as f64 / best
}

/// A time with one unit below the largest.
pub(super) fn rounded(seconds: f64) -> String {
    let seconds =
        Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX).as_secs().max(1);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [(0.2, "1 s"), (61.0, "1 min 01 s"), (3700.0, "1 h 01 min")] {
            assert_eq!(super::rounded(seconds), text);
        }
    }
}
