//! TRL's preference rows: `prompt` (or none), `chosen`, `rejected`, as strings or as messages.
//!
//! UltraFeedback-binarized (a text prompt beside full dialogues), MLX (a `system` column) and typed
//! content are the same layout.

use serde_json::Value;

use super::columns::{Columns, Fault, text};
use super::messages::{completion, is_messages, message, messages, prompt, role};
use super::prompts::{self, Pair};
use super::{Parts, hh_rlhf};
use crate::check::Problem;
use crate::record::Content;

/// Columns that repeat the dialogue.
const REPEATED: [&str; 4] = ["messages", "raw_chosen", "raw_rejected", "generations"];

/// Converts a row; `turns` says that texts are dialogues with marked turns (HH-RLHF).
pub(super) fn convert(columns: &mut Columns, turns: bool) -> Result<Parts, Fault> {
    columns.forget(&REPEATED);
    let has_prompt = columns.has_key("prompt");
    let with_system = columns.has_key("system");
    let system = columns.optional_text("system")?;
    let prompt = columns.optional("prompt");
    let chosen = columns.required("chosen")?;
    let rejected = columns.required("rejected")?;
    let pair = match (is_messages(&chosen), is_messages(&rejected)) {
        (true, true) => {
            dialogues(prompt, messages(chosen, "chosen")?, messages(rejected, "rejected")?)?
        }
        (false, false) => {
            let chosen = text(chosen, "chosen")?;
            let rejected = text(rejected, "rejected")?;
            match prompt {
                Some(prompt) => texts(prompt, chosen, rejected)?,
                None if has_prompt => return Err(Fault::new(Problem::Null, "`prompt`")),
                None if turns => hh_rlhf::pair(&chosen, &rejected)?,
                None => prompts::of_texts(&chosen, &rejected),
            }
        }
        (chosen_listed, _) => {
            // The side that is neither text nor messages has the better explanation.
            let (one, other) =
                if chosen_listed { (rejected, "rejected") } else { (chosen, "chosen") };
            text(one, other)?;
            return Err(Fault::new(
                Problem::WrongType,
                "one of `chosen` and `rejected` is text, the other messages",
            ));
        }
    };
    let pair = if with_system { as_messages(pair) } else { pair };
    Parts::pair(pair).with_system(system)
}

/// A prompt beside completions that are text.
fn texts(prompt: Value, chosen: String, rejected: String) -> Result<Pair, Fault> {
    if is_messages(&prompt) {
        let prompt = super::messages::prompt(messages(prompt, "prompt")?);
        let completions =
            [chosen, rejected].map(|it| Content::Messages(vec![message("assistant", it)]));
        return Ok((Content::Messages(prompt), completions));
    }
    let prompt = text(prompt, "prompt")?;
    Ok((Content::Text(prompt), [Content::Text(chosen), Content::Text(rejected)]))
}

/// A prompt beside messages that are the completion alone, or the whole dialogue.
fn dialogues(
    asked: Option<Value>,
    chosen: Vec<Value>,
    rejected: Vec<Value>,
) -> Result<Pair, Fault> {
    let answers =
        |side: &[Value]| side.first().is_some_and(|it| !matches!(role(it), "user" | "system"));
    let Some(asked) = asked else {
        return prompts::of_messages(chosen, rejected);
    };
    if is_messages(&asked) {
        let asked = prompt(messages(asked, "prompt")?);
        let whole = |side: &[Value]| asked.len() < side.len() && side.starts_with(&asked);
        if whole(&chosen) && whole(&rejected) {
            return prompts::split(chosen, rejected, asked.len());
        }
        let completions = [
            Content::Messages(completion(chosen, "chosen")?),
            Content::Messages(completion(rejected, "rejected")?),
        ];
        return Ok((Content::Messages(asked), completions));
    }
    let asked = text(asked, "prompt")?;
    if answers(&chosen) && answers(&rejected) {
        let completions = [
            Content::Messages(completion(chosen, "chosen")?),
            Content::Messages(completion(rejected, "rejected")?),
        ];
        return Ok((Content::Messages(vec![message("user", asked)]), completions));
    }
    prompts::of_messages(chosen, rejected)
}

/// Texts as a user's and an assistant's turns; messages as they are.
pub(super) fn as_messages(pair: Pair) -> Pair {
    let turn = |content, role| match content {
        Content::Text(text) => Content::Messages(vec![message(role, text)]),
        other => other,
    };
    (turn(pair.0, "user"), pair.1.map(|it| turn(it, "assistant")))
}
