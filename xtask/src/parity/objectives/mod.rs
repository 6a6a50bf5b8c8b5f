//! Losses, their slopes and their rewards from the same log-probabilities, by TRL's trainer and by
//! ours.
//!
//! `goldens/parity/objectives.py` makes the pairs and asks the trainer; `cases` says for what.

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use objectives::{Completion, Group, GroupOutcome, Outcomes, State};
use serde_json::{Value, json};

use super::report::{LOSS_KINDS, LOSS_KINDS_F32, Report};
use crate::run::{Job, say};
use cases::{BATCHES, Case, Departure, LOSSES, config, departures, is_f32};

/// Relative: losses and rewards that lie closer do not depart from each other.
const APART: f64 = 1e-3;

/// Relative to a batch's largest slope: what TRL's sums in f64 round away where terms cancel.
const CANCELLED: f64 = 1e-15;

/// A completion, a number for each token.
struct Tokens {
    policy: Vec<f64>,
    reference: Vec<f64>,
    squares: Vec<f64>,
}

/// The rows that TRL's side made.
struct Batch(Vec<[Tokens; 2]>);

fn numbers(value: &Value) -> anyhow::Result<Vec<f64>> {
    let list = value.as_array().context("TRL's answer lacks a list")?;
    list.iter().map(|number| number.as_f64().context("TRL's answer lacks a number")).collect()
}

impl Batch {
    fn read(value: &Value) -> anyhow::Result<Self> {
        let rows = value.as_array().context("TRL's answer lacks a batch")?;
        let tokens = |side: &Value| -> anyhow::Result<Tokens> {
            Ok(Tokens {
                policy: numbers(&side["policy"])?,
                reference: numbers(&side["reference"])?,
                squares: numbers(&side["squares"])?,
            })
        };
        let pair = |row: &Value| Ok([tokens(&row[0])?, tokens(&row[1])?]);
        Ok(Self(rows.iter().map(pair).collect::<anyhow::Result<_>>()?))
    }

    fn groups(&self) -> Vec<Group> {
        let group = |pair: &[Tokens; 2]| {
            let shared = shared(pair);
            let [chosen, rejected] = [0, 1].map(|side| completion(&pair[side], shared));
            Group::pair(chosen, rejected)
        };
        self.0.iter().map(group).collect()
    }
}

/// How many tokens the shorter completion has.
fn shared(pair: &[Tokens; 2]) -> usize {
    pair[0].policy.len().min(pair[1].policy.len())
}

fn completion(tokens: &Tokens, shared: usize) -> Completion {
    let sum = |numbers: &[f64]| numbers.iter().sum::<f64>();
    let (policy, count) = (sum(&tokens.policy), tokens.policy.len());
    Completion {
        policy_logp: policy,
        reference_logp: sum(&tokens.reference),
        token_count: u32::try_from(count).unwrap_or(u32::MAX),
        policy_tail_logp: sum(&tokens.policy[shared..]),
        reference_tail_logp: sum(&tokens.reference[shared..]),
        relative_logp: (policy - sum(&tokens.squares)) / count as f64,
        ..Completion::default()
    }
}

/// The mean loss of a batch, as TRL takes it.
fn mean_loss(outcomes: &Outcomes) -> f64 {
    let sum: f64 = outcomes.groups.iter().map(|outcome| outcome.loss).sum();
    sum / outcomes.groups.len() as f64
}

/// Holds ours against what TRL says about a batch.
fn agree(report: &mut Report, case: &Case, batch: &Batch, answer: &Value) -> anyhow::Result<()> {
    let outcomes = case.ours.evaluate(&mut State::default(), &batch.groups());
    let place = format!("{} on `{}`:", config(&case.asked), case.batch);
    let kinds = if is_f32(&case.asked) { LOSS_KINDS_F32 } else { LOSS_KINDS };
    let [loss, slope, reward] = kinds;
    let theirs = answer["loss"].as_f64().unwrap_or(f64::NAN);
    report.compare(loss, &place, mean_loss(&outcomes), theirs)?;
    if theirs.is_nan() {
        return Ok(());
    }
    let rows = outcomes.groups.len() as f64;
    let all = outcomes.groups.iter().flat_map(|outcome| &outcome.coefficients);
    let largest = all.map(|slope| (slope / rows).abs()).fold(0.0, f64::max);
    for (row, (pair, outcome)) in batch.0.iter().zip(&outcomes.groups).enumerate() {
        for side in [0, 1] {
            let theirs = numbers(&answer["slopes"][row][side])?;
            ensure!(theirs.len() == pair[side].policy.len(), "TRL's slopes are not one a token");
            let head = outcome.coefficients[side];
            let tail = outcome.tail_coefficients.get(side).copied().unwrap_or(head);
            for (token, theirs) in theirs.into_iter().enumerate() {
                let ours = if token < shared(pair) { head } else { tail } / rows;
                if CANCELLED * largest < (ours - theirs).abs() {
                    let place = format!("{place} row {row}, side {side}, token {token}:");
                    report.compare(slope, &place, ours, theirs)?;
                }
            }
        }
    }
    for (name, ours, theirs) in rewards(&outcomes, answer) {
        // The departure `sft`.
        if case.ours.needs_reference() {
            report.compare(reward, &format!("{place} {name}"), ours, theirs)?;
        }
    }
    Ok(())
}

/// Ours and theirs of each metric about rewards.
fn rewards(outcomes: &Outcomes, answer: &Value) -> [(&'static str, f64, f64); 4] {
    let mean = |of: &dyn Fn(&GroupOutcome) -> f64| {
        outcomes.groups.iter().map(of).sum::<f64>() / outcomes.groups.len() as f64
    };
    let is_right = |outcome: &GroupOutcome| f64::from(u8::from(0.0 < outcome.margin()));
    let row = |name, ours| (name, ours, answer["metrics"][name].as_f64().unwrap_or(f64::NAN));
    [
        row("rewards/chosen", mean(&|outcome| outcome.rewards[0])),
        row("rewards/rejected", mean(&|outcome| outcome.rewards[1])),
        row("rewards/margins", mean(&GroupOutcome::margin)),
        row("rewards/accuracies", mean(&is_right)),
    ]
}

/// Whether TRL says something else than ours, as it is said to: it fails, or has another loss or
/// rewards, or none that are numbers.
fn departs(departure: &Departure, batch: &Batch, answer: &Value) -> bool {
    let outcomes = departure.case.ours.evaluate(&mut State::default(), &batch.groups());
    if departure.fails {
        return answer["refused"].is_string();
    }
    let theirs = answer["loss"].as_f64().unwrap_or(f64::NAN);
    let pairs = rewards(&outcomes, answer).map(|(_, ours, theirs)| (ours, theirs));
    let near = |(ours, theirs): (f64, f64)| (ours - theirs).abs() <= APART * theirs.abs();
    let loss = mean_loss(&outcomes);
    let is_other = !near((loss, theirs)) || !pairs.into_iter().all(near);
    is_other && loss.is_finite() && answer["refused"].is_null()
}

/// What TRL says to all of them.
fn ask<'a>(
    root: &Path,
    python: &Job,
    target: &Path,
    cases: impl Iterator<Item = &'a Case>,
) -> anyhow::Result<Value> {
    let asked: Vec<Value> = cases
        .map(|case| {
            let (settings, is_f32) = (config(&case.asked), is_f32(&case.asked));
            json!({ "batch": case.batch, "settings": settings, "is_f32": is_f32 })
        })
        .collect();
    let plan = |(name, pairs, reach): (&str, usize, f64)| {
        (name.to_owned(), json!({ "pairs": pairs, "reach": reach }))
    };
    let request = json!({
        "model": root.join("goldens/trl/chat"),
        "batches": Value::Object(BATCHES.into_iter().map(plan).collect()),
        "cases": asked,
    });
    let folder = target.join("parity");
    fs_err::create_dir_all(&folder)?;
    let path = folder.join("objectives.json");
    fs_err::write(&path, request.to_string())?;
    let script = root.join("goldens/parity/objectives.py");
    Ok(serde_json::from_slice(&python.clone().args([&script, &path]).output()?)?)
}

/// Compares all settings that TRL's trainer takes, and returns what is off.
///
/// # Errors
///
/// If TRL's side fails, or answers something else than it is asked.
pub(super) fn compare(root: &Path, python: &Job, target: &Path) -> anyhow::Result<Vec<String>> {
    let (cases, departures) = (cases::cases(), departures());
    say(&format!("losses: {} cases", cases.len() + departures.len()));
    let all = cases.iter().chain(departures.iter().map(|departure| &departure.case));
    let answer = ask(root, python, target, all)?;
    let answers = answer["answers"].as_array().context("TRL gives no answers")?;
    ensure!(answers.len() == cases.len() + departures.len(), "TRL does not answer all cases");
    let mut batches = BTreeMap::new();
    for (name, ..) in BATCHES {
        batches.insert(name, Batch::read(&answer["batches"][name])?);
    }
    let mut report = Report::new("losses");
    if answer["loss_types"] != json!(LOSSES.map(|loss| loss.name())) {
        report.complaints.push(format!("TRL has the losses {}", answer["loss_types"]));
    }
    let mut refused = BTreeSet::new();
    for (case, answer) in cases.iter().zip(answers) {
        match (case.ours.check(), answer["refused"].as_str()) {
            (Ok(()), None) => agree(&mut report, case, &batches[case.batch], answer)?,
            (Err(error), Some(_)) => {
                refused.insert(error.to_string());
            }
            (ours, theirs) => {
                let asked = config(&case.asked);
                report.complaints.push(format!("{asked}: {ours:?} here, {theirs:?} there"));
            }
        }
    }
    for what in refused {
        report.note(format!("refused by both: {what}"));
    }
    for (departure, answer) in departures.iter().zip(&answers[cases.len()..]) {
        let name = departure.name;
        report.note(format!("departs in `{name}`: {}", departure.what));
        if !departs(departure, &batches[departure.case.batch], answer) {
            report
                .complaints
                .push(format!("losses: `{name}` no longer departs: {}", answer["loss"]));
        }
    }
    report.say();
    Ok(report.complaints)
}
