//! Preference data with labels of factuality: judged by an endpoint, with corrupted answers added,
//! balanced and turned around; AIXpert's way from plain pairs to what Factual-DPO learns from.

pub(super) mod balance;
pub(super) mod corrupt;
pub(super) mod judge;

use std::{collections::BTreeMap, path::PathBuf};

use ::judge::Outcome;
use data::{
    dataset::{self, Options},
    layout::Shape,
    read::Source,
    record::{Content, Record},
};
use serde_json::{Map, Value, json};

use super::judging::{in_words, prompt_in_words};
use crate::{failure::Failure, terminal::Terminal};

/// Whether the chosen and the rejected side are not factual.
type Labels = (u8, u8);

/// Reads pairs.
fn pairs(paths: &[PathBuf], terminal: &Terminal) -> Result<Vec<Record>, Failure> {
    let sources: Vec<Source> = paths.iter().map(Source::new).collect();
    let read = dataset::load(&sources, &Options::new(Shape::Pairs))?;
    terminal.print(&read.report.render_problems());
    Ok(read.records)
}

/// Prompt, chosen and rejected in words; `None` for tokens.
fn texts(record: &Record) -> Option<[String; 3]> {
    let [chosen, rejected] = &record.completions[..] else { return None };
    Some([prompt_in_words(&record.prompt)?, in_words(chosen)?, in_words(rejected)?])
}

/// The labels of a pair, if it has both.
fn labels(record: &Record) -> Option<Labels> {
    let label = |name: &str| match record.extras.get(name)? {
        Value::Bool(is_wrong) => Some(u8::from(*is_wrong)),
        number => match number.as_f64()? {
            0.0 => Some(0),
            1.0 => Some(1),
            _ => None,
        },
    };
    Some((label("h_w")?, label("h_l")?))
}

/// The labels of a pair that must have them.
fn labels_of(record: &Record) -> Result<Labels, Failure> {
    labels(record).ok_or_else(|| Failure::NoLabels { origin: record.origin.to_string() })
}

/// A row of a preference file, with every column that it had.
fn row(record: &Record) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("id".into(), json!(record.id()));
    row.insert("prompt".into(), value(&record.prompt));
    for (name, completion) in ["chosen", "rejected"].into_iter().zip(&record.completions) {
        row.insert(name.into(), value(completion));
    }
    if let Some(tools) = &record.tools {
        row.insert("tools".into(), tools.clone());
    }
    if !record.template_kwargs.is_empty() {
        row.insert("chat_template_kwargs".into(), json!(record.template_kwargs));
    }
    for (name, extra) in &record.extras {
        row.entry(name.clone()).or_insert_with(|| extra.clone());
    }
    row
}

fn value(content: &Content) -> Value {
    match content {
        Content::Text(text) => json!(text),
        Content::Messages(messages) => json!(messages),
        Content::Tokens(tokens) => json!(tokens),
    }
}

/// Why an endpoint's answer is of no use.
fn why<T>(outcome: &Outcome<T>) -> Option<&'static str> {
    match outcome {
        Outcome::Read { .. } => None,
        Outcome::Unreadable { .. } => Some("an answer could not be read"),
        Outcome::Refused { .. } => Some("the endpoint refuses the text"),
    }
}

/// How many pairs have which labels.
fn tell(counts: &BTreeMap<Labels, usize>, terminal: &Terminal) {
    for ((h_w, h_l), count) in counts {
        terminal.print(&format!("labels (h_w, h_l) = ({h_w}, {h_l}): {count} pairs\n"));
    }
}
