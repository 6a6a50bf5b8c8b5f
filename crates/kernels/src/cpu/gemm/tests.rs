//! The product beside plain loops, and what its chains promise.

use proptest::prelude::*;
use testkit::tolerance::F32_CHAIN;

use super::{Element, Left, Mode, Out, PANEL, panel_words, product};
use crate::check::{assert_close, assert_same_bits, numbers, wide};
use crate::cpu::pack::{rows_as_columns, rows_as_lines};
use crate::cpu::round::{Rounding, to_bf16};
use crate::{Cpu, Device, Precision};

/// Every way in which an operand can be stored here.
fn arithmetics() -> Vec<(Cpu, Rounding)> {
    let mut all = Vec::new();
    for Device::Cpu(cpu) in Device::every_cpu() {
        for precision in [Precision::F32, Precision::Bf16] {
            all.push((cpu, crate::operand::rounding(cpu, precision)));
        }
    }
    all
}

/// Rows of values as words, without gaps.
fn words((cpu, rounding): (Cpu, Rounding), values: &[f32], k: usize) -> Vec<u32> {
    let mut words = Vec::new();
    for row in values.chunks_exact(k) {
        let start = words.len();
        words.resize(start + rounding.element().words(k), 0);
        rounding.write(cpu, row, &mut words[start..]);
    }
    words
}

/// The plain product in f64 of rounded operands: `left [m, k]`, `right [n, k]`.
fn plain(rounding: Rounding, left: &[f32], right: &[f32], k: usize) -> Vec<f64> {
    let round = |values: &[f32]| -> Vec<f64> {
        let exact = rounding == Rounding::Exact;
        values.iter().map(|&v| f64::from(if exact { v } else { to_bf16(v) })).collect()
    };
    let (left, right) = (round(left), round(right));
    let dot = |l: &[f64], r: &[f64]| l.iter().zip(r).map(|(l, r)| l * r).sum();
    left.chunks_exact(k).flat_map(|l| right.chunks_exact(k).map(move |r| dot(l, r))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn both_left_sides_match_plain_loops(
        (rows, cols, k) in (1..30usize, 1..=PANEL, 1..70usize),
        (extra, seed) in (0..3usize, 0..1000u64),
    ) {
        let (left, right) = (numbers(seed, rows * k, 1.0), numbers(seed + 1, cols * k, 1.0));
        let start = numbers(seed + 2, rows * (cols + extra), 1.0);
        for (cpu, rounding) in arithmetics() {
            let element = rounding.element();
            let count = element.words(k);
            let want = plain(rounding, &left, &right, k);
            let mut panel = vec![7; panel_words(count)];
            let read = |row: usize, out: &mut [f32]| out.copy_from_slice(&right[row * k..][..k]);
            rows_as_columns((cpu, rounding), (cols, k), read, &mut panel);
            let left_words = words((cpu, rounding), &left, k);
            let by_rows = Left::new(&left_words, rows, count);
            for mode in [Mode::Replace, Mode::Add] {
                let mut got = start.clone();
                let mut out = Out::new(&mut got, cols + extra, cols);
                product((cpu, element), by_rows, &panel, &mut out, mode);
                for (row, (got, start)) in
                    got.chunks(cols + extra).zip(start.chunks(cols + extra)).enumerate()
                {
                    let before = |col: usize| if mode == Mode::Add { start[col] } else { 0.0 };
                    let want: Vec<f64> =
                        (0..cols).map(|c| want[row * cols + c] + f64::from(before(c))).collect();
                    assert_close("product", &wide(&got[..cols]), &want, (F32_CHAIN, 1.0));
                    assert_same_bits("beside the tile", &got[cols..], &start[cols..]);
                }
            }
            // The same left side read sideways from a panel has the same bits.
            let mut by_panel = vec![0.0; rows * cols];
            let mut by_row = by_panel.clone();
            for first in (0..rows).step_by(PANEL) {
                let part = first..rows.min(first + PANEL);
                let lines: Vec<Vec<f32>> = (0..k)
                    .map(|at| part.clone().map(|row| left[row * k + at]).collect())
                    .collect();
                let mut turned = vec![7; panel_words(count)];
                rows_as_lines((cpu, rounding), 0..k, |at| &lines[at], &mut turned);
                let side = Left::of_panel(&turned, part.len(), count);
                let mut out = Out::new(&mut by_panel[first * cols..], cols, cols);
                product((cpu, element), side, &panel, &mut out, Mode::Replace);
            }
            let mut out = Out::new(&mut by_row, cols, cols);
            product((cpu, element), by_rows, &panel, &mut out, Mode::Replace);
            assert_same_bits("sideways", &by_panel, &by_row);
        }
    }
}

#[test]
fn a_sum_may_be_cut_between_words_and_a_block_between_rows() {
    let (rows, k) = (25, 50);
    let (left, right) = (numbers(1, rows * k, 1.0), numbers(2, PANEL * k, 1.0));
    for (cpu, rounding) in arithmetics() {
        let element = rounding.element();
        let count = element.words(k);
        let mut panel = vec![0; panel_words(count)];
        let read = |row: usize, out: &mut [f32]| out.copy_from_slice(&right[row * k..][..k]);
        rows_as_columns((cpu, rounding), (PANEL, k), read, &mut panel);
        let left_words = words((cpu, rounding), &left, k);
        let side = Left::new(&left_words, rows, count);
        let mut whole = vec![0.0; rows * PANEL];
        let mut out = Out::new(&mut whole, PANEL, PANEL);
        product((cpu, element), side, &panel, &mut out, Mode::Replace);
        for cut in [1, 7, count - 1] {
            for row in [1, 5, 12, 24] {
                let mut parts = vec![0.0; rows * PANEL];
                for rows in [0..row, row..rows] {
                    for words in [0..cut, cut..count] {
                        let side = side.row_range(rows.clone()).word_range(words.clone());
                        let panel = &panel[panel_words(words.start)..];
                        let mut out = Out::new(&mut parts[rows.start * PANEL..], PANEL, PANEL);
                        product((cpu, element), side, panel, &mut out, Mode::Add);
                    }
                }
                assert_same_bits("in parts", &parts, &whole);
            }
        }
    }
}

#[test]
#[should_panic(expected = "bf16 words need the instruction")]
fn bf16_words_are_refused_where_nothing_multiplies_them() {
    let cpu = Cpu::with(crate::Isa::Portable).unwrap();
    let mut out = [0.0; 1];
    let mut out = Out::new(&mut out, 1, 1);
    let side = Left::new(&[0], 1, 1);
    product((cpu, Element::Bf16), side, &[0; PANEL], &mut out, Mode::Replace);
}

#[test]
#[should_panic(expected = "a place for each result")]
fn a_target_that_is_too_small_is_refused() {
    let Device::Cpu(cpu) = Device::cpu();
    let mut out = [0.0; 5];
    let mut out = Out::new(&mut out, 3, 3);
    let side = Left::new(&[0, 0], 2, 1);
    product((cpu, Element::F32), side, &[0; PANEL], &mut out, Mode::Replace);
}
