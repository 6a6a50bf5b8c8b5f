//! Slopes of the reference, the fast version beside it, and promises about bits.

use proptest::prelude::*;
use testkit::tolerance::{ATTENTION_BF16, ATTENTION_F32, SLOPE_F64};

use super::reference::{self, Problem};
use super::{KvCache, Saved, Scoring, Shape, backward, decode, decode_each, forward, part_rows};
use crate::check::{
    assert_close, assert_same_bits, largest, numbers, on_threads, slopes, weighted, wide,
};
use crate::cpu::round::to_bf16;
use crate::{Branches, Device, Heads, Operand, Precision, Tensor, Tree};

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Trees one after the other: the rows of each prompt, and of its completions.
fn branches(trees: &[(usize, &[usize])]) -> Branches {
    let mut start = 0;
    let tree = |&(prompt, completions): &(usize, &[usize])| {
        let tree = Tree { start, prompt, completions: completions.to_vec() };
        start += tree.rows();
        tree
    };
    Branches::new(trees.iter().map(tree).collect())
}

const fn heads(query: usize, key_value: usize, dim: usize) -> Heads {
    Heads { query, key_value, dim }
}

/// Trees, heads, queries with keys and values, and a gradient by the output.
struct Case {
    branches: Branches,
    heads: Heads,
    scoring: Scoring,
    qkv: Vec<f32>,
    d_out: Vec<f32>,
}

/// What the fast version makes of a case.
struct Results {
    out: Vec<f32>,
    lse: Vec<f32>,
    d_qkv: Vec<f32>,
}

impl Case {
    fn new(trees: &[(usize, &[usize])], heads: Heads, (seed, magnitude): (u64, f32)) -> Self {
        let branches = branches(trees);
        let rows = branches.rows();
        Self {
            heads,
            scoring: Scoring::scaled(1.0 / (heads.dim as f32).sqrt()),
            qkv: numbers(seed, rows * heads.qkv_cols(), magnitude),
            d_out: numbers(seed + 1, rows * heads.query * heads.dim, 1.0),
            branches,
        }
    }

    /// The same numbers, scored otherwise.
    fn scored(mut self, softcap: Option<f32>, window: Option<usize>) -> Self {
        self.scoring = Scoring { softcap, window, ..self.scoring };
        self
    }

    /// The same numbers with fewer rows and other trees.
    fn part(&self, rows: &[(usize, usize)], trees: &[(usize, &[usize])]) -> Self {
        let pick = |values: &[f32], cols: usize| {
            rows.iter().flat_map(|(start, end)| values[start * cols..end * cols].to_vec()).collect()
        };
        Self {
            branches: branches(trees),
            qkv: pick(&self.qkv, self.heads.qkv_cols()),
            d_out: pick(&self.d_out, self.heads.query * self.heads.dim),
            ..*self
        }
    }

    fn run(&self, device: &Device, precision: Precision) -> Results {
        let Self { branches, heads, scoring, .. } = self;
        let rows = branches.rows();
        let qkv = Tensor::from_vec(device, rows, heads.qkv_cols(), self.qkv.clone());
        let shape = Shape { branches, heads: *heads, scoring: *scoring };
        let (out, lse) = forward(device, precision, &qkv, shape);
        let d_out = Tensor::from_vec(device, rows, heads.query * heads.dim, self.d_out.clone());
        let kept = Operand::new(device, precision, &qkv);
        let saved = Saved { qkv: &kept, out: &out, lse: &lse };
        let d_qkv = backward(device, &d_out, saved, shape).into_vec();
        Results { out: out.to_tensor(device).into_vec(), lse, d_qkv }
    }

    fn problem(&self) -> Problem<'_, f64> {
        Problem {
            branches: &self.branches,
            heads: self.heads,
            scale: f64::from(self.scoring.scale),
            softcap: self.scoring.softcap.map(f64::from),
            window: self.scoring.window,
        }
    }

    /// Fails where the fast version strays from the reference on the same rounded numbers.
    fn check(&self, device: &Device, precision: Precision) {
        let rounded = |values: &[f32]| match precision {
            Precision::F32 => wide(values),
            Precision::Bf16 => values.iter().map(|&x| f64::from(to_bf16(x))).collect(),
        };
        let (qkv, d_out) = (rounded(&self.qkv), rounded(&self.d_out));
        let (out, lse) = reference::forward(self.problem(), &qkv);
        let got = self.run(device, precision);
        // From the output as it was kept: its rounding moves a row's gradients all the same way.
        let kept = wide(&got.out);
        let d_qkv = reference::backward(self.problem(), &qkv, (&kept, &lse), &d_out);
        let tolerance = match precision {
            Precision::F32 => ATTENTION_F32,
            Precision::Bf16 => ATTENTION_BF16,
        };
        let what = |part: &str| {
            format!("{part}, {}, {precision:?}, {:?}", device.kernel_path(), self.heads)
        };
        let close = |part: &str, got: &[f32], want: &[f64], tolerance: f64| {
            assert_close(&what(part), &wide(got), want, (tolerance, largest(want).max(0.1)));
        };
        close("lse", &got.lse, &lse, ATTENTION_F32);
        close("out", &got.out, &out, tolerance);
        close("d_qkv", &got.d_qkv, &d_qkv, tolerance);
    }
}

/// Trees with a branch point at either end, one-token completions, several trees, none.
const TREES: [&[(usize, &[usize])]; 8] = [
    &[(1, &[3, 2])],
    &[(0, &[2, 3])],
    &[(4, &[1, 1])],
    &[(3, &[])],
    &[(2, &[3])],
    &[(2, &[1, 3, 2])],
    &[(2, &[2, 1]), (1, &[1])],
    &[(3, &[0, 2])],
];

#[test]
fn the_reference_has_its_own_slopes() {
    for trees in TREES {
        for (heads, softcap, window) in [
            (heads(1, 1, 4), None, None),
            (heads(3, 1, 5), Some(0.7), None),
            (heads(4, 2, 3), None, Some(2)),
            (heads(2, 1, 3), Some(1.5), Some(3)),
        ] {
            let case = Case::new(trees, heads, (3, 1.5)).scored(softcap, window);
            let (qkv, d_out) = (wide(&case.qkv), wide(&case.d_out));
            let loss = |qkv: &[f64]| weighted(&reference::forward(case.problem(), qkv).0, &d_out);
            let (out, lse) = reference::forward(case.problem(), &qkv);
            let got = reference::backward(case.problem(), &qkv, (&out, &lse), &d_out);
            let want = slopes(&qkv, loss);
            assert_close("d_qkv", &got, &want, (SLOPE_F64, largest(&want)));
        }
    }
}

#[test]
fn small_trees_on_every_path() {
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            for trees in TREES {
                for heads in [heads(1, 1, 4), heads(3, 1, 5), heads(8, 1, 8), heads(2, 2, 33)] {
                    for (softcap, window) in [(None, None), (Some(0.5), None), (None, Some(3))] {
                        let case = Case::new(trees, heads, (7, 1.0)).scored(softcap, window);
                        case.check(&device, precision);
                    }
                }
            }
            // Means over one column keep every rounding error of the output.
            Case::new(&[(8, &[14])], heads(3, 1, 1), (7, 3.7)).check(&device, precision);
        }
    }
}

#[test]
fn many_blocks_on_every_path() {
    let trees: [&[(usize, &[usize])]; 3] =
        [&[(131, &[257, 33])], &[(40, &[]), (1, &[129, 64, 1])], &[(300, &[])]];
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            for (trees, heads) in
                trees.iter().zip([heads(3, 1, 64), heads(2, 1, 80), heads(2, 2, 7)])
            {
                // A window may end inside a panel, a block, the prompt, or past all of it.
                for window in [None, Some(1), Some(20), Some(150), Some(1000)] {
                    Case::new(trees, heads, (11, 1.0))
                        .scored(None, window)
                        .check(&device, precision);
                }
                Case::new(trees, heads, (11, 1.0))
                    .scored(Some(2.0), Some(140))
                    .check(&device, precision);
            }
        }
    }
}

/// Rows between trees are passed over: zeros for them, the same bits for all others.
#[test]
fn rows_between_trees_change_nothing() {
    let (close, heads) =
        (Case::new(&[(3, &[2, 4]), (5, &[1])], heads(4, 2, 16), (5, 1.0)), heads(4, 2, 16));
    let spread = |values: &[f32], cols: usize| {
        let (first, second) = values.split_at(9 * cols);
        [first, &vec![7.0; 2 * cols], second].concat()
    };
    let mut apart = close.branches.clone();
    apart.trees[1].start = 11;
    let wide = Case {
        branches: Branches::new(apart.trees),
        qkv: spread(&close.qkv, heads.qkv_cols()),
        d_out: spread(&close.d_out, heads.query * heads.dim),
        ..close
    };
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            let (close, wide) = (close.run(&device, precision), wide.run(&device, precision));
            for (what, close, wide, cols) in [
                ("out", &close.out, &wide.out, heads.query * heads.dim),
                ("lse", &close.lse, &wide.lse, heads.query),
                ("d_qkv", &close.d_qkv, &wide.d_qkv, heads.qkv_cols()),
            ] {
                assert_same_bits(what, &wide[..9 * cols], &close[..9 * cols]);
                assert_same_bits(what, &wide[11 * cols..], &close[9 * cols..]);
                assert!(wide[9 * cols..11 * cols].iter().all(|value| *value == 0.0), "{what}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_tree_on_every_path(
        prompt in 0_usize..70,
        completions in prop::collection::vec(1_usize..70, 0..3),
        (groups, ratio, dim) in (1_usize..3, 1_usize..4, 1_usize..40),
        (seed, magnitude) in (any::<u32>(), 0.1_f32..4.0),
        softcap in prop::option::of(0.2_f32..60.0),
        window in prop::option::of(1_usize..160),
    ) {
        let trees: &[(usize, &[usize])] = &[(prompt, &completions), (2, &[1])];
        let case = Case::new(trees, heads(groups * ratio, groups, dim), (seed.into(), magnitude))
            .scored(softcap, window);
        for device in Device::every_cpu() {
            for precision in PRECISIONS {
                case.check(&device, precision);
            }
        }
    }
}

#[test]
fn far_scores_neither_overflow_nor_vanish() {
    for device in Device::every_cpu() {
        // Scores to 3,000: one key takes all.
        let mut case = Case::new(&[(40, &[50])], heads(2, 1, 8), (5, 32.0));
        case.scoring.scale = 1.0;
        let got = case.run(&device, Precision::F32);
        assert!(got.out.iter().chain(&got.lse).chain(&got.d_qkv).all(|x| x.is_finite()));
        let (_, lse) = reference::forward(case.problem(), &wide(&case.qkv));
        assert_close("lse", &wide(&got.lse), &lse, (ATTENTION_F32, largest(&lse)));
    }
}

#[test]
fn a_tree_does_not_see_its_neighbours() {
    let heads = heads(3, 1, 12);
    let case = Case::new(&[(150, &[40, 7]), (37, &[131]), (5, &[9, 1])], heads, (13, 1.0))
        .scored(Some(3.0), Some(90));
    let alone = case.part(&[(197, 365)], &[(37, &[131])]);
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            let (all, one) = (case.run(&device, precision), alone.run(&device, precision));
            let (cols, out) = (heads.qkv_cols(), heads.query * heads.dim);
            assert_same_bits("out", &one.out, &all.out[197 * out..365 * out]);
            assert_same_bits("lse", &one.lse, &all.lse[197 * heads.query..365 * heads.query]);
            assert_same_bits("d_qkv", &one.d_qkv, &all.d_qkv[197 * cols..365 * cols]);
        }
    }
}

#[test]
fn a_branch_does_not_see_its_siblings() {
    let heads = heads(2, 1, 12);
    let case = Case::new(&[(45, &[131, 70, 33])], heads, (17, 1.0));
    let alone = case.part(&[(0, 45), (176, 246)], &[(45, &[70])]);
    let (cols, width) = (heads.qkv_cols(), heads.query * heads.dim);
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            let (all, one) = (case.run(&device, precision), alone.run(&device, precision));
            for (mine, theirs) in [(0..45, 0..45), (45..115, 176..246)] {
                let part = |values: &[f32], rows: &std::ops::Range<usize>, cols: usize| {
                    values[rows.start * cols..rows.end * cols].to_vec()
                };
                let same = |what: &str, one: &[f32], all: &[f32], cols: usize| {
                    assert_same_bits(what, &part(one, &mine, cols), &part(all, &theirs, cols));
                };
                same("out", &one.out, &all.out, width);
                same("lse", &one.lse, &all.lse, heads.query);
                if mine.start > 0 {
                    same("d_qkv", &one.d_qkv, &all.d_qkv, cols);
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_see_later_rows() {
    let heads = heads(1, 1, 16);
    let case = Case::new(&[(3, &[200])], heads, (19, 1.0));
    for rows in [1, 31, 32, 33, 128, 129] {
        let short = case.part(&[(0, 3 + rows)], &[(3, &[rows])]);
        for device in Device::every_cpu() {
            for precision in PRECISIONS {
                let (all, one) = (case.run(&device, precision), short.run(&device, precision));
                assert_same_bits("out", &one.out, &all.out[..(3 + rows) * heads.dim]);
            }
        }
    }
}

#[test]
fn as_many_threads_as_you_like() {
    let case = Case::new(&[(150, &[140, 67]), (37, &[31])], heads(6, 2, 16), (23, 1.0));
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            let one = on_threads(1, || case.run(&device, precision));
            for threads in [2, 5] {
                let many = on_threads(threads, || case.run(&device, precision));
                assert_same_bits("out", &many.out, &one.out);
                assert_same_bits("lse", &many.lse, &one.lse);
                assert_same_bits("d_qkv", &many.d_qkv, &one.d_qkv);
            }
        }
    }
}

#[test]
fn decoding_continues_what_forward_began() {
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            for (heads, softcap, window) in [
                (heads(3, 1, 64), None, None),
                (heads(4, 2, 5), None, None),
                (heads(4, 2, 5), None, Some(45)),
                (heads(2, 1, 24), Some(1.2), Some(7)),
            ] {
                let case = Case::new(&[(200, &[])], heads, (29, 1.0)).scored(softcap, window);
                let whole = case.run(&device, precision).out;
                let (cols, width) = (heads.qkv_cols(), heads.query * heads.dim);
                let mut cache = KvCache::new(heads);
                // A long prompt, a long turn, a short one, single steps.
                for rows in [0..130, 130..180, 180..190, 190..191, 191..192] {
                    let qkv = case.qkv[rows.start * cols..rows.end * cols].to_vec();
                    let qkv = Tensor::from_vec(&device, rows.len(), cols, qkv);
                    let mut fork = cache.clone();
                    let out = decode(&device, precision, &qkv, &mut cache, case.scoring);
                    assert_eq!(cache.len(), rows.end);
                    let tolerance = match precision {
                        Precision::F32 => ATTENTION_F32,
                        Precision::Bf16 => ATTENTION_BF16,
                    };
                    let want = wide(&whole[rows.start * width..rows.end * width]);
                    let got = wide(out.to_tensor(&device).as_slice());
                    assert_close("out", &got, &want, (tolerance, largest(&want)));
                    // A cache that is cut back, and one that was forked before, go the same way.
                    let again = decode(&device, precision, &qkv, &mut fork, case.scoring);
                    assert_eq!((&again, &fork), (&out, &cache));
                    fork.truncate(rows.start);
                    assert_eq!(decode(&device, precision, &qkv, &mut fork, case.scoring), out);
                }
            }
        }
    }
}

#[test]
fn rows_of_several_sequences_have_the_bits_they_have_alone() {
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            for heads in [heads(3, 1, 64), heads(4, 2, 5)] {
                let case = Case::new(&[(200, &[])], heads, (31, 1.0));
                let cols = heads.qkv_cols();
                let rows = |range: std::ops::Range<usize>| {
                    let values = case.qkv[range.start * cols..range.end * cols].to_vec();
                    Tensor::from_vec(&device, range.len(), cols, values)
                };
                let mut caches: Vec<KvCache> = [0, 1, 40, 150]
                    .map(|read| {
                        let mut cache = KvCache::new(heads);
                        decode(&device, precision, &rows(0..read), &mut cache, case.scoring);
                        cache
                    })
                    .to_vec();
                let mut alone = caches.clone();
                let next = rows(190..194);
                let mut refs: Vec<&mut KvCache> = caches.iter_mut().collect();
                let together = decode_each(&device, precision, &next, &mut refs, case.scoring);
                let together = together.to_tensor(&device);
                for (index, cache) in alone.iter_mut().enumerate() {
                    let row = rows(190 + index..191 + index);
                    let one = decode(&device, precision, &row, cache, case.scoring);
                    assert_same_bits("out", one.to_tensor(&device).row(0), together.row(index));
                }
                assert_eq!(alone, caches);
            }
        }
    }
}

#[test]
fn a_prompt_decoded_in_parts_has_the_bits_of_one_decoded_at_once() {
    for left in 0..900 {
        let part = part_rows(left, 200);
        assert!(part == left || (part == 256 && 16 <= left - part), "{part} of {left}");
    }
    for device in Device::every_cpu() {
        for precision in PRECISIONS {
            for rows in [144, 271, 300] {
                let case = Case::new(&[(rows, &[])], heads(4, 2, 16), (37, 1.0))
                    .scored(None, (rows == 271).then_some(33));
                let cols = case.heads.qkv_cols();
                let read = |most: usize| {
                    let (mut cache, mut out) = (KvCache::new(case.heads), Vec::new());
                    while cache.len() < rows {
                        let start = cache.len();
                        let end = start + part_rows(rows - start, most);
                        let values = case.qkv[start * cols..end * cols].to_vec();
                        let qkv = Tensor::from_vec(&device, end - start, cols, values);
                        let part = decode(&device, precision, &qkv, &mut cache, case.scoring);
                        out.extend_from_slice(part.to_tensor(&device).as_slice());
                    }
                    out
                };
                assert_same_bits("out", &read(1), &read(rows));
            }
        }
    }
}
