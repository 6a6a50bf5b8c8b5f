//! Rows with a dialogue and both answers to it: ShareGPT, ms-swift, `OpenAI`, LLaMA-Factory v1.

use serde_json::Value;

use super::Parts;
use super::columns::{Columns, Fault, text};
use super::messages::{completion, is_messages, message, messages, prompt, role};
use super::prompts;
use crate::check::Problem;
use crate::record::Content;

/// ShareGPT's ranking rows: `conversations` and a `chosen` and a `rejected` turn.
pub(super) fn sharegpt(columns: &mut Columns) -> Result<Parts, Fault> {
    let name = if columns.has("conversations") { "conversations" } else { "conversation" };
    let system = columns.optional_text("system")?;
    let asked = prompt(messages(columns.required(name)?, name)?);
    let chosen = side(columns.required("chosen")?, "chosen")?;
    let rejected = side(columns.required("rejected")?, "rejected")?;
    Parts::two(asked, chosen, rejected).with_system(system)
}

/// ms-swift's rows: `messages` that end with the chosen answer, and the rejected one beside them,
/// as text or as the messages that replace the end.
pub(super) fn swift(columns: &mut Columns) -> Result<Parts, Fault> {
    let system = columns.optional_text("system")?;
    let mut asked = messages(columns.required("messages")?, "messages")?;
    if columns.has("rejected_messages") {
        let rejected = messages(columns.required("rejected_messages")?, "rejected_messages")?;
        return Parts::pair(prompts::of_messages(asked, rejected)?).with_system(system);
    }
    let rejected = side(columns.required("rejected_response")?, "rejected_response")?;
    let Some(chosen) = asked.pop_if(|last| role(last) == "assistant") else {
        let detail = "`messages` does not end with the assistant's answer";
        return Err(Fault::new(Problem::BadMessage, detail));
    };
    let chosen = completion(vec![chosen], "messages")?;
    Parts::two(prompt(asked), chosen, rejected).with_system(system)
}

/// `OpenAI`'s preference rows: `input.messages`, `preferred_output`, `non_preferred_output`; the
/// tools inside `input` move to the row.
pub(super) fn openai(columns: &mut Columns) -> Result<(Parts, Option<Value>), Fault> {
    let mut input = columns.required("input")?;
    let tools = input.get_mut("tools").map(Value::take).filter(|tools| !tools.is_null());
    let asked = match input.get_mut("messages").map(Value::take) {
        Some(asked) => asked,
        None => input,
    };
    let asked = prompt(messages(asked, "input")?);
    let chosen = side(columns.required("preferred_output")?, "preferred_output")?;
    let rejected = side(columns.required("non_preferred_output")?, "non_preferred_output")?;
    Ok((Parts::two(asked, chosen, rejected), tools))
}

/// LLaMA-Factory v1's typed rows: two whole dialogues.
pub(super) fn whole(columns: &mut Columns) -> Result<Parts, Fault> {
    let chosen = messages(columns.required("chosen_messages")?, "chosen_messages")?;
    let rejected = messages(columns.required("rejected_messages")?, "rejected_messages")?;
    Ok(Parts::pair(prompts::of_messages(chosen, rejected)?))
}

/// One answer: text, a message or messages.
pub(super) fn side(value: Value, name: &str) -> Result<Vec<Value>, Fault> {
    if is_messages(&value) {
        completion(messages(value, name)?, name)
    } else {
        Ok(vec![message("assistant", text(value, name)?)])
    }
}

impl Parts {
    /// A pair of messages.
    pub(super) fn two(asked: Vec<Value>, chosen: Vec<Value>, rejected: Vec<Value>) -> Self {
        Self {
            prompt: Content::Messages(asked),
            completions: vec![Content::Messages(chosen), Content::Messages(rejected)],
        }
    }
}
