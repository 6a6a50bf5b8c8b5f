//! The fast step against its reference, torch and itself.

use proptest::prelude::*;
use testkit::tolerance::{ADAMW_F32, SAME_F64_ARITHMETIC};

use super::{
    Arena, Settings, Span, Step, clip_factor, first_not_finite, gradient_norm, reference, step,
};
use crate::Device;
use crate::check::{
    array, array_f32, assert_close, assert_same_bits, count, golden, largest, numbers, on_threads,
    wide,
};

const SETTINGS: Settings = Settings { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };

/// Values with their moments, owned.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    values: Vec<f32>,
    first_moments: Vec<f32>,
    second_moments: Vec<f32>,
}

impl Owned {
    fn new(values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self { values, first_moments: zeros.clone(), second_moments: zeros }
    }

    fn arena<'a>(&'a mut self, gradients: &'a [f32]) -> Arena<'a> {
        Arena {
            values: &mut self.values,
            gradients,
            first_moments: &mut self.first_moments,
            second_moments: &mut self.second_moments,
        }
    }
}

#[test]
fn ten_steps_agree_with_torch() {
    for device in Device::every_cpu() {
        for case in golden("adamw") {
            let name = case["name"].as_str().unwrap();
            let weight_decay = case["weight_decay"].as_f64().unwrap();
            let settings = Settings { weight_decay, ..SETTINGS };
            let mut owned = Owned::new(array_f32(&case["values"]));
            let (decayed, len) = (count(&case["decayed"]), owned.values.len());
            let spans = [
                Span { elements: 0..decayed, decays: true },
                Span { elements: decayed..len, decays: false },
            ];
            let steps = case["steps"].as_array().unwrap();
            assert_eq!(steps.len(), 10);
            for (number, torch) in (1..).zip(steps) {
                let learning_rate = torch["learning_rate"].as_f64().unwrap();
                let this = Step { number, learning_rate, gradient_factor: 1.0 };
                let gradients = array_f32(&torch["gradients"]);
                step(&device, settings, this, owned.arena(&gradients), &spans);
                let what = format!("{name}, step {number}");
                let want = array(&torch["values"]);
                assert_close(&what, &wide(&owned.values), &want, (ADAMW_F32, 1e-3));
            }
            let moments = [
                ("first_moments", &owned.first_moments),
                ("second_moments", &owned.second_moments),
            ];
            for (key, got) in moments {
                let want = array(&case[key]);
                assert_close(key, &wide(got), &want, (ADAMW_F32, largest(&want)));
            }
        }
    }
}

#[test]
fn clipping_agrees_with_torch() {
    for case in golden("clip") {
        let [norm, max_norm, factor] =
            ["norm", "max_norm", "factor"].map(|key| case[key].as_f64().unwrap());
        let gradients = array(&case["gradients"]);
        let tight = (SAME_F64_ARITHMETIC, f64::MIN_POSITIVE);
        assert_close("norm", &[reference::gradient_norm(&gradients)], &[norm], tight);
        assert_close("factor", &[clip_factor(norm, max_norm)], &[factor], tight);
    }
}

proptest! {
    #[test]
    fn fast_is_reference(
        len in 1_usize..300,
        scale in prop_oneof![Just(1.0_f32), Just(0.0), Just(1e-12), Just(1e15)],
        (number, gradient_factor) in (1_u64..2000, 0.01_f64..1.0),
        (decays, seed) in any::<(bool, u64)>(),
    ) {
        let this = Step { number, learning_rate: 1e-2, gradient_factor };
        let settings = Settings { weight_decay: if decays { 0.1 } else { 0.0 }, ..SETTINGS };
        let gradients = numbers(seed, len, scale);
        let start = Owned {
            values: numbers(seed ^ 1, len, 1.0),
            first_moments: numbers(seed ^ 2, len, scale),
            second_moments: numbers(seed ^ 3, len, scale * scale).iter().map(|v| v.abs()).collect(),
        };
        let mut values = wide(&start.values);
        let (first, second) = (wide(&start.first_moments), wide(&start.second_moments));
        let mut moments: Vec<(f64, f64)> = first.into_iter().zip(second).collect();
        reference::step(settings, this, &mut values, &wide(&gradients), &mut moments);
        for device in Device::every_cpu() {
            let mut owned = start.clone();
            let spans = [Span { elements: 0..len, decays }];
            step(&device, SETTINGS, this, owned.arena(&gradients), &spans);
            // An element's moments may disagree (a tiny second under a large first), and its step
            // be far larger than the learning rate: its error grows with the step.
            for (i, want) in values.iter().enumerate() {
                let scale = (want - f64::from(start.values[i])).abs() + 1.0;
                let off = (f64::from(owned.values[i]) - want).abs();
                prop_assert!(off <= ADAMW_F32 * scale, "{i}: {} {want}", owned.values[i]);
            }
            let firsts: Vec<f64> = moments.iter().map(|moment| moment.0).collect();
            let seconds: Vec<f64> = moments.iter().map(|moment| moment.1).collect();
            let scale = f64::from(scale).max(1e-30);
            assert_close("m", &wide(&owned.first_moments), &firsts, (ADAMW_F32, scale));
            assert_close("v", &wide(&owned.second_moments), &seconds, (ADAMW_F32, scale * scale));
        }
    }

    #[test]
    fn norms_are_exact(len in 0_usize..40_000, scale in 1e-20_f32..1e20, seed: u64) {
        let gradients = numbers(seed, len, scale);
        let want = reference::gradient_norm(&wide(&gradients));
        for device in Device::every_cpu() {
            let got = gradient_norm(&device, &gradients);
            assert_close("norm", &[got], &[want], (SAME_F64_ARITHMETIC, f64::MIN_POSITIVE));
        }
    }
}

/// What lies between spans is left alone, and only spans that decay decay.
#[test]
fn spans_say_what_changes() {
    let device = Device::cpu();
    let start = Owned::new(vec![1.0; 40_000]);
    let gradients = vec![0.0; 40_000];
    let spans = [
        Span { elements: 3..20_000, decays: true },
        Span { elements: 20_000..20_000, decays: true },
        Span { elements: 20_007..39_999, decays: false },
    ];
    let this = Step { number: 1, learning_rate: 0.5, gradient_factor: 1.0 };
    let mut owned = start.clone();
    step(&device, SETTINGS, this, owned.arena(&gradients), &spans);
    for (i, value) in owned.values.iter().enumerate() {
        let want = if (3..20_000).contains(&i) { 0.95_f32 } else { 1.0 };
        assert_eq!(value.to_bits(), want.to_bits(), "{i}");
    }

    let gradients = vec![2.0; 40_000];
    let mut owned = start;
    step(&device, SETTINGS, this, owned.arena(&gradients), &spans);
    let untouched = [0..3, 20_000..20_007, 39_999..40_000];
    for (i, value) in owned.values.iter().enumerate() {
        let alone = untouched.iter().any(|range| range.contains(&i));
        assert_eq!((value - 1.0).abs() < 1e-6, alone, "{i}: {value}");
    }
}

#[test]
#[should_panic(expected = "spans in order")]
fn overlapping_spans_are_refused() {
    let spans = [Span { elements: 0..3, decays: true }, Span { elements: 2..4, decays: true }];
    let this = Step { number: 1, learning_rate: 0.5, gradient_factor: 1.0 };
    step(&Device::cpu(), SETTINGS, this, Owned::new(vec![0.0; 4]).arena(&[0.0; 4]), &spans);
}

#[test]
fn what_is_not_finite_is_found() {
    for device in Device::every_cpu() {
        let mut values = numbers(1, 50_000, f32::MAX);
        assert_eq!(first_not_finite(&device, &values), None);
        assert!(gradient_norm(&device, &values).is_finite());
        for (index, value) in [(49_999, f32::NAN), (33_000, f32::INFINITY), (7, f32::NEG_INFINITY)]
        {
            values[index] = value;
            assert_eq!(first_not_finite(&device, &values), Some(index));
            assert!(!gradient_norm(&device, &values).is_finite());
        }
    }
}

/// One thread and two, every instruction set: same bits.
#[test]
fn threads_do_not_matter() {
    const LEN: usize = 50_001;
    let gradients = numbers(1, LEN, 1.0);
    let run = |device: &Device| {
        let mut owned = Owned::new(numbers(2, LEN, 1.0));
        let spans = [
            Span { elements: 0..20_001, decays: true },
            Span { elements: 20_001..LEN, decays: false },
        ];
        let norm = gradient_norm(device, &gradients);
        for number in 1..4 {
            let this =
                Step { number, learning_rate: 1e-3, gradient_factor: clip_factor(norm, 1.0) };
            step(device, SETTINGS, this, owned.arena(&gradients), &spans);
        }
        (owned, norm.to_bits())
    };
    let (want, norm) = on_threads(1, || run(&Device::cpu()));
    for device in Device::every_cpu() {
        let (same, same_norm) = on_threads(2, || run(&device));
        assert_eq!(same_norm, norm);
        assert_same_bits("values", &same.values, &want.values);
        assert_same_bits("first moments", &same.first_moments, &want.first_moments);
        assert_same_bits("second moments", &same.second_moments, &want.second_moments);
    }
}
