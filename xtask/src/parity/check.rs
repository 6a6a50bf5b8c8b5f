//! What is held against what.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{
    cases::Case,
    programs::{Programs, Scores, steps, trl_steps},
    report::{METRICS, Report, Rounding, apart},
};

/// Metrics in which a run in bf16 is held against the same run in f32.
const ROUNDED_METRICS: [&str; 5] =
    ["loss", "grad_norm", "rewards/margins", "logps/chosen", "logps/rejected"];

/// What transformers and PEFT say about a case.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Log-probabilities of the same weights.
    same_weights: Vec<Same>,
    /// After training: ours of our weights, ours of TRL's.
    trained: Option<[Scores; 2]>,
    /// Per tensor what `check.py` prints.
    gradients: Vec<Value>,
}

/// Weights that both sides score.
#[derive(Debug)]
struct Same {
    kind: &'static str,
    place: String,
    /// For `check.py`.
    request: Value,
    /// Whether ours is one mean over the rows in place of a value each.
    is_mean: bool,
    ours: Vec<[f64; 2]>,
    theirs: Vec<[f64; 2]>,
}

impl Same {
    fn new(kind: &'static str, place: &str, request: Value, ours: Vec<[f64; 2]>) -> Self {
        Self { kind, place: place.into(), request, is_mean: false, ours, theirs: Vec::new() }
    }
}

/// Scores weights with ours, then the same ones with transformers and PEFT, all cases at once.
pub(super) fn ask(programs: &Programs, cases: &[&Case], home: &Path) -> anyhow::Result<Vec<Found>> {
    let mut all = Vec::new();
    for case in cases {
        all.push(match case.beside {
            None => scored_by_ours(programs, case)?,
            Some(_) => Found::default(),
        });
    }
    let scores: Vec<&Value> =
        all.iter().flat_map(|found| &found.same_weights).map(|same| &same.request).collect();
    let with_gradients = |case: &Case| case.is("save_gradients") && case.beside.is_none();
    let gradients: Vec<Value> = cases
        .iter()
        .filter(|case| with_gradients(case))
        .map(|case| {
            json!({
                "trl": case.trl().join("gradients.safetensors"),
                "checkpoint": case.ours().join("checkpoint-1"),
            })
        })
        .collect();
    let request = json!({ "scores": scores, "gradients": gradients });
    let answer = programs.check(&request, &home.join("check.json"))?;
    let mut scores = answer["scores"].as_array().context("no scores")?.iter();
    let mut gradients = answer["gradients"].as_array().context("no gradients")?.iter();
    for (case, found) in cases.iter().zip(&mut all) {
        for same in &mut found.same_weights {
            let rows = scores.next().and_then(Value::as_array).context("too few scores")?;
            same.theirs = rows.iter().map(two).collect::<anyhow::Result<_>>()?;
        }
        if with_gradients(case) {
            let rows = gradients.next().and_then(Value::as_array).context("too few gradients")?;
            found.gradients.clone_from(rows);
        }
    }
    Ok(all)
}

fn scored_by_ours(programs: &Programs, case: &Case) -> anyhow::Result<Found> {
    let request = |weights: Option<&Path>, only: Option<&[usize]>| {
        let (model, adapter) = match (case.is_full(), weights) {
            (true, Some(weights)) => (json!(weights), Value::Null),
            (_, adapter) => (case.settings["model"].clone(), json!(adapter)),
        };
        json!({ "model": model, "adapter": adapter, "rows": case.tokens(), "only": only })
    };
    let mut same = Vec::new();
    if case.is("save_gradients") {
        let start = case.start();
        let scores = programs.score(case, &start, "score-start")?;
        same.push(Same::new("logps of the base", "", request(None, None), scores.reference));
        same.push(Same::new("logps", "", request(Some(&start), None), scores.policy));
    }
    let final_trl = case.trl().join("final");
    let trl = programs.score(case, &final_trl, "score-trl")?;
    let of_trl = request(Some(&final_trl), None);
    same.push(Same::new("logps of TRL's weights", "", of_trl, trl.policy.clone()));

    let ours = programs.score(case, &case.ours(), "score-ours")?;
    let of_ours = request(Some(&case.ours()), None);
    same.push(Same::new("logps reloaded", "the end", of_ours, ours.policy.clone()));
    let events = steps(&case.ours())?;
    for step in 1..=events.len() {
        let path = case.ours().join(format!("checkpoint-{step}"));
        let place = format!("checkpoint {step}");
        // The event of the next step, counted from 1, was computed with these weights.
        let rows = events.get(step).map(|_| case.rows_of_step(step, ours.policy.len()));
        let asked = request(Some(&path), rows.as_deref());
        let mut one = Same::new("logps reloaded", &place, asked, ours.policy.clone());
        if let Some(event) = events.get(step) {
            one.is_mean = true;
            one.ours = vec![[number(event, "logps/chosen")?, number(event, "logps/rejected")?]];
        }
        same.push(one);
    }
    Ok(Found { same_weights: same, trained: Some([ours, trl]), gradients: Vec::new() })
}

/// Every step of both runs; a run in bf16 against the same program's run in f32.
pub(super) fn steps_agree(
    case: &Case,
    report: &mut Report,
    rounding: &mut Rounding,
) -> anyhow::Result<()> {
    let (ours, trl) = (steps(&case.ours())?, trl_steps(&case.folder)?);
    same_count(case, &ours, &trl)?;
    let Some(beside) = &case.beside else {
        for (index, (ours, trl)) in ours.iter().zip(&trl).enumerate() {
            for metric in METRICS {
                let place = format!("step {}", index + 1);
                report.compare(metric, &place, number(ours, metric)?, number(trl, metric)?)?;
            }
        }
        return Ok(());
    };
    let (ours_f32, trl_f32) = (steps(&beside.join("ours"))?, trl_steps(beside)?);
    same_count(case, &ours, &ours_f32)?;
    same_count(case, &ours, &trl_f32)?;
    for metric in ROUNDED_METRICS {
        let ours = largest_difference(&ours, &ours_f32, metric)?;
        let trl = largest_difference(&trl, &trl_f32, metric)?;
        report.note(format!("{metric}: {}", apart([ours, trl])));
        rounding.add(metric, ours, trl);
    }
    Ok(())
}

fn same_count(case: &Case, ours: &[Value], other: &[Value]) -> anyhow::Result<()> {
    let count = (ours.len(), other.len());
    ensure!(count.0 == count.1, "{}: {} steps here, {} there", case.label(), count.0, count.1);
    Ok(())
}

/// The largest absolute difference of a metric between the same steps of two runs.
fn largest_difference(one: &[Value], other: &[Value], metric: &str) -> anyhow::Result<f64> {
    let mut largest = 0.0_f64;
    for (one, other) in one.iter().zip(other) {
        largest = largest.max((number(one, metric)? - number(other, metric)?).abs());
    }
    Ok(largest)
}

/// The same weights in both programs, and the gradients of one step.
pub(super) fn weights_agree(found: &Found, report: &mut Report) -> anyhow::Result<()> {
    for same in &found.same_weights {
        let mut theirs = same.theirs.clone();
        if same.is_mean {
            let count = theirs.len() as f64;
            theirs =
                vec![[0, 1].map(|side| theirs.iter().map(|row| row[side]).sum::<f64>() / count)];
        }
        rows_agree(same.kind, &same.place, (&same.ours, &theirs), report)?;
    }
    if let Some([ours, trl]) = &found.trained {
        rows_agree("logps when trained", "", (&ours.policy, &trl.policy), report)?;
    }
    for tensor in &found.gradients {
        let name = tensor["name"].as_str().context("a gradient has no name")?;
        let half = if name.contains("lora_A") { "A" } else { "B" };
        let cosine = number(tensor, "cosine")?;
        report.compare(&format!("gradient of {half}: cosine"), name, cosine, 1.0)?;
        let norms = (number(tensor, "ours")?, number(tensor, "trl")?);
        report.compare(&format!("gradient of {half}: norm"), name, norms.0, norms.1)?;
    }
    Ok(())
}

fn rows_agree(
    kind: &str,
    place: &str,
    (ours, theirs): (&[[f64; 2]], &[[f64; 2]]),
    report: &mut Report,
) -> anyhow::Result<()> {
    ensure!(ours.len() == theirs.len(), "{kind}: {} rows, {} there", ours.len(), theirs.len());
    for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        for side in 0..2 {
            report.compare(kind, &format!("{place} row {}", row + 1), ours[side], theirs[side])?;
        }
    }
    Ok(())
}

fn two(row: &Value) -> anyhow::Result<[f64; 2]> {
    let side = |side: usize| row[side].as_f64().context("a score is no number");
    Ok([side(0)?, side(1)?])
}

fn number(values: &Value, name: &str) -> anyhow::Result<f64> {
    values[name].as_f64().with_context(|| format!("`{name}` is {}", values[name]))
}
