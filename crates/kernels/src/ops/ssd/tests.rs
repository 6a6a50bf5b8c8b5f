//! Slopes of the recurrence, chunks beside it, the fast version beside both, and promises about bits.

use proptest::prelude::*;
use testkit::tolerance::{SCAN_F32, SCAN_F64, SLOPE_F64};

use super::reference::{self, Problem};
use super::{
    CHUNK, Gradients, Input, Layout, Scan, State, WeightGrads, backward, chunked, decode,
    decode_each, forward,
};
use crate::check::{
    assert_close, assert_same_bits, largest, numbers, on_threads, slopes, weighted, wide,
};
use crate::{Branches, Columns, ColumnsMut, Device, Tensor, Tree};

/// Columns before the raw steps, and after.
const AROUND: usize = 3;

const fn layout(heads: usize, dim: usize, groups: usize, state: usize) -> Layout {
    Layout { heads, dim, groups, state }
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

struct Case {
    branches: Branches,
    layout: Layout,
    limit: (f32, f32),
    xbc: Vec<f32>,
    dt: Vec<f32>,
    dy: Vec<f32>,
    a_log: Vec<f32>,
    d: Vec<f32>,
    dt_bias: Vec<f32>,
}

/// The same numbers in f64.
struct Wide<'a> {
    case: &'a Case,
    values: [Vec<f64>; 5],
}

impl Wide<'_> {
    fn problem(&self) -> Problem<'_, f64> {
        let [xbc, dt, a_log, d, dt_bias] = &self.values;
        let limit = (f64::from(self.case.limit.0), f64::from(self.case.limit.1));
        let (branches, layout) = (&self.case.branches, self.case.layout);
        Problem { branches, layout, limit, xbc, dt, a_log, d, dt_bias }
    }
}

/// What the fast version makes of a case: results, then gradients by `xbc`, `dt`, `a_log`, `d` and
/// `dt_bias`.
type Results = [Vec<f32>; 6];

const NAMES: [&str; 6] = ["y", "d_xbc", "d_dt", "da_log", "dd", "ddt_bias"];

impl Case {
    fn new(trees: &[(usize, &[usize])], layout: Layout, seed: u64) -> Self {
        let branches = branches(trees);
        let (rows, heads) = (branches.rows(), layout.heads);
        let spread = |values: Vec<f32>, middle: f32| values.iter().map(|x| x + middle).collect();
        Self {
            xbc: numbers(seed, rows * layout.xbc_cols(), 1.0),
            dt: numbers(seed + 1, rows * heads, 2.0),
            dy: numbers(seed + 2, rows * layout.inner(), 1.0),
            // Heads that forget at once, and heads that remember some hundred rows.
            a_log: spread(numbers(seed + 3, heads, 3.0), -1.0),
            d: numbers(seed + 4, heads, 2.0),
            dt_bias: spread(numbers(seed + 5, heads, 1.0), -1.5),
            limit: (0.0, f32::INFINITY),
            branches,
            layout,
        }
    }

    fn wide(&self) -> Wide<'_> {
        let values = [&self.xbc, &self.dt, &self.a_log, &self.d, &self.dt_bias];
        Wide { case: self, values: values.map(|values| wide(values)) }
    }

    /// The same numbers with fewer rows and other trees.
    fn part(&self, rows: &[(usize, usize)], trees: &[(usize, &[usize])]) -> Self {
        let pick = |values: &[f32], cols: usize| {
            rows.iter().flat_map(|(start, end)| values[start * cols..end * cols].to_vec()).collect()
        };
        Self {
            branches: branches(trees),
            xbc: pick(&self.xbc, self.layout.xbc_cols()),
            dt: pick(&self.dt, self.layout.heads),
            dy: pick(&self.dy, self.layout.inner()),
            a_log: self.a_log.clone(),
            d: self.d.clone(),
            dt_bias: self.dt_bias.clone(),
            ..*self
        }
    }

    fn scan(&self) -> Scan<'_> {
        let Self { layout, limit, a_log, d, dt_bias, .. } = self;
        Scan { layout: *layout, limit: *limit, a_log, d, dt_bias }
    }

    /// Some rows as the scan takes them: the raw steps in the middle of a wider tensor.
    fn tensors(&self, device: &Device, rows: std::ops::Range<usize>) -> [Tensor; 2] {
        let (cols, heads) = (self.layout.xbc_cols(), self.layout.heads);
        let xbc = self.xbc[rows.start * cols..rows.end * cols].to_vec();
        let mut dt = Tensor::zeros(device, rows.len(), heads + 2 * AROUND);
        for (place, row) in rows.clone().enumerate() {
            dt.row_mut(place).fill(f32::NAN);
            dt.row_mut(place)[AROUND..AROUND + heads]
                .copy_from_slice(&self.dt[row * heads..(row + 1) * heads]);
        }
        [Tensor::from_vec(device, rows.len(), cols, xbc), dt]
    }

    fn run(&self, device: &Device) -> Results {
        let (rows, heads) = (self.branches.rows(), self.layout.heads);
        let [xbc, dt] = self.tensors(device, 0..rows);
        let input = Input { xbc: &xbc, dt: Columns { tensor: &dt, first: AROUND } };
        let y = forward(device, input, &self.scan(), &self.branches);
        let dy = Tensor::from_vec(device, rows, self.layout.inner(), self.dy.clone());
        let mut d_dt = Tensor::zeros(device, rows, heads + 2 * AROUND);
        let [mut a_log, mut d, mut dt_bias] = [(); 3].map(|()| vec![0.0; heads]);
        let weights = WeightGrads { a_log: &mut a_log, d: &mut d, dt_bias: &mut dt_bias };
        let into = Gradients {
            dt: ColumnsMut { tensor: &mut d_dt, first: AROUND },
            weights: Some(weights),
        };
        let d_xbc = backward(device, &dy, input, (&self.scan(), &self.branches), into);
        let d_dt = (0..rows).flat_map(|row| d_dt.row(row)[AROUND..AROUND + heads].to_vec());
        [y.into_vec(), d_xbc.into_vec(), d_dt.collect(), a_log, d, dt_bias]
    }

    /// Fails where the fast version strays from the recurrence.
    fn check(&self, device: &Device) {
        let values = self.wide();
        let want = reference::backward(values.problem(), &wide(&self.dy));
        let want = [
            reference::forward(values.problem()),
            want.xbc,
            want.dt,
            want.a_log,
            want.d,
            want.dt_bias,
        ];
        let path = device.kernel_path();
        for ((name, got), want) in NAMES.iter().zip(self.run(device)).zip(want) {
            let what = format!("{name}, {path}, {:?}", self.layout);
            assert_close(&what, &wide(&got), &want, (SCAN_F32, largest(&want).max(0.1)));
        }
    }
}

/// Trees with a branch point at either end, one-token completions, several trees, none.
const TREES: [&[(usize, &[usize])]; 7] = [
    &[(1, &[3, 2])],
    &[(0, &[2, 3])],
    &[(4, &[1, 1])],
    &[(7, &[])],
    &[(3, &[1, 0, 6])],
    &[(2, &[2, 1]), (1, &[1])],
    &[(0, &[1])],
];

#[test]
fn the_recurrence_has_its_own_slopes() {
    for (index, trees) in TREES.into_iter().enumerate() {
        let mut case = Case::new(trees, layout(4, 2, 2, 3), 3);
        if index % 2 == 1 {
            case.limit = (0.15, 0.6);
        }
        let (values, dy) = (case.wide(), wide(&case.dy));
        let got = reference::backward(values.problem(), &dy);
        let got = [got.xbc, got.dt, got.a_log, got.d, got.dt_bias];
        for (place, got) in got.iter().enumerate() {
            let want = slopes(&values.values[place], |moved| {
                let mut all = values.values.clone();
                all[place] = moved.to_vec();
                let moved = Wide { case: &case, values: all };
                weighted(&reference::forward(moved.problem()), &dy)
            });
            assert_close(NAMES[place + 1], got, &want, (SLOPE_F64, largest(&want).max(1.0)));
        }
    }
}

/// More than two chunks, branch points inside a chunk, branches of one row.
#[test]
fn chunks_compute_the_recurrence() {
    let trees: [&[(usize, &[usize])]; 4] =
        [&[(21, &[1, 30])], &[(5, &[17]), (9, &[2, 1])], &[(40, &[])], &[(0, &[19, 3])]];
    for trees in trees {
        for layout in [layout(4, 3, 2, 5), layout(3, 2, 1, 4)] {
            let mut case = Case::new(trees, layout, 11);
            for limit in [(0.0, f32::INFINITY), (0.1, 0.5)] {
                case.limit = limit;
                let (values, dy) = (case.wide(), wide(&case.dy));
                let want = reference::backward(values.problem(), &dy);
                let want_y = reference::forward(values.problem());
                for chunk in [1, 8, 16, 64] {
                    let got = chunked::backward(values.problem(), &dy, chunk);
                    let y = chunked::forward(values.problem(), chunk);
                    let pairs = [
                        (&y, &want_y),
                        (&got.xbc, &want.xbc),
                        (&got.dt, &want.dt),
                        (&got.a_log, &want.a_log),
                        (&got.d, &want.d),
                        (&got.dt_bias, &want.dt_bias),
                    ];
                    for (name, (got, want)) in NAMES.iter().zip(pairs) {
                        assert_close(name, got, want, (SCAN_F64, largest(want)));
                    }
                }
            }
        }
    }
}

#[test]
fn small_trees_on_every_path() {
    for device in Device::every_cpu() {
        for trees in TREES {
            for layout in [layout(1, 1, 1, 1), layout(4, 8, 2, 16), layout(2, 33, 1, 40)] {
                let mut case = Case::new(trees, layout, 7);
                case.check(&device);
                case.limit = (0.15, 0.6);
                case.check(&device);
            }
        }
    }
}

#[test]
fn many_chunks_on_every_path() {
    let trees: [&[(usize, &[usize])]; 3] =
        [&[(131, &[200, 33])], &[(40, &[]), (1, &[129, 64, 1])], &[(3 * CHUNK, &[CHUNK])]];
    for device in Device::every_cpu() {
        for (trees, layout) in
            trees.iter().zip([layout(3, 64, 1, 32), layout(12, 16, 1, 33), layout(4, 32, 2, 128)])
        {
            Case::new(trees, layout, 13).check(&device);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_on_every_path(
        prompt in 0_usize..150,
        completions in prop::collection::vec(0_usize..80, 0..3),
        (groups, ratio) in (1_usize..3, 1_usize..4),
        (dim, state) in (1_usize..40, 1_usize..40),
        seed: u32,
    ) {
        let layout = layout(groups * ratio, dim, groups, state);
        let case = Case::new(&[(prompt, &completions), (2, &[1])], layout, seed.into());
        for device in Device::every_cpu() {
            case.check(&device);
        }
    }
}

/// Rates and steps that leave nothing of a state after a row, and such that leave all of it.
#[test]
fn far_decays_neither_overflow_nor_vanish() {
    for device in Device::every_cpu() {
        for (a_log, dt_bias) in [(5.0, 9.0), (-30.0, 0.0), (8.0, -20.0)] {
            let mut case = Case::new(&[(90, &[70])], layout(2, 4, 1, 4), 17);
            case.a_log.fill(a_log);
            case.dt_bias.fill(dt_bias);
            assert!(case.run(&device).iter().flatten().all(|value| value.is_finite()));
            case.check(&device);
        }
    }
}

#[test]
fn a_tree_does_not_see_its_neighbours() {
    let layout = layout(6, 12, 2, 9);
    let case = Case::new(&[(150, &[40, 7]), (37, &[131]), (5, &[9, 1])], layout, 19);
    let alone = case.part(&[(197, 365)], &[(37, &[131])]);
    let mut apart = case.part(&[(0, 365)], &[(150, &[40, 7]), (37, &[131])]);
    // Two rows between the trees.
    for (values, cols) in [
        (&mut apart.xbc, layout.xbc_cols()),
        (&mut apart.dt, layout.heads),
        (&mut apart.dy, layout.inner()),
    ] {
        let end = values.split_off(197 * cols);
        values.extend(vec![7.0; 2 * cols]);
        values.extend(end);
    }
    let mut trees = apart.branches.trees.clone();
    trees[1].start += 2;
    apart.branches = Branches::new(trees);
    let cols = [layout.inner(), layout.xbc_cols(), layout.heads];
    for device in Device::every_cpu() {
        let (all, one, apart) = (case.run(&device), alone.run(&device), apart.run(&device));
        for (place, cols) in cols.into_iter().enumerate() {
            let all = &all[place][197 * cols..365 * cols];
            assert_same_bits(NAMES[place], &one[place], all);
            assert_same_bits(NAMES[place], &apart[place][199 * cols..], all);
            let between = &apart[place][197 * cols..199 * cols];
            assert!(between.iter().all(|value| *value == 0.0), "{}", NAMES[place]);
        }
    }
}

#[test]
fn a_branch_does_not_see_its_siblings() {
    let layout = layout(4, 12, 1, 9);
    let case = Case::new(&[(75, &[131, 70, 33])], layout, 23);
    let alone = case.part(&[(0, 75), (206, 276)], &[(75, &[70])]);
    for device in Device::every_cpu() {
        let (all, one) = (case.run(&device), alone.run(&device));
        let cols = layout.inner();
        assert_same_bits("prompt", &one[0][..75 * cols], &all[0][..75 * cols]);
        for (place, cols) in
            [layout.inner(), layout.xbc_cols(), layout.heads].into_iter().enumerate()
        {
            let (mine, theirs) =
                (&one[place][75 * cols..145 * cols], &all[place][206 * cols..276 * cols]);
            assert_same_bits(NAMES[place], mine, theirs);
        }
    }
}

#[test]
fn a_row_does_not_see_later_rows() {
    let layout = layout(2, 16, 1, 8);
    let case = Case::new(&[(3, &[200])], layout, 29);
    for rows in [1, 31, 32, 33, 63, 64, 65, 129] {
        let short = case.part(&[(0, 3 + rows)], &[(3, &[rows])]);
        for device in Device::every_cpu() {
            let (all, one) = (case.run(&device), short.run(&device));
            assert_same_bits("y", &one[0], &all[0][..(3 + rows) * layout.inner()]);
        }
    }
}

#[test]
fn as_many_threads_as_you_like() {
    let case = Case::new(&[(150, &[140, 67]), (37, &[31])], layout(20, 8, 2, 16), 31);
    for device in Device::every_cpu() {
        let one = on_threads(1, || case.run(&device));
        for threads in [2, 5] {
            let many = on_threads(threads, || case.run(&device));
            for ((name, many), one) in NAMES.iter().zip(&many).zip(&one) {
                assert_same_bits(name, many, one);
            }
        }
    }
}

#[test]
fn decoding_continues_what_forward_began() {
    for device in Device::every_cpu() {
        for layout in [layout(4, 64, 1, 32), layout(4, 5, 2, 7)] {
            let case = Case::new(&[(330, &[])], layout, 37);
            let whole = &case.run(&device)[0];
            let cols = layout.inner();
            let mut state = State::new(layout);
            // Whole chunks keep the bits; after a cut inside one they are new.
            let parts = [0..2 * CHUNK, 2 * CHUNK..300, 300..320, 320..321, 321..322, 322..329];
            for rows in parts {
                let [xbc, dt] = case.tensors(&device, rows.clone());
                let input = Input { xbc: &xbc, dt: Columns { tensor: &dt, first: AROUND } };
                let mut fork = state.clone();
                let got = decode(&device, input, &case.scan(), &mut state);
                let want = &whole[rows.start * cols..rows.end * cols];
                if rows.end <= 300 {
                    assert_same_bits("rows", got.as_slice(), want);
                }
                let (got_wide, want) = (wide(got.as_slice()), wide(want));
                assert_close("rows", &got_wide, &want, (SCAN_F32, largest(&want)));
                let again = decode(&device, input, &case.scan(), &mut fork);
                assert!(again == got && fork == state, "a fork goes the same way");
            }
        }
    }
}

#[test]
fn rows_of_several_sequences_have_the_bits_they_have_alone() {
    let layout = layout(4, 40, 2, 16);
    let case = Case::new(&[(200, &[])], layout, 41);
    for device in Device::every_cpu() {
        let starts = [0, 1, 70, 150];
        let mut states = starts.map(|read| {
            let mut state = State::new(layout);
            let [xbc, dt] = case.tensors(&device, 0..read);
            let input = Input { xbc: &xbc, dt: Columns { tensor: &dt, first: AROUND } };
            decode(&device, input, &case.scan(), &mut state);
            state
        });
        let mut alone = states.clone();
        let one = |start: usize, state: &mut State| {
            let [xbc, dt] = case.tensors(&device, start..start + 1);
            let input = Input { xbc: &xbc, dt: Columns { tensor: &dt, first: AROUND } };
            decode(&device, input, &case.scan(), state).into_vec()
        };
        let want: Vec<_> =
            starts.into_iter().zip(&mut alone).map(|(start, state)| one(start, state)).collect();
        let together = starts.map(|start| (start, start + 1));
        let [xbc, dt] = case.part(&together, &[(4, &[])]).tensors(&device, 0..4);
        let input = Input { xbc: &xbc, dt: Columns { tensor: &dt, first: AROUND } };
        let mut each: Vec<&mut State> = states.iter_mut().collect();
        let got = decode_each(&device, input, &case.scan(), &mut each);
        for (row, want) in want.iter().enumerate() {
            assert_same_bits("row", got.row(row), want);
        }
        assert_eq!(states, alone);
        assert_eq!(states[0].bytes(), 4 * 2 * 16 * 32 * 4);
    }
}
