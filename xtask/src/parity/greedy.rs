//! What a model writes, always the most likely token: transformers and ours, in f32.

use std::path::Path;

use anyhow::ensure;
use kernels::{Device, Precision};
use model::{Checkpoint, Policy, Sampler, Sampling, Session, Training};
use serde::Deserialize;

use crate::run::{Job, say};

/// Tokens that follow each prompt.
const TOKENS: usize = 128;

#[derive(Deserialize)]
struct Answer {
    source: String,
    prompts: Vec<Vec<u32>>,
    written: Vec<Vec<u32>>,
}

/// Compares what a model writes after each prompt, and returns where the two part.
///
/// # Errors
///
/// If transformers' side fails, or the model cannot be loaded.
pub(super) fn compare(root: &Path, python: &Job, folder: &Path) -> anyhow::Result<Vec<String>> {
    let script = root.join("goldens/parity/greedy.py");
    let count = TOKENS.to_string();
    // Threads that wait must not spin where other programs want the processor.
    let asked = python.clone().args([&script, folder]).args([&count]);
    let asked = asked.with("OMP_WAIT_POLICY", "passive");
    let answer: Answer = serde_json::from_slice(&asked.output()?)?;
    ensure!(answer.prompts.len() == answer.written.len(), "an answer for each prompt");

    let checkpoint = Checkpoint::open(folder)?;
    let policy = Policy::load(&checkpoint, &Device::cpu(), Precision::F32, &Training::Nothing)?;
    let mut complaints = Vec::new();
    let mut tokens = 0;
    for (number, (prompt, theirs)) in answer.prompts.iter().zip(&answer.written).enumerate() {
        let mut sampler = Sampler::new(Sampling::GREEDY);
        let mut session = Session::new(&policy, true);
        let ours = session.generate(prompt, &mut sampler, TOKENS, &mut |_| true)?.tokens;
        tokens += ours.len();
        if ours != *theirs {
            let same = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
            complaints.push(format!("greedy: prompt {number} parts after {same} tokens"));
        }
    }
    say(&format!(
        "greedy: {tokens} tokens after {} prompts, beside {}",
        answer.prompts.len(),
        answer.source
    ));
    Ok(complaints)
}
