//! The pairs of a study: read, split by question, and with labels turned around on purpose.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use fs_err as fs;
use serde_json::{Value, json};

/// A row of the file: `prompt`, `chosen`, `rejected`, `h_w`, `h_l`, `qid`.
pub(super) type Pair = Value;

/// Reads the rows, and gives each its line as `id`.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Pair>> {
    let text = fs::read_to_string(path)?;
    let mut pairs = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut pair: Pair =
            serde_json::from_str(line).with_context(|| format!("line {}", index + 1))?;
        let has_all = ["prompt", "chosen", "rejected", "h_w", "h_l", "qid"]
            .iter()
            .all(|key| pair.get(key).is_some());
        ensure!(
            has_all,
            "line {}: a pair needs prompt, chosen, rejected, h_w, h_l and qid",
            index + 1
        );
        pair["id"] = json!(format!("line {}", index + 1));
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Writes rows as JSON Lines.
pub(super) fn write(path: &Path, pairs: &[Pair]) -> anyhow::Result<()> {
    let mut text = String::new();
    for pair in pairs {
        writeln!(text, "{pair}")?;
    }
    Ok(fs::write(path, text)?)
}

/// Pairs to train on and pairs that are held out; a question is wholly in one of them.
pub(super) fn split(pairs: &[Pair], held_out: f64, seed: u64) -> (Vec<Pair>, Vec<Pair>) {
    let is_held_out = |pair: &&Pair| share(&format!("{seed} question {}", pair["qid"])) < held_out;
    let (held_out, train) = pairs.iter().partition::<Vec<&Pair>, _>(is_held_out);
    (train.into_iter().cloned().collect(), held_out.into_iter().cloned().collect())
}

/// The pairs of which one side alone is factual, that side chosen, each pair once.
pub(super) fn factual(pairs: Vec<Pair>) -> Vec<Pair> {
    let mut seen = BTreeSet::new();
    let orient = |mut pair: Pair| {
        if pair["h_w"] == json!(1) && pair["h_l"] == json!(0) {
            turn(&mut pair);
        }
        pair
    };
    pairs
        .into_iter()
        .map(orient)
        .filter(|pair| pair["h_w"] == json!(0) && pair["h_l"] == json!(1))
        .filter(|pair| {
            seen.insert(format!("{} {} {}", pair["prompt"], pair["chosen"], pair["rejected"]))
        })
        .collect()
}

/// The pairs, a share of them with the wrong side chosen, marked as `mislabelled`.
pub(super) fn mislabelled(mut pairs: Vec<Pair>, wrong: f64, seed: u64) -> Vec<Pair> {
    for pair in &mut pairs {
        let is_wrong = share(&format!("{seed} label {}", pair["id"])) < wrong;
        if is_wrong {
            turn(pair);
        }
        pair["mislabelled"] = json!(is_wrong);
    }
    pairs
}

/// Lets the sides of a pair change places, with their labels.
fn turn(pair: &mut Pair) {
    for (left, right) in [("chosen", "rejected"), ("h_w", "h_l")] {
        let (a, b) = (pair[left].take(), pair[right].take());
        pair[left] = b;
        pair[right] = a;
    }
}

/// A number from 0 to 1 that depends on the text alone.
fn share(text: &str) -> f64 {
    // FNV-1a, then a finalizer: neighbouring texts must not get neighbouring numbers.
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> Vec<Pair> {
        let pair = |line: u64| {
            let (h_w, h_l) = [(0, 1), (1, 0), (1, 1)][(line % 3) as usize];
            json!({"id": line, "qid": line / 4, "prompt": line, "chosen": "a", "rejected": "b", "h_w": h_w, "h_l": h_l})
        };
        (0..4000).map(pair).collect()
    }

    #[test]
    fn a_question_is_wholly_on_one_side_and_the_shares_are_near() {
        let (train, held_out) = split(&pairs(), 0.25, 1);
        let questions = |pairs: &[Pair]| -> BTreeSet<String> {
            pairs.iter().map(|pair| pair["qid"].to_string()).collect()
        };
        assert!(questions(&train).is_disjoint(&questions(&held_out)));
        assert_eq!(train.len() + held_out.len(), 4000);
        assert!((800..1200).contains(&held_out.len()), "{}", held_out.len());
        assert_ne!(split(&pairs(), 0.25, 2).1, held_out);
    }

    #[test]
    fn factual_pairs_have_the_factual_side_chosen_and_wrong_labels_are_counted() {
        let factual = factual(pairs());
        assert_eq!(factual.len(), 2667);
        assert_eq!(factual.iter().filter(|pair| pair["chosen"] == json!("b")).count(), 1333);
        let noisy = mislabelled(factual.clone(), 0.3, 1);
        let wrong: Vec<_> =
            noisy.iter().filter(|pair| pair["mislabelled"] == json!(true)).collect();
        assert!((700..900).contains(&wrong.len()), "{}", wrong.len());
        assert!(wrong.iter().all(|pair| pair["h_w"] == json!(1)));
        assert_eq!(mislabelled(factual, 0.3, 1), noisy);
    }
}
