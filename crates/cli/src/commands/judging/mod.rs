//! `trueup judge`: models answer prompts, and a judge or a rule says what the answers are worth.
//!
//! Whatever costs is kept in the output folder at once: answers in a file for each contestant, what a
//! judge said in `journal.jsonl`. All else is made from those two.

mod answers;
pub(super) mod compare;
pub(super) mod factuality;
mod prompts;

use std::{fmt::Write as _, path::Path};

use serde_json::Value;

pub(super) use self::prompts::{in_words, prompt_in_words};
use crate::failure::Failure;

/// The file of what a judge said.
const JOURNAL: &str = "journal.jsonl";

/// Answers that are written at once.
const TOGETHER: usize = 16;

/// Writes rows as JSON Lines, whole or not at all.
fn write_lines(path: &Path, rows: &[Value]) -> Result<(), Failure> {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
    Ok(run::atomic::write(path, text.as_bytes())?)
}

/// Writes an object, indented.
fn write_json(path: &Path, value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(run::atomic::write(path, text.as_bytes())?)
}
