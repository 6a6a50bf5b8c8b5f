//! The fast normalization against its reference, torch, calculus and itself.

use proptest::prelude::*;
use testkit::tolerance::{BF16_ROUNDING, F32_GOLDEN, ROW_SUM_F32, SLOPE_F64};

use super::{again, backward, forward, reference};
use crate::check::{
    array, array_f32, assert_close, assert_same_bits, count, golden, largest, numbers, on_threads,
    slopes, tensor, weighted, wide,
};
use crate::{Device, Precision, Tensor};

fn affine(cols: usize) -> [Vec<f32>; 2] {
    [numbers(5, cols, 2.0), numbers(6, cols, 2.0)]
}

/// The rows, their gradient, and the gradients by weight and bias.
fn run(
    device: &Device,
    (x, dy): (&Tensor, &Tensor),
    [weight, bias]: [&[f32]; 2],
    eps: f32,
) -> (Tensor, Tensor, Vec<f32>) {
    let (y, normed) = forward(device, Precision::F32, x, [weight, bias], eps);
    assert_eq!(again(device, &normed, [weight, bias]), y);
    let saved = (&normed, weight);
    let [mut dweight, mut dbias] = [vec![0.0; x.cols()], vec![0.0; x.cols()]];
    let dx = backward(device, dy, saved, Some([&mut dweight, &mut dbias]));
    assert_eq!(backward(device, dy, saved, None), dx);
    (y.to_tensor(device), dx, [dweight, dbias].concat())
}

proptest! {
    #[test]
    fn fast_is_reference(rows in 0_usize..9, cols in 2_usize..200, scale in 1e-2_f32..1e2, seed: u64) {
        let eps = 1e-2;
        let [weight, bias] = affine(cols);
        let (wide_weight, wide_bias) = (wide(&weight), wide(&bias));
        for device in Device::every_cpu() {
            let x = tensor(&device, seed, (rows, cols), scale);
            let dy = tensor(&device, seed ^ 1, (rows, cols), 1.0);
            let (wide_x, wide_dy) = (wide(x.as_slice()), wide(dy.as_slice()));
            let (want_y, moments) =
                reference::forward(&wide_x, [&wide_weight, &wide_bias], f64::from(eps));
            let (want_dx, [dweight, dbias]) =
                reference::backward(&wide_dy, &wide_x, &wide_weight, &moments);
            let (y, dx, daffine) = run(&device, (&x, &dy), [&weight, &bias], eps);
            // A row's mean is taken away: what is left may be small beside it.
            let lost = largest(&moments) * f64::from(scale) + largest(&want_y);
            assert_close("y", &wide(y.as_slice()), &want_y, (ROW_SUM_F32, lost));
            let terms = 4.0 * largest(&moments) * (1.0 + lost);
            assert_close("dx", &wide(dx.as_slice()), &want_dx, (ROW_SUM_F32, terms));
            let want = [dweight, dbias].concat();
            assert_close("daffine", &wide(&daffine), &want, (ROW_SUM_F32, rows as f64 * lost + 1.0));
            let (rounded, kept) = forward(&device, Precision::Bf16, &x, [&weight, &bias], eps);
            assert_eq!(again(&device, &kept, [&weight, &bias]), rounded);
            let z = wide(kept.rows.to_tensor(&device).as_slice());
            let affine = wide_weight.iter().zip(&wide_bias).cycle();
            let scaled = z.iter().zip(affine).map(|(z, (weight, bias))| z * weight + bias);
            let rounded = wide(rounded.to_tensor(&device).as_slice());
            let want = scaled.collect::<Vec<_>>();
            assert_close("bf16 y", &rounded, &want, (BF16_ROUNDING, lost * 1e-3));
        }
    }
}

#[test]
fn agrees_with_torch() {
    let device = Device::cpu();
    for case in golden("layer_norm") {
        let (rows, cols) = (count(&case["rows"]), count(&case["cols"]));
        let eps = case["eps"].as_f64().unwrap() as f32;
        let [x, dy] =
            ["x", "dy"].map(|key| Tensor::from_vec(&device, rows, cols, array_f32(&case[key])));
        let [weight, bias] = ["weight", "bias"].map(|key| array_f32(&case[key]));
        let (y, dx, daffine) = run(&device, (&x, &dy), [&weight, &bias], eps);
        let (dweight, dbias) = daffine.split_at(cols);
        let parts =
            [("y", y.as_slice()), ("dx", dx.as_slice()), ("dweight", dweight), ("dbias", dbias)];
        for (key, got) in parts {
            let want = array(&case[key]);
            assert_close(key, &wide(got), &want, (F32_GOLDEN, largest(&want).max(1.0)));
        }
    }
}

#[test]
fn gradients_are_the_slope() {
    for (rows, cols) in [(1, 2), (2, 3), (3, 7)] {
        let x = wide(&numbers(1, rows * cols, 2.0));
        let dy = wide(&numbers(2, rows * cols, 1.0));
        let [weight, bias] = affine(cols).map(|part| wide(&part));
        let loss = |x: &[f64], weight: &[f64], bias: &[f64]| {
            weighted(&reference::forward(x, [weight, bias], 1e-2).0, &dy)
        };
        let (_, moments) = reference::forward(&x, [&weight, &bias], 1e-2);
        let (dx, [dweight, dbias]) = reference::backward(&dy, &x, &weight, &moments);
        assert_close("dx", &dx, &slopes(&x, |x| loss(x, &weight, &bias)), (SLOPE_F64, 1.0));
        let by_weight = slopes(&weight, |weight| loss(&x, weight, &bias));
        assert_close("dweight", &dweight, &by_weight, (SLOPE_F64, 1.0));
        assert_close("dbias", &dbias, &slopes(&bias, |b| loss(&x, &weight, b)), (SLOPE_F64, 1.0));
    }
}

/// One row alone, the same row among others, one thread and two, every instruction set: same bits.
#[test]
fn company_does_not_matter() {
    let size = (67, 333);
    let (x, dy) = (tensor(&Device::cpu(), 1, size, 3.0), tensor(&Device::cpu(), 2, size, 1.0));
    let [weight, bias] = affine(size.1);
    let run =
        |device: &Device, x: &Tensor, dy: &Tensor| run(device, (x, dy), [&weight, &bias], 1e-5);
    let (y, dx, daffine) = on_threads(1, || run(&Device::cpu(), &x, &dy));
    for device in Device::every_cpu() {
        let (same_y, same_dx, same_daffine) = on_threads(2, || run(&device, &x, &dy));
        assert_same_bits("y", same_y.as_slice(), y.as_slice());
        assert_same_bits("dx", same_dx.as_slice(), dx.as_slice());
        assert_same_bits("daffine", &same_daffine, &daffine);
        let alone = |of: &Tensor| Tensor::from_vec(&device, 1, size.1, of.row(41).to_vec());
        let (alone_y, alone_dx, _) = run(&device, &alone(&x), &alone(&dy));
        assert_same_bits("row y", alone_y.as_slice(), y.row(41));
        assert_same_bits("row dx", alone_dx.as_slice(), dx.row(41));
    }
}
