//! What this machine can do at best: multiply and add in registers, copy memory; and how near the
//! product of matrices comes.
//!
//! `cargo run --release -p kernels --example peak_rate [--json]`

#![expect(clippy::print_stdout, reason = "a program for people, and for a program of ours")]
#![expect(unsafe_code, reason = "vector instructions whose presence was checked")]

use std::hint::black_box;
use std::time::Instant;

use kernels::ops::linear;
use kernels::weight::Matrix;
use kernels::{Device, Operand, Precision, Tensor, Weight};
use rayon::prelude::*;

/// The least time that each figure is taken over.
const SECONDS: f64 = 1.0;
/// Bytes that a copy moves, far more than any cache holds.
const COPIED: usize = 1 << 28;
/// Instructions of one call of a loop over registers.
const TURNS: usize = 200_000;
/// Sums that do not wait for each other, enough to hide how long one takes.
const SUMS: usize = 24;

fn main() {
    let device = Device::cpu();
    let threads = rayon::current_num_threads();
    let figures = [
        ("peak_bf16", registers(threads, bf16_turns, 64.0)),
        ("peak_f32", registers(threads, f32_turns, 32.0)),
        ("product_bf16", product(&device, Precision::Bf16)),
        ("product_f32", product(&device, Precision::F32)),
        ("copy", copy()),
    ];
    if std::env::args().any(|argument| argument == "--json") {
        let fields: Vec<String> =
            figures.iter().map(|(name, rate)| format!("\"{name}\": {rate:.3}")).collect();
        println!("{{{}}}", fields.join(", "));
        return;
    }
    println!("{} on {threads} threads", device.kernel_path());
    for (name, rate) in figures {
        let unit = if name == "copy" { "GB/s" } else { "GFLOP/s" };
        println!("{name:>14} {rate:8.1} {unit}");
    }
}

/// Operations a second of all threads that do nothing but multiply and add, in 1e9; 0 if the machine
/// lacks the instruction.
fn registers(threads: usize, turns: fn() -> f32, flops_per_instruction: f64) -> f64 {
    // The sums grow from the first turn on.
    if turns() <= 0.0 {
        return 0.0;
    }
    let flops = threads as f64 * (TURNS * SUMS) as f64 * flops_per_instruction;
    let on_all = || (0..threads).into_par_iter().map(|_| black_box(turns())).sum::<f32>();
    flops / best(|| _ = black_box(on_all())) / 1e9
}

#[cfg(target_arch = "x86_64")]
fn f32_turns() -> f32 {
    #[target_feature(enable = "avx512f")]
    fn turns() -> f32 {
        use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
        let (left, right) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [_mm512_set1_ps(0.0); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(left, right, *sum);
            }
        }
        sums.iter().map(|sum| _mm512_reduce_add_ps(*sum)).sum()
    }
    if !is_x86_feature_detected!("avx512f") {
        return 0.0;
    }
    // SAFETY: the feature is present.
    unsafe { turns() }
}

#[cfg(target_arch = "x86_64")]
fn bf16_turns() -> f32 {
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn turns() -> f32 {
        use std::arch::x86_64::{
            _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
        };
        let half = _mm512_set1_ps(black_box(0.5));
        let (left, right) = (_mm512_cvtne2ps_pbh(half, half), _mm512_cvtne2ps_pbh(half, half));
        let mut sums = [_mm512_set1_ps(0.0); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, left, right);
            }
        }
        sums.iter().map(|sum| _mm512_reduce_add_ps(*sum)).sum()
    }
    if !is_x86_feature_detected!("avx512bf16") {
        return 0.0;
    }
    // SAFETY: the feature is present.
    unsafe { turns() }
}

#[cfg(not(target_arch = "x86_64"))]
fn f32_turns() -> f32 {
    0.0
}

#[cfg(not(target_arch = "x86_64"))]
fn bf16_turns() -> f32 {
    0.0
}

/// The rate of a product of the size that training has, in GFLOP/s.
fn product(device: &Device, precision: Precision) -> f64 {
    let (rows, out, inputs) = (1024, 1536, 576);
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| (i % 7) as f32 - 3.0).collect() };
    let weight = Weight::pack(device, precision, &Matrix::new(&values(out * inputs), inputs));
    let x = Tensor::from_vec(device, rows, inputs, values(rows * inputs));
    let x = Operand::new(device, precision, &x);
    let plain = [linear::Projection { weight: &weight, bias: None, lora: None }];
    let flops = 2.0 * (rows * out * inputs) as f64;
    flops / best(|| drop(linear::forward(device, &x, &plain))) / 1e9
}

/// Bytes a second that all threads read and write, in 1e9.
fn copy() -> f64 {
    let from: Vec<u64> = (0..COPIED as u64 / 8).collect();
    let mut to = vec![0_u64; from.len()];
    let chunk = from.len().div_ceil(rayon::current_num_threads());
    let seconds = best(|| {
        let parts = to.par_chunks_mut(chunk).zip(from.par_chunks(chunk));
        parts.for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&mut to);
    });
    2.0 * COPIED as f64 / seconds / 1e9
}

/// The shortest of several calls, in seconds.
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
