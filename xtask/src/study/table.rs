//! What a run measured, and the table of all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use fs_err as fs;
use serde_json::{Value, json};

/// The last evaluation of a run.
pub(super) struct Measured {
    method: String,
    accuracy: f64,
    margin: f64,
    chosen: f64,
    rejected: f64,
    /// How well the posterior tells wrong labels from right ones.
    auc: Option<f64>,
}

impl Measured {
    /// Reads a run's folder; `training` is the file it was trained on.
    pub(super) fn read(method: &str, run: &Path, training: &Path) -> anyhow::Result<Self> {
        let state: Value = serde_json::from_slice(&fs::read(run.join("trainer_state.json"))?)?;
        let history = state["log_history"].as_array().context("a state without history")?;
        let last = history.iter().rev().find(|entry| entry.get("eval_loss").is_some());
        let last = last.context("a run without evaluation")?;
        let number = |key: &str| last[key].as_f64().with_context(|| format!("no `{key}`"));
        Ok(Self {
            method: method.to_owned(),
            accuracy: number("eval_accuracy_half_ties")?,
            margin: number("eval_rewards/margins")?,
            chosen: number("eval_rewards/chosen")?,
            rejected: number("eval_rewards/rejected")?,
            auc: auc(&run.join("posteriors.jsonl"), training)?,
        })
    }
}

/// The chance that a mislabelled row has a lower posterior than a row that is labelled right; ties
/// count one half. `None` if the run wrote no posteriors.
fn auc(posteriors: &Path, training: &Path) -> anyhow::Result<Option<f64>> {
    if !posteriors.exists() {
        return Ok(None);
    }
    let lines = |path: &Path| -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(path)?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    let wrong: BTreeMap<String, bool> = lines(training)?
        .iter()
        .map(|row| (row["id"].to_string(), row["mislabelled"] == json!(true)))
        .collect();
    let (mut of_wrong, mut of_right) = (Vec::new(), Vec::new());
    for row in lines(posteriors)? {
        let is_wrong = wrong.get(&row["id"].to_string()).context("a posterior of no row")?;
        let posterior = row["posterior"].as_f64().context("a posterior that is no number")?;
        if *is_wrong { of_wrong.push(posterior) } else { of_right.push(posterior) }
    }
    Ok(Some(separation(&of_wrong, &of_right)))
}

fn separation(low: &[f64], high: &[f64]) -> f64 {
    let judge = |low: &f64, high: &f64| match low.total_cmp(high) {
        std::cmp::Ordering::Less => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Greater => 0.0,
    };
    let sum: f64 = low.iter().flat_map(|a| high.iter().map(move |b| judge(a, b))).sum();
    sum / (low.len() * high.len()) as f64
}

/// The table: a method a line, in the order in which they first come, its seeds side by side, and
/// the difference of its mean from that of the first method.
pub(super) fn markdown(measured: &[Measured]) -> String {
    let mut methods: Vec<&str> = Vec::new();
    for run in measured {
        if !methods.contains(&run.method.as_str()) {
            methods.push(&run.method);
        }
    }
    let of = |method: &str, value: fn(&Measured) -> f64| -> Vec<f64> {
        measured.iter().filter(|run| run.method == method).map(value).collect()
    };
    let mut text = String::from(
        "| method | held-out accuracy by seed | mean | against the first | margin | chosen | rejected | AUC |\n|---|---|---|---|---|---|---|---|\n",
    );
    let first = methods.first().map_or(0.0, |method| mean(&of(method, |run| run.accuracy)));
    for method in &methods {
        let accuracies = of(method, |run| run.accuracy);
        let seeds: Vec<String> = accuracies.iter().map(|it| format!("{it:.3}")).collect();
        let aucs: Vec<f64> =
            measured.iter().filter(|run| run.method == *method).filter_map(|run| run.auc).collect();
        let auc = if aucs.is_empty() { String::new() } else { format!("{:.3}", mean(&aucs)) };
        let _ = writeln!(
            text,
            "| {method} | {} | {:.3} | {:+.3} | {:.2} | {:.2} | {:.2} | {auc} |",
            seeds.join(", "),
            mean(&accuracies),
            mean(&accuracies) - first,
            mean(&of(method, |run| run.margin)),
            mean(&of(method, |run| run.chosen)),
            mean(&of(method, |run| run.rejected)),
        );
    }
    text
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separation_counts_pairs_in_order() {
        for (low, high, wanted) in [
            (&[0.1, 0.2][..], &[0.3][..], 1.0),
            (&[0.3], &[0.1, 0.2], 0.0),
            (&[0.3], &[0.3], 0.5),
            (&[0.1, 0.4], &[0.2, 0.3], 0.5),
        ] {
            assert!((separation(low, high) - wanted).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn a_method_is_a_line_with_its_seeds() {
        let run = |method: &str, accuracy, auc| Measured {
            method: method.to_owned(),
            accuracy,
            margin: 1.0,
            chosen: 0.5,
            rejected: -0.5,
            auc,
        };
        let table =
            markdown(&[run("a", 0.5, None), run("b", 0.75, Some(0.9)), run("a", 0.625, None)]);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| a | 0.500, 0.625 | 0.562 | +0.000 | 1.00 | 0.50 | -0.50 |  |",
                "| b | 0.750 | 0.750 | +0.188 | 1.00 | 0.50 | -0.50 | 0.900 |",
            ]
        );
    }
}
