//! Gathering and its transpose, beside the reference.

use testkit::tolerance::SLOPE_F64;

use super::{gather, reference, scatter_add};
use crate::Device;
use crate::check::{assert_close, assert_same_bits, numbers, slopes, tensor, weighted, wide};

const INDEX: [u32; 5] = [4, 0, 6, 4, 4];

#[test]
fn rows_are_taken_and_added_back() {
    for device in Device::every_cpu() {
        for width in [1, 13, 70] {
            let x = tensor(&device, 1, (7, width), 1.0);
            let gathered = gather(&device, &x, &INDEX);
            let want = reference::gather(x.as_slice(), width, &INDEX);
            assert_same_bits("gathered", gathered.as_slice(), &want);

            let mut sums = tensor(&device, 2, (7, width), 1.0);
            let mut want = sums.clone().into_vec();
            reference::scatter_add(gathered.as_slice(), width, &INDEX, &mut want);
            scatter_add(&device, &gathered, &INDEX, &mut sums);
            assert_same_bits("scattered", sums.as_slice(), &want);
        }
    }
}

#[test]
fn scattering_is_the_slope_of_gathering() {
    let (x, d_out) = (wide(&numbers(1, 7 * 3, 1.0)), wide(&numbers(2, INDEX.len() * 3, 1.0)));
    let mut got = vec![0.0; x.len()];
    reference::scatter_add(&d_out, 3, &INDEX, &mut got);
    let want = slopes(&x, |x| weighted(&reference::gather(x, 3, &INDEX), &d_out));
    assert_close("dx", &got, &want, (SLOPE_F64, 1.0));
}
