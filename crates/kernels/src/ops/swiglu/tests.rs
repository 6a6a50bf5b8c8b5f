//! The fast activation against its reference, torch, calculus and itself.

use proptest::prelude::*;
use testkit::tolerance::{ACTIVATION_F32, BF16_ROUNDING, F32_GOLDEN, SLOPE_F64};

use super::{backward, forward, reference};
use crate::check::{
    array, assert_close, assert_same_bits, golden, largest, on_threads, slopes, tensor, weighted,
    wide,
};
use crate::{Device, Precision, Tensor};

fn assert_is_reference(device: &Device, gate_up: &Tensor, dy: &Tensor) {
    let width = dy.cols();
    let (want_y, want_d) = if width == 0 {
        (Vec::new(), Vec::new())
    } else {
        let wide_gate_up = wide(gate_up.as_slice());
        (
            reference::forward(&wide_gate_up, width),
            reference::backward(&wide(dy.as_slice()), &wide_gate_up, width),
        )
    };
    let y = forward(device, Precision::F32, gate_up).to_tensor(device);
    assert_close("y", &wide(y.as_slice()), &want_y, (ACTIVATION_F32, 1e-6));
    let rounded = forward(device, Precision::Bf16, gate_up).to_tensor(device);
    assert_close("bf16 y", &wide(rounded.as_slice()), &want_y, (BF16_ROUNDING, 1e-6));
    let got = backward(device, dy, gate_up);
    // Where `1 + gate * (1 - s)` crosses zero its digits are lost, in f32 as such.
    assert_close("dgate_up", &wide(got.as_slice()), &want_d, (ACTIVATION_F32, largest(&want_d)));
}

proptest! {
    #[test]
    fn fast_is_reference(rows in 0_usize..6, width in 0_usize..70, scale in 0.1_f32..8.0, seed: u64) {
        for device in Device::every_cpu() {
            let gate_up = tensor(&device, seed, (rows, 2 * width), scale);
            let dy = tensor(&device, seed ^ 1, (rows, width), 1.0);
            assert_is_reference(&device, &gate_up, &dy);
        }
    }
}

#[test]
fn zeros_and_huge_values_stay_finite() {
    for device in Device::every_cpu() {
        let gate_up = Tensor::from_vec(
            &device,
            2,
            6,
            vec![0.0, 1e30, -1e30, 1.0, 2.0, 3.0, -88.0, -100.0, 100.0, 1e3, 1e-30, -5.0],
        );
        let dy = Tensor::from_vec(&device, 2, 3, vec![1.0, -2.0, 0.5, 1.0, 1.0, 0.0]);
        assert_is_reference(&device, &gate_up, &dy);
    }
}

#[test]
fn agrees_with_torch() {
    for case in golden("swiglu") {
        let [gate, up, dy, y, dgate, dup] =
            ["gate", "up", "dy", "y", "dgate", "dup"].map(|key| array(&case[key]));
        let gate_up = [gate, up].concat();
        let d_want = [dgate, dup].concat();
        let tight = (testkit::tolerance::SAME_F64_ARITHMETIC, f64::MIN_POSITIVE);
        assert_close("y", &reference::forward(&gate_up, y.len()), &y, tight);
        assert_close("d", &reference::backward(&dy, &gate_up, y.len()), &d_want, tight);

        let device = Device::cpu();
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let gate_up = Tensor::from_vec(&device, 1, 2 * y.len(), narrow(&gate_up));
        let dy = Tensor::from_vec(&device, 1, y.len(), narrow(&dy));
        let fast = forward(&device, Precision::F32, &gate_up).to_tensor(&device);
        assert_close("fast y", &wide(fast.as_slice()), &y, (F32_GOLDEN, 1e-6));
        let fast = backward(&device, &dy, &gate_up);
        assert_close("fast d", &wide(fast.as_slice()), &d_want, (F32_GOLDEN, 1e-6));
    }
}

#[test]
fn gradients_are_the_slope() {
    let device = Device::cpu();
    for width in [1, 3, 5] {
        let gate_up = wide(tensor(&device, 1, (2, 2 * width), 4.0).as_slice());
        let dy = wide(tensor(&device, 2, (2, width), 1.0).as_slice());
        let by_gate_up = slopes(&gate_up, |x| weighted(&reference::forward(x, width), &dy));
        let got = reference::backward(&dy, &gate_up, width);
        assert_close("dgate_up", &got, &by_gate_up, (SLOPE_F64, 1.0));
    }
}

/// One row alone, the same row among others, one thread and two, every instruction set: same bits.
#[test]
fn company_does_not_matter() {
    let size = (67, 2 * 129);
    let want = tensor(&Device::cpu(), 1, size, 6.0);
    let dy = tensor(&Device::cpu(), 2, (67, 129), 1.0);
    let run = |device: &Device, dy: &Tensor, gate_up: &Tensor| {
        let y = forward(device, Precision::Bf16, gate_up).to_tensor(device);
        (y, backward(device, dy, gate_up))
    };
    let (y, d) = on_threads(1, || run(&Device::cpu(), &dy, &want));
    for device in Device::every_cpu() {
        let (same_y, same_d) = on_threads(2, || run(&device, &dy, &want));
        assert_same_bits("y", same_y.as_slice(), y.as_slice());
        assert_same_bits("d", same_d.as_slice(), d.as_slice());
        let alone = Tensor::from_vec(&device, 1, size.1, want.row(41).to_vec());
        let alone_dy = Tensor::from_vec(&device, 1, 129, dy.row(41).to_vec());
        let (alone_y, alone_d) = run(&device, &alone_dy, &alone);
        assert_same_bits("row y", alone_y.as_slice(), y.row(41));
        assert_same_bits("row d", alone_d.as_slice(), d.row(41));
    }
}
