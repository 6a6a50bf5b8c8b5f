//! Rows with one completion or none: fine-tuning, unpaired feedback, prompts, texts.

use serde_json::Value;

use super::Parts;
use super::columns::{Columns, Fault, text};
use super::messages::{completion, is_messages, message, messages, prompt, role};
use crate::check::Problem;
use crate::record::Content;

/// Names of the prompt.
pub(super) const PROMPTS: [&str; 3] = ["prompt", "question", "instruction"];

/// Names of the completion.
pub(super) const COMPLETIONS: [&str; 4] = ["completion", "response", "answer", "output"];

/// Names of the truth value of unpaired rows.
pub(super) const LABELS: [&str; 2] = ["label", "kto_tag"];

/// `prompt` and `completion`, as text or messages.
pub(super) fn prompt_completion(columns: &mut Columns) -> Result<Parts, Fault> {
    let with_system = columns.has_key("system");
    let system = columns.optional_text("system")?;
    let asked = columns.any_of(&PROMPTS)?;
    let answered = columns.any_of(&COMPLETIONS)?;
    let chat = with_system || is_messages(&asked) || is_messages(&answered);
    let asked = if is_messages(&asked) {
        Content::Messages(prompt(messages(asked, "prompt")?))
    } else {
        Content::Text(text(asked, "prompt")?)
    };
    let answered = if is_messages(&answered) {
        Content::Messages(completion(messages(answered, "completion")?, "completion")?)
    } else if chat {
        Content::Messages(vec![message("assistant", text(answered, "completion")?)])
    } else {
        Content::Text(text(answered, "completion")?)
    };
    let parts = Parts { prompt: asked, completions: vec![answered] };
    if chat { parts.prompt_as_messages().with_system(system) } else { Ok(parts) }
}

/// `messages` (or `conversations`) that end with the assistant's answer.
pub(super) fn dialogue(columns: &mut Columns) -> Result<Parts, Fault> {
    let system = columns.optional_text("system")?;
    let name = if columns.has("messages") { "messages" } else { "conversations" };
    let mut asked = messages(columns.required(name)?, name)?;
    let Some(answer) = asked.pop_if(|last| role(last) == "assistant") else {
        let detail = format!("`{name}` does not end with the assistant's answer");
        return Err(Fault::new(Problem::BadMessage, detail));
    };
    let answer = Content::Messages(completion(vec![answer], name)?);
    Parts { prompt: Content::Messages(prompt(asked)), completions: vec![answer] }
        .with_system(system)
}

/// A completion with a truth value, which goes to `extras["label"]`.
pub(super) fn unpaired(columns: &mut Columns) -> Result<(Parts, Value), Fault> {
    let value = columns.any_of(&LABELS)?;
    let label = match &value {
        Value::Bool(label) => Some(*label),
        Value::Number(number) => match number.as_f64() {
            Some(0.0) => Some(false),
            Some(1.0) => Some(true),
            _ => None,
        },
        Value::String(text) => match text.trim() {
            "true" | "True" | "TRUE" | "1" => Some(true),
            "false" | "False" | "FALSE" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    let Some(label) = label else {
        let detail =
            format!("`label` is {} where a truth value is needed", crate::read::kind(&value));
        return Err(Fault::new(Problem::WrongType, detail));
    };
    let talks = columns.has("messages") || columns.has("conversations");
    let parts = if talks { dialogue(columns)? } else { prompt_completion(columns)? };
    Ok((parts, Value::Bool(label)))
}

/// A text to continue from its first token.
pub(super) fn plain_text(columns: &mut Columns) -> Result<Parts, Fault> {
    let text = columns.required_text("text")?;
    Ok(Parts { prompt: Content::Text(String::new()), completions: vec![Content::Text(text)] })
}

/// A prompt alone.
pub(super) fn prompt_only(columns: &mut Columns) -> Result<Parts, Fault> {
    let with_system = columns.has_key("system");
    let system = columns.optional_text("system")?;
    let asked = columns.any_of(&PROMPTS)?;
    let asked = if is_messages(&asked) {
        Content::Messages(prompt(messages(asked, "prompt")?))
    } else {
        Content::Text(text(asked, "prompt")?)
    };
    let parts = Parts { prompt: asked, completions: Vec::new() };
    if with_system { parts.prompt_as_messages().with_system(system) } else { Ok(parts) }
}
