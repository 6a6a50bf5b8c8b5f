//! The columns of one row while a layout takes what it needs from them.

use serde_json::{Map, Value};

use crate::check::Problem;
use crate::read::kind;

/// Why a row cannot become a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Which of the closed list of problems.
    pub problem: Problem,
    /// More about it; may be empty.
    pub detail: String,
}

impl Fault {
    /// A fault with words of its own.
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into() }
    }
}

/// The longest text, in bytes, that is carried along as an extra column.
const EXTRA_TEXT_MAX: usize = 1024;

/// The longest list that is carried along as an extra column.
const EXTRA_LIST_MAX: usize = 256;

/// The columns of one row; what a layout takes is gone, the rest become extras.
#[derive(Debug)]
pub(super) struct Columns {
    fields: Map<String, Value>,
    cells: bool,
}

impl Columns {
    pub(super) fn new(fields: Map<String, Value>, cells: bool) -> Self {
        Self { fields, cells }
    }

    /// Whether a column is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether a column is there, null or not.
    pub(super) fn has_key(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Takes a column that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<Value, Fault> {
        match self.fields.shift_remove(name) {
            Some(Value::Null) => Err(Fault::new(Problem::Null, format!("`{name}`"))),
            Some(value) => Ok(value),
            None => Err(Fault::new(Problem::MissingField, format!("`{name}`"))),
        }
    }

    /// Takes the first of several names that is there and not null; the first name is the one that
    /// messages use.
    pub(super) fn any_of(&mut self, names: &[&str]) -> Result<Value, Fault> {
        let name = names.iter().find(|name| self.has(name)).or(names.first());
        self.required(name.copied().unwrap_or_default())
    }

    /// Takes a column that may be absent, null or, in a table of text cells, empty.
    pub(super) fn optional(&mut self, name: &str) -> Option<Value> {
        match self.fields.shift_remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if self.cells && text.is_empty() => None,
            value => value,
        }
    }

    /// Takes an optional column of text; empty text counts as absent.
    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        match self.optional(name) {
            None => Ok(None),
            Some(value) => Ok(Some(text(value, name)?).filter(|text| !text.trim().is_empty())),
        }
    }

    /// Takes required text.
    pub(super) fn required_text(&mut self, name: &str) -> Result<String, Fault> {
        text(self.required(name)?, name)
    }

    /// Throws columns away that repeat what others hold.
    pub(super) fn forget(&mut self, names: &[&str]) {
        for name in names {
            self.fields.shift_remove(*name);
        }
    }

    /// What is left, as far as it is small: numbers, truth values, short texts and short lists of
    /// them. Nested values and long texts belong to no objective and are not kept in memory.
    pub(super) fn into_extras(self) -> Map<String, Value> {
        let cells = self.cells;
        self.fields
            .into_iter()
            .filter(|(_, value)| is_small(value))
            .map(|(name, value)| (name, if cells { scalar(value) } else { value }))
            .collect()
    }
}

fn is_small(value: &Value) -> bool {
    match value {
        Value::Null | Value::Object(_) => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.len() <= EXTRA_TEXT_MAX,
        Value::Array(all) => {
            all.len() <= EXTRA_LIST_MAX
                && all.iter().all(|it| it.is_null() || !it.is_array() && is_small(it))
        }
    }
}

/// A text cell as the number or truth value that it spells.
fn scalar(value: Value) -> Value {
    let Value::String(text) = &value else {
        return value;
    };
    match text.trim() {
        "True" | "true" | "TRUE" => return Value::Bool(true),
        "False" | "false" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    match serde_json::from_str::<Value>(text) {
        Ok(number @ Value::Number(_)) => number,
        _ => value,
    }
}

/// A value that must be text.
pub(super) fn text(value: Value, name: &str) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Err(Fault::new(Problem::Null, format!("`{name}`"))),
        other => Err(Fault::new(
            Problem::WrongType,
            format!("`{name}` is {} where text is needed", kind(&other)),
        )),
    }
}

/// A value that must be a list.
pub(super) fn list(value: Value, name: &str) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(all) => Ok(all),
        Value::Null => Err(Fault::new(Problem::Null, format!("`{name}`"))),
        other => Err(Fault::new(
            Problem::WrongType,
            format!("`{name}` is {} where a list is needed", kind(&other)),
        )),
    }
}

/// A value that is JSON, or text that holds JSON.
pub(super) fn json(value: Value, name: &str) -> Result<Value, Fault> {
    match value {
        Value::String(text) => serde_json::from_str(&text).map_err(|error| {
            Fault::new(Problem::WrongType, format!("`{name}` is no JSON: {error}"))
        }),
        value => Ok(value),
    }
}
