//! Rates of the operations of a Mamba-2 block, beside that of a plain product.
//!
//! `cargo run --release -p kernels --example scan_rate [tokens]`
//!
//! Shapes are those of a model of width 2048: 64 heads of 64 columns on one group of 128. Operations
//! of the scan are those of the chunked form; the states that the backward pass computes once more
//! do not count.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use kernels::ops::gated_norm::{self, Norm};
use kernels::ops::ssd::{self, CHUNK, Gradients, Input, Layout, Scan, State, WeightGrads};
use kernels::ops::{conv1d, linear};
use kernels::weight::Matrix;
use kernels::{Branches, Columns, ColumnsMut, Device, Operand, Precision, Tensor, Tree, Weight};

/// The least time that each figure is taken over.
const SECONDS: f64 = 1.0;
const LAYOUT: Layout = Layout { heads: 64, dim: 64, groups: 1, state: 128 };
const TAPS: usize = 4;

fn main() {
    let tokens = std::env::args().nth(1).and_then(|tokens| tokens.parse().ok()).unwrap_or(1024);
    let device = Device::cpu();
    for precision in [Precision::Bf16, Precision::F32] {
        let rate = product(&device, precision);
        println!("{} {precision:?} product {rate:.0} GFLOP/s", device.kernel_path());
    }
    let rate = product(&device, Precision::F32);
    let prompt = tokens / 4;
    let branch = (tokens - prompt) / 2;
    for (prompt, completions) in [(tokens, vec![]), (prompt, vec![branch, branch])] {
        let tree = Tree { start: 0, prompt, completions };
        scan(&device, &Branches::new(vec![tree]), rate);
    }
    around(&device, &Branches::sequence(tokens));
    step(&device);
}

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(device: &Device, rows: usize, cols: usize, seed: u32) -> Tensor {
    Tensor::from_vec(device, rows, cols, values(rows * cols, seed))
}

fn product(device: &Device, precision: Precision) -> f64 {
    let (rows, out, inputs) = (1024, 1536, 576);
    let weight = Weight::pack(device, precision, &Matrix::new(&values(out * inputs, 1), inputs));
    let x = Operand::new(device, precision, &tensor(device, rows, inputs, 2));
    let plain = [linear::Projection { weight: &weight, bias: None, lora: None }];
    let seconds = best(|| drop(linear::forward(device, &x, &plain)));
    2.0 * (rows * out * inputs) as f64 / seconds / 1e9
}

fn scan(device: &Device, branches: &Branches, rate: f64) {
    let (rows, heads) = (branches.rows(), LAYOUT.heads);
    let xbc = tensor(device, rows, LAYOUT.xbc_cols(), 3);
    let dt = tensor(device, rows, heads, 4);
    let dy = tensor(device, rows, LAYOUT.inner(), 5);
    let (a_log, d, dt_bias) = (values(heads, 6), values(heads, 7), values(heads, 8));
    let limit = (0.0, f32::INFINITY);
    let scan = Scan { layout: LAYOUT, limit, a_log: &a_log, d: &d, dt_bias: &dt_bias };
    let input = Input { xbc: &xbc, dt: Columns::all(&dt) };
    let forward = best(|| drop(ssd::forward(device, input, &scan, branches)));
    let mut d_dt = Tensor::zeros(device, rows, heads);
    let [mut by_a, mut by_d, mut by_bias] = [(); 3].map(|()| vec![0.0; heads]);
    let backward = best(|| {
        let weights = WeightGrads { a_log: &mut by_a, d: &mut by_d, dt_bias: &mut by_bias };
        let dt = ColumnsMut { tensor: &mut d_dt, first: 0 };
        let into = Gradients { dt, weights: Some(weights) };
        drop(ssd::backward(device, &dy, input, (&scan, branches), into));
    });
    let Layout { heads, dim, groups, state } = LAYOUT;
    let mut pairs = 0;
    for run in branches.trees.iter().flat_map(|tree| tree.completions.iter().chain([&tree.prompt]))
    {
        let last = run % CHUNK;
        pairs += run / CHUNK * CHUNK * (CHUNK + 1) / 2 + last * (last + 1) / 2;
    }
    let shared = 2.0 * (pairs * groups * state) as f64;
    let within = 2.0 * (pairs * heads * dim) as f64;
    let through = 2.0 * (rows * heads * dim * state) as f64;
    let f = (shared + within + 2.0 * through) / forward / 1e9;
    let b = (2.0 * shared + 2.0 * within + 4.0 * through) / backward / 1e9;
    let both = (3.0 * shared + 3.0 * within + 6.0 * through) / (forward + backward) / 1e9;
    let tree = &branches.trees[0];
    println!(
        "scan {} {:?}: forward {f:.0} backward {b:.0} both {both:.0} GFLOP/s ({:.0} %), {:.1} + {:.1} ms",
        tree.prompt,
        tree.completions,
        100.0 * both / rate,
        1e3 * forward,
        1e3 * backward
    );
}

/// What lies before and after the scan.
fn around(device: &Device, branches: &Branches) {
    let (rows, channels, inner) = (branches.rows(), LAYOUT.xbc_cols(), LAYOUT.inner());
    let projected = tensor(device, rows, inner + channels + LAYOUT.heads, 3);
    let (weight, bias) = (values(channels * TAPS, 4), values(channels, 5));
    let kernel = conv1d::Kernel { weight: &weight, bias: Some(&bias), taps: TAPS };
    let x = Columns { tensor: &projected, first: inner };
    let forward = best(|| drop(conv1d::forward(device, x, kernel, branches)));
    let dy = tensor(device, rows, channels, 6);
    let mut dx = Tensor::zeros(device, rows, projected.cols());
    let backward = best(|| {
        let into = ColumnsMut { tensor: &mut dx, first: inner };
        conv1d::backward(device, &dy, (x, kernel, branches), into, None);
    });
    println!("convolution: {:.2} + {:.2} ms", 1e3 * forward, 1e3 * backward);
    let (y, weight) = (tensor(device, rows, inner, 7), values(inner, 8));
    let norm = Norm { weight: &weight, groups: 1, eps: 1e-5 };
    let gate = Columns::all(&projected);
    let forward = best(|| drop(gated_norm::forward(device, Precision::Bf16, &y, gate, norm)));
    let (_, inv_rms) = gated_norm::forward(device, Precision::Bf16, &y, gate, norm);
    let dy = tensor(device, rows, inner, 9);
    let backward = best(|| {
        let saved = gated_norm::Saved { x: &y, gate, inv_rms: &inv_rms };
        let into = ColumnsMut { tensor: &mut dx, first: 0 };
        drop(gated_norm::backward(device, &dy, (saved, norm), into, None));
    });
    println!("gated norm: {:.2} + {:.2} ms", 1e3 * forward, 1e3 * backward);
}

fn step(device: &Device) {
    let heads = LAYOUT.heads;
    let (a_log, d, dt_bias) = (values(heads, 6), values(heads, 7), values(heads, 8));
    let limit = (0.0, f32::INFINITY);
    let scan = Scan { layout: LAYOUT, limit, a_log: &a_log, d: &d, dt_bias: &dt_bias };
    let (xbc, dt) = (tensor(device, 1, LAYOUT.xbc_cols(), 3), tensor(device, 1, heads, 4));
    let input = Input { xbc: &xbc, dt: Columns::all(&dt) };
    let mut state = State::new(LAYOUT);
    let seconds = best(|| drop(ssd::decode(device, input, &scan, &mut state)));
    println!("one step of generation: {:.3} ms", 1e3 * seconds);
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
