//! The fast activation against its reference, torch, calculus and itself.

use proptest::prelude::*;
use testkit::tolerance::{ACTIVATION_F32, BF16_ROUNDING, F32_GOLDEN, GELU_F32, SLOPE_F64};

use super::{Activation, Curve, again, backward, forward, reference};
use crate::check::{
    array, assert_close, assert_same_bits, golden, largest, on_threads, slopes, tensor, weighted,
    wide,
};
use crate::{Device, Precision, Tensor};

const FORMS: [Activation; 3] = [
    Activation { curve: Curve::Silu, is_gated: true },
    Activation { curve: Curve::GeluTanh, is_gated: true },
    Activation { curve: Curve::GeluTanh, is_gated: false },
];

impl Activation {
    /// Columns of the input for `width` of the output.
    fn cols(self, width: usize) -> usize {
        if self.is_gated { 2 * width } else { width }
    }
}

fn assert_is_reference(device: &Device, form: Activation, x: &Tensor, dy: &Tensor) {
    let width = dy.cols();
    let (want_y, want_d) = if width == 0 {
        (Vec::new(), Vec::new())
    } else {
        let wide_x = wide(x.as_slice());
        (
            reference::forward(&wide_x, width, form),
            reference::backward(&wide(dy.as_slice()), &wide_x, width, form),
        )
    };
    let (y, kept) = forward(device, Precision::F32, x, form);
    assert_eq!(again(device, &kept, form), y);
    let y = y.to_tensor(device);
    // Far out a power has as many roundings as its exponent is large, and is small beside its input.
    let (tolerance, least) = match form.curve {
        Curve::Silu => (ACTIVATION_F32, 1e-6),
        Curve::GeluTanh => (GELU_F32, 1e-2),
    };
    assert_close("y", &wide(y.as_slice()), &want_y, (tolerance, least));
    let (rounded, kept_rounded) = forward(device, Precision::Bf16, x, form);
    assert_eq!(again(device, &kept_rounded, form), rounded);
    let rounded = wide(rounded.to_tensor(device).as_slice());
    let from = wide(kept_rounded.to_tensor(device).as_slice());
    assert_close(
        "bf16 x",
        &from,
        &wide(x.as_slice()),
        (BF16_ROUNDING, f64::from(f32::MIN_POSITIVE)),
    );
    if 0 < width {
        let want = reference::forward(&from, width, form);
        assert_close("bf16 y", &rounded, &want, (BF16_ROUNDING, 1e-6));
    }
    let got = backward(device, dy, &kept, form);
    // Where the slope crosses zero its digits are lost, in f32 as such.
    assert_close("dx", &wide(got.as_slice()), &want_d, (tolerance, largest(&want_d)));
}

proptest! {
    #[test]
    fn fast_is_reference(rows in 0_usize..6, width in 0_usize..70, scale in 0.1_f32..8.0, seed: u64) {
        for device in Device::every_cpu() {
            for form in FORMS {
                let x = tensor(&device, seed, (rows, form.cols(width)), scale);
                let dy = tensor(&device, seed ^ 1, (rows, width), 1.0);
                assert_is_reference(&device, form, &x, &dy);
            }
        }
    }
}

#[test]
fn zeros_and_huge_values_stay_finite() {
    let values = vec![0.0, 1e30, -1e30, 1.0, 2.0, 3.0, -88.0, -100.0, 100.0, 1e3, 1e-30, -5.0];
    for device in Device::every_cpu() {
        let gate_up = Tensor::from_vec(&device, 2, 6, values.clone());
        let dy = Tensor::from_vec(&device, 2, 3, vec![1.0, -2.0, 0.5, 1.0, 1.0, 0.0]);
        assert_is_reference(&device, FORMS[0], &gate_up, &dy);
        // A cube leaves f32 beyond 1e12.
        let values = values.iter().map(|value| value.clamp(-1e11, 1e11)).collect();
        let x = Tensor::from_vec(&device, 4, 3, values);
        let dy = Tensor::from_vec(&device, 4, 3, [1.0, -2.0, 0.5].repeat(4));
        assert_is_reference(&device, FORMS[2], &x, &dy);
    }
}

#[test]
fn agrees_with_torch() {
    for case in golden("activation") {
        let form = match case["name"].as_str() {
            Some("silu, gated") => FORMS[0],
            Some("gelu_tanh, gated") => FORMS[1],
            _ => FORMS[2],
        };
        let [x, dy, y, dx] = ["x", "dy", "y", "dx"].map(|key| array(&case[key]));
        let tight = (testkit::tolerance::SAME_F64_ARITHMETIC, 1e-9);
        assert_close("y", &reference::forward(&x, y.len(), form), &y, tight);
        assert_close("d", &reference::backward(&dy, &x, y.len(), form), &dx, tight);

        let device = Device::cpu();
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let x = Tensor::from_vec(&device, 1, x.len(), narrow(&x));
        let dy = Tensor::from_vec(&device, 1, y.len(), narrow(&dy));
        let (fast, kept) = forward(&device, Precision::F32, &x, form);
        assert_close("fast y", &wide(fast.to_tensor(&device).as_slice()), &y, (F32_GOLDEN, 1e-6));
        let fast = backward(&device, &dy, &kept, form);
        assert_close("fast d", &wide(fast.as_slice()), &dx, (F32_GOLDEN, 1e-6));
    }
}

#[test]
fn gradients_are_the_slope() {
    let device = Device::cpu();
    for width in [1, 3, 5] {
        for form in FORMS {
            let x = wide(tensor(&device, 1, (2, form.cols(width)), 4.0).as_slice());
            let dy = wide(tensor(&device, 2, (2, width), 1.0).as_slice());
            let by_x = slopes(&x, |x| weighted(&reference::forward(x, width, form), &dy));
            let got = reference::backward(&dy, &x, width, form);
            assert_close("dx", &got, &by_x, (SLOPE_F64, 1.0));
        }
    }
}

/// One row alone, the same row among others, one thread and two, every instruction set: same bits.
#[test]
fn company_does_not_matter() {
    for form in FORMS {
        let size = (67, form.cols(129));
        let want = tensor(&Device::cpu(), 1, size, 6.0);
        let dy = tensor(&Device::cpu(), 2, (67, 129), 1.0);
        let run = |device: &Device, dy: &Tensor, x: &Tensor| {
            let (y, kept) = forward(device, Precision::Bf16, x, form);
            (y.to_tensor(device), backward(device, dy, &kept, form))
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
}
