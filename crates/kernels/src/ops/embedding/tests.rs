//! The lookup and its gradient, beside the reference.

use testkit::tolerance::SLOPE_F64;

use super::{backward, forward, reference};
use crate::check::{assert_close, assert_same_bits, numbers, on_threads, slopes, weighted, wide};
use crate::cpu::round::to_bf16;
use crate::weight::Matrix;
use crate::{Device, Precision, Tensor, Weight};

const IDS: [u32; 6] = [3, 0, 69, 3, 68, 3];

#[test]
fn rows_come_out_as_they_went_in() {
    for device in Device::every_cpu() {
        for width in [1, 5, 64, 129] {
            let values = numbers(1, 70 * width, 1.0);
            for precision in [Precision::F32, Precision::Bf16] {
                let table = Weight::pack(&device, precision, &Matrix::new(&values, width));
                let mut want = reference::forward(&values, width, &IDS);
                if precision == Precision::Bf16 {
                    for value in &mut want {
                        *value = to_bf16(*value);
                    }
                }
                assert_same_bits("rows", forward(&device, &table, &IDS).as_slice(), &want);
            }
        }
    }
}

#[test]
fn gradients_of_repeated_ids_add_up_in_order() {
    for device in Device::every_cpu() {
        for width in [1, 5, 64, 129] {
            let d_out = numbers(2, IDS.len() * width, 1.0);
            let mut want = numbers(3, 70 * width, 1.0);
            let mut got = want.clone();
            reference::backward(&d_out, width, &IDS, &mut want);
            let d_out = Tensor::from_vec(&device, IDS.len(), width, d_out);
            on_threads(2, || backward(&device, &d_out, &IDS, &mut got));
            assert_same_bits("d_table", &got, &want);
        }
    }
}

#[test]
fn the_reference_has_its_own_slopes() {
    let (table, d_out) = (wide(&numbers(4, 4 * 3, 1.0)), wide(&numbers(5, 5 * 3, 1.0)));
    let ids = [3, 0, 3, 2, 3];
    let mut got = vec![0.0; table.len()];
    reference::backward(&d_out, 3, &ids, &mut got);
    let want = slopes(&table, |table| weighted(&reference::forward(table, 3, &ids), &d_out));
    assert_close("d_table", &got, &want, (SLOPE_F64, 1.0));
}
