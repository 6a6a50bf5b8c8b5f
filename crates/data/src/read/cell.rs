//! What a text cell of a table holds: text, or JSON that had to be put into a cell.

use serde_json::Value;

/// Columns that hold lists; their cells are JSON.
const LIST_COLUMNS: [&str; 16] = [
    "scores",
    "ranks",
    "responses",
    "completions",
    "history",
    "labels",
    "factual",
    "tools",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "prompt_input_ids",
    "chosen_input_ids",
    "rejected_input_ids",
    "chat_template_kwargs",
    "annotators",
];

/// The value in a cell.
///
/// Text stays text, also text that happens to be JSON: an answer may be JSON. Lists and objects of
/// messages, and the lists of columns that always hold lists, are parsed.
///
/// # Errors
///
/// Python's own notation for a list of messages, which no JSON parser reads.
pub(super) fn value(column: &str, text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    if !trimmed.starts_with(['[', '{']) {
        return Ok(Value::String(text.to_owned()));
    }
    let is_list = LIST_COLUMNS.contains(&column);
    match serde_json::from_str::<Value>(trimmed) {
        Ok(value) if is_list || is_messages(&value) => Ok(value),
        Err(_) if python_messages(trimmed) => Err(format!(
            "column `{column}` holds Python's notation of a list, not JSON; write it with `json.dumps`"
        )),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Whether a value is one message or a list of them, in the names of any layout.
fn is_messages(value: &Value) -> bool {
    match value {
        Value::Array(all) => !all.is_empty() && all.iter().all(is_message),
        Value::Object(_) => is_message(value),
        _ => false,
    }
}

fn is_message(value: &Value) -> bool {
    value.get("role").is_some() && value.get("content").is_some()
        || value.get("from").is_some() && value.get("value").is_some()
        || value.get("rank").is_some() && value.get("completion").is_some()
}

fn python_messages(text: &str) -> bool {
    let inner = text.trim_start_matches(['[', '{']).trim_start().trim_start_matches('{');
    ["'role'", "'content'", "'from'", "'value'"].iter().any(|key| inner.starts_with(key))
}
