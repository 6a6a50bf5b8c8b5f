//! Messages of every dialect as objects with `role` and `content`.

use serde_json::{Map, Value, json};

use super::columns::{Fault, list, text};
use crate::check::Problem;
use crate::read::kind;

/// Whether a value looks like messages: a list of objects, or one object.
pub(super) fn is_messages(value: &Value) -> bool {
    match value {
        Value::Array(all) => all.iter().all(Value::is_object),
        Value::Object(_) => true,
        _ => false,
    }
}

/// A message of plain text.
pub(super) fn message(role: &str, content: impl Into<String>) -> Value {
    json!({ "role": role, "content": content.into() })
}

/// The role of a message made by [`messages`].
pub(super) fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

/// A list of messages, or one, in the one form: `role` and `content` first, then what else the
/// message has (`name`, `tool_calls`, `reasoning_content`, ..), without nulls.
pub(super) fn messages(value: Value, name: &str) -> Result<Vec<Value>, Fault> {
    let all = if value.is_object() { vec![value] } else { list(value, name)? };
    all.into_iter().map(|it| one(it, name)).collect()
}

/// The messages of a prompt; which of them are learnt from says nothing there.
pub(super) fn prompt(mut messages: Vec<Value>) -> Vec<Value> {
    for message in &mut messages {
        if let Value::Object(fields) = message {
            fields.shift_remove("loss_weight");
        }
    }
    messages
}

/// The messages of a completion, all of which are learnt from.
pub(super) fn completion(messages: Vec<Value>, name: &str) -> Result<Vec<Value>, Fault> {
    let Some(first) = messages.first() else {
        return Err(Fault::new(Problem::Empty, format!("`{name}` has no message")));
    };
    if matches!(role(first), "user" | "system" | "developer") {
        return Err(Fault::new(
            Problem::PromptsDiffer,
            format!("`{name}` starts with a message of the {}", role(first)),
        ));
    }
    let masked = |message: &Value| {
        role(message) == "assistant"
            && message.get("loss_weight").and_then(Value::as_f64).is_some_and(|it| it < 1.0)
    };
    if messages.iter().any(masked) {
        return Err(Fault::new(
            Problem::Unsupported,
            format!("`{name}` has an assistant message with `loss_weight` below 1"),
        ));
    }
    Ok(prompt(messages))
}

fn one(value: Value, name: &str) -> Result<Value, Fault> {
    let bad = |detail: String| Fault::new(Problem::BadMessage, format!("`{name}`: {detail}"));
    let Value::Object(mut fields) = value else {
        return Err(bad(format!("{} where a message is needed", kind(&value))));
    };
    fields.retain(|_, value| !value.is_null());
    let role = fields.shift_remove("role").or_else(|| fields.shift_remove("from"));
    let content = fields.shift_remove("content").or_else(|| fields.shift_remove("value"));
    let Some(Value::String(role)) = role else {
        return Err(bad("a message without `role`".into()));
    };
    let mut message = Map::new();
    let Some(known) = known_role(&role) else {
        return Err(bad(format!("unknown role \"{}\"", role.escape_debug())));
    };
    message.insert("role".into(), Value::from(known));
    message.insert("content".into(), Value::from(""));
    match content {
        Some(Value::String(content)) if role == "function_call" => {
            push_call(&mut message, &content, name)?;
        }
        Some(Value::String(content)) => {
            message.insert("content".into(), Value::String(content));
        }
        Some(Value::Array(parts)) => parts_into(&mut message, parts, name)?,
        Some(other) => {
            let detail = format!("`{name}`: the content of a message is {}", kind(&other));
            return Err(Fault::new(Problem::WrongType, detail));
        }
        None if fields.contains_key("tool_calls") || fields.contains_key("reasoning_content") => {}
        None => return Err(bad(format!("a message of the {known} without content"))),
    }
    message.extend(fields);
    Ok(Value::Object(message))
}

/// The role's name in chat templates.
fn known_role(role: &str) -> Option<&'static str> {
    Some(match role {
        "user" | "human" | "Human" | "prompter" => "user",
        "assistant" | "gpt" | "chatgpt" | "bard" | "bing" | "model" | "Assistant"
        | "function_call" => "assistant",
        "system" => "system",
        "developer" => "developer",
        "tool" | "observation" | "function" | "ipython" => "tool",
        _ => return None,
    })
}

/// Puts content that is a list of typed parts into a message as text.
///
/// Parts are `{"type": "text", "text": ..}` or, in LLaMA-Factory's rows, `{"type", "value"}` with
/// the types text, reasoning and `tool_call`.
fn parts_into(
    message: &mut Map<String, Value>,
    parts: Vec<Value>,
    name: &str,
) -> Result<(), Fault> {
    let mut content = String::new();
    let mut reasoning = String::new();
    for mut part in parts {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text").to_owned();
        let value = ["text", "value", "content"]
            .iter()
            .find_map(|key| part.get_mut(key).map(Value::take))
            .unwrap_or(if let Value::String(text) = part {
                Value::String(text)
            } else {
                Value::Null
            });
        match kind.as_str() {
            "text" | "input_text" | "output_text" => content.push_str(&text(value, name)?),
            "reasoning" | "thinking" => reasoning.push_str(&text(value, name)?),
            "tool_call" => push_call(message, &text(value, name)?, name)?,
            other => {
                let detail = format!("`{name}`: a part of type \"{}\"", other.escape_debug());
                return Err(Fault::new(Problem::Unsupported, detail));
            }
        }
    }
    message.insert("content".into(), Value::String(content));
    if !reasoning.is_empty() {
        message.insert("reasoning_content".into(), Value::String(reasoning));
    }
    Ok(())
}

/// Adds a call of a tool, given as JSON text with `name` and `arguments`.
fn push_call(message: &mut Map<String, Value>, call: &str, name: &str) -> Result<(), Fault> {
    let parsed: Result<Value, _> = serde_json::from_str(call);
    let calls = match parsed {
        Ok(Value::Array(calls)) => calls,
        Ok(call @ Value::Object(_)) => vec![call],
        _ => {
            let detail = format!("`{name}`: a call of a tool that is no JSON");
            return Err(Fault::new(Problem::BadMessage, detail));
        }
    };
    let calls = calls.into_iter().map(|call| json!({ "type": "function", "function": call }));
    match message.get_mut("tool_calls") {
        Some(Value::Array(all)) => all.extend(calls),
        _ => {
            message.insert("tool_calls".into(), Value::Array(calls.collect()));
        }
    }
    Ok(())
}
