//! The fast normalization against its reference, calculus and itself.

use proptest::prelude::*;
use testkit::tolerance::{ROW_SUM_F32, SLOPE_F64};

use super::{Saved, backward, forward, reference};
use crate::check::{
    assert_close, assert_same_bits, largest, numbers, on_threads, slopes, tensor, weighted, wide,
};
use crate::{Device, Heads, Tensor};

const EPS: f32 = 1e-3;

fn weights(heads: Heads) -> [Vec<f32>; 2] {
    [numbers(5, heads.dim, 2.0), numbers(6, heads.dim, 2.0)]
}

/// The rows, their gradient, and the gradients by the weights.
fn run(device: &Device, qkv: &Tensor, dy: &Tensor, heads: Heads) -> (Tensor, Tensor, Vec<f32>) {
    let [q, k] = &weights(heads);
    let (y, inv_rms) = forward(device, qkv, heads, [q, k], EPS);
    let saved = Saved { qkv, weights: [q, k], inv_rms: &inv_rms };
    let [mut dq, mut dk] = [vec![0.5; heads.dim], vec![0.5; heads.dim]];
    let dx = backward(device, dy, heads, saved, Some([&mut dq, &mut dk]));
    assert_eq!(backward(device, dy, heads, saved, None), dx);
    (y, dx, [dq, dk].concat())
}

proptest! {
    #[test]
    fn fast_is_reference(
        rows in 0_usize..5,
        (groups, ratio, dim) in (1_usize..3, 1_usize..4, 2_usize..70),
        scale in 1e-2_f32..1e2,
        seed: u64,
    ) {
        let heads = Heads { query: groups * ratio, key_value: groups, dim };
        let [q, k] = weights(heads).map(|weight| wide(&weight));
        for device in Device::every_cpu() {
            let qkv = tensor(&device, seed, (rows, heads.qkv_cols()), scale);
            let dy = tensor(&device, seed ^ 1, (rows, heads.qkv_cols()), 1.0);
            let (y, dx, dweights) = run(&device, &qkv, &dy, heads);
            let (wide_x, wide_dy) = (wide(qkv.as_slice()), wide(dy.as_slice()));
            let (want_y, inv) = reference::forward(&wide_x, heads, [&q, &k], f64::from(EPS));
            let (want_dx, [dq, dk]) =
                reference::backward(&wide_dy, &wide_x, heads, ([&q, &k], &inv));
            assert_close("y", &wide(y.as_slice()), &want_y, (ROW_SUM_F32, largest(&want_y)));
            // Where a head's two terms cancel, what is left is small beside either.
            let terms = largest(&inv) * 2.0 + 1.0;
            assert_close("dx", &wide(dx.as_slice()), &want_dx, (ROW_SUM_F32, terms));
            let want: Vec<f64> = dq.iter().chain(&dk).map(|value| value + 0.5).collect();
            let shares = (rows * heads.query + 1) as f64 * (dim as f64).sqrt();
            assert_close("dweights", &wide(&dweights), &want, (ROW_SUM_F32, shares));
        }
    }
}

#[test]
fn gradients_are_the_slope() {
    let heads = Heads { query: 2, key_value: 1, dim: 3 };
    let x = wide(&numbers(1, 2 * heads.qkv_cols(), 2.0));
    let dy = wide(&numbers(2, 2 * heads.qkv_cols(), 1.0));
    let [q, k] = weights(heads).map(|weight| wide(&weight));
    let loss = |x: &[f64], q: &[f64], k: &[f64]| {
        weighted(&reference::forward(x, heads, [q, k], 1e-2).0, &dy)
    };
    let (_, inv) = reference::forward(&x, heads, [&q, &k], 1e-2);
    let (dx, [dq, dk]) = reference::backward(&dy, &x, heads, ([&q, &k], &inv));
    assert_close("dx", &dx, &slopes(&x, |x| loss(x, &q, &k)), (SLOPE_F64, 1.0));
    assert_close("dq", &dq, &slopes(&q, |q| loss(&x, q, &k)), (SLOPE_F64, 1.0));
    assert_close("dk", &dk, &slopes(&k, |k| loss(&x, &q, k)), (SLOPE_F64, 1.0));
}

/// One row alone, the same row among others, one thread and two, every instruction set: same bits.
#[test]
fn company_does_not_matter() {
    let heads = Heads { query: 6, key_value: 2, dim: 40 };
    let size = (67, heads.qkv_cols());
    let (x, dy) = (tensor(&Device::cpu(), 1, size, 3.0), tensor(&Device::cpu(), 2, size, 1.0));
    let (y, dx, dweights) = on_threads(1, || run(&Device::cpu(), &x, &dy, heads));
    for device in Device::every_cpu() {
        let (same_y, same_dx, same_dweights) = on_threads(2, || run(&device, &x, &dy, heads));
        assert_same_bits("y", same_y.as_slice(), y.as_slice());
        assert_same_bits("dx", same_dx.as_slice(), dx.as_slice());
        assert_same_bits("dweights", &same_dweights, &dweights);
        let alone = |of: &Tensor| Tensor::from_vec(&device, 1, size.1, of.row(41).to_vec());
        let (alone_y, alone_dx, _) = run(&device, &alone(&x), &alone(&dy), heads);
        assert_same_bits("row y", alone_y.as_slice(), y.row(41));
        assert_same_bits("row dx", alone_dx.as_slice(), dx.row(41));
    }
}
