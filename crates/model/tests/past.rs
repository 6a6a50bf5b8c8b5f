//! Sequences that are read together, prompts that are read in parts, adapters that take turns: none
//! of it changes a bit.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use formats::peft;
use kernels::{Device, Precision};
use model::{Checkpoint, Past, Policy, Training, part_of_prompt};

const PROMPTS: [&[u32]; 4] =
    [&[1, 5, 9, 44, 17, 3, 3, 60, 61, 62, 63, 64, 65, 66, 7, 8, 9], &[1, 2], &[7, 8, 9], &[5]];

fn adapter(scale: f64) -> peft::Adapter {
    let mut adapter = peft::read(testkit::golden("trl/adapter")).unwrap();
    adapter.config.lora_alpha = scale * adapter.config.r as f64;
    adapter
}

fn policies(training: &Training) -> Vec<Policy> {
    let checkpoint = Checkpoint::open(&testkit::golden("trl/chat")).unwrap();
    let mut policies = Vec::new();
    for device in Device::every_cpu() {
        for precision in [Precision::F32, Precision::Bf16] {
            policies.push(Policy::load(&checkpoint, &device, precision, training).unwrap());
        }
    }
    policies
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The logits behind a prompt.
fn logits(policy: &Policy, prompt: &[u32]) -> Vec<u32> {
    bits(&policy.read(&mut Past::new(policy.config()), prompt, true).unwrap())
}

#[test]
fn a_sequence_among_others_has_the_bits_it_has_alone() {
    for policy in policies(&Training::Lora(Box::new(adapter(2.0)))) {
        let mut pasts = PROMPTS.map(|prompt| {
            let mut past = Past::new(policy.config());
            policy.read(&mut past, prompt, true).unwrap();
            past
        });
        let mut alone = pasts.clone();
        for adapter in [true, false] {
            let tokens = [4, 40, 4, 41];
            let mut all: Vec<&mut Past> = pasts.iter_mut().collect();
            let together = policy.step(&mut all, &tokens, adapter).unwrap();
            for (row, past) in alone.iter_mut().enumerate() {
                let one = policy.read(past, &tokens[row..=row], adapter).unwrap();
                assert_eq!(bits(&one), bits(together.row(row)), "sequence {row}");
            }
            assert!(pasts == alone, "the same past");
        }
    }
}

#[test]
fn a_step_that_one_sequence_cannot_take_changes_none() {
    let policy = &policies(&Training::Nothing)[0];
    let mut full = Past::new(policy.config());
    policy.read(&mut full, &vec![9; policy.config().context], true).unwrap();
    let mut short = Past::new(policy.config());
    policy.read(&mut short, PROMPTS[0], true).unwrap();
    let before = [short.clone(), full.clone()];
    let error = policy.step(&mut [&mut short, &mut full], &[1, 1], true).unwrap_err();
    assert!(matches!(error, model::Error::TooLong { .. }), "{error}");
    let error = policy.step(&mut [&mut short], &[100_000], true).unwrap_err();
    assert!(matches!(error, model::Error::Token { .. }), "{error}");
    assert!([short, full] == before);
}

/// Its rows turn by the length of the whole, so it is not cut.
#[test]
fn a_prompt_that_turns_by_its_length_is_read_at_once() {
    let open = |name| Checkpoint::open(&testkit::golden(name)).unwrap();
    let (long, gqa) = (open("model/phi3-longrope"), open("model/gqa"));
    assert_eq!(long.config().short_context(), Some(64));
    assert_eq!(part_of_prompt(long.config(), 250, 1), 250);
    assert!(part_of_prompt(gqa.config(), 250, 1) < 250);
}

#[test]
fn a_prompt_in_parts_has_the_bits_of_one_read_at_once() {
    let prompt: Vec<u32> = (0..250).map(|n| 3 + n * n % 280).collect();
    for policy in policies(&Training::Lora(Box::new(adapter(2.0)))) {
        let whole = logits(&policy, &prompt);
        let mut past = Past::new(policy.config());
        let (mut parts, mut last) = (0, Vec::new());
        while past.length() < prompt.len() {
            let left = &prompt[past.length()..];
            let part = part_of_prompt(policy.config(), left.len(), 1);
            last = policy.read(&mut past, &left[..part], true).unwrap();
            parts += 1;
        }
        assert_eq!(parts, 2);
        assert_eq!(bits(&last), whole);
        // The logits of every row end with those of the last one.
        let (mut rows, mut last) = (0, Vec::new());
        let mut listen = |logits: &[f32]| {
            rows += 1;
            last = bits(logits);
        };
        let mut past = Past::new(policy.config());
        policy.read_each(&mut past, &prompt, true, &mut listen).unwrap();
        assert_eq!((rows, last), (prompt.len(), whole));
    }
}

#[test]
fn adapters_that_take_turns_are_each_what_it_is_alone() {
    let tuned: Vec<Policy> = policies(&Training::Lora(Box::new(adapter(4.0))));
    let half: Vec<Policy> = policies(&Training::Lora(Box::new(adapter(2.0))));
    for (index, mut policy) in policies(&Training::Nothing).into_iter().enumerate() {
        let base = logits(&policy, PROMPTS[0]);
        let names = [(4.0, &tuned[index]), (2.0, &half[index])];
        let mut spares =
            names.map(|(scale, _)| policy.spare(&adapter(scale), Path::new("it")).unwrap());
        assert_eq!(logits(&policy, PROMPTS[0]), base, "none is in use yet");
        for turn in [0, 1, 1, 0] {
            policy.exchange(&mut spares[turn]);
            assert!(policy.is_adapted());
            assert_eq!(logits(&policy, PROMPTS[0]), logits(names[turn].1, PROMPTS[0]));
            assert_ne!(logits(&policy, PROMPTS[0]), base);
            policy.exchange(&mut spares[turn]);
            assert_eq!(logits(&policy, PROMPTS[0]), base);
        }
        // One that does not fit leaves everything as it was.
        let mut other = adapter(2.0);
        other.tensors = other
            .tensors
            .into_iter()
            .map(|(name, tensor)| (name.replace("layers.1", "layers.7"), tensor))
            .collect();
        assert!(policy.spare(&other, Path::new("it")).is_err());
        assert_eq!(logits(&policy, PROMPTS[0]), base);
    }
}
