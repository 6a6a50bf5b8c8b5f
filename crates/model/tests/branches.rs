//! Branches of a tree against the same completions as sequences of their own.

#![expect(clippy::print_stderr, reason = "a test that skips, or measures, says so")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use formats::peft::Adapter;
use kernels::{Device, Precision};
use model::{Checkpoint, Layers, LoraSettings, MicroBatch, Policy, Sequence, Targets, Training};
use testkit::tolerance;

/// An adapter on all linears whose B is not zero, so that A has a gradient too.
fn adapter(checkpoint: &Checkpoint) -> Adapter {
    let settings = LoraSettings {
        r: 4,
        lora_alpha: 8.0,
        use_rslora: false,
        targets: Targets::AllLinear,
        layers: Layers::All,
    };
    let mut adapter = settings.fresh(checkpoint.config(), 1).unwrap();
    let mut number = 0_u32;
    for (name, (_, values)) in &mut adapter.tensors {
        if !name.ends_with("lora_B.weight") {
            continue;
        }
        for value in values {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = (f64::from(number) / f64::from(u32::MAX) - 0.5) as f32 * 0.04;
        }
    }
    adapter
}

/// The gradients of a loss over all completions of every prompt.
fn gradients(policy: &mut Policy, batches: &[(MicroBatch, Vec<f64>)]) -> (Vec<f64>, Vec<u64>) {
    policy.arena_mut().clear_gradients();
    let mut logps = Vec::new();
    for (batch, coefficients) in batches {
        let pending = policy.forward(batch).unwrap();
        logps.extend(pending.scores().completions.iter().map(|score| score.logp.to_bits()));
        let coefficients: Vec<_> = coefficients.iter().map(|all| (*all).into()).collect();
        policy.backward(batch, pending, &coefficients);
    }
    (policy.arena().gradients.iter().map(|value| f64::from(*value)).collect(), logps)
}

/// How far the gradient's norm, and the gradient itself, are off in relative terms where every
/// prompt has `branches` completions.
fn off(policy: &mut Policy, branches: u32) -> (f64, f64) {
    let tokens = |length: u32, seed: u32| -> Vec<u32> {
        (0..length).map(|at| 3 + (at * 37 + seed * 101) % 400).collect()
    };
    // A prompt, then its completions.
    let row = |n: u32| {
        let completions = (1..=branches).map(|k| tokens(15 + (n + 8 * k) % 19, n + 4 * k + 5));
        std::iter::once(tokens(20 + 7 * n, n)).chain(completions).collect()
    };
    let rows: Vec<Vec<Vec<u32>>> = (0..4).map(row).collect();
    // From the best, whose likelihood is to grow, down to the worst.
    let coefficient = |k: usize| -0.05 + 0.1 * (k - 1) as f64 / f64::from(branches - 1);
    let tree = |row: &Vec<Vec<u32>>| {
        let completions = row[1..].iter().map(|ids| (&ids[..], 0)).collect();
        let batch = MicroBatch::new(&[Sequence { prompt: &row[0], completions, spans: &[] }]);
        (batch, (1..row.len()).map(coefficient).collect())
    };
    let alone = |row: &[Vec<u32>], k: usize| {
        let sequence =
            Sequence { prompt: &row[0], completions: vec![(&row[k][..], 0)], spans: &[] };
        (MicroBatch::new(&[sequence]), vec![coefficient(k)])
    };
    let trees: Vec<_> = rows.iter().map(tree).collect();
    let separate: Vec<_> =
        rows.iter().flat_map(|row| (1..row.len()).map(|k| alone(row, k))).collect();
    let (together, logps) = gradients(policy, &trees);
    let (apart, same_logps) = gradients(policy, &separate);
    assert_eq!(logps, same_logps, "log-probabilities, and so the loss, agree to the bit");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|it| it * it).sum::<f64>().sqrt();
    let whole = norm(&mut apart.iter().copied());
    let between = norm(&mut apart.iter().zip(&together).map(|(a, b)| a - b));
    ((norm(&mut together.iter().copied()) / whole - 1.0).abs(), between / whole)
}

fn check(model: &Path) {
    let checkpoint = Checkpoint::open(model).unwrap();
    let training = Training::Lora(Box::new(adapter(&checkpoint)));
    for precision in [Precision::F32, Precision::Bf16] {
        let mut policy = Policy::load(&checkpoint, &Device::cpu(), precision, &training).unwrap();
        let (norm_allowed, allowed) = match precision {
            Precision::F32 => (tolerance::TREE_NORM, tolerance::TREE_GRADIENT),
            Precision::Bf16 => (tolerance::TREE_NORM_BF16, tolerance::TREE_GRADIENT_BF16),
        };
        for branches in [2, 3, 5] {
            let (norm, whole) = off(&mut policy, branches);
            let told = format!(
                "{precision:?}, {branches} branches: gradient norm off {norm:.1e}, gradient off {whole:.1e}"
            );
            eprintln!("{told}");
            assert!(norm < norm_allowed && whole < allowed, "{told}");
        }
    }
}

#[test]
fn branches_have_the_gradient_of_separate_sequences() {
    let trained = testkit::shared_data().map(|data| data.join("stories260K/stories260K.gguf"));
    check(&trained.unwrap_or_else(|| testkit::golden("trl/chat")));
}

/// Run with `TRUEUP_TEST_MODEL=<folder or GGUF> cargo test --release -p model`.
#[test]
fn branches_of_a_given_model_too() {
    match std::env::var_os("TRUEUP_TEST_MODEL") {
        Some(model) => check(Path::new(&model)),
        None => eprintln!("skipped: TRUEUP_TEST_MODEL names no model"),
    }
}
