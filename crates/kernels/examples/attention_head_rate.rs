//! Rates of attention and of the head in GFLOP/s, beside that of a plain product.
//!
//! `cargo run --release -p kernels --example attention_head_rate [tokens]`
//!
//! Operations are those that the mathematics needs: scores above the diagonal do not count.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use kernels::ops::attention::{self, Saved, Shape};
use kernels::ops::{head, linear};
use kernels::weight::Matrix;
use kernels::{Branches, Device, Heads, Operand, Precision, Tensor, Tree, Weight};

/// The least time that each figure is taken over.
const SECONDS: f64 = 0.5;

fn main() {
    let tokens = std::env::args().nth(1).and_then(|tokens| tokens.parse().ok()).unwrap_or(1024);
    let device = Device::cpu();
    for precision in [Precision::Bf16, Precision::F32] {
        println!("{} {precision:?}, GFLOP/s", device.kernel_path());
        let product = product(&device, precision);
        println!("{:>24} {product:8.0}", "product 1024 x 576 x 1536");
        let heads = Heads { query: 9, key_value: 3, dim: 64 };
        let prompt = tokens / 4;
        let branch = (tokens - prompt) / 2;
        for (prompt, completions) in [(tokens, vec![]), (prompt, vec![branch, branch])] {
            let tree = Tree { start: 0, prompt, completions };
            attend(&device, precision, (Branches::new(vec![tree]), heads), product);
        }
        for rows in [96, 768] {
            score(&device, precision, rows, product);
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

fn product(device: &Device, precision: Precision) -> f64 {
    let (rows, out, inputs) = (1024, 1536, 576);
    let weight = Weight::pack(device, precision, &Matrix::new(&values(out * inputs, 1), inputs));
    let x = Tensor::from_vec(device, rows, inputs, values(rows * inputs, 2));
    let x = Operand::new(device, precision, &x);
    let plain = [linear::Projection { weight: &weight, bias: None, lora: None }];
    let seconds = best(|| drop(linear::forward(device, &x, &plain)));
    2.0 * (rows * out * inputs) as f64 / seconds / 1e9
}

fn attend(
    device: &Device,
    precision: Precision,
    (branches, heads): (Branches, Heads),
    product: f64,
) {
    let rows = branches.rows();
    let qkv = values(rows * heads.qkv_cols(), 3).iter().map(|x| 4.0 * x).collect();
    let qkv = Tensor::from_vec(device, rows, heads.qkv_cols(), qkv);
    let width = heads.query * heads.dim;
    let d_out = Tensor::from_vec(device, rows, width, values(rows * width, 4));
    let shape = Shape { branches: &branches, heads, scoring: attention::Scoring::scaled(0.125) };
    let mut pairs = 0;
    for tree in &branches.trees {
        pairs += tree.prompt * (tree.prompt + 1) / 2;
        for rows in &tree.completions {
            pairs += rows * tree.prompt + rows * (rows + 1) / 2;
        }
    }
    let operations = (2 * pairs * width) as f64;
    let forward = best(|| drop(attention::forward(device, precision, &qkv, shape)));
    let (out, lse) = attention::forward(device, precision, &qkv, shape);
    let kept = Operand::new(device, precision, &qkv);
    let saved = Saved { qkv: &kept, out: &out, lse: &lse };
    let backward = best(|| drop(attention::backward(device, &d_out, saved, shape)));
    let tree = &branches.trees[0];
    let name = format!("attention {} {:?}", tree.prompt, tree.completions);
    let [f, b] = [2.0 * operations / forward / 1e9, 5.0 * operations / backward / 1e9];
    let both = 7.0 * operations / (forward + backward) / 1e9;
    println!(
        "{name:>24} forward {f:5.0} backward {b:5.0} both {both:5.0} ({:.0} %), {:.2} + {:.2} ms",
        100.0 * both / product,
        1e3 * forward,
        1e3 * backward
    );
}

fn score(device: &Device, precision: Precision, rows: usize, product: f64) {
    let (vocabulary, width) = (49152, 576);
    let matrix = values(vocabulary * width, 5);
    let weight = Weight::pack(device, precision, &Matrix::new(&matrix, width));
    let hidden = Tensor::from_vec(device, rows, width, values(rows * width, 6));
    let hidden = Operand::new(device, precision, &hidden);
    let targets: Vec<u32> = (0..rows as u32).map(|row| row * 61 % vocabulary as u32).collect();
    let operations = (2 * rows * vocabulary * width) as f64;
    let head = head::Head { weight: &weight, logits: head::Logits::PLAIN };
    for want_gradient in [false, true] {
        let seconds = best(|| drop(head::forward(device, &hidden, head, &targets, want_gradient)));
        let operations = if want_gradient { 2.0 * operations } else { operations };
        let rate = operations / seconds / 1e9;
        let name = format!("head {rows}{}", if want_gradient { " + gradient" } else { "" });
        println!(
            "{name:>24} {rate:8.0} ({:.0} %), {:.1} ms",
            100.0 * rate / product,
            1e3 * seconds
        );
    }
}

/// The shortest time of several calls, in seconds.
fn best(mut call: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
