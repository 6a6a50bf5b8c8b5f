//! What the operations' tests share: numbers, slopes, goldens, thread pools.

use serde_json::Value;

use crate::{Device, Tensor};

/// Evenly spread numbers in (-scale, scale), a different series for each seed.
pub(crate) fn numbers(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((state >> 40) as f32 / 8_388_608.0 - 1.0) * scale
    };
    (0..count).map(|_| next()).collect()
}

/// The same numbers as a tensor.
pub(crate) fn tensor(
    device: &Device,
    seed: u64,
    (rows, cols): (usize, usize),
    scale: f32,
) -> Tensor {
    Tensor::from_vec(device, rows, cols, numbers(seed, rows * cols, scale))
}

/// The numbers in f64.
pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The slope of `f` by each of its arguments, from central differences.
pub(crate) fn slopes(at: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut moved = at.to_vec();
    let mut slope = |index: usize| {
        let h = 1e-5 * at[index].abs().max(1.0);
        moved[index] = at[index] + h;
        let above = f(&moved);
        moved[index] = at[index] - h;
        let below = f(&moved);
        moved[index] = at[index];
        (above - below) / (2.0 * h)
    };
    (0..at.len()).map(&mut slope).collect()
}

/// The sum of `weights[i] * values[i]`: a loss whose gradient by `values` is `weights`.
pub(crate) fn weighted(values: &[f64], weights: &[f64]) -> f64 {
    values.iter().zip(weights).map(|(value, weight)| value * weight).sum()
}

/// The largest distance from zero: errors of sums that cancel are measured against it.
pub(crate) fn largest(values: &[f64]) -> f64 {
    values.iter().fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()))
}

/// Fails where two series differ by more than `tolerance` times the larger of `scale` and the
/// wanted value.
pub(crate) fn assert_close(what: &str, got: &[f64], want: &[f64], (tolerance, scale): (f64, f64)) {
    assert_eq!(got.len(), want.len(), "{what}: as many values");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (got - want).abs() / want.abs().max(scale);
        assert!(off <= tolerance, "{what}[{i}]: got {got:e}, want {want:e} (off by {off:.1e})");
    }
}

/// Fails where two series differ in a bit.
pub(crate) fn assert_same_bits(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: as many values");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(got.to_bits() == want.to_bits(), "{what}[{i}]: {got:e} and {want:e}");
    }
}

/// Runs `body` on a pool of the given number of threads.
pub(crate) fn on_threads<T: Send>(threads: usize, body: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(body)
}

/// The cases of `goldens/kernels/<name>.json`.
pub(crate) fn golden(name: &str) -> Vec<Value> {
    let path = testkit::golden(&format!("kernels/{name}.json"));
    let golden: Value = serde_json::from_reader(fs_err::File::open(path).unwrap()).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

/// An array of numbers of a golden.
pub(crate) fn array(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// An array of numbers of a golden that were f32 when it was made.
pub(crate) fn array_f32(value: &Value) -> Vec<f32> {
    array(value).into_iter().map(|number| number as f32).collect()
}

/// A count of a golden.
pub(crate) fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}
