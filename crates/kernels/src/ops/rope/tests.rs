//! The fast rotation against its reference, transformers, calculus and itself.

use proptest::prelude::*;
use serde_json::Value;
use testkit::tolerance::{
    F32_GOLDEN, FREQUENCY_F32, ONE_F32_ROUNDING, ROTATION_F32, SAME_F64_ARITHMETIC, SLOPE_F64,
};

use super::sincos::sin_cos;
use super::{LONG, Scaling, Table, backward, forward, reference};
use crate::check::{
    array, array_f32, assert_close, assert_same_bits, count, golden, numbers, on_threads, slopes,
    tensor, weighted, wide,
};
use crate::{Device, Heads, Tensor};

fn scaling(value: &Value) -> Scaling {
    let number = |key: &str| value[key].as_f64().unwrap();
    match value["rope_type"].as_str().unwrap() {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: number("factor") },
        "llama3" => Scaling::Ramp {
            factor: number("factor"),
            low_freq_factor: number("low_freq_factor"),
            high_freq_factor: number("high_freq_factor"),
            original_max_position_embeddings: number("original_max_position_embeddings"),
        },
        other => panic!("unknown scaling `{other}`"),
    }
}

#[test]
fn tables_agree_with_transformers() {
    for case in golden("rope") {
        let (dim, theta) = (count(&case["dim"]), case["theta"].as_f64().unwrap());
        let table = Table::new(dim, theta, &scaling(&case["scaling"]));
        let got = wide(table.inverse_frequencies());
        let want = array(&case["inverse_frequencies"]);
        let what = case["name"].as_str().unwrap();
        assert_close(what, &got, &want, (FREQUENCY_F32, f64::MIN_POSITIVE));
    }
}

#[test]
fn rotations_agree_with_transformers() {
    let device = Device::cpu();
    let cases = golden("rope");
    let turned: Vec<&Value> = cases.iter().filter(|case| case.get("positions").is_some()).collect();
    assert!(!turned.is_empty(), "a case with rotations");
    for case in turned {
        let (dim, theta) = (count(&case["dim"]), case["theta"].as_f64().unwrap());
        let table = Table::new(dim, theta, &scaling(&case["scaling"]));
        let positions: Vec<u32> = serde_json::from_value(case["positions"].clone()).unwrap();
        let heads = Heads { query: 1, key_value: 1, dim };
        let beside = |query: &Value, key: &Value| -> Tensor {
            let (query, key) = (array_f32(query), array_f32(key));
            let rows = query.chunks(dim).zip(key.chunks(dim));
            let values = rows.flat_map(|(query, key)| [query, key, &vec![7.0; dim]].concat());
            Tensor::from_vec(&device, positions.len(), 3 * dim, values.collect())
        };
        let mut qkv = beside(&case["query"], &case["key"]);
        forward(&device, &mut qkv, heads, &table, &positions);
        let want = beside(&case["turned_query"], &case["turned_key"]);
        assert_close("qkv", &wide(qkv.as_slice()), &wide(want.as_slice()), (F32_GOLDEN, 1.0));

        let mut dqkv = beside(&case["turned_query_gradient"], &case["turned_query_gradient"]);
        backward(&device, &mut dqkv, heads, &table, &positions);
        let want = beside(&case["query_gradient"], &case["query_gradient"]);
        assert_close("dqkv", &wide(dqkv.as_slice()), &wide(want.as_slice()), (F32_GOLDEN, 1.0));
    }
}

/// Factors of one's own divide frequency by frequency.
#[test]
fn factors_divide() {
    let plain = Table::new(8, 1e4, &Scaling::None);
    let divided = Table::new(8, 1e4, &Scaling::Factors(vec![1.0, 2.0, 4.0, 8.0]));
    let pairs = plain.inverse_frequencies().iter().zip(divided.inverse_frequencies());
    for (factor, (plain, divided)) in [1.0, 2.0, 4.0, 8.0].into_iter().zip(pairs) {
        assert_eq!((plain / factor).to_bits(), divided.to_bits());
    }
}

/// Marked rows turn by the long factors, the others by the short ones, whatever stands beside them.
#[test]
fn long_sequences_turn_by_factors_of_their_own() {
    let [short, long] = [vec![1.0, 2.0], vec![3.0, 5.0]];
    let both = Scaling::ByLength { short: short.clone(), long: long.clone() };
    let table = |scaling: &Scaling| Table::new(4, 1e4, scaling);
    let (heads, rows) = (Heads { query: 1, key_value: 1, dim: 4 }, 3);
    for device in Device::every_cpu() {
        let before = tensor(&device, 1, (rows, heads.qkv_cols()), 3.0);
        let turn = |table: &Table, positions: &[u32]| {
            let mut qkv = before.clone();
            forward(&device, &mut qkv, heads, table, positions);
            qkv
        };
        let got = turn(&table(&both), &[7, 7 | LONG, 9]);
        let short = turn(&table(&Scaling::Factors(short.clone())), &[7, 7, 9]);
        let long = turn(&table(&Scaling::Factors(long.clone())), &[7, 7, 9]);
        for (row, want) in [&short, &long, &short].into_iter().enumerate() {
            assert_same_bits("row", got.row(row), want.row(row));
        }
        assert_ne!(short.row(1), long.row(1));
    }
}

proptest! {
    #[test]
    fn sines_are_exact(angle in prop_oneof![-4.0_f32..4.0, 0.0_f32..2e5, -1e6_f32..1e6]) {
        let (sin, cos) = sin_cos(angle);
        let (want_sin, want_cos) = f64::from(angle).sin_cos();
        for (got, want) in [(sin, want_sin), (cos, want_cos)] {
            prop_assert!((f64::from(got) - want).abs() <= ONE_F32_ROUNDING);
        }
    }

    #[test]
    fn fast_is_reference(
        (query, key_value) in (1_usize..5, 1_usize..3),
        (pairs, unturned) in (1_usize..40, 0_usize..9),
        stretched: bool,
        positions in prop::collection::vec(0_u32..8192, 0..9),
        seed: u64,
    ) {
        let heads = Heads { query, key_value, dim: 2 * pairs + unturned };
        let magnitude = if stretched { 1.25 } else { 1.0 };
        let table = Table::new(2 * pairs, 1e4, &Scaling::None).with_magnitude(magnitude);
        let shape = (heads.dim, f64::from(magnitude));
        for device in Device::every_cpu() {
            let mut qkv = tensor(&device, seed, (positions.len(), heads.qkv_cols()), 1e10);
            let before = qkv.clone();
            forward(&device, &mut qkv, heads, &table, &positions);
            for (row, position) in positions.iter().enumerate() {
                let frequencies = table.inverse_frequencies().iter();
                let angles: Vec<f64> =
                    frequencies.map(|frequency| f64::from(*position as f32 * frequency)).collect();
                let (turned, kept) = before.row(row).split_at((query + key_value) * heads.dim);
                let want = reference::forward(&wide(turned), shape, &angles);
                let got = wide(&qkv.row(row)[..turned.len()]);
                assert_close("turned", &got, &want, (ROTATION_F32, 1e10));
                assert_same_bits("values", &qkv.row(row)[turned.len()..], kept);
            }
            backward(&device, &mut qkv, heads, &table, &positions);
            // The way back is the transpose: it stretches once more.
            for (row, before) in (0..qkv.rows()).map(|row| (qkv.row(row), before.row(row))) {
                for (column, (got, want)) in row.iter().zip(before).enumerate() {
                    let is_turned = column < (query + key_value) * heads.dim
                        && column % heads.dim < 2 * pairs;
                    let factor = if is_turned { shape.1 * shape.1 } else { 1.0 };
                    let (got, want) = (f64::from(*got), f64::from(*want) * factor);
                    assert_close("there and back", &[got], &[want], (2.0 * ROTATION_F32, 1e10));
                }
            }
        }
    }
}

#[test]
fn gradients_are_the_slope() {
    for (pairs, shape) in [(1, (2, 1.0)), (3, (6, 1.0)), (2, (7, 1.5))] {
        let heads = wide(&numbers(1, 3 * shape.0, 2.0));
        let dturned = wide(&numbers(2, 3 * shape.0, 1.0));
        let angles = wide(&numbers(3, pairs, 9.0));
        let turn = |heads: &[f64]| reference::forward(heads, shape, &angles);
        let want = slopes(&heads, |heads| weighted(&turn(heads), &dturned));
        let got = reference::backward(&dturned, shape, &angles);
        assert_close("dheads", &got, &want, (SLOPE_F64, 1.0));
        let plain = (shape.0, 1.0);
        let there = reference::forward(&heads, plain, &angles);
        let back = reference::backward(&there, plain, &angles);
        assert_close("there and back", &back, &heads, (SAME_F64_ARITHMETIC, 1.0));
    }
}

/// One row alone, the same row among others, one thread and two, every instruction set: same bits.
#[test]
fn company_does_not_matter() {
    let heads = Heads { query: 3, key_value: 1, dim: 34 };
    let table = Table::new(34, 1e5, &Scaling::None);
    let positions: Vec<u32> = (0..67).map(|row| row * 31 % 59).collect();
    let before = tensor(&Device::cpu(), 1, (67, heads.qkv_cols()), 3.0);
    let run = |device: &Device, before: &Tensor, positions: &[u32]| {
        let mut qkv = before.clone();
        forward(device, &mut qkv, heads, &table, positions);
        qkv
    };
    let want = on_threads(1, || run(&Device::cpu(), &before, &positions));
    for device in Device::every_cpu() {
        let same = on_threads(2, || run(&device, &before, &positions));
        assert_same_bits("qkv", same.as_slice(), want.as_slice());
        let alone = Tensor::from_vec(&device, 1, heads.qkv_cols(), before.row(41).to_vec());
        let alone = run(&device, &alone, &positions[41..42]);
        assert_same_bits("row", alone.as_slice(), want.row(41));
    }
}
