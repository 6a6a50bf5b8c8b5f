//! Rows whose `rejected` is a list of completions, each rejected in favour of the chosen one.
//!
//! Such a row is split into one row for each of them, so that every layout with a `chosen` and a
//! `rejected` column reads it; [`as_group`] puts the records together again, [`as_pair`] leaves
//! each of them a pair.

use serde_json::{Map, Value, json};

use super::columns::Fault;
use super::groups::numbers;
use super::messages::is_messages;
use crate::check::{Problem, same};
use crate::read::{Row, kind};
use crate::record::Record;

/// A row, split where it rejects several completions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Several {
    /// The rows, one for each rejected completion; a lone row where `rejected` is no list.
    pub(crate) rows: Vec<Row>,
    /// What the row says how good the chosen and each rejected completion is, larger is better.
    pub(crate) grades: Option<Grades>,
    /// Whether `rejected` is a list of completions.
    pub(crate) is_list: bool,
}

/// How good the completions of a row are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grades {
    /// The chosen one's, above all others.
    chosen: f64,
    /// The rejected ones', in the list's order.
    rejected: Vec<f64>,
    /// Whether the row has scores, not only ranks.
    are_scores: bool,
}

/// Splits a row whose `chosen` is beside a list of rejected completions.
///
/// # Errors
///
/// A list that is empty or that holds anything but texts and lists of messages; scores or ranks
/// that do not fit it.
pub(crate) fn split(mut row: Row) -> Result<Several, Fault> {
    let has_chosen = row.fields.get("chosen").is_some_and(|it| !it.is_null());
    let is_list = match row.fields.get("rejected") {
        Some(Value::Array(all)) => all.is_empty() || !all.iter().all(Value::is_object),
        _ => false,
    };
    if !(has_chosen && is_list) {
        return Ok(Several { rows: vec![row], grades: None, is_list: false });
    }
    let Some(Value::Array(all)) = row.fields.get("rejected").cloned() else {
        return Ok(Several { rows: vec![row], grades: None, is_list: false });
    };
    check(&all)?;
    let grades = grades(&mut row.fields, all.len())?;
    let with = |one: Value| {
        let mut row = row.clone();
        row.fields.insert("rejected".into(), one);
        row
    };
    Ok(Several { rows: all.into_iter().map(with).collect(), grades, is_list: true })
}

fn check(all: &[Value]) -> Result<(), Fault> {
    if all.is_empty() {
        return Err(Fault::new(Problem::Empty, "`rejected` is an empty list"));
    }
    for (index, one) in all.iter().enumerate() {
        let is_completion = match one {
            Value::String(_) => true,
            Value::Array(messages) => !messages.is_empty() && is_messages(one),
            _ => false,
        };
        if !is_completion {
            let (place, kind) = (index + 1, kind(one));
            let detail =
                format!("`rejected` item {place} is {kind} where text or messages are needed");
            return Err(Fault::new(Problem::WrongType, detail));
        }
    }
    Ok(())
}

/// Takes `scores` or `ranks`: one number for each rejected completion, or the chosen one's first.
fn grades(fields: &mut Map<String, Value>, count: usize) -> Result<Option<Grades>, Fault> {
    let listed = |name: &&str| fields.get(*name).is_some_and(Value::is_array);
    let Some(name) = ["scores", "ranks"].into_iter().find(listed) else { return Ok(None) };
    let are_scores = name == "scores";
    let value = fields.shift_remove(name).unwrap_or_default();
    let sign = if are_scores { 1.0 } else { -1.0 };
    let numbers: Vec<f64> = numbers(value, name, sign)?.iter().filter_map(Value::as_f64).collect();
    let (first, rejected) = if numbers.len() == count + 1 {
        (numbers.first().copied(), numbers[1..].to_vec())
    } else if numbers.len() == count {
        let beside = fields.get("score_chosen").and_then(Value::as_f64);
        (beside.filter(|_| are_scores), numbers)
    } else {
        let detail = format!("{} {name} for {count} rejected completions", numbers.len());
        return Err(Fault::new(Problem::WrongType, detail));
    };
    let best = rejected.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Labels stay in 0 to 1 where they can.
    let above = if are_scores && best < 1.0 { 1.0 } else { best + 1.0 };
    let chosen = first.unwrap_or(above);
    if chosen <= best {
        let detail = format!("`{name}` put a rejected completion as high as the chosen one");
        return Err(Fault::new(Problem::Unsupported, detail));
    }
    Ok(Some(Grades { chosen, rejected, are_scores }))
}

/// The records of a split row as one group: the chosen completion above all others, which are ties
/// unless the row grades them. A completion that is listed twice takes part once.
///
/// # Errors
///
/// The chosen completion among the rejected ones, or rows whose prompt cannot be told from their
/// completions alone.
pub(crate) fn as_group(records: Vec<Record>, grades: Option<&Grades>) -> Result<Record, Fault> {
    let mut records = records.into_iter().enumerate();
    let Some((_, mut group)) = records.next() else {
        return Err(Fault::new(Problem::Empty, "`rejected` is an empty list"));
    };
    let grade = |index: usize| grades.and_then(|it| it.rejected.get(index)).copied().unwrap_or(0.0);
    let mut scores = vec![grades.map_or(1.0, |it| it.chosen), grade(0)];
    same_as_chosen(&group, 0)?;
    for (index, mut record) in records {
        same_as_chosen(&record, index)?;
        if record.prompt != group.prompt || record.completions.first() != group.completions.first()
        {
            let detail = "each item of `rejected` shares another beginning with `chosen`: give the prompt in a column of its own";
            return Err(Fault::new(Problem::PromptsDiffer, detail));
        }
        let Some(rejected) = record.completions.pop() else { continue };
        if !group.completions.iter().any(|known| same(known, &rejected)) {
            group.completions.push(rejected);
            scores.push(grade(index));
        }
    }
    group.extras.insert("scores".into(), json!(scores));
    Ok(group)
}

fn same_as_chosen(record: &Record, index: usize) -> Result<(), Fault> {
    match record.completions.as_slice() {
        [chosen, rejected] if same(chosen, rejected) => {
            Err(Fault::new(Problem::Identical, format!("`rejected` item {}", index + 1)))
        }
        _ => Ok(()),
    }
}

/// Says of a pair of a split row which of the list it is, and what its completions score.
pub(crate) fn as_pair(mut record: Record, index: usize, grades: Option<&Grades>) -> Record {
    let item = index + 1;
    let id = match record.extras.get("id") {
        Some(Value::String(id)) => format!("{id}/{item}"),
        Some(Value::Number(id)) => format!("{id}/{item}"),
        _ => {
            let name = record.origin.file.file_name().map(|name| name.to_string_lossy());
            format!("{}:{}/{item}", name.unwrap_or_default(), record.origin.number)
        }
    };
    record.extras.insert("id".into(), json!(id));
    if let Some(grades) = grades.filter(|it| it.are_scores) {
        record.extras.insert("score_chosen".into(), json!(grades.chosen));
        record.extras.insert("score_rejected".into(), json!(grades.rejected.get(index)));
    }
    record
}
