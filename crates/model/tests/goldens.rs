//! Whole models against transformers and PEFT: log-probabilities, and the gradients of one step.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use formats::{peft, safetensors};
use kernels::{Device, Precision};
use model::{
    Checkpoint, Coefficient, CompletionScore, MicroBatch, Past, Policy, Sequence, Slot, Training,
};
use serde::Deserialize;
use testkit::tolerance;

const MODELS: [&str; 20] = [
    "gqa",
    "tied",
    "biased",
    "rope-llama3",
    "rope-linear",
    "odd",
    "mistral",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "smollm3",
    "gemma2",
    "gemma3",
    "gemma3-linear",
    "gpt2",
    "phi3",
    "phi3-longrope",
    "granite",
    "granite-hybrid",
    "granite-hybrid-rope",
];

#[derive(Deserialize)]
struct Golden {
    beta: f64,
    pairs: Vec<Pair>,
    base: Vec<PairScores>,
    r3: Step,
    r4: Step,
    full: Step,
}

#[derive(Deserialize)]
struct Pair {
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    rejected: Vec<u32>,
}

#[derive(Deserialize)]
struct PairScores {
    chosen: Score,
    rejected: Score,
}

#[derive(Deserialize)]
struct Score {
    logp: f64,
    token_logps: Vec<f64>,
    entropy_sum: f64,
    mean_logit_sum: f64,
    ln_sum_p2_sum: f64,
    argmax_hits: u32,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    scores: Vec<PairScores>,
    coefficients: Vec<[f64; 2]>,
    grad_norm: f64,
}

struct Case {
    name: &'static str,
    golden: Golden,
    checkpoint: Checkpoint,
}

fn cases() -> impl Iterator<Item = Case> {
    MODELS.into_iter().map(|name| {
        let folder = testkit::golden("model").join(name);
        let text = fs_err::read_to_string(folder.join("golden.json")).unwrap();
        let golden = serde_json::from_str(&text).unwrap();
        Case { name, golden, checkpoint: Checkpoint::open(&folder).unwrap() }
    })
}

fn rows(pairs: &[Pair]) -> MicroBatch {
    let sequences: Vec<_> = pairs
        .iter()
        .map(|pair| Sequence {
            prompt: &pair.prompt,
            completions: vec![(&pair.chosen[..], 0), (&pair.rejected[..], 0)],
            spans: &[],
        })
        .collect();
    MicroBatch::new(&sequences)
}

fn check_scores(case: &Case, got: &[CompletionScore], want: &[PairScores]) {
    let want = want.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]);
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let at = format!("{} completion {index}", case.name);
        assert_eq!(got.token_count as usize, want.token_logps.len(), "{at}");
        assert_eq!(got.hits, want.argmax_hits, "{at}");
        for (what, got, want) in [
            ("logp", got.logp, want.logp),
            ("entropy", got.entropy, want.entropy_sum),
            ("ln sum p^2", got.ln_sum_p2, want.ln_sum_p2_sum),
        ] {
            let off = (got - want).abs() / want.abs();
            assert!(off < tolerance::MODEL_F32_LOGP, "{at} {what}: {got} for {want}, off {off:e}");
        }
        let off = (got.logits - want.mean_logit_sum).abs() / f64::from(got.token_count);
        assert!(off < tolerance::MODEL_F32_LOGP, "{at} mean logit, off {off:e}");
    }
}

fn coefficients(step: &Step) -> Vec<Coefficient> {
    step.coefficients.iter().flatten().map(|all| (*all).into()).collect()
}

/// The values of a tensor in the order that its file has.
fn as_in_file(slot: &Slot, values: &[f32]) -> Vec<f32> {
    match (slot.is_turned, slot.shape.as_slice()) {
        (true, &[rows, cols]) => {
            let at = |place: usize| values[(place % rows) * cols + place / rows];
            (0..values.len()).map(at).collect()
        }
        _ => values.to_vec(),
    }
}

/// Compares the gradients of all tensors of a file with the policy's.
fn check_gradients(at: &str, policy: &Policy, file: &std::path::Path, norm: f64) {
    let want = safetensors::Checkpoint::open(file).unwrap();
    for name in want.names() {
        let slot = policy.arena().slots().iter().find(|slot| slot.name == name).unwrap();
        let got = as_in_file(slot, &policy.arena().gradients[slot.range.clone()]);
        let want = want.tensor(name).unwrap().to_f32().unwrap();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let (got_norm, want_norm) = (dot(&got, &got).sqrt(), dot(&want, &want).sqrt());
        let cosine = dot(&got, &want) / (got_norm * want_norm);
        assert!(cosine > 1.0 - tolerance::MODEL_F32_COSINE, "{at} {name}: cosine {cosine}");
        let off = (got_norm / want_norm - 1.0).abs();
        assert!(off < tolerance::MODEL_F32_NORM, "{at} {name}: norm {got_norm} for {want_norm}");
    }
    let got = policy.arena().gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let off = (got / norm - 1.0).abs();
    assert!(off < tolerance::MODEL_F32_NORM, "{at}: norm of all gradients {got} for {norm}");
}

fn every_policy(case: &Case, training: &Training) -> Vec<Policy> {
    Device::every_cpu()
        .iter()
        .map(|device| Policy::load(&case.checkpoint, device, Precision::F32, training).unwrap())
        .collect()
}

#[test]
fn base_models_score_as_transformers() {
    for case in cases() {
        let batch = rows(&case.golden.pairs);
        for policy in every_policy(&case, &Training::Nothing) {
            check_scores(
                &case,
                &policy.score(&batch, true).unwrap().completions,
                &case.golden.base,
            );
        }
    }
}

/// Generation goes through caches and operations of its own.
#[test]
fn sequences_that_are_read_score_as_those_that_are_trained_on() {
    for case in cases() {
        for policy in every_policy(&case, &Training::Nothing) {
            for (pair, want) in case.golden.pairs.iter().zip(&case.golden.base) {
                let sides = [(&pair.chosen, &want.chosen), (&pair.rejected, &want.rejected)];
                for (completion, want) in sides {
                    // In two calls; all at once where rows turn by the length of what was read.
                    let all = [&pair.prompt[..], completion].concat();
                    let mut past = Past::new(policy.config());
                    let is_by_length = policy.config().short_context().is_some();
                    let cut = if is_by_length { 0 } else { pair.prompt.len() / 2 };
                    policy.read(&mut past, &all[..cut], true).unwrap();
                    let mut logps = Vec::new();
                    let targets = &all[cut + 1..];
                    policy
                        .read_each(&mut past, &all[cut..], true, &mut |logits| {
                            let Some(target) = targets.get(logps.len()) else { return };
                            let wide = |z: &f32| f64::from(*z);
                            let lse = logits.iter().map(wide).map(f64::exp).sum::<f64>().ln();
                            logps.push(wide(&logits[*target as usize]) - lse);
                        })
                        .unwrap();
                    let got: f64 = logps[logps.len() - completion.len()..].iter().sum();
                    let off = (got - want.logp).abs() / want.logp.abs();
                    let at = format!("{}: {got} for {}", case.name, want.logp);
                    assert!(off < tolerance::MODEL_F32_LOGP, "{at}, off {off:e}");
                }
            }
        }
    }
}

#[test]
fn adapters_score_and_learn_as_in_peft() {
    for case in cases() {
        let batch = rows(&case.golden.pairs);
        for (name, step) in [("r3", &case.golden.r3), ("r4", &case.golden.r4)] {
            let folder = case.checkpoint.path();
            let adapter = peft::read(folder.join(format!("adapter-{name}"))).unwrap();
            let training = Training::Lora(Box::new(adapter));
            for mut policy in every_policy(&case, &training) {
                check_scores(
                    &case,
                    &policy.score(&batch, false).unwrap().completions,
                    &case.golden.base,
                );
                let pending = policy.forward(&batch).unwrap();
                check_scores(&case, &pending.scores().completions, &step.scores);
                policy.backward(&batch, pending, &coefficients(step));
                let file = folder.join(format!("gradients-{name}.safetensors"));
                check_gradients(&format!("{} {name}", case.name), &policy, &file, step.grad_norm);
            }
        }
    }
}

#[test]
fn whole_models_learn_as_in_transformers() {
    for case in cases() {
        let batch = rows(&case.golden.pairs);
        let step = &case.golden.full;
        for mut policy in every_policy(&case, &Training::Full) {
            let pending = policy.forward(&batch).unwrap();
            policy.backward(&batch, pending, &coefficients(step));
            let file = case.checkpoint.path().join("gradients-full.safetensors");
            check_gradients(&format!("{} full", case.name), &policy, &file, step.grad_norm);
        }
    }
}

#[test]
fn a_loss_of_the_objective_gives_the_coefficients() {
    for case in cases() {
        let golden = &case.golden;
        let margins = golden.r3.scores.iter().zip(&golden.base).map(|(policy, base)| {
            (policy.chosen.logp - base.chosen.logp) - (policy.rejected.logp - base.rejected.logp)
        });
        for (margin, want) in margins.zip(&golden.r3.coefficients) {
            let slope =
                -golden.beta / (1.0 + (golden.beta * margin).exp()) / golden.pairs.len() as f64;
            assert!((slope - want[0]).abs() < tolerance::SAME_F64_ARITHMETIC, "{}", case.name);
        }
    }
}
