//! The fast normalization against its reference, transformers, calculus and itself.

use proptest::prelude::*;
use testkit::tolerance::{BF16_ROUNDING, F32_GOLDEN, ROW_SUM_F32, SLOPE_F64};

use super::{again, backward, forward, forward_exact, reference};
use crate::check::{
    array, array_f32, assert_close, assert_same_bits, count, golden, largest, numbers, on_threads,
    slopes, tensor, weighted, wide,
};
use crate::{Device, Precision, Tensor};

fn assert_is_reference(device: &Device, x: &Tensor, dy: &Tensor, weight: &[f32], eps: f32) {
    let (wide_x, wide_weight) = (wide(x.as_slice()), wide(weight));
    let (want_y, want_inv) = reference::forward(&wide_x, &wide_weight, f64::from(eps));
    let (want_dx, want_dweight) =
        reference::backward(&wide(dy.as_slice()), &wide_x, &wide_weight, &want_inv);

    let (y, normed) = forward(device, Precision::F32, x, weight, eps);
    assert_eq!(again(device, &normed, weight), y);
    let y = wide(y.to_tensor(device).as_slice());
    assert_close("inv", &wide(&normed.inv), &want_inv, (ROW_SUM_F32, f64::MIN_POSITIVE));
    assert_close("y", &y, &want_y, (ROW_SUM_F32, largest(&want_y)));
    let (exact, kept) = forward_exact(device, Precision::F32, x, weight, eps);
    assert_eq!((wide(exact.as_slice()), &kept), (y, &normed));
    let (rounded, kept) = forward(device, Precision::Bf16, x, weight, eps);
    assert_eq!(again(device, &kept, weight), rounded);
    // Both roundings are to nearest: of rows of unit size, and of these scaled.
    let least = f64::from(f32::MIN_POSITIVE);
    let unit = want_y.iter().zip(wide_weight.iter().cycle()).map(|(y, weight)| y / weight);
    let z = wide(kept.rows.to_tensor(device).as_slice());
    assert_close("bf16 z", &z, &unit.collect::<Vec<_>>(), (BF16_ROUNDING, least));
    let scaled = z.iter().zip(wide_weight.iter().cycle()).map(|(z, weight)| z * weight);
    let rounded = wide(rounded.to_tensor(device).as_slice());
    assert_close("bf16 y", &rounded, &scaled.collect::<Vec<_>>(), (BF16_ROUNDING, least));

    let saved = (&normed, weight);
    let mut dweight = vec![0.5; weight.len()];
    let dx = backward(device, dy, saved, Some(&mut dweight));
    let want_dweight: Vec<f64> = want_dweight.iter().map(|value| value + 0.5).collect();
    // The two terms of `dx` may cancel, in a row of one column altogether.
    let scale = largest(&wide(weight)) * largest(&want_inv);
    assert_close("dx", &wide(dx.as_slice()), &want_dx, (ROW_SUM_F32, scale));
    // So may the rows of `dweight`: what rounds is each row's share.
    let shares = (0..x.rows()).flat_map(|row| {
        let inv = want_inv[row];
        x.row(row).iter().zip(dy.row(row)).map(move |(x, dy)| f64::from(*x) * f64::from(*dy) * inv)
    });
    let scale = x.rows() as f64 * largest(&shares.chain([0.5]).collect::<Vec<_>>());
    assert_close("dweight", &wide(&dweight), &want_dweight, (ROW_SUM_F32, scale));
    assert_eq!(backward(device, dy, saved, None), dx);
}

proptest! {
    #[test]
    fn fast_is_reference(rows in 0_usize..9, cols in 1_usize..200, scale in 1e-4_f32..1e4, seed: u64) {
        for device in Device::every_cpu() {
            let x = tensor(&device, seed, (rows, cols), scale);
            let dy = tensor(&device, seed ^ 1, (rows, cols), 1.0);
            assert_is_reference(&device, &x, &dy, &numbers(seed ^ 2, cols, 2.0), 1e-5);
        }
    }
}

#[test]
fn zero_and_huge_rows_stay_finite() {
    for device in Device::every_cpu() {
        for (scale, eps) in [(0.0, 1e-6), (1e15, 1e-5), (1e-15, 1e-5)] {
            let x = tensor(&device, 1, (3, 67), scale);
            let dy = tensor(&device, 2, (3, 67), 1.0);
            assert_is_reference(&device, &x, &dy, &numbers(3, 67, 2.0), eps);
        }
        let nothing = Tensor::zeros(&device, 3, 0);
        let (y, normed) = forward(&device, Precision::F32, &nothing, &[], 1e-5);
        let saved = (&normed, &[][..]);
        assert_eq!((y.rows(), y.cols()), (3, 0));
        assert_eq!(backward(&device, &nothing, saved, None), nothing);
    }
}

#[test]
fn agrees_with_transformers() {
    let device = Device::cpu();
    for case in golden("rms_norm") {
        let (rows, cols) = (count(&case["rows"]), count(&case["cols"]));
        let eps = case["eps"].as_f64().unwrap() as f32;
        let [x, dy] =
            ["x", "dy"].map(|key| Tensor::from_vec(&device, rows, cols, array_f32(&case[key])));
        let weight = array_f32(&case["weight"]);
        let (y, normed) = forward(&device, Precision::F32, &x, &weight, eps);
        let mut dweight = vec![0.0; cols];
        let dx = backward(&device, &dy, (&normed, &weight), Some(&mut dweight));
        let name = case["name"].as_str().unwrap();
        for (key, got) in
            [("y", y.to_tensor(&device).as_slice()), ("dx", dx.as_slice()), ("dweight", &dweight)]
        {
            let want = array(&case[key]);
            let what = format!("{name}: {key}");
            assert_close(&what, &wide(got), &want, (F32_GOLDEN, largest(&want)));
        }
    }
}

#[test]
fn gradients_are_the_slope() {
    for (rows, cols) in [(1, 1), (2, 3), (3, 7)] {
        let x = wide(&numbers(1, rows * cols, 2.0));
        let dy = wide(&numbers(2, rows * cols, 1.0));
        let weight = wide(&numbers(3, cols, 2.0));
        let loss =
            |x: &[f64], weight: &[f64]| weighted(&reference::forward(x, weight, 1e-2).0, &dy);
        let (_, inv_rms) = reference::forward(&x, &weight, 1e-2);
        let (dx, dweight) = reference::backward(&dy, &x, &weight, &inv_rms);
        let by_x = slopes(&x, |x| loss(x, &weight));
        let by_weight = slopes(&weight, |weight| loss(&x, weight));
        assert_close("dx", &dx, &by_x, (SLOPE_F64, 1.0));
        assert_close("dweight", &dweight, &by_weight, (SLOPE_F64, 1.0));
    }
}

/// One row alone, the same row among others, one thread and two, every instruction set: same bits.
#[test]
fn company_does_not_matter() {
    let size = (67, 333);
    let x = tensor(&Device::cpu(), 1, size, 6.0);
    let dy = tensor(&Device::cpu(), 2, size, 1.0);
    let weight = numbers(3, size.1, 2.0);
    let run = |device: &Device, x: &Tensor, dy: &Tensor| {
        let (y, normed) = forward(device, Precision::Bf16, x, &weight, 1e-5);
        let mut dweight = vec![0.0; size.1];
        let dx = backward(device, dy, (&normed, &weight), Some(&mut dweight));
        (y.to_tensor(device), dx, dweight)
    };
    let (y, dx, dweight) = on_threads(1, || run(&Device::cpu(), &x, &dy));
    for device in Device::every_cpu() {
        let (same_y, same_dx, same_dweight) = on_threads(2, || run(&device, &x, &dy));
        assert_same_bits("y", same_y.as_slice(), y.as_slice());
        assert_same_bits("dx", same_dx.as_slice(), dx.as_slice());
        assert_same_bits("dweight", &same_dweight, &dweight);
        let alone = |of: &Tensor| Tensor::from_vec(&device, 1, size.1, of.row(41).to_vec());
        let (alone_y, alone_dx, _) = run(&device, &alone(&x), &alone(&dy));
        assert_same_bits("row y", alone_y.as_slice(), y.row(41));
        assert_same_bits("row dx", alone_dx.as_slice(), dx.row(41));
    }
}
