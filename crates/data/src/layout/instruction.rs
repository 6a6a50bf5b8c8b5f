//! Rows of one instruction: Alpaca's, Intel's orca pairs, Argilla's.
//!
//! They were written for chat models, so that they become messages.

use serde_json::Value;

use super::Parts;
use super::columns::{Columns, Fault, list, text};
use super::messages::{is_messages, message, messages};
use crate::check::Problem;
use crate::record::Content;

/// Alpaca's ranking rows: `instruction`, `input`, `chosen`, `rejected`, `system`, `history`.
pub(super) fn alpaca(columns: &mut Columns) -> Result<Parts, Fault> {
    let prompt = alpaca_prompt(columns)?;
    let (chosen, rejected) = if columns.has_key("chosen") || columns.has_key("rejected") {
        (columns.required("chosen")?, columns.required("rejected")?)
    } else {
        // The older form: `output` is a list of the better and the worse one.
        match <[Value; 2]>::try_from(list(columns.required("output")?, "output")?) {
            Ok([chosen, rejected]) => (chosen, rejected),
            Err(all) => {
                let detail = format!("`output` has {} texts where two are needed", all.len());
                return Err(Fault::new(Problem::Unsupported, detail));
            }
        }
    };
    pair(prompt, chosen, rejected)
}

/// Alpaca's rows for supervised fine-tuning: `instruction`, `input`, `output`.
pub(super) fn alpaca_single(columns: &mut Columns) -> Result<Parts, Fault> {
    let prompt = alpaca_prompt(columns)?;
    let output = columns.required_text("output")?;
    Ok(Parts {
        prompt: Content::Messages(prompt),
        completions: vec![Content::Messages(vec![message("assistant", output)])],
    })
}

/// Intel's orca pairs: `system`, `question` (Argilla writes `input`), `chosen`, `rejected`; and
/// Stack Exchange's `question`, `response_j`, `response_k`.
pub(super) fn orca(columns: &mut Columns) -> Result<Parts, Fault> {
    columns.forget(&["generations", "messages"]);
    let system = columns.optional_text("system")?;
    let question = text(columns.any_of(&["question", "input"])?, "question")?;
    let chosen = columns.any_of(&["chosen", "response_j"])?;
    let rejected = columns.any_of(&["rejected", "response_k"])?;
    pair(vec![message("user", question)], chosen, rejected)?.with_system(system)
}

/// Argilla's feedback rows: `instruction`, `chosen_response`, `rejected_response`.
pub(super) fn argilla(columns: &mut Columns) -> Result<Parts, Fault> {
    columns.forget(&["generations", "responses", "messages"]);
    let system = columns.optional_text("system")?;
    let asked = columns.any_of(&["instruction", "prompt", "input", "question"])?;
    let prompt = if is_messages(&asked) {
        messages(asked, "instruction")?
    } else {
        vec![message("user", text(asked, "instruction")?)]
    };
    let chosen = columns.required("chosen_response")?;
    let rejected = columns.required("rejected_response")?;
    pair(prompt, chosen, rejected)?.with_system(system)
}

fn pair(prompt: Vec<Value>, chosen: Value, rejected: Value) -> Result<Parts, Fault> {
    let completions = vec![side(chosen, &prompt, "chosen")?, side(rejected, &prompt, "rejected")?];
    Ok(Parts { prompt: Content::Messages(prompt), completions })
}

/// A completion that is text, messages, or the whole dialogue with the prompt.
fn side(value: Value, prompt: &[Value], name: &str) -> Result<Content, Fault> {
    if !is_messages(&value) {
        return Ok(Content::Messages(vec![message("assistant", text(value, name)?)]));
    }
    let mut all = messages(value, name)?;
    if prompt.len() < all.len() && all.starts_with(prompt) {
        all.drain(..prompt.len());
    }
    super::messages::completion(all, name).map(Content::Messages)
}

/// System, history, instruction and input as messages; the input follows on a line of its own.
fn alpaca_prompt(columns: &mut Columns) -> Result<Vec<Value>, Fault> {
    let mut prompt = Vec::new();
    if let Some(system) = columns.optional_text("system")? {
        prompt.push(message("system", system));
    }
    if let Some(history) = columns.optional("history") {
        for turn in list(history, "history")? {
            let turn: Result<[Value; 2], _> = list(turn, "history")?.try_into();
            let Ok([asked, answered]) = turn else {
                let detail = "a turn of `history` that is not two texts";
                return Err(Fault::new(Problem::WrongType, detail));
            };
            prompt.push(message("user", text(asked, "history")?));
            prompt.push(message("assistant", text(answered, "history")?));
        }
    }
    let mut asked = columns.required_text("instruction")?;
    if let Some(input) = columns.optional_text("input")? {
        if !asked.is_empty() {
            asked.push('\n');
        }
        asked.push_str(&input);
    }
    prompt.push(message("user", asked));
    Ok(prompt)
}
