//! Packed weights beside the same values that were never packed: no bit differs.

use proptest::prelude::*;

use crate::check::{assert_same_bits, numbers, on_threads};
use crate::low_bit::{Coded, LowBit};
use crate::ops::linear::{self, Projection, ProjectionGrad, Saved};
use crate::ops::{embedding, head};
use crate::weight::{Matrix, Rows, Stored};
use crate::{Device, Operand, Precision, Tensor, Weight};
use half::f16;

/// Any codes, and scales like those of a model.
struct Random {
    kind: LowBit,
    rows: usize,
    cols: usize,
    seed: u64,
}

impl Random {
    fn numbers(&self, row: usize, salt: u64, count: usize) -> Vec<f32> {
        numbers(self.seed * 1000 + row as u64 * 7 + salt, count, 1.0)
    }
}

/// Two halves of a word.
fn word(low: f32, high: f32) -> u32 {
    let bits = |value| u32::from(f16::from_f32(value).to_bits());
    bits(low) | bits(high) << 16
}

impl Coded for Random {
    fn kind(&self) -> LowBit {
        self.kind
    }

    fn read_codes(&self, row: usize, codes: &mut [u8], scales: &mut [u32]) {
        assert_eq!(codes.len(), self.cols);
        assert_eq!(scales.len(), self.kind.scale_words(self.cols));
        let most = match self.kind {
            LowBit::Q4_0 | LowBit::Q4_1 | LowBit::Q4K | LowBit::Nf4 => 15,
            LowBit::Q5_0 | LowBit::Q5_1 | LowBit::Q5K => 31,
            LowBit::Q6K => 63,
            LowBit::Q8_0 => 255,
        };
        for (code, number) in codes.iter_mut().zip(self.numbers(row, 1, self.cols)) {
            *code = ((number * 127.0) as i8).cast_unsigned() & most;
        }
        let numbers = self.numbers(row, 2, 2 * scales.len());
        let is_k = matches!(self.kind, LowBit::Q4K | LowBit::Q5K | LowBit::Q6K);
        for (at, (scale, pair)) in scales.iter_mut().zip(numbers.as_chunks::<2>().0).enumerate() {
            *scale = match self.kind {
                LowBit::Nf4 => (0.1 * pair[0].abs()).to_bits(),
                LowBit::Q6K if at % 5 > 0 => ((pair[0] * 2e9) as i32).cast_unsigned(),
                _ if is_k && at % 5 > 0 => ((pair[0] * 2e9) as i32).cast_unsigned() & 0x3f3f_3f3f,
                LowBit::Q6K => word(0.001 * pair[0], 0.0),
                _ if is_k => word(0.001 * pair[0], 0.001 * pair[1]),
                _ => word(0.1 * pair[0], 0.1 * pair[1]),
            };
        }
    }
}

/// The value of a code in plain words: the table at the top of GGUF's kinds, and NF4's.
fn value(kind: LowBit, i: usize, code: u8, scales: &[u32]) -> f32 {
    let half = |at: usize| {
        let word = scales[at / 2] >> (16 * (at % 2));
        f16::from_bits(word as u16).to_f32()
    };
    let byte = |at: usize| (scales[at / 4] >> (8 * (at % 4))) as u8;
    let (block, start) = (i / 32, i / 256 * 5);
    let q = f32::from(code);
    match kind {
        LowBit::Q4_0 => half(block) * (q - 8.0),
        LowBit::Q5_0 => half(block) * (q - 16.0),
        LowBit::Q8_0 => f32::from(code.cast_signed()) * half(block),
        LowBit::Q4_1 | LowBit::Q5_1 => half(2 * block) * q + half(2 * block + 1),
        LowBit::Q4K | LowBit::Q5K => {
            let group = 4 * (start + 1) + 2 * (block % 8);
            let scale = half(2 * start) * f32::from(byte(group));
            scale * q - half(2 * start + 1) * f32::from(byte(group + 1))
        }
        LowBit::Q6K => {
            let scale = byte(4 * (start + 1) + i % 256 / 16).cast_signed();
            half(2 * start) * f32::from(scale) * (q - 32.0)
        }
        LowBit::Nf4 => {
            let scale = f32::from_bits(scales[i / 64]);
            half::bf16::from_f32(crate::nf4::LEVELS[usize::from(code)] * scale).to_f32()
        }
    }
}

/// The same matrix as values.
struct Plain<'a>(&'a Random);

impl Rows for Plain<'_> {
    fn rows(&self) -> usize {
        self.0.rows
    }
    fn cols(&self) -> usize {
        self.0.cols
    }
    fn stored(&self) -> Stored {
        if self.0.kind == LowBit::Nf4 { Stored::Bf16 } else { Stored::F32 }
    }
    fn read_row(&self, row: usize, out: &mut [f32]) {
        let mut codes = vec![0; self.0.cols];
        let mut scales = vec![0; self.0.kind.scale_words(self.0.cols)];
        self.0.read_codes(row, &mut codes, &mut scales);
        for (i, (out, code)) in out.iter_mut().zip(codes).enumerate() {
            *out = value(self.0.kind, i, code, &scales);
        }
    }
}

struct Packed<'a>(Plain<'a>);

impl Rows for Packed<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn cols(&self) -> usize {
        self.0.cols()
    }
    fn stored(&self) -> Stored {
        self.0.stored()
    }
    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.0.read_row(row, out);
    }
    fn coded(&self) -> Option<&dyn Coded> {
        Some(self.0.0)
    }
}

/// A random matrix, packed and plain.
fn weights(device: &Device, precision: Precision, random: &Random) -> [Weight; 2] {
    let packed = Weight::pack(device, precision, &Packed(Plain(random)));
    let plain = Weight::pack(device, precision, &Plain(random));
    assert_eq!((packed.low_bit(), plain.low_bit()), (Some(random.kind), None));
    assert_eq!(packed.stored(), plain.stored());
    assert!(packed.bytes() < plain.bytes(), "{:?}", random.kind);
    [packed, plain]
}

fn operand(device: &Device, precision: Precision, (rows, cols): (usize, usize)) -> Operand {
    let values = Tensor::from_vec(device, rows, cols, numbers(5, rows * cols, 1.0));
    Operand::new(device, precision, &values)
}

/// Outputs, input gradients, scores and their gradients, and rows of the table.
fn results(device: &Device, weight: &Weight, x: &Operand) -> Vec<Tensor> {
    let outputs = weight.outputs();
    let bias = numbers(6, outputs, 1.0);
    let projections = [None, Some(&bias[..])].map(|bias| Projection { weight, bias, lora: None });
    let (y, low) = linear::forward(device, x, &projections);
    let dy = numbers(7, x.rows() * 2 * outputs, 1.0);
    let dy = Tensor::from_vec(device, x.rows(), 2 * outputs, dy);
    let saved = Saved { x, low: &low };
    let mut grads = [ProjectionGrad::Frozen, ProjectionGrad::Frozen];
    let dx = linear::backward(device, &dy, saved, &projections, (&mut grads, true)).unwrap();
    let ids: Vec<u32> = (0..x.rows() as u32).map(|row| (13 * row + 1) % outputs as u32).collect();
    let head = head::Head { weight, logits: head::Logits::PLAIN };
    let scores = head::forward(device, x, head, &ids, true);
    let logp = Tensor::from_vec(device, 1, x.rows(), scores.logp);
    let mut d_weight = vec![0.0; outputs * weight.inputs()];
    let coefficients = vec![0.5; x.rows()];
    let scored =
        head::Scored { hidden: x, targets: &ids, lse: &scores.lse, coefficients: &coefficients };
    head::backward_weight(device, head, scored, &mut d_weight);
    let d_weight = Tensor::from_vec(device, outputs, weight.inputs(), d_weight);
    let gradient = scores.gradient.unwrap();
    vec![y, dx, logp, gradient, d_weight, embedding::forward(device, weight, &ids)]
}

fn check(random: &Random, rows: usize) {
    for device in Device::every_cpu() {
        for precision in [Precision::F32, Precision::Bf16] {
            let x = operand(&device, precision, (rows, random.cols));
            let [packed, plain] =
                weights(&device, precision, random).map(|weight| results(&device, &weight, &x));
            let what = format!("{:?} {device:?} {precision:?}", random.kind);
            for (index, (packed, plain)) in packed.iter().zip(&plain).enumerate() {
                assert_same_bits(&format!("{what} {index}"), packed.as_slice(), plain.as_slice());
            }
        }
    }
}

#[test]
fn packed_weights_have_the_bits_of_their_values() {
    for kind in LowBit::ALL {
        let block = kind.block_len();
        for (rows, outputs, cols) in [(1, 1, block), (1, 70, 3 * block), (30, 33, 5 * block)] {
            check(&Random { kind, rows: outputs, cols, seed: 3 }, rows);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_has_the_bits_of_its_values(
        kind in 0..LowBit::ALL.len(),
        (rows, outputs, blocks) in (1..16usize, 1..90usize, 1..12usize),
        seed in 0..1000u64,
    ) {
        let kind = LowBit::ALL[kind];
        let cols = kind.block_len() * if kind.block_len() == 256 { blocks % 3 + 1 } else { blocks };
        check(&Random { kind, rows: outputs, cols, seed }, rows);
    }
}

#[test]
fn neither_neighbours_nor_threads_change_a_bit() {
    for kind in LowBit::ALL {
        let random = Random { kind, rows: 130, cols: 2 * kind.block_len(), seed: 9 };
        for device in Device::every_cpu() {
            for precision in [Precision::F32, Precision::Bf16] {
                let weight = Weight::pack(&device, precision, &Packed(Plain(&random)));
                let values = numbers(5, 17 * random.cols, 1.0);
                let forward = |rows: std::ops::Range<usize>| {
                    let part = values[rows.start * random.cols..rows.end * random.cols].to_vec();
                    let x = Tensor::from_vec(&device, rows.len(), random.cols, part);
                    let x = Operand::new(&device, precision, &x);
                    let projection = Projection { weight: &weight, bias: None, lora: None };
                    linear::forward(&device, &x, &[projection]).0
                };
                let [one, two] = [1, 2].map(|threads| on_threads(threads, || forward(0..17)));
                assert!(one == two, "threads");
                for row in 0..17 {
                    assert_same_bits("alone", forward(row..row + 1).row(0), one.row(row));
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "a weight in few bits is frozen")]
fn new_values_are_refused() {
    let random = Random { kind: LowBit::Q8_0, rows: 1, cols: 32, seed: 1 };
    let mut weight = Weight::pack(&Device::cpu(), Precision::F32, &Packed(Plain(&random)));
    weight.repack_from(&Device::cpu(), &[0.0; 32]);
}

#[test]
#[should_panic(expected = "a bf16 operand needs a weight that was packed for bf16")]
fn exact_values_do_not_meet_rounded_operands() {
    let Some(device) = Device::cpu_with(crate::Isa::Avx512Bf16) else {
        panic!("a bf16 operand needs a weight that was packed for bf16: not on this machine")
    };
    let random = Random { kind: LowBit::Q8_0, rows: 1, cols: 32, seed: 1 };
    let weight = Weight::pack(&device, Precision::F32, &Packed(Plain(&random)));
    let x = operand(&device, Precision::Bf16, (1, 32));
    linear::forward(&device, &x, &[Projection { weight: &weight, bias: None, lora: None }]);
}

#[test]
fn a_matrix_is_not_coded() {
    assert!(Matrix::new(&[0.0; 4], 2).coded().is_none());
}
