//! Slopes of the reference, the fast version beside it, and promises about bits.

use proptest::prelude::*;
use testkit::tolerance::{HEAD_BF16, HEAD_F32, SLOPE_F64};

use super::{
    Head, HeadOutput, Logits, Scored, backward_hidden, backward_weight, bend, forward, reference,
};
use crate::check::{
    assert_close, assert_same_bits, largest, numbers, on_threads, slopes, weighted, wide,
};
use crate::cpu::round::to_bf16;
use crate::weight::Matrix;
use crate::{Device, Operand, Precision, Rows, Stored, Tensor, Weight};

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Hidden states, a head, targets and coefficients.
#[derive(Clone)]
struct Case {
    width: usize,
    logits: Logits,
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<u32>,
    coefficients: Vec<f32>,
}

/// What the fast version makes of a case.
struct Results {
    output: HeadOutput,
    d_hidden: Vec<f32>,
    d_weight: Vec<f32>,
}

/// A matrix of values that fit into bf16, kept as such.
struct Narrow<'a>(Matrix<'a>);

impl Rows for Narrow<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn cols(&self) -> usize {
        self.0.cols()
    }
    fn stored(&self) -> Stored {
        Stored::Bf16
    }
    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.0.read_row(row, out);
    }
}

impl Case {
    fn new(
        (rows, vocabulary, width): (usize, usize, usize),
        (seed, magnitude): (u64, f32),
    ) -> Self {
        let token = |row: u64| ((row * 7919 + seed) % vocabulary as u64) as u32;
        Self {
            width,
            logits: Logits::PLAIN,
            hidden: numbers(seed, rows * width, magnitude),
            weight: numbers(seed + 1, vocabulary * width, 1.0),
            targets: (0..rows as u64).map(token).collect(),
            coefficients: numbers(seed + 3, rows, 2.0),
        }
    }

    /// The same with other logits of the same products.
    fn bent(self, scale: f32, softcap: Option<f32>) -> Self {
        Self { logits: Logits { scale, softcap }, ..self }
    }

    /// The head of the reference.
    fn reference<'a>(&self, weight: &'a [f64]) -> reference::Head<'a, f64> {
        let Logits { scale, softcap } = self.logits;
        reference::Head { weight, scale: f64::from(scale), softcap: softcap.map(f64::from) }
    }

    /// The same with some of the rows.
    fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        Self {
            hidden: self.hidden[rows.start * self.width..rows.end * self.width].to_vec(),
            targets: self.targets[rows.clone()].to_vec(),
            coefficients: self.coefficients[rows].to_vec(),
            ..self.clone()
        }
    }

    fn run(&self, device: &Device, precision: Precision) -> Results {
        let weight = Weight::pack(device, precision, &Matrix::new(&self.weight, self.width));
        self.run_with(device, precision, &weight)
    }

    fn run_with(&self, device: &Device, precision: Precision, weight: &Weight) -> Results {
        let hidden = Tensor::from_vec(device, self.targets.len(), self.width, self.hidden.clone());
        let hidden = Operand::new(device, precision, &hidden);
        let head = Head { weight, logits: self.logits };
        let mut output = forward(device, &hidden, head, &self.targets, true);
        let scored = Scored {
            hidden: &hidden,
            targets: &self.targets,
            lse: &output.lse,
            coefficients: &self.coefficients,
        };
        let mut d_weight = vec![1.0; self.weight.len()];
        backward_weight(device, head, scored, &mut d_weight);
        let gradient = output.gradient.take();
        let without = forward(device, &hidden, head, &self.targets, false);
        assert_eq!(without, output, "scores are the same without a gradient");
        let d_hidden = gradient.map(|u| backward_hidden(device, u, &self.coefficients));
        let d_hidden = d_hidden.map_or(Vec::new(), Tensor::into_vec);
        Results { output, d_hidden, d_weight }
    }

    /// Fails where the fast version strays from the reference on the same rounded numbers.
    fn check(&self, device: &Device, precision: Precision) {
        let rounded = |values: &[f32]| match precision {
            Precision::F32 => wide(values),
            Precision::Bf16 => values.iter().map(|&x| f64::from(to_bf16(x))).collect(),
        };
        let (hidden, weight) = (rounded(&self.hidden), rounded(&self.weight));
        let got = self.run(device, precision);
        let (mut d_hidden, mut d_weight) = (Vec::new(), vec![1.0; weight.len()]);
        let mut rows = Vec::new();
        for (row, h) in hidden.chunks(self.width).enumerate() {
            let (target, c) = (self.targets[row] as usize, f64::from(self.coefficients[row]));
            let want = reference::forward(h, self.reference(&weight), target);
            d_hidden.extend(want.gradient.iter().map(|u| c * u));
            reference::backward_weight(h, self.reference(&weight), (target, c), &mut d_weight);
            rows.push(want);
        }
        let what = |part: &str| format!("{part}, {}, {precision:?}", device.kernel_path());
        let scale = rows.iter().fold(1.0_f64, |scale, row| scale.max(row.lse.abs()));
        let score = |part: &str, got: &[f32], want: &dyn Fn(&reference::Row<f64>) -> f64| {
            let want: Vec<f64> = rows.iter().map(want).collect();
            assert_close(&what(part), &wide(got), &want, (HEAD_F32, scale));
        };
        let HeadOutput { logp, lse, entropy, mean_logit, ln_sum_p2, is_argmax, .. } = &got.output;
        score("logp", logp, &|row| row.logp);
        score("lse", lse, &|row| row.lse);
        score("entropy", entropy, &|row| row.entropy);
        score("mean_logit", mean_logit, &|row| row.mean_logit);
        score("ln_sum_p2", ln_sum_p2, &|row| row.ln_sum_p2);
        assert_eq!(*is_argmax, rows.iter().map(|row| row.is_argmax).collect::<Vec<_>>());
        let tolerance = match precision {
            Precision::F32 => HEAD_F32,
            Precision::Bf16 => HEAD_BF16,
        };
        let close = |part: &str, got: &[f32], want: &[f64], least: f64| {
            assert_close(&what(part), &wide(got), want, (tolerance, largest(want).max(least)));
        };
        // Where a row's probabilities are even, its gradient cancels.
        close("d_hidden", &got.d_hidden, &d_hidden, 0.1 * largest(&weight));
        close("d_weight", &got.d_weight, &d_weight, 0.1);
    }
}

#[test]
fn a_long_tail_of_small_terms_is_not_lost() {
    // One token of a large vocabulary leads by 17 nats. Each of the others adds less than half a
    // unit in the last place to its term, all of them together 2 parts in 1,000.
    let (vocabulary, leader) = (50_000, 1_023);
    let mut weight: Vec<f32> = [0.0, 1.0].repeat(vocabulary);
    weight[2 * leader] = 17.0;
    let case = Case {
        width: 2,
        logits: Logits::PLAIN,
        hidden: vec![1.0, 0.0],
        weight,
        targets: vec![5],
        coefficients: vec![1.0],
    };
    for device in Device::every_cpu() {
        case.check(&device, Precision::F32);
    }
}

#[test]
fn the_reference_has_its_own_slopes() {
    for (vocabulary, width, magnitude, scale, softcap) in [
        (7, 3, 1.0, 1.0, None),
        (1, 2, 1.0, 1.0, None),
        (12, 5, 6.0, 1.0, None),
        (9, 4, 2.0, 0.3, None),
        (9, 4, 2.0, 0.7, Some(1.5)),
    ] {
        let case = Case::new((1, vocabulary, width), (3, magnitude)).bent(scale, softcap);
        let (hidden, weight) = (wide(&case.hidden), wide(&case.weight));
        let target = case.targets[0] as usize;
        let logp = |hidden: &[f64], weight: &[f64]| {
            reference::forward(hidden, case.reference(weight), target).logp
        };
        let row = reference::forward(&hidden, case.reference(&weight), target);
        let want = slopes(&hidden, |hidden| logp(hidden, &weight));
        assert_close("u", &row.gradient, &want, (SLOPE_F64, largest(&want).max(0.1)));
        let mut d_weight = vec![0.0; weight.len()];
        reference::backward_weight(&hidden, case.reference(&weight), (target, 1.5), &mut d_weight);
        let want = slopes(&weight, |weight| 1.5 * logp(&hidden, weight));
        assert_close("dW", &d_weight, &want, (SLOPE_F64, largest(&want).max(0.1)));
        // Entropy and its companions follow from the logits.
        let bend = |z: f64| {
            let z = z * f64::from(scale);
            softcap.map_or(z, |cap| f64::from(cap) * (z / f64::from(cap)).tanh())
        };
        let z: Vec<f64> = weight.chunks(width).map(|w| bend(weighted(w, &hidden))).collect();
        let sum: f64 = z.iter().map(|z| z.exp()).sum();
        let p: Vec<f64> = z.iter().map(|z| z.exp() / sum).collect();
        let close = |what: &str, got: f64, want: f64| {
            assert_close(what, &[got], &[want], (SLOPE_F64, 1.0));
        };
        close("lse", row.lse, sum.ln());
        close("entropy", row.entropy, -p.iter().map(|p| p * p.ln()).sum::<f64>());
        close("mean", row.mean_logit, z.iter().sum::<f64>() / z.len() as f64);
        close("p2", row.ln_sum_p2, p.iter().map(|p| p * p).sum::<f64>().ln());
    }
}

#[test]
fn several_tiles_on_every_path() {
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            for shape in [(13, 2100, 17), (1, 1024, 64), (50, 1025, 33), (3, 33, 1), (2, 1, 4)] {
                for (scale, softcap) in [(1.0, None), (0.125, None), (0.5, Some(3.0))] {
                    Case::new(shape, (5, 1.0)).bent(scale, softcap).check(&device, precision);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_shape_on_every_path(
        shape in (1_usize..30, 1_usize..1200, 1_usize..40),
        (seed, magnitude) in (any::<u32>(), 0.1_f32..4.0),
        softcap in prop::option::of(5.0_f32..60.0),
    ) {
        let case = Case::new(shape, (seed.into(), magnitude)).bent(1.0, softcap);
        for device in Device::every_cpu() {
            for precision in PRECISIONS {
                case.check(&device, precision);
            }
        }
    }
}

/// One hidden column of 1: the weight is the logits.
fn of_logits(logits: &[f32], target: u32) -> Case {
    Case {
        width: 1,
        logits: Logits::PLAIN,
        hidden: vec![1.0],
        weight: logits.to_vec(),
        targets: vec![target],
        coefficients: vec![1.0],
    }
}

#[test]
fn saturated_logits_keep_their_digits() {
    // Token 1,500 leads by 160, by 20 and by nothing.
    for lead in [80.0, -60.0, -80.0] {
        let mut logits = vec![-80.0; 2000];
        logits[1500] = lead;
        for device in Device::every_cpu() {
            for precision in PRECISIONS {
                for target in [1500, 3, 1999] {
                    let case = of_logits(&logits, target);
                    case.check(&device, precision);
                    let got = case.run(&device, precision).output;
                    let own = f64::from(logits[target as usize]);
                    let sum: f64 = logits.iter().map(|&z| (f64::from(z) - own).exp()).sum();
                    // Near probability 1, the few digits below 0 count.
                    let others = sum - 1.0;
                    let want = if target == 1500 { -others.ln_1p() } else { -sum.ln() };
                    let off = (f64::from(got.logp[0]) - want).abs();
                    assert!(off <= HEAD_F32 * want.abs() + 1e-30, "{} for {want}", got.logp[0]);
                    assert!(got.entropy[0].is_finite() && got.ln_sum_p2[0].is_finite());
                }
            }
        }
    }
}

#[test]
fn a_gradient_near_probability_one_keeps_its_digits() {
    // 1 - p is about 4e-6: bf16 probabilities alone could not tell it from 0.
    let mut logits = vec![-20.0; 2000];
    logits[700] = 0.0;
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            let case = of_logits(&logits, 700);
            let want = reference::forward(&[1.0], case.reference(&wide(&logits)), 700).gradient;
            let got = wide(&case.run(&device, precision).d_hidden);
            assert_close("u", &got, &want, (HEAD_BF16, want[0].abs()));
        }
    }
}

#[test]
fn the_argmax_is_unique_or_nobody() {
    for device in Device::every_cpu() {
        for (logits, target, want) in [
            (vec![1.0, 2.0, 1.5], 1, true),
            (vec![2.0, 2.0, 1.5], 1, false),
            (vec![2.0, 1.0, 1.5], 1, false),
            (vec![-3.0], 0, true),
        ] {
            // The same again, with the rest of the vocabulary far below.
            for rest in [0, 40, 3000] {
                let mut logits = logits.clone();
                logits.resize(logits.len() + rest, -9.0);
                let output = of_logits(&logits, target).run(&device, Precision::F32).output;
                assert_eq!(output.is_argmax, [want], "{:?} and {rest} more", &logits[..1]);
            }
        }
        let mut far = vec![0.0; 3000];
        (far[5], far[2990]) = (4.0, 4.0);
        for target in [5, 2990] {
            assert_eq!(
                of_logits(&far, target).run(&device, Precision::F32).output.is_argmax,
                [false]
            );
            let mut led = far.clone();
            led[target as usize] = 4.5;
            assert_eq!(
                of_logits(&led, target).run(&device, Precision::F32).output.is_argmax,
                [true]
            );
        }
    }
}

#[test]
fn a_broken_logit_is_not_hidden() {
    for device in Device::every_cpu() {
        for broken in [2, 1500] {
            let mut case = of_logits(&[0.5; 2000], 2);
            case.weight[broken] = f32::NAN;
            let weight = Weight::pack(&device, Precision::F32, &Matrix::new(&case.weight, 1));
            let hidden = Tensor::from_vec(&device, 1, 1, case.hidden.clone());
            let hidden = Operand::new(&device, Precision::F32, &hidden);
            let head = Head { weight: &weight, logits: Logits::PLAIN };
            let output = forward(&device, &hidden, head, &case.targets, true);
            assert!(output.logp[0].is_nan() && output.lse[0].is_nan());
        }
    }
}

#[test]
fn a_row_does_not_see_its_neighbours() {
    let case = Case::new((130, 1500, 24), (7, 1.0)).bent(0.5, Some(2.0));
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            let all = case.run(&device, precision);
            for rows in [0..1, 40..60, 13..130] {
                let some = case.rows(rows.clone()).run(&device, precision);
                assert_same_bits("logp", &some.output.logp, &all.output.logp[rows.clone()]);
                assert_same_bits(
                    "entropy",
                    &some.output.entropy,
                    &all.output.entropy[rows.clone()],
                );
                let u = &all.d_hidden[rows.start * 24..rows.end * 24];
                assert_same_bits("d_hidden", &some.d_hidden, u);
            }
        }
    }
}

#[test]
fn as_many_threads_as_you_like() {
    let case = Case::new((70, 1500, 40), (9, 1.0));
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            let one = on_threads(1, || case.run(&device, precision));
            for threads in [2, 5] {
                let many = on_threads(threads, || case.run(&device, precision));
                assert_eq!(many.output, one.output);
                assert_same_bits("d_hidden", &many.d_hidden, &one.d_hidden);
                assert_same_bits("d_weight", &many.d_weight, &one.d_weight);
            }
        }
    }
}

#[test]
fn a_narrow_weight_gives_the_same_bits_as_its_values_in_f32() {
    let mut case = Case::new((20, 1100, 24), (11, 1.0));
    for value in &mut case.weight {
        *value = to_bf16(*value);
    }
    for device in Device::every_cpu() {
        let narrow = Narrow(Matrix::new(&case.weight, case.width));
        let weight = Weight::pack(&device, Precision::F32, &narrow);
        let got = case.run_with(&device, Precision::F32, &weight);
        let want = case.run(&device, Precision::F32);
        assert_eq!(got.output, want.output);
        assert_same_bits("d_hidden", &got.d_hidden, &want.d_hidden);
        assert_same_bits("d_weight", &got.d_weight, &want.d_weight);
    }
}

#[test]
fn bent_products_are_the_logits_that_are_scored() {
    let case = Case::new((3, 50, 8), (13, 2.0)).bent(0.5, Some(2.0));
    for device in Device::every_cpu() {
        let products = case.hidden.chunks(8).flat_map(|hidden| {
            let product = |w: &[f32]| hidden.iter().zip(w).map(|(h, w)| h * w).sum::<f32>();
            case.weight.chunks(8).map(product).collect::<Vec<_>>()
        });
        let mut logits = Tensor::from_vec(&device, 3, 50, products.collect());
        bend(&device, &mut logits, case.logits);
        let lse: Vec<f64> = (0..3)
            .map(|row| wide(logits.row(row)).iter().map(|z| z.exp()).sum::<f64>().ln())
            .collect();
        let got = case.run(&device, Precision::F32).output;
        assert_close("lse", &wide(&got.lse), &lse, (HEAD_F32, 1.0));
        assert!(logits.as_slice().iter().all(|logit| logit.abs() < 2.0));
    }
}
