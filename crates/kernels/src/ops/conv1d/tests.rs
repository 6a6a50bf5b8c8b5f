//! The fast convolution against its reference, calculus and itself.

use proptest::prelude::*;
use testkit::tolerance::{CONVOLUTION_F32, SLOPE_F64};

use super::reference::{self, Problem};
use super::{Kernel, State, WeightGrads, backward, decode, decode_each, forward};
use crate::check::{
    assert_close, assert_same_bits, largest, numbers, on_threads, slopes, weighted, wide,
};
use crate::{Branches, Columns, ColumnsMut, Device, Tensor, Tree};

/// Columns before those that are convolved, and after.
const AROUND: usize = 3;

struct Case {
    branches: Branches,
    channels: usize,
    taps: usize,
    x: Vec<f32>,
    dy: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
}

fn branches(trees: &[(usize, &[usize])]) -> Branches {
    let mut start = 0;
    let tree = |&(prompt, completions): &(usize, &[usize])| {
        let tree = Tree { start, prompt, completions: completions.to_vec() };
        start += tree.rows();
        tree
    };
    Branches::new(trees.iter().map(tree).collect())
}

/// Some columns in the middle of a wider tensor.
fn in_the_middle(device: &Device, values: &[f32], cols: usize) -> Tensor {
    let rows = values.len() / cols.max(1);
    let mut tensor = Tensor::zeros(device, rows, cols + 2 * AROUND);
    for (row, values) in values.chunks_exact(cols).enumerate() {
        tensor.row_mut(row).fill(f32::NAN);
        tensor.row_mut(row)[AROUND..AROUND + cols].copy_from_slice(values);
    }
    tensor
}

impl Case {
    fn new(trees: &[(usize, &[usize])], (channels, taps): (usize, usize), seed: u64) -> Self {
        let branches = branches(trees);
        let rows = branches.rows();
        Self {
            branches,
            channels,
            taps,
            x: numbers(seed, rows * channels, 2.0),
            dy: numbers(seed + 1, rows * channels, 1.0),
            weight: numbers(seed + 2, channels * taps, 1.0),
            bias: numbers(seed + 3, channels, 1.0),
        }
    }

    fn kernel(&self) -> Kernel<'_> {
        Kernel { weight: &self.weight, bias: Some(&self.bias), taps: self.taps }
    }

    fn run(&self, device: &Device) -> Results {
        let rows = self.branches.rows();
        let x = in_the_middle(device, &self.x, self.channels);
        let columns = Columns { tensor: &x, first: AROUND };
        let y = forward(device, columns, self.kernel(), &self.branches).into_vec();
        let dy = Tensor::from_vec(device, rows, self.channels, self.dy.clone());
        let mut dx = Tensor::zeros(device, rows, self.channels + 2 * AROUND);
        let (mut dweight, mut dbias) = (vec![0.0; self.weight.len()], vec![0.0; self.channels]);
        let grads = WeightGrads { weight: &mut dweight, bias: Some(&mut dbias) };
        let into = ColumnsMut { tensor: &mut dx, first: AROUND };
        backward(device, &dy, (columns, self.kernel(), &self.branches), into, Some(grads));
        let inside = |row: usize| dx.row(row)[AROUND..AROUND + self.channels].to_vec();
        for row in 0..rows {
            let row = dx.row(row);
            let outside = row[..AROUND].iter().chain(&row[AROUND + self.channels..]);
            assert!(outside.into_iter().all(|value| *value == 0.0), "other columns stay");
        }
        Results { y, dx: (0..rows).flat_map(inside).collect(), dweight, dbias }
    }

    fn check(&self, device: &Device) {
        let wide_case = [&self.x, &self.weight, &self.bias].map(|values| wide(values));
        let [x, weight, bias] = &wide_case;
        let problem = Problem { branches: &self.branches, x, weight, bias };
        let want = reference::backward(problem, &wide(&self.dy));
        let got = self.run(device);
        for (what, got, want) in [
            ("y", got.y, reference::forward(problem)),
            ("dx", got.dx, want.x),
            ("dweight", got.dweight, want.weight),
            ("dbias", got.dbias, want.bias),
        ] {
            let tolerance = (CONVOLUTION_F32, largest(&want).max(1.0));
            assert_close(what, &wide(&got), &want, tolerance);
        }
    }
}

/// Branches shorter than the taps, prompts shorter than the taps, none, several trees.
const TREES: [&[(usize, &[usize])]; 6] = [
    &[(5, &[1, 2, 6])],
    &[(1, &[1, 4])],
    &[(0, &[2, 5])],
    &[(2, &[3, 0]), (7, &[]), (3, &[1, 1])],
    &[(1, &[])],
    &[(0, &[1])],
];

#[test]
fn the_reference_has_its_own_slopes() {
    for trees in TREES {
        let case = Case::new(trees, (3, 4), 1);
        let [x, weight, bias, dy] =
            [&case.x, &case.weight, &case.bias, &case.dy].map(|values| wide(values));
        let loss = |x: &[f64], weight: &[f64], bias: &[f64]| {
            let problem = Problem { branches: &case.branches, x, weight, bias };
            weighted(&reference::forward(problem), &dy)
        };
        let problem = Problem { branches: &case.branches, x: &x, weight: &weight, bias: &bias };
        let got = reference::backward(problem, &dy);
        let by_x = slopes(&x, |x| loss(x, &weight, &bias));
        let by_weight = slopes(&weight, |weight| loss(&x, weight, &bias));
        let by_bias = slopes(&bias, |bias| loss(&x, &weight, bias));
        for (what, got, want) in
            [("dx", got.x, by_x), ("dweight", got.weight, by_weight), ("dbias", got.bias, by_bias)]
        {
            assert_close(what, &got, &want, (SLOPE_F64, largest(&want)));
        }
    }
}

#[test]
fn every_tree_on_every_path() {
    for device in Device::every_cpu() {
        for trees in TREES {
            for shape in [(1, 1), (3, 4), (33, 4), (150, 2)] {
                Case::new(trees, shape, 7).check(&device);
            }
        }
        let mut unbiased = Case::new(TREES[0], (40, 4), 3);
        unbiased.bias.fill(0.0);
        let with = unbiased.run(&device).y;
        let x = in_the_middle(&device, &unbiased.x, 40);
        let columns = Columns { tensor: &x, first: AROUND };
        let kernel = Kernel { bias: None, ..unbiased.kernel() };
        let without = forward(&device, columns, kernel, &unbiased.branches);
        assert_same_bits("no bias is a bias of zero", without.as_slice(), &with);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_tree_on_every_path(
        prompt in 0_usize..20,
        completions in prop::collection::vec(0_usize..12, 0..4),
        shape in (1_usize..70, 1_usize..6),
        seed: u32,
    ) {
        for device in Device::every_cpu() {
            Case::new(&[(prompt, &completions), (3, &[1, 9])], shape, seed.into()).check(&device);
        }
    }
}

/// A branch has the bits of prompt and completion as one sequence.
#[test]
fn branches_continue_their_prompt() {
    let case = Case::new(&[(6, &[5, 2])], (37, 4), 11);
    for device in Device::every_cpu() {
        let y = case.run(&device).y;
        for rows in [6..11, 11..13] {
            let mut alone = Case::new(&[(6 + rows.len(), &[])], (37, 4), 11);
            alone.x = [&case.x[..6 * 37], &case.x[rows.start * 37..rows.end * 37]].concat();
            let got = alone.run(&device).y;
            assert_same_bits("y", &got[6 * 37..], &y[rows.start * 37..rows.end * 37]);
        }
    }
}

/// Bits do not depend on threads, on other trees, or on rows between trees.
#[test]
fn company_does_not_matter() {
    let case = Case::new(&[(9, &[5, 12]), (4, &[30])], (131, 4), 5);
    let alone = Case {
        branches: branches(&[(4, &[30])]),
        x: case.x[26 * 131..].to_vec(),
        dy: case.dy[26 * 131..].to_vec(),
        weight: case.weight.clone(),
        bias: case.bias.clone(),
        ..case
    };
    for device in Device::every_cpu() {
        let one = on_threads(1, || case.run(&device));
        let two = on_threads(3, || case.run(&device));
        for (what, one, two) in [
            ("y", &one.y, &two.y),
            ("dx", &one.dx, &two.dx),
            ("dweight", &one.dweight, &two.dweight),
            ("dbias", &one.dbias, &two.dbias),
        ] {
            assert_same_bits(what, one, two);
        }
        let alone = alone.run(&device);
        assert_same_bits("y", &alone.y, &one.y[26 * 131..]);
        assert_same_bits("dx", &alone.dx, &one.dx[26 * 131..]);
    }
}

#[test]
fn decoding_continues_what_forward_began() {
    let case = Case::new(&[(40, &[])], (35, 4), 13);
    for device in Device::every_cpu() {
        let want = case.run(&device).y;
        let part = |rows: std::ops::Range<usize>| {
            let values = case.x[rows.start * 35..rows.end * 35].to_vec();
            Tensor::from_vec(&device, rows.len(), 35, values)
        };
        let mut state = State::new(35, 4);
        for rows in [0..1, 1..3, 3..20, 20..21, 21..39] {
            let x = part(rows.clone());
            let got = decode(&device, Columns::all(&x), case.kernel(), &mut state);
            assert_same_bits("rows", got.as_slice(), &want[rows.start * 35..rows.end * 35]);
        }
        // Two sequences at different places, a row each; one of them is a fork.
        let (mut early, mut late) = (State::new(35, 4), state.clone());
        let x = part(0..1);
        decode(&device, Columns::all(&x), case.kernel(), &mut early);
        let x = Tensor::from_vec(&device, 2, 35, [&case.x[35..70], &case.x[39 * 35..]].concat());
        let states = &mut [&mut early, &mut late];
        let got = decode_each(&device, Columns::all(&x), case.kernel(), states);
        assert_same_bits("early", got.row(0), &want[35..70]);
        assert_same_bits("late", got.row(1), &want[39 * 35..]);
        assert_eq!(state.bytes(), 3 * 35 * 4);
        assert_ne!(state, late, "the fork moved on alone");
    }
}
