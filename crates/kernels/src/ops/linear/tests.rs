//! Slopes of the reference, the fast version beside it, and promises about bits.

use proptest::prelude::*;
use testkit::tolerance::{BF16_REROUNDED, F32_CHAIN, SLOPE_F64};

use super::reference::{Adapter, Plain};
use super::{Lora, Projection, ProjectionGrad, Saved, backward, forward};
use crate::check::{assert_close, assert_same_bits, numbers, on_threads, slopes, weighted, wide};
use crate::cpu::round::to_bf16;
use crate::weight::Matrix;
use crate::{Device, Dropout, Operand, Precision, Rows, Stored, Tensor, Weight};

/// The sizes of a case.
#[derive(Clone, Copy, Debug)]
struct Shape {
    rows: usize,
    inputs: usize,
    outs: [usize; 2],
    rank: usize,
}

const EXACT: fn(f64) -> f64 = |value| value;
const BF16: fn(f64) -> f64 = |value| f64::from(to_bf16(value as f32));
const SCALE: f32 = 0.5;

#[test]
fn the_reference_has_its_own_slopes() {
    for (rows, inputs, out, rank) in [(1, 5, 33, 3), (13, 5, 3, 3), (2, 1, 1, 1), (3, 2, 5, 4)] {
        for magnitude in [1e-3, 1.0, 30.0] {
            let of = |seed, count| wide(&numbers(seed, count, magnitude));
            let (x, dy) = (of(1, rows * inputs), of(2, rows * out));
            let (w, bias) = (of(3, out * inputs), of(4, out));
            let (a, b) = (of(5, rank * inputs), of(6, out * rank));
            let factors = wide(&numbers(7, rows * inputs, 1.0));
            let dropout = Some(&factors[..]);
            let plain = |x: &[f64], w: &[f64], bias: &[f64], a: &[f64], b: &[f64]| {
                let lora = Some(Adapter { a, b, rank, scale: 0.7, dropout });
                let plain = Plain { weight: w, inputs, bias: Some(bias), lora, round: EXACT };
                weighted(&plain.forward(x), &dy)
            };
            let lora = Some(Adapter { a: &a, b: &b, rank, scale: 0.7, dropout });
            let at = Plain { weight: &w, inputs, bias: Some(&bias), lora, round: EXACT };
            let got = at.backward(&x, &dy);
            let close = |what: &str, got: &[f64], want: &[f64]| {
                let largest = want.iter().fold(0.0f64, |largest, want| largest.max(want.abs()));
                assert_close(what, got, want, (SLOPE_F64, largest));
            };
            close("dx", &got.x, &slopes(&x, |x| plain(x, &w, &bias, &a, &b)));
            close("dW", &got.weight, &slopes(&w, |w| plain(&x, w, &bias, &a, &b)));
            close("dbias", &got.bias, &slopes(&bias, |bias| plain(&x, &w, bias, &a, &b)));
            close("dA", &got.a, &slopes(&a, |a| plain(&x, &w, &bias, a, &b)));
            close("dB", &got.b, &slopes(&b, |b| plain(&x, &w, &bias, &a, b)));
        }
    }
}

/// Two projections of one input with adapters, the second with a bias.
struct Case {
    shape: Shape,
    /// The share of the input that adapters do not see, and the keys of the rows.
    dropout: Option<(f32, Vec<u64>)>,
    x: Vec<f32>,
    dy: Vec<f32>,
    weights: [Vec<f32>; 2],
    bias: Vec<f32>,
    a: [Vec<f32>; 2],
    b: [Vec<f32>; 2],
}

/// What the fast version makes of a case.
#[derive(Clone, Debug, PartialEq)]
struct Results {
    y: Tensor,
    dx: Tensor,
    a: [Vec<f32>; 2],
    b: [Vec<f32>; 2],
    weights: [Vec<f32>; 2],
    bias: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, seed: u64) -> Self {
        let Shape { rows, inputs, outs, rank } = shape;
        Self {
            shape,
            dropout: None,
            x: numbers(seed, rows * inputs, 1.0),
            dy: numbers(seed + 1, rows * outs.iter().sum::<usize>(), 1.0),
            weights: outs.map(|out| numbers(seed + 2, out * inputs, 1.0)),
            bias: numbers(seed + 3, outs[1], 1.0),
            a: [4, 5].map(|offset| numbers(seed + offset, rank * inputs, 1.0)),
            b: outs.map(|out| numbers(seed + 6, out * rank, 1.0)),
        }
    }

    /// The same with dropout.
    fn dropping(self, probability: f32) -> Self {
        let keys = (0..self.shape.rows as u64).map(|row| row * row + 5).collect();
        Self { dropout: Some((probability, keys)), ..self }
    }

    /// The dropout of a projection.
    fn dropout(&self, projection: usize) -> Option<Dropout<'_>> {
        let (probability, rows) = self.dropout.as_ref()?;
        Some(Dropout { rows, salt: projection as u64, probability: *probability })
    }

    /// The same with only some rows.
    fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let Shape { inputs, outs, .. } = self.shape;
        let out: usize = outs.iter().sum();
        Self {
            shape: Shape { rows: rows.len(), ..self.shape },
            dropout: self.dropout.as_ref().map(|(p, keys)| (*p, keys[rows.clone()].to_vec())),
            x: self.x[rows.start * inputs..rows.end * inputs].to_vec(),
            dy: self.dy[rows.start * out..rows.end * out].to_vec(),
            weights: self.weights.clone(),
            bias: self.bias.clone(),
            a: self.a.clone(),
            b: self.b.clone(),
        }
    }

    /// Gradients of the adapters and of the weights come from two backward passes.
    fn run(&self, device: &Device, precision: Precision) -> Results {
        let Shape { rows, inputs, outs, rank } = self.shape;
        let x = Tensor::from_vec(device, rows, inputs, self.x.clone());
        let x = Operand::new(device, precision, &x);
        let dy = Tensor::from_vec(device, rows, outs.iter().sum(), self.dy.clone());
        let pack = |values: &[f32]| Weight::pack(device, precision, &Matrix::new(values, inputs));
        let packed = self.weights.each_ref().map(|values| pack(values));
        let lora = |i: usize| {
            let dropout = self.dropout(i);
            Some(Lora { a: &self.a[i], b: &self.b[i], rank, scale: SCALE, dropout })
        };
        let projections = [
            Projection { weight: &packed[0], bias: None, lora: lora(0) },
            Projection { weight: &packed[1], bias: Some(&self.bias), lora: lora(1) },
        ];
        let (y, low) = forward(device, &x, &projections);
        let saved = Saved { x: &x, low: &low };
        // Gradients are added to what is there: all start from 1.
        let mut a = self.a.each_ref().map(|a| vec![1.0; a.len()]);
        let mut b = self.b.each_ref().map(|b| vec![1.0; b.len()]);
        let mut weights = self.weights.each_ref().map(|w| vec![1.0; w.len()]);
        let mut bias = vec![1.0; self.bias.len()];
        let ([a0, a1], [b0, b1], [w0, w1]) = (&mut a, &mut b, &mut weights);
        let mut grads =
            [ProjectionGrad::Lora { a: a0, b: b0 }, ProjectionGrad::Lora { a: a1, b: b1 }];
        let dx = backward(device, &dy, saved, &projections, (&mut grads, true)).unwrap();
        let mut grads = [
            ProjectionGrad::Full { weight: w0, bias: None },
            ProjectionGrad::Full { weight: w1, bias: Some(&mut bias) },
        ];
        let none = backward(device, &dy, saved, &projections, (&mut grads, false));
        assert!(none.is_none(), "an input gradient that nobody wants is not computed");
        Results { y, dx, a, b, weights, bias }
    }

    /// Compares with the reference in f64, operands rounded at the same points.
    fn check(&self, device: &Device, precision: Precision) {
        let Shape { inputs, outs, rank, .. } = self.shape;
        let (round, rerounded) = match precision {
            Precision::F32 => (EXACT, F32_CHAIN),
            Precision::Bf16 => (BF16, BF16_REROUNDED),
        };
        let got = self.run(device, precision);
        let all: usize = outs.iter().sum();
        let what = |name: &str| format!("{name} {device:?} {precision:?} {:?}", self.shape);
        let close = |name: &str, got: &[f32], want: &[f64], tolerance: f64| {
            let largest = want.iter().fold(1.0f64, |largest, want| largest.max(want.abs()));
            assert_close(&what(name), &wide(got), want, (tolerance, largest));
        };
        let mut dx = vec![0.0; self.x.len()];
        for i in 0..2 {
            let (w, bias) = (wide(&self.weights[i]), wide(&self.bias));
            let (a, b) = (wide(&self.a[i]), wide(&self.b[i]));
            let factors: Option<Vec<f64>> = self.dropout(i).map(|dropout| {
                let of_row = |row| wide(&dropout.factors(device, row, inputs));
                (0..self.shape.rows).flat_map(of_row).collect()
            });
            let scale = f64::from(SCALE);
            let lora = Some(Adapter { a: &a, b: &b, rank, scale, dropout: factors.as_deref() });
            let bias = (i == 1).then_some(&bias[..]);
            let plain = Plain { weight: &w, inputs, bias, lora, round };
            let columns = if i == 0 { 0..outs[0] } else { outs[0]..all };
            let part = |values: &[f32]| -> Vec<f32> {
                values.chunks_exact(all).flat_map(|row| &row[columns.clone()]).copied().collect()
            };
            let want = plain.backward(&wide(&self.x), &wide(&part(&self.dy)));
            let plus_one = |values: &[f64]| values.iter().map(|v| v + 1.0).collect::<Vec<_>>();
            close("y", &part(got.y.as_slice()), &plain.forward(&wide(&self.x)), rerounded);
            close("dA", &got.a[i], &plus_one(&want.a), rerounded);
            close("dB", &got.b[i], &plus_one(&want.b), rerounded);
            close("dW", &got.weights[i], &plus_one(&want.weight), F32_CHAIN);
            if i == 1 {
                close("dbias", &got.bias, &plus_one(&want.bias), F32_CHAIN);
            }
            for (dx, part) in dx.iter_mut().zip(want.x) {
                *dx += part;
            }
        }
        close("dx", got.dx.as_slice(), &dx, rerounded);
    }
}

#[test]
fn edges_match_the_reference() {
    let shapes = [
        Shape { rows: 1, inputs: 1, outs: [1, 1], rank: 1 },
        Shape { rows: 1, inputs: 5, outs: [33, 2], rank: 3 },
        Shape { rows: 13, inputs: 5, outs: [33, 31], rank: 3 },
        Shape { rows: 25, inputs: 64, outs: [32, 64], rank: 32 },
        Shape { rows: 12, inputs: 31, outs: [5, 96], rank: 70 },
        // Longer than what is packed at a time of a sum over rows, and over outputs.
        Shape { rows: 2051, inputs: 3, outs: [2, 1], rank: 1 },
        Shape { rows: 2, inputs: 3, outs: [2081, 1], rank: 1 },
        // More rows than a block.
        Shape { rows: 800, inputs: 7, outs: [3, 4], rank: 2 },
    ];
    for device in Device::every_cpu() {
        for shape in shapes {
            for precision in [Precision::F32, Precision::Bf16] {
                Case::new(shape, 11).check(&device, precision);
                Case::new(shape, 12).dropping(0.25).check(&device, precision);
            }
        }
    }
}

#[test]
fn no_rows_add_nothing() {
    let shape = Shape { rows: 0, inputs: 3, outs: [2, 1], rank: 1 };
    for device in Device::every_cpu() {
        let got = Case::new(shape, 1).run(&device, Precision::F32);
        assert_eq!((got.y.rows(), got.dx.rows()), (0, 0));
        for sums in got.a.iter().chain(&got.b).chain(&got.weights).chain([&got.bias]) {
            assert_same_bits("gradients", sums, &vec![1.0; sums.len()]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_matches_the_reference(
        (rows, inputs, rank) in (1..40usize, 1..90usize, 1..40usize),
        outs in prop::array::uniform2(1..90usize),
        seed in 0..1000u64,
    ) {
        for device in Device::every_cpu() {
            for precision in [Precision::F32, Precision::Bf16] {
                let case = Case::new(Shape { rows, inputs, outs, rank }, seed);
                case.check(&device, precision);
                case.dropping(0.5).check(&device, precision);
            }
        }
    }
}

#[test]
fn bf16_products_without_adapter_are_exact_chains() {
    // Without a second rounding the only difference to f64 is that of f32 sums.
    for device in Device::every_cpu() {
        for (rows, inputs, out) in [(1, 5, 33), (13, 65, 40), (30, 1, 1)] {
            let (x, w) = (numbers(1, rows * inputs, 1.0), numbers(2, out * inputs, 1.0));
            let weight = Weight::pack(&device, Precision::Bf16, &Matrix::new(&w, inputs));
            let tensor = Tensor::from_vec(&device, rows, inputs, x.clone());
            let operand = Operand::new(&device, Precision::Bf16, &tensor);
            let projection = Projection { weight: &weight, bias: None, lora: None };
            let (y, _) = forward(&device, &operand, &[projection]);
            let (x, w) = (wide(&x), wide(&w));
            let plain = Plain { weight: &w, inputs, bias: None, lora: None, round: BF16 };
            let (y, want) = (wide(y.as_slice()), plain.forward(&x));
            assert_close(&format!("y {device:?}"), &y, &want, (F32_CHAIN, 1.0));
        }
    }
}

#[test]
fn a_row_alone_has_the_bits_it_has_among_others() {
    let shape = Shape { rows: 29, inputs: 70, outs: [66, 35], rank: 5 };
    for device in Device::every_cpu() {
        for precision in [Precision::F32, Precision::Bf16] {
            for case in [Case::new(shape, 3), Case::new(shape, 4).dropping(0.3)] {
                let all = case.run(&device, precision);
                for row in [0, 1, 11, 12, 23, 28] {
                    for last in [row + 1, (row + 7).min(29)] {
                        let some = case.rows(row..last).run(&device, precision);
                        for (i, row) in (row..last).enumerate() {
                            assert_same_bits("y", some.y.row(i), all.y.row(row));
                            assert_same_bits("dx", some.dx.row(i), all.dx.row(row));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_of_two_micro_batches_have_the_bits_of_one() {
    // Sums go on where the first micro-batch ended, if that had an even number of rows: bf16
    // products take rows in pairs.
    let shape = Shape { rows: 30, inputs: 40, outs: [33, 8], rank: 4 };
    for device in Device::every_cpu() {
        for precision in [Precision::F32, Precision::Bf16] {
            let case = Case::new(shape, 5);
            let inputs = shape.inputs;
            let w = Weight::pack(&device, precision, &Matrix::new(&case.weights[0], inputs));
            let projection = [Projection { weight: &w, bias: None, lora: None }];
            let mut sums = [vec![0.0; 33 * inputs], vec![0.0; 33 * inputs]];
            for (cut, sums) in [0, 14].into_iter().zip(&mut sums) {
                for rows in [0..cut, cut..30] {
                    let part = case.rows(rows);
                    let rows = part.shape.rows;
                    let x = Tensor::from_vec(&device, rows, inputs, part.x);
                    let x = Operand::new(&device, precision, &x);
                    let dy: Vec<f32> =
                        part.dy.chunks_exact(41).flat_map(|row| &row[..33]).copied().collect();
                    let dy = Tensor::from_vec(&device, rows, 33, dy);
                    let mut grads = [ProjectionGrad::Full { weight: sums, bias: None }];
                    let saved = Saved { x: &x, low: &[None] };
                    backward(&device, &dy, saved, &projection, (&mut grads, false));
                }
            }
            assert_same_bits("dW", &sums[0], &sums[1]);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let shape = Shape { rows: 300, inputs: 70, outs: [66, 35], rank: 5 };
    for device in Device::every_cpu() {
        for precision in [Precision::F32, Precision::Bf16] {
            let case = Case::new(shape, 4);
            let [one, two] = [1, 2].map(|n| on_threads(n, || case.run(&device, precision)));
            assert!(one == two, "{device:?} {precision:?}");
        }
    }
}

/// A matrix whose values fit a 16-bit format, kept as that.
struct Narrow<'a>(Matrix<'a>, Stored);

impl Rows for Narrow<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn cols(&self) -> usize {
        self.0.cols()
    }
    fn stored(&self) -> Stored {
        self.1
    }
    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.0.read_row(row, out);
    }
}

#[test]
fn f32_products_over_16_bit_weights_have_the_bits_of_the_widened_weight() {
    let (rows, inputs, out) = (13, 37, 70);
    for device in Device::every_cpu() {
        for stored in [Stored::Bf16, Stored::F16] {
            let values: Vec<f32> = numbers(1, out * inputs, 1.0)
                .into_iter()
                .map(|value| match stored {
                    Stored::F16 => half::f16::from_f32(value).to_f32(),
                    _ => to_bf16(value),
                })
                .collect();
            let matrix = Matrix::new(&values, inputs);
            let x = Tensor::from_vec(&device, rows, inputs, numbers(2, rows * inputs, 1.0));
            let x = Operand::new(&device, Precision::F32, &x);
            let dy = Tensor::from_vec(&device, rows, out, numbers(3, rows * out, 1.0));
            let run = |weight: &Weight| {
                let projection = [Projection { weight, bias: None, lora: None }];
                let (y, low) = forward(&device, &x, &projection);
                let saved = Saved { x: &x, low: &low };
                let mut grads = [ProjectionGrad::Frozen];
                (y, backward(&device, &dy, saved, &projection, (&mut grads, true)))
            };
            let narrow = Weight::pack(&device, Precision::F32, &Narrow(matrix, stored));
            let whole = Weight::pack(&device, Precision::F32, &matrix);
            assert_eq!(narrow.stored(), stored, "kept as it is stored");
            assert!(narrow.bytes() < whole.bytes(), "in half the memory");
            assert!(run(&narrow) == run(&whole), "{device:?} {stored:?}");
        }
    }
}
