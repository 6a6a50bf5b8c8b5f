//! How fast the small operations move memory, on the shapes of a 135 M Llama.

#![expect(clippy::print_stdout, reason = "an example says what it measured")]

use std::time::Instant;

use kernels::ops::{activation, adamw, residual, rms_norm, rope};
use kernels::{Device, Heads, Precision, Tensor};

const ROWS: usize = 1024;
const WIDTH: usize = 576;
const FEED_FORWARD: usize = 1536;
const HEADS: Heads = Heads { query: 9, key_value: 3, dim: 64 };
const PARAMETERS: usize = 4_884_480;
const REPEATS: usize = 20;

fn main() {
    let device = Device::cpu();
    println!("{} on {} threads", device.kernel_path(), rayon::current_num_threads());
    row_ops(&device);
    let numbers = |scale| numbers(&device, 1, PARAMETERS, scale).into_vec();
    let (mut values, gradients) = (numbers(1.0), numbers(1e-3));
    let (mut first_moments, mut second_moments) = (numbers(0.0), numbers(0.0));
    let settings = adamw::Settings { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    let spans = [adamw::Span { elements: 0..PARAMETERS, decays: true }];
    let mut number = 0;
    measure("adamw::step", 7 * PARAMETERS, || {
        number += 1;
        let step = adamw::Step { number, learning_rate: 1e-5, gradient_factor: 1.0 };
        let arena = adamw::Arena {
            values: &mut values,
            gradients: &gradients,
            first_moments: &mut first_moments,
            second_moments: &mut second_moments,
        };
        adamw::step(&device, settings, step, arena, &spans);
    });
    measure("adamw::gradient_norm", PARAMETERS, || {
        adamw::gradient_norm(&device, &gradients);
    });
}

fn row_ops(device: &Device) {
    let precision = device.preferred_precision();
    let x = numbers(device, ROWS, WIDTH, 3.0);
    let dy = numbers(device, ROWS, WIDTH, 1.0);
    let weight = vec![1.0; WIDTH];
    let size = ROWS * WIDTH;
    measure("rms_norm::forward", 2 * size, || {
        rms_norm::forward(device, Precision::F32, &x, &weight, 1e-5);
    });
    let (_, normed) = rms_norm::forward(device, precision, &x, &weight, 1e-5);
    measure("rms_norm::backward", 3 * size, || {
        rms_norm::backward(device, &dy, (&normed, &weight), None);
    });
    let mut sum = x.clone();
    measure("residual::add", 3 * size, || residual::add(device, &mut sum, &dy));

    let table = rope::Table::new(HEADS.dim, 1e5, &rope::Scaling::None);
    let positions: Vec<u32> = (0..ROWS as u32).collect();
    let mut qkv = numbers(device, ROWS, HEADS.qkv_cols(), 1.0);
    let turned = ROWS * (HEADS.query + HEADS.key_value) * HEADS.dim;
    measure("rope::forward", 2 * turned, || {
        rope::forward(device, &mut qkv, HEADS, &table, &positions);
    });

    let gate_up = numbers(device, ROWS, 2 * FEED_FORWARD, 3.0);
    let dy = numbers(device, ROWS, FEED_FORWARD, 1.0);
    let swiglu = activation::Activation { curve: activation::Curve::Silu, is_gated: true };
    measure("activation::forward", 3 * ROWS * FEED_FORWARD, || {
        activation::forward(device, Precision::F32, &gate_up, swiglu);
    });
    let (_, kept) = activation::forward(device, Precision::Bf16, &gate_up, swiglu);
    measure("activation::backward", 5 * ROWS * FEED_FORWARD, || {
        activation::backward(device, &dy, &kept, swiglu);
    });
}

/// Prints the best time of some repeats, and the memory it moves in that time.
fn measure(name: &str, words: usize, mut body: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        body();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let rate = (words * size_of::<f32>()) as f64 / best / 1e9;
    println!("{name:22} {:7.3} ms  {rate:6.1} GB/s", best * 1e3);
}

fn numbers(device: &Device, rows: usize, cols: usize, scale: f32) -> Tensor {
    let value = |i: usize| ((i * 7919) % 2003) as f32 / 1001.0 - 1.0;
    Tensor::from_vec(device, rows, cols, (0..rows * cols).map(|i| scale * value(i)).collect())
}
