//! How likely a model finds texts: transformers and ours, in f32, each with its own tokenizer.

use std::path::Path;

use data::tokenizer::Tokenizer;
use kernels::{Device, Precision};
use model::{Checkpoint, MicroBatch, Policy, Sequence, Training};
use serde::Deserialize;
use testkit::tolerance::LIKELIHOOD_PARITY;

use crate::run::{Job, say};

#[derive(Deserialize)]
struct Answer {
    source: String,
    texts: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    text: String,
    ids: Vec<u32>,
    nll: f64,
}

/// Compares token ids and likelihoods of some texts, and returns what is off.
///
/// # Errors
///
/// If transformers' side fails, or the model cannot be loaded.
pub(super) fn compare(root: &Path, python: &Job, path: &Path) -> anyhow::Result<Vec<String>> {
    let script = root.join("goldens/parity/likelihood.py");
    let asked = python.clone().args([&script, path]).with("OMP_WAIT_POLICY", "passive");
    let answer: Answer = serde_json::from_slice(&asked.output()?)?;
    let checkpoint = Checkpoint::open(path)?;
    let tokenizer = match checkpoint.gguf() {
        Some(file) => Tokenizer::from_gguf(&file.tokenizer()?)?,
        None => Tokenizer::open(path)?,
    };
    let policy = Policy::load(&checkpoint, &Device::cpu(), Precision::F32, &Training::Nothing)?;
    let mut complaints = Vec::new();
    let mut worst: f64 = 0.0;
    for (number, text) in answer.texts.iter().enumerate() {
        let ids = tokenizer.encode(&text.text, true)?;
        if ids != text.ids {
            let same = ids.iter().zip(&text.ids).take_while(|(a, b)| a == b).count();
            complaints.push(format!("likelihood: the ids of text {number} part after {same}"));
            continue;
        }
        let (first, rest) = ids.split_at(1);
        let sequence = Sequence { prompt: first, completions: vec![(rest, 0)], spans: &[] };
        let ours = -policy.score(&MicroBatch::new(&[sequence]), true)?.completions[0].logp;
        let off = (ours / text.nll - 1.0).abs();
        worst = worst.max(off);
        let count = rest.len();
        say(&format!(
            "likelihood: text {number}, {count} tokens, {:.6} nats a token, theirs {:.6}",
            ours / count as f64,
            text.nll / count as f64
        ));
        if off > LIKELIHOOD_PARITY {
            complaints.push(format!("likelihood: text {number} is off by {off:.1e}"));
        }
    }
    say(&format!("likelihood: at most {worst:.1e} off, beside {}", answer.source));
    Ok(complaints)
}
