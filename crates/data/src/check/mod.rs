//! Checks of records: what nothing can be learnt from is dropped, counted and named.

mod problem;
mod remarks;
mod seen;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use problem::Problem;
pub use remarks::remarks;
pub(crate) use seen::answer_hash;
pub use seen::{Found, Seen, prompt_hash};

use crate::layout::{Fault, Shape};
use crate::record::{Content, Record};

/// What to do with rows that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInvalid {
    /// Leave them out and say how many.
    #[default]
    Drop,
    /// Stop at the first.
    Error,
}

/// What to do with rows that are usable and suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRepeated {
    /// Use them, and say how many.
    Keep,
    /// Leave them out and say how many.
    Drop,
    /// Stop at the first.
    Error,
}

/// What the recipe wants done with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Rows that cannot be used: unreadable, empty, identical sides, and the like. Default `drop`.
    pub on_invalid: OnInvalid,
    /// Rows that are there more than once; the first stays. Default `drop`.
    pub on_duplicate: OnRepeated,
    /// Rows that prefer what another row rejects; `drop` leaves both out. Default `keep`, since
    /// several annotators may differ.
    pub on_contradiction: OnRepeated,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            on_invalid: OnInvalid::Drop,
            on_duplicate: OnRepeated::Drop,
            on_contradiction: OnRepeated::Keep,
        }
    }
}

/// Checks what a record holds: enough completions, none empty, the two of a pair different.
///
/// # Errors
///
/// The first problem found; the prompt comes before the completions.
pub fn content(record: &Record, shape: Shape) -> Result<(), Fault> {
    let has_prompt = shape != Shape::Texts;
    if has_prompt && is_empty(&record.prompt) {
        return Err(Fault::new(Problem::Empty, "the prompt"));
    }
    let wanted = match shape {
        Shape::Pairs => 2..=2,
        Shape::Groups | Shape::Steps => 2..=usize::MAX,
        Shape::Unpaired | Shape::Completions | Shape::Texts => 1..=1,
        Shape::Prompts => 0..=0,
    };
    let count = record.completions.len();
    if !wanted.contains(&count) {
        return Err(Fault::new(Problem::Unsupported, format!("{count} completions")));
    }
    for (index, completion) in record.completions.iter().enumerate() {
        if is_empty(completion) {
            return Err(Fault::new(Problem::Empty, side_name(shape, index)));
        }
    }
    match record.completions.as_slice() {
        [chosen, rejected] if shape == Shape::Pairs && same(chosen, rejected) => {
            Err(Fault::new(Problem::Identical, ""))
        }
        _ => Ok(()),
    }
}

fn side_name(shape: Shape, index: usize) -> String {
    match (shape, index) {
        (Shape::Pairs, 0) => "`chosen`".into(),
        (Shape::Pairs, 1) => "`rejected`".into(),
        (Shape::Groups, index) => format!("response {}", index + 1),
        _ => "the completion".into(),
    }
}

fn is_empty(content: &Content) -> bool {
    match content {
        Content::Text(text) => text.trim().is_empty(),
        Content::Tokens(ids) => ids.is_empty(),
        Content::Messages(all) => is_silent(all),
    }
}

/// Whether nobody asks, or somebody who asks or answers says nothing. A system message alone asks
/// nothing; a tool may well return nothing, and a call of a tool needs no words.
fn is_silent(messages: &[Value]) -> bool {
    fn text<'a>(message: &'a Value, key: &str) -> &'a str {
        message.get(key).and_then(Value::as_str).unwrap_or_default()
    }
    let speaks = |message: &Value| {
        !text(message, "content").trim().is_empty()
            || message.get("tool_calls").is_some()
            || message.get("reasoning_content").is_some()
    };
    let turns = messages.iter().filter(|it| !matches!(text(it, "role"), "system" | "developer"));
    turns.clone().next().is_none()
        || turns.clone().any(|it| text(it, "role") != "tool" && !speaks(it))
}

/// Whether two completions are the same but for white space around them.
pub(crate) fn same(one: &Content, other: &Content) -> bool {
    match (one, other) {
        (Content::Text(one), Content::Text(other)) => one.trim() == other.trim(),
        (Content::Messages(one), Content::Messages(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| same_message(one, other))
        }
        (one, other) => one == other,
    }
}

fn same_message(one: &Value, other: &Value) -> bool {
    let (Value::Object(one), Value::Object(other)) = (one, other) else {
        return one == other;
    };
    one.len() == other.len()
        && one.iter().all(|(key, value)| match (value, other.get(key)) {
            (Value::String(value), Some(Value::String(other))) if key == "content" => {
                value.trim() == other.trim()
            }
            (value, other) => Some(value) == other,
        })
}
