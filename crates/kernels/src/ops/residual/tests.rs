//! The fast sum against its reference, calculus and itself.

use proptest::prelude::*;

use super::{add, reference, scale, scale_and_add};
use crate::check::{assert_close, assert_same_bits, on_threads, slopes, tensor, weighted, wide};
use crate::{Device, Tensor};

proptest! {
    #[test]
    fn fast_is_reference(rows in 0_usize..9, cols in 0_usize..70, seed: u64) {
        for device in Device::every_cpu() {
            let x = tensor(&device, seed, (rows, cols), 1e30);
            let y = tensor(&device, seed ^ 1, (rows, cols), 1e30);
            let want = reference::forward(x.as_slice(), y.as_slice());
            let mut sum = x;
            add(&device, &mut sum, &y);
            assert_same_bits("sum", sum.as_slice(), &want);
            let (mut scaled, mut both) = (sum.clone(), sum.clone());
            scale(&device, &mut scaled, 0.22);
            scale_and_add(&device, &mut both, 0.22, &y);
            assert_same_bits("both", both.as_slice(), &reference::forward(scaled.as_slice(), y.as_slice()));
            let want: Vec<f32> = sum.as_slice().iter().map(|x| x * 0.22).collect();
            assert_same_bits("scaled", scaled.as_slice(), &want);
        }
    }
}

#[test]
fn gradients_are_the_slope() {
    let device = Device::cpu();
    let x = wide(tensor(&device, 1, (1, 5), 2.0).as_slice());
    let y = wide(tensor(&device, 2, (1, 5), 2.0).as_slice());
    let dsum = wide(tensor(&device, 3, (1, 5), 2.0).as_slice());
    let (dx, dy) = reference::backward(&dsum);
    let tolerance = (testkit::tolerance::SLOPE_F64, 1.0);
    let by_x = slopes(&x, |x| weighted(&reference::forward(x, &y), &dsum));
    let by_y = slopes(&y, |y| weighted(&reference::forward(&x, y), &dsum));
    assert_close("dx", &dx, &by_x, tolerance);
    assert_close("dy", &dy, &by_y, tolerance);
}

/// A tensor long enough for several tasks.
#[test]
fn threads_do_not_matter() {
    let device = Device::cpu();
    let y = tensor(&device, 2, (1001, 67), 1.0);
    let sum = |threads| -> Tensor {
        let mut x = tensor(&device, 1, (1001, 67), 1.0);
        on_threads(threads, || add(&device, &mut x, &y));
        x
    };
    assert_same_bits("sum", sum(2).as_slice(), sum(1).as_slice());
}
