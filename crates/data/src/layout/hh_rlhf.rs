//! Anthropic's HH-RLHF: whole dialogues as text, with turns marked `Human:` and `Assistant:`.

use serde_json::Value;

use super::columns::Fault;
use super::messages::message;
use super::prompts::{self, Pair};
use crate::check::Problem;

const TURNS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];

/// Whether a text is a dialogue of this kind.
pub(super) fn is_dialogue(text: &str) -> bool {
    let text = format!("\n\n{}", text.trim_start());
    text.starts_with(TURNS[0].0) && text.contains(TURNS[1].0)
}

/// The pair in two dialogues.
pub(super) fn pair(chosen: &str, rejected: &str) -> Result<Pair, Fault> {
    for (text, name) in [(chosen, "chosen"), (rejected, "rejected")] {
        if !is_dialogue(text) {
            let detail = format!("`{name}` has no `Human:` and `Assistant:` turns");
            return Err(Fault::new(Problem::BadMessage, detail));
        }
    }
    prompts::of_messages(turns(chosen), turns(rejected))
}

/// The turns of a dialogue as messages, without the white space around each.
fn turns(text: &str) -> Vec<Value> {
    let text = format!("\n\n{}", text.trim_start());
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some((role, after)) =
        TURNS.iter().find_map(|(mark, role)| rest.strip_prefix(mark).map(|after| (*role, after)))
    {
        let end =
            TURNS.iter().filter_map(|(mark, _)| after.find(mark)).min().unwrap_or(after.len());
        found.push(message(role, after[..end].trim()));
        rest = &after[end..];
    }
    found
}
