//! `trueup data balance`: labelled pairs of several files, so many of each kind, turned around where the
//! rejected side alone is factual, in one shuffled file.

use std::{collections::BTreeMap, fmt::Write as _};

use data::{record::Record, rng::Stream};
use serde_json::{Value, json};

use super::{Labels, labels_of, pairs, row, tell};
use crate::{args::DataBalance, failure::Failure, terminal::Terminal};

/// Writes the file.
pub(in super::super) fn run(args: &DataBalance, terminal: &Terminal) -> Result<(), Failure> {
    let mut targets: BTreeMap<Labels, usize> = BTreeMap::new();
    for (labels, count) in &args.target {
        if targets.insert(*labels, *count).is_some() {
            let (when, hint) = ("twice for the same labels", "remove one of the two");
            return Err(Failure::Useless { flag: "--target", when, hint });
        }
    }
    let mut kinds: BTreeMap<Labels, Vec<Record>> = BTreeMap::new();
    for record in pairs(&args.pairs, terminal)? {
        kinds.entry(labels_of(&record)?).or_default().push(record);
    }
    let mut rows = Vec::new();
    for (&labels, &count) in &targets {
        if 0 < count && !kinds.contains_key(&labels) {
            let (h_w, h_l) = labels;
            return Err(Failure::NoneOfKind { h_w, h_l, count });
        }
    }
    for (labels, records) in &kinds {
        let count = targets.get(labels).copied().unwrap_or(records.len());
        if records.len() < count {
            let (h_w, h_l) = labels;
            terminal.note(&format!(
                "({h_w}, {h_l}): {} pairs are repeated to {count}; training with `dataset.on_duplicate: keep` keeps them",
                records.len()
            ));
        }
        for (index, round) in
            drawn(records.len(), count, Stream::new(args.seed, &format!("{labels:?}")))
        {
            rows.push(finished(&records[index], *labels, round, args.flip));
        }
    }
    let order = Stream::new(args.seed, "balance").permutation(rows.len());
    let mut counts: BTreeMap<Labels, usize> = BTreeMap::new();
    let mut text = String::new();
    for index in order {
        let (labels, row) = &rows[index];
        *counts.entry(*labels).or_default() += 1;
        let _ = writeln!(text, "{row}");
    }
    if let Some(folder) = args.output.parent() {
        fs_err::create_dir_all(folder)?;
    }
    run::atomic::write(&args.output, text.as_bytes())?;
    terminal.print(&format!("pairs: {} written\n", rows.len()));
    tell(&counts, terminal);
    Ok(())
}

/// Which of `available` rows make `count`, each with the round in which it comes: all as often as they
/// go into it, and of the last round a draw.
// DIFFERENCE(AIXpert): where rows are short, it draws each anew among all, which leaves a third of them
// out where they are to be doubled; here none is left out.
fn drawn(available: usize, count: usize, stream: Stream) -> Vec<(usize, usize)> {
    let mut drawn = Vec::new();
    for round in 0..count.div_ceil(available.max(1)) {
        let left = count - drawn.len();
        let order = stream.at(round as u64).permutation(available);
        drawn.extend(order.into_iter().take(left).map(|index| (index, round)));
    }
    drawn
}

/// A row, turned around if it is to be; repeated ones have names of their own.
fn finished(record: &Record, labels: Labels, round: usize, flip: bool) -> (Labels, Value) {
    let mut row = row(record);
    let is_flipped = flip && labels == (1, 0);
    let labels = if is_flipped { (0, 1) } else { labels };
    if is_flipped {
        let [chosen, rejected] = ["chosen", "rejected"].map(|name| row[name].clone());
        row.insert("chosen".into(), rejected);
        row.insert("rejected".into(), chosen);
    }
    if 0 < round {
        row.insert("id".into(), json!(format!("{}#{}", record.id(), round + 1)));
    }
    row.insert("h_w".into(), json!(labels.0));
    row.insert("h_l".into(), json!(labels.1));
    row.insert("flipped".into(), json!(is_flipped));
    (labels, Value::Object(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_as_evenly_as_they_go() {
        for (available, count) in [(10, 4), (10, 10), (3, 8), (1, 5), (5, 0)] {
            let stream = Stream::new(1, "x");
            let rows = drawn(available, count, stream);
            assert_eq!(rows.len(), count);
            let times = |index| rows.iter().filter(|(it, _)| *it == index).count();
            for index in 0..available {
                assert!((count / available..=count.div_ceil(available)).contains(&times(index)));
            }
            assert_eq!(rows, drawn(available, count, stream));
        }
        assert_ne!(drawn(10, 4, Stream::new(1, "x")), drawn(10, 4, Stream::new(2, "x")));
    }
}
