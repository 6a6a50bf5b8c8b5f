//! What a model says before it is written, and after.

use data::template::Moment;
use formats::{Dtype, peft};
use kernels::{Device, Precision};
use model::{Policy, Session, Training};
use serde_json::json;
use std::path::Path;
use train::prepare::ModelFiles;

use super::super::generate::chat_prompt;
use crate::{environment, failure::Failure, terminal::Terminal};

/// What a check lets models say: questions with answers.
const SAYINGS: [(&str, &str); 4] = [
    ("Why is the sky blue?", "Air scatters short waves of light more than long ones."),
    ("How do I boil an egg?", "Put it into boiling water for seven minutes, then cool it."),
    ("Name three rivers.", "The Nile, the Danube and the Mekong."),
    ("Is it safe to look into the Sun?", "No, it can hurt your eyes within seconds."),
];

/// Most tokens of a saying, its question with them.
const TOKENS_MAX: usize = 96;

/// Natural-log probabilities of the answers' tokens.
pub(super) struct Said {
    logps: Vec<f64>,
    /// Without the adapter; absent where there is none.
    alone: Vec<f64>,
}

/// Opens a model with its tokenizer.
pub(super) fn open_files(path: &Path) -> Result<ModelFiles, Failure> {
    let now = environment::unix_seconds();
    let today = Moment::from_unix_seconds(now).ok_or(Failure::Clock)?;
    Ok(ModelFiles::open(path, None, today)?)
}

/// What a model says to the built-in texts, in f32.
pub(super) fn says(files: &ModelFiles, adapter: Option<&peft::Adapter>) -> Result<Said, Failure> {
    let training = adapter.map_or(Training::Nothing, |it| Training::Lora(Box::new(it.clone())));
    let policy = Policy::load(&files.checkpoint, &Device::cpu(), Precision::F32, &training)
        .map_err(Failure::Fuse)?;
    let mut said = Said { logps: Vec::new(), alone: Vec::new() };
    for (question, answer) in SAYINGS {
        let mut tokens = chat_prompt(files, &[json!({"role": "user", "content": question})])?;
        let most = TOKENS_MAX.min(policy.config().context);
        tokens.truncate(most.saturating_sub(1));
        let start = tokens.len().max(1);
        tokens.extend(files.tokenizer.encode(answer, false)?);
        tokens.truncate(most);
        said.logps.extend(logps(&policy, true, &tokens, start)?);
        if adapter.is_some() {
            said.alone.extend(logps(&policy, false, &tokens, start)?);
        }
    }
    Ok(said)
}

/// The log-probability of each token from `start` on.
fn logps(
    policy: &Policy,
    adapter: bool,
    tokens: &[u32],
    start: usize,
) -> Result<Vec<f64>, Failure> {
    let mut session = Session::new(policy, adapter);
    let mut logits = session.feed(&tokens[..start.min(tokens.len())]).map_err(Failure::Fuse)?;
    let mut found = Vec::new();
    for token in tokens.iter().skip(start) {
        let top = logits.iter().fold(f32::NEG_INFINITY, |most, logit| most.max(*logit));
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
        let own = logits.get(*token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        found.push(f64::from(own - top) - sum.ln());
        logits = session.feed(&[*token]).map_err(Failure::Fuse)?;
    }
    Ok(found)
}

/// The most that log-probabilities may differ, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// Each token's.
    Each(f64),
    /// All tokens' on average: the errors of few bits are large at single tokens.
    Mean(f64),
}

/// What the types of the matrices allow.
fn limit(dtypes: &[Dtype]) -> Limit {
    let of = |dtype: &Dtype| match dtype {
        Dtype::F32 => Limit::Each(1e-3),
        Dtype::F16 => Limit::Each(0.05),
        Dtype::Bf16 => Limit::Each(0.25),
        Dtype::Q8_0 => Limit::Each(0.5),
        _ => Limit::Mean(1.0),
    };
    let wider = |a: Limit, b: Limit| match (a, b) {
        (Limit::Each(a), Limit::Each(b)) => Limit::Each(a.max(b)),
        (Limit::Mean(_), _) => a,
        (_, Limit::Mean(_)) => b,
    };
    dtypes.iter().map(of).fold(Limit::Each(1e-3), wider)
}

/// The mean and the largest difference; NaN counts as the largest difference there is.
fn differences(a: &[f64], b: &[f64]) -> (f64, f64) {
    let of_pair = |(a, b): (&f64, &f64)| {
        let off = (a - b).abs();
        if off.is_nan() { f64::INFINITY } else { off }
    };
    let all: Vec<f64> = a.iter().zip(b).map(of_pair).collect();
    let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
    (mean, all.iter().fold(0.0, |most: f64, off| most.max(*off)))
}

/// Compares what was written, at `path`, with what base and adapter said.
pub(super) fn check(
    path: &Path,
    before: &Said,
    dtypes: &[Dtype],
    terminal: &Terminal,
) -> Result<(), Failure> {
    let after = says(&open_files(path)?, None)?;
    let (mean, most) = differences(&before.logps, &after.logps);
    let (found, allowed, how) = match limit(dtypes) {
        Limit::Each(limit) => (most, limit, ""),
        Limit::Mean(limit) => (mean, limit, " on average"),
    };
    let by = match how {
        "" => format!("by up to {most:.1e} nats"),
        _ => format!("by {mean:.1e} nats on average and up to {most:.1e}"),
    };
    let (from, moves) = if before.alone.is_empty() {
        ("the base", String::new())
    } else {
        let (_, most) = differences(&before.logps, &before.alone);
        ("base and adapter", format!("; the adapter moves them by up to {most:.1e}"))
    };
    terminal.data(&format!(
        "checked {} tokens: log-probabilities differ {by} from those of {from}, at most \
         {allowed}{how} is allowed{moves}\n",
        after.logps.len(),
    ))?;
    if found <= allowed { Ok(()) } else { Err(Failure::Differs { found, limit: allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_type_decides() {
        assert_eq!(limit(&[]), Limit::Each(1e-3));
        assert_eq!(limit(&[Dtype::F32, Dtype::Bf16, Dtype::F16]), Limit::Each(0.25));
        assert_eq!(limit(&[Dtype::Q4K, Dtype::Q8_0]), Limit::Mean(1.0));
        assert_eq!(limit(&[Dtype::Q8_0, Dtype::Q4K]), Limit::Mean(1.0));
    }

    #[test]
    fn what_is_no_number_differs_most() {
        let (mean, most) = differences(&[-1.0, -2.0], &[-1.5, -2.0]);
        assert!((mean - 0.25).abs() < 1e-12 && (most - 0.5).abs() < 1e-12);
        assert!(differences(&[-1.0, -2.0], &[f64::NAN, -2.0]).1.is_infinite());
    }
}
