//! The fast gated normalization against its reference, calculus and itself.

use proptest::prelude::*;
use testkit::tolerance::{ACTIVATION_F32, BF16_ROUNDING, ROW_SUM_F32, SLOPE_F64};

use super::{Norm, Saved, backward, forward, reference};
use crate::check::{
    assert_close, assert_same_bits, largest, numbers, on_threads, slopes, tensor, weighted, wide,
};
use crate::{Columns, ColumnsMut, Device, Precision, Tensor};

/// Columns before the gate, and after.
const AROUND: usize = 2;
const EPS: f32 = 1e-5;

struct Case {
    x: Tensor,
    gate: Tensor,
    dy: Tensor,
    weight: Vec<f32>,
    groups: usize,
}

struct Results {
    y: Tensor,
    inv_rms: Vec<f32>,
    dx: Tensor,
    dgate: Tensor,
    dweight: Vec<f32>,
}

impl Case {
    fn new((rows, part, groups): (usize, usize, usize), scale: f32, seed: u64) -> Self {
        let (device, cols) = (Device::cpu(), part * groups);
        Self {
            x: tensor(&device, seed, (rows, cols), scale),
            gate: tensor(&device, seed ^ 1, (rows, cols + 2 * AROUND), 4.0),
            dy: tensor(&device, seed ^ 2, (rows, cols), 1.0),
            weight: numbers(seed ^ 3, cols, 2.0),
            groups,
        }
    }

    fn norm(&self) -> Norm<'_> {
        Norm { weight: &self.weight, groups: self.groups, eps: EPS }
    }

    fn run(&self, device: &Device, precision: Precision) -> Results {
        let gate = Columns { tensor: &self.gate, first: AROUND };
        let (y, inv_rms) = forward(device, precision, &self.x, gate, self.norm());
        let mut dgate = Tensor::zeros(device, self.x.rows(), self.x.cols() + 2 * AROUND);
        let mut dweight = vec![0.0; self.weight.len()];
        let saved = Saved { x: &self.x, gate, inv_rms: &inv_rms };
        let into = ColumnsMut { tensor: &mut dgate, first: AROUND };
        let dx = backward(device, &self.dy, (saved, self.norm()), into, Some(&mut dweight));
        Results { y: y.to_tensor(device), inv_rms, dx, dgate, dweight }
    }

    /// The gate without the columns around it.
    fn inner(&self, tensor: &Tensor) -> Vec<f64> {
        let row = |row: usize| wide(&tensor.row(row)[AROUND..AROUND + self.x.cols()]);
        (0..tensor.rows()).flat_map(row).collect()
    }

    fn check(&self, device: &Device) {
        let (x, gate, dy) =
            (wide(self.x.as_slice()), self.inner(&self.gate), wide(self.dy.as_slice()));
        let weight = wide(&self.weight);
        let (y, inv_rms) = reference::forward(&x, &gate, (&weight, self.groups, f64::from(EPS)));
        let [dx, dgate, dweight] =
            reference::backward(&dy, (&x, &gate), (&weight, self.groups), &inv_rms);
        let got = self.run(device, Precision::F32);
        let tolerance = |want: &[f64]| (ROW_SUM_F32.max(ACTIVATION_F32), largest(want));
        assert_close("inv_rms", &wide(&got.inv_rms), &inv_rms, (ROW_SUM_F32, 0.0));
        assert_close("y", &wide(got.y.as_slice()), &y, tolerance(&y));
        // The two terms of a slope may cancel, in a group of one column altogether.
        let scale = largest(&weight) * largest(&inv_rms);
        let wide_scale = scale * largest(&gate).max(largest(&x));
        assert_close("dx", &wide(got.dx.as_slice()), &dx, (ROW_SUM_F32, wide_scale));
        assert_close("dgate", &self.inner(&got.dgate), &dgate, (ROW_SUM_F32, wide_scale));
        let rows = self.x.rows() as f64;
        let shares = (rows * largest(&y) / largest(&weight)).max(1.0) * rows.max(1.0);
        assert_close("dweight", &wide(&got.dweight), &dweight, (ROW_SUM_F32, shares));
        let rounded = self.run(device, Precision::Bf16);
        assert_close("bf16 y", &wide(rounded.y.as_slice()), &y, (BF16_ROUNDING, largest(&y)));
    }
}

proptest! {
    #[test]
    fn fast_is_reference(
        shape in (0_usize..6, 1_usize..90, 1_usize..4),
        scale in 1e-3_f32..1e3,
        seed: u64,
    ) {
        for device in Device::every_cpu() {
            Case::new(shape, scale, seed).check(&device);
        }
    }
}

#[test]
fn gradients_are_the_slope() {
    for (rows, part, groups) in [(1, 1, 1), (2, 3, 1), (2, 2, 3)] {
        let cols = part * groups;
        let [x, gate, dy] = [1, 2, 3].map(|seed| wide(&numbers(seed, rows * cols, 2.0)));
        let weight = wide(&numbers(4, cols, 2.0));
        let loss = |x: &[f64], gate: &[f64], weight: &[f64]| {
            weighted(&reference::forward(x, gate, (weight, groups, 1e-2)).0, &dy)
        };
        let (_, inv_rms) = reference::forward(&x, &gate, (&weight, groups, 1e-2));
        let [dx, dgate, dweight] =
            reference::backward(&dy, (&x, &gate), (&weight, groups), &inv_rms);
        let by_x = slopes(&x, |x| loss(x, &gate, &weight));
        let by_gate = slopes(&gate, |gate| loss(&x, gate, &weight));
        let by_weight = slopes(&weight, |weight| loss(&x, &gate, weight));
        assert_close("dx", &dx, &by_x, (SLOPE_F64, 1.0));
        assert_close("dgate", &dgate, &by_gate, (SLOPE_F64, 1.0));
        assert_close("dweight", &dweight, &by_weight, (SLOPE_F64, 1.0));
    }
}

#[test]
fn zero_and_huge_rows_stay_finite() {
    for device in Device::every_cpu() {
        for scale in [0.0, 1e15, 1e-15] {
            let got = Case::new((3, 67, 2), scale, 5).run(&device, Precision::F32);
            let all = [&got.y, &got.dx, &got.dgate].map(|tensor| tensor.as_slice().to_vec());
            assert!(all.concat().iter().chain(&got.dweight).all(|value| value.is_finite()));
        }
    }
}

/// One row alone, the same row among others, one thread and two, every instruction set: same bits.
#[test]
fn company_does_not_matter() {
    let case = Case::new((67, 111, 3), 3.0, 9);
    let want = on_threads(1, || case.run(&Device::cpu(), Precision::Bf16));
    let row = |tensor: &Tensor| {
        Tensor::from_vec(&Device::cpu(), 1, tensor.cols(), tensor.row(41).to_vec())
    };
    let alone = Case {
        x: row(&case.x),
        gate: row(&case.gate),
        dy: row(&case.dy),
        weight: case.weight.clone(),
        groups: 3,
    };
    for device in Device::every_cpu() {
        let got = on_threads(2, || case.run(&device, Precision::Bf16));
        let one = alone.run(&device, Precision::Bf16);
        for (what, got, want, one) in [
            ("y", &got.y, &want.y, &one.y),
            ("dx", &got.dx, &want.dx, &one.dx),
            ("dgate", &got.dgate, &want.dgate, &one.dgate),
        ] {
            assert_same_bits(what, got.as_slice(), want.as_slice());
            assert_same_bits(what, one.as_slice(), want.row(41));
        }
        assert_same_bits("dweight", &got.dweight, &want.dweight);
    }
}
