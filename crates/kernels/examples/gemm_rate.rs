//! Rates of the projection in GFLOP/s: forward, input gradient, and a whole low-rank layer; for the
//! shapes of a Llama of 135 M and, on the best instruction set, those of one of 1 B.
//!
//! `cargo run --release -p kernels --example gemm_rate [rows]`

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use kernels::ops::linear::{self, Lora, Projection, ProjectionGrad, Saved};
use kernels::weight::Matrix;
use kernels::{Device, Operand, Precision, Tensor, Weight};

/// The least time that each figure is taken over.
const SECONDS: f64 = 0.3;
const RANK: usize = 32;

fn main() {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(1024);
    for device in Device::every_cpu() {
        for precision in [Precision::Bf16, Precision::F32] {
            println!("{} {precision:?}, {rows} rows, GFLOP/s", device.kernel_path());
            println!(
                "{:>14} {:>8} {:>8} {:>8} {:>8}",
                "out x in", "y", "dx", "y+lora", "back+lora"
            );
            let mut shapes = vec![(576, 576), (192, 576), (1536, 576), (576, 1536)];
            if device.kernel_path() == Device::cpu().kernel_path() {
                let large = [(2048, 2048), (512, 2048), (8192, 2048), (2048, 8192)];
                shapes.extend([(49152, 576)].into_iter().chain(large));
            }
            for shape in shapes {
                measure(&device, precision, rows, shape);
            }
        }
    }
}

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn measure(device: &Device, precision: Precision, rows: usize, (out, inputs): (usize, usize)) {
    let matrix = values(out * inputs, 1);
    let weight = Weight::pack(device, precision, &Matrix::new(&matrix, inputs));
    let x = Tensor::from_vec(device, rows, inputs, values(rows * inputs, 2));
    let x = Operand::new(device, precision, &x);
    let dy = Tensor::from_vec(device, rows, out, values(rows * out, 3));
    let (a, b) = (values(RANK * inputs, 4), values(out * RANK, 5));
    let lora = Lora { a: &a, b: &b, rank: RANK, scale: 2.0, dropout: None };
    let plain = [Projection { weight: &weight, bias: None, lora: None }];
    let adapted = [Projection { lora: Some(lora), ..plain[0] }];
    let product = 2.0 * (rows * out * inputs) as f64;
    let narrow = 2.0 * (rows * RANK * (out + inputs)) as f64;

    let y = rate(product, || drop(linear::forward(device, &x, &plain)));
    let saved = Saved { x: &x, low: &[None] };
    let dx = rate(product, || {
        let mut grads = [ProjectionGrad::Frozen];
        drop(linear::backward(device, &dy, saved, &plain, (&mut grads, true)));
    });
    let with_lora = rate(product + narrow, || drop(linear::forward(device, &x, &adapted)));
    let (_, low) = linear::forward(device, &x, &adapted);
    let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
    let saved = Saved { x: &x, low: &low };
    let back = rate(product + 2.0 * narrow, || {
        let mut grads = [ProjectionGrad::Lora { a: &mut da, b: &mut db }];
        drop(linear::backward(device, &dy, saved, &adapted, (&mut grads, true)));
    });
    println!("{:>14} {y:8.0} {dx:8.0} {with_lora:8.0} {back:8.0}", format!("{out} x {inputs}"));
}

/// The best rate of several calls, in GFLOP/s.
fn rate(operations: f64, mut call: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
    }
    operations / best / 1e9
}
