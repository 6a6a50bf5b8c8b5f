//! What may not change a bit: neighbours, micro-batches, recomputation, threads.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use formats::peft;
use kernels::{Device, Precision};
use model::{Checkpoint, Coefficient, CompletionScore, MicroBatch, Policy, Sequence, Training};

const PROMPTS: [&[u32]; 3] =
    [&[1, 5, 9, 44, 17, 3, 3, 60, 61, 62, 63, 64, 65, 66], &[1, 2], &[7, 8, 9]];
const COMPLETIONS: [&[u32]; 6] = [
    &[4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21],
    &[4],
    &[30, 31],
    &[50, 40, 30, 20, 10],
    &[2, 2, 2],
    &[9, 9],
];

/// Models that between them have every part a block can have.
const MODELS: [&str; 7] =
    ["gqa", "qwen3", "gemma2", "gemma3", "gpt2", "phi3-longrope", "granite-hybrid"];

fn policies() -> Vec<Policy> {
    let mut policies = Vec::new();
    for model in MODELS {
        let folder = testkit::golden("model").join(model);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let training = Training::Lora(Box::new(peft::read(folder.join("adapter-r4")).unwrap()));
        for device in Device::every_cpu() {
            for precision in [Precision::F32, Precision::Bf16] {
                policies.push(Policy::load(&checkpoint, &device, precision, &training).unwrap());
            }
        }
    }
    policies
}

fn sequence(prompt: usize) -> Sequence<'static> {
    let completions = COMPLETIONS[2 * prompt..2 * prompt + 2].iter().map(|ids| (*ids, 0)).collect();
    Sequence { prompt: PROMPTS[prompt], completions, spans: &[] }
}

fn whole() -> MicroBatch {
    MicroBatch::new(&[sequence(0), sequence(1), sequence(2)])
}

#[test]
fn a_completion_alone_has_the_bits_it_has_among_others() {
    for policy in policies() {
        let together = policy.score(&whole(), true).unwrap().completions;
        for (index, ids) in COMPLETIONS.iter().enumerate() {
            let alone =
                Sequence { prompt: PROMPTS[index / 2], completions: vec![(*ids, 0)], spans: &[] };
            let alone = policy.score(&MicroBatch::new(&[alone]), true).unwrap().completions;
            assert_eq!(
                alone[0].logp.to_bits(),
                together[index].logp.to_bits(),
                "completion {index}"
            );
            // Alone it is the shortest one of its prompt.
            let without_tail = CompletionScore { tail_logp: 0.0, ..together[index] };
            assert_eq!(alone[0], without_tail);
        }
    }
}

fn gradients(policy: &mut Policy, batch: &MicroBatch) -> Vec<u32> {
    policy.arena_mut().clear_gradients();
    let pending = policy.forward(batch).unwrap();
    let coefficients = [0.25, -0.5, 0.125, -0.25, 1.0, -1.0].map(Coefficient::from);
    policy.backward(batch, pending, &coefficients[..batch.completions]);
    policy.arena().gradients.iter().map(|gradient| gradient.to_bits()).collect()
}

#[test]
fn how_a_step_is_cut_changes_no_bit_of_a_gradient() {
    let coefficients = [0.25, -0.5, 0.125, -0.25, 1.0, -1.0].map(Coefficient::from);
    for mut policy in policies() {
        let together = gradients(&mut policy, &whole());
        policy.arena_mut().clear_gradients();
        for prompt in 0..3 {
            let batch = MicroBatch::new(&[sequence(prompt)]);
            let pending = policy.forward(&batch).unwrap();
            policy.backward(&batch, pending, &coefficients[2 * prompt..][..2]);
        }
        let bits = |values: &[f32]| values.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
        let path = (policy.device().kernel_path(), policy.precision());
        assert!(together == bits(&policy.arena().gradients), "{path:?}");
    }
}

#[test]
fn recomputation_and_threads_change_no_bit() {
    let batch = whole();
    for mut policy in policies() {
        let plain = gradients(&mut policy, &batch);
        assert!(plain.iter().any(|bits| *bits != 0));
        policy.set_recompute(true);
        assert_eq!(gradients(&mut policy, &batch), plain);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let again = pool.install(|| gradients(&mut policy, &batch));
            assert_eq!(again, plain, "{threads} threads");
        }
    }
}

#[test]
fn a_tree_is_the_sum_of_its_branches() {
    for mut policy in policies().into_iter().filter(|policy| policy.precision() == Precision::F32) {
        let together = gradients(&mut policy, &MicroBatch::new(&[sequence(0)]));
        let mut sum = vec![0.0_f64; together.len()];
        for (index, weight) in [(0, 0.25), (1, -0.5)] {
            let alone = Sequence {
                prompt: PROMPTS[0],
                completions: vec![(COMPLETIONS[index], 0)],
                spans: &[],
            };
            let batch = MicroBatch::new(&[alone]);
            policy.arena_mut().clear_gradients();
            let pending = policy.forward(&batch).unwrap();
            policy.backward(&batch, pending, &[weight.into()]);
            for (sum, term) in sum.iter_mut().zip(&policy.arena().gradients) {
                *sum += f64::from(*term);
            }
        }
        let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        let off =
            sum.iter().zip(&together).map(|(a, b)| (a - f64::from(f32::from_bits(*b))).powi(2));
        let off = off.sum::<f64>().sqrt() / norm;
        assert!(off < testkit::tolerance::TREE_GRADIENT, "off {off:e}");
    }
}
