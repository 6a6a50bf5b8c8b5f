//! One record of a preference file, whatever layout the file had.
//!
//! Every layout is turned into this one type, so that templates, tokens and packing know a single
//! shape and every message about a record can say where it came from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How places in a file are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Lines of a text file.
    Line,
    /// Rows of a table without lines (Parquet).
    Row,
}

/// Where a record came from: a file, and a line or row counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The file, as the recipe's path leads to it.
    pub file: Arc<Path>,
    /// Lines or rows.
    pub unit: Unit,
    /// Line on which the record starts, or its row number; from 1.
    pub number: u64,
}

impl Origin {
    /// A place at a line of a text file; lines count from 1.
    pub fn line(file: impl Into<PathBuf>, number: u64) -> Self {
        Self { file: Arc::from(file.into()), unit: Unit::Line, number }
    }

    /// A place at a row of a table; rows count from 1.
    pub fn row(file: impl Into<PathBuf>, number: u64) -> Self {
        Self { file: Arc::from(file.into()), unit: Unit::Row, number }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Line => "line",
            Unit::Row => "row",
        };
        write!(f, "`{}` {unit} {}", self.file.display(), self.number)
    }
}

/// A prompt or a completion, before it becomes tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Plain text, which goes to the tokenizer without a chat template unless the recipe asks for one.
    Text(String),
    /// Messages, each an object with `role` and `content`, for the model's chat template.
    Messages(Vec<Value>),
    /// Token ids that somebody else made.
    Tokens(Vec<u32>),
}

/// One prompt with its completions.
///
/// A pair has two completions, chosen then rejected; a group has its completions in the file's
/// order with one number each in `extras["scores"]`, larger is better; supervised fine-tuning and
/// unpaired records have one completion (the latter with a truth value in `extras["label"]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where it came from.
    pub origin: Origin,
    /// What the completions answer; empty text where a layout has no prompt.
    pub prompt: Content,
    /// The completions: chosen and rejected for pairs.
    pub completions: Vec<Content>,
    /// Descriptions of tools for the chat template, a list of JSON schemas.
    pub tools: Option<Value>,
    /// Variables for the chat template, such as `enable_thinking`.
    pub template_kwargs: Map<String, Value>,
    /// Columns that belong to objectives and reports: `h_w`, `h_l`, `annotator`, `id`, scores.
    pub extras: Map<String, Value>,
}

impl Record {
    /// Its name in logs, caches and files: the column `id`, else file and place.
    pub fn id(&self) -> String {
        match self.extras.get("id") {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => {
                let name = self.origin.file.file_name().map(|name| name.to_string_lossy());
                format!("{}:{}", name.unwrap_or_default(), self.origin.number)
            }
        }
    }

    /// Makes the prompt the beginning of every completion, and leaves none. Tokens stay as they are.
    pub fn become_whole(&mut self) {
        let nothing = match &self.prompt {
            Content::Text(_) => Content::Text(String::new()),
            Content::Messages(_) => Content::Messages(Vec::new()),
            Content::Tokens(_) => return,
        };
        let prompt = std::mem::replace(&mut self.prompt, nothing);
        for completion in &mut self.completions {
            match (&prompt, completion) {
                (Content::Text(prompt), Content::Text(text)) => text.insert_str(0, prompt),
                (Content::Messages(prompt), Content::Messages(turns)) => {
                    turns.splice(0..0, prompt.iter().cloned());
                }
                _ => {}
            }
        }
    }

    /// Turns texts into messages: the prompt into the user's, each completion into the
    /// assistant's. Messages and tokens stay as they are.
    pub fn become_messages(&mut self) {
        self.prompt.become_message("user");
        for completion in &mut self.completions {
            completion.become_message("assistant");
        }
    }
}

impl Content {
    /// Turns text into one message of a role.
    pub fn become_message(&mut self, role: &str) {
        if let Self::Text(text) = self {
            let message = serde_json::json!({ "role": role, "content": std::mem::take(text) });
            *self = Self::Messages(vec![message]);
        }
    }
}
