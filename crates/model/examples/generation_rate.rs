//! How fast a model reads a prompt and writes on, and how fast this machine reads memory.
//!
//! `cargo run --release -p model --example generation_rate MODEL [PROMPT_TOKENS] [NEW_TOKENS]`
//!
//! Each line of the input asks for one measurement, which is written as a line of JSON; so another
//! program can take turns with this one. Without a terminal's patience: `yes | head -5 | ...`.

#![expect(clippy::print_stdout, reason = "a program for people, and for a program of ours")]

use std::{io::BufRead as _, path::Path, time::Instant};

use kernels::Device;
use model::{Checkpoint, Policy, Sampler, Sampling, Session, Training};
use rayon::prelude::*;

/// Words of memory that a measurement of its speed reads: far more than any cache holds.
const MEMORY_WORDS: usize = 32 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("the first argument is a model")?;
    let number = |index: usize, default: usize| {
        arguments.get(index).map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (prompt_tokens, new_tokens) = (number(1, 256)?, number(2, 64)?);
    let checkpoint = Checkpoint::open(Path::new(path))?;
    let device = Device::cpu();
    let precision = device.preferred_precision();
    let policy = Policy::load(&checkpoint, &device, precision, &Training::Nothing)?;
    checkpoint.release();
    let vocabulary = policy.config().vocabulary;
    let prompt: Vec<u32> =
        (0..prompt_tokens).map(|i| (1000 + 37 * i) as u32 % vocabulary as u32).collect();
    let memory: Vec<u64> = (0..MEMORY_WORDS as u64).collect();
    for line in std::io::stdin().lock().lines() {
        line?;
        let measured = rayon::scope(|_| measure(&policy, &prompt, new_tokens))?;
        println!(
            "{}",
            serde_json::json!({
                "prefill_seconds": measured.prefill,
                "decode_seconds": measured.decode,
                "decoded": measured.decoded,
                "prompt": prompt.len(),
                "weight_bytes": policy.weight_bytes(),
                "bytes_per_second": bandwidth(&memory),
            })
        );
    }
    Ok(())
}

/// Seconds of the prompt and its first token, and of the tokens after that.
struct Measured {
    prefill: f64,
    decode: f64,
    decoded: usize,
}

fn measure(policy: &Policy, prompt: &[u32], new_tokens: usize) -> Result<Measured, model::Error> {
    let mut session = Session::new(policy, true);
    let mut sampler = Sampler::new(Sampling::GREEDY);
    let start = Instant::now();
    let mut logits = session.feed(prompt)?;
    let mut token = sampler.next(&logits);
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for _ in 0..new_tokens {
        logits = session.feed(&[token])?;
        token = sampler.next(&logits);
    }
    Ok(Measured { prefill, decode: start.elapsed().as_secs_f64(), decoded: new_tokens })
}

/// Bytes of memory that all threads together read in a second: the fastest of three sums.
fn bandwidth(memory: &[u64]) -> f64 {
    let once = || {
        let start = Instant::now();
        let sum: u64 = memory.par_chunks(1 << 16).map(sum).reduce(|| 0, u64::wrapping_add);
        std::hint::black_box(sum);
        size_of_val(memory) as f64 / start.elapsed().as_secs_f64()
    };
    (0..3).map(|_| once()).fold(0.0, f64::max)
}

/// The sum of words, eight at a time.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; 8];
    for words in words.as_chunks::<8>().0 {
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
