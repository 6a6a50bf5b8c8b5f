//! Requests to `/v1/chat/completions`.

use data::conversation;
use serde_json::{Map, Value, json};

use crate::{
    ask::{Ask, Form, Prompt, TOP_MAX},
    fields::Fields,
    problem::Problem,
    words::Words,
};

/// Reads a request.
pub(crate) fn parse(body: &[u8], words: &Words) -> Result<Ask, Problem> {
    let mut fields = Fields::of_body(body)?;
    let mut ask = Ask::shared(&mut fields, words, Form::Chat)?;
    ask.tokens_max = tokens_max(&mut fields)?;
    ask.top_logps = top_logps(&mut fields)?;
    let messages = messages(fields.required("messages")?)?;
    let kwargs = match fields.take("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(kwargs)) if words.templates.default_template().is_some() => kwargs,
        Some(Value::Object(_)) => {
            return Err(Problem::unsupported(
                "chat_template_kwargs",
                ": the model has no chat template",
            ));
        }
        Some(_) => return Err(Problem::value("chat_template_kwargs", "must be an object")),
    };
    refuse_what_would_do_nothing(&mut fields)?;
    fields.finish()?;
    let tokens = conversation::tokens(&words.templates, &words.tokenizer, &messages, &kwargs);
    let tokens = tokens.map_err(|error| Problem::template(told(&error)))?;
    ask.add(Prompt { tokens, text: None }, words, "messages")?;
    Ok(ask)
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The limit on tokens, under its new name or its old one.
fn tokens_max(fields: &mut Fields) -> Result<Option<usize>, Problem> {
    let new = fields.count("max_completion_tokens", 1..=usize::MAX)?;
    let old = fields.count("max_tokens", 1..=usize::MAX)?;
    if new.is_some() && old.is_some() && new != old {
        let rule = "and 'max_completion_tokens' mean the same, and must not differ";
        return Err(Problem::value("max_tokens", rule));
    }
    Ok(new.or(old))
}

fn top_logps(fields: &mut Fields) -> Result<Option<usize>, Problem> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.count("top_logprobs", 0..=TOP_MAX)?;
    if top.is_some() && !wanted {
        return Err(Problem::value("top_logprobs", "goes with `logprobs: true` alone"));
    }
    Ok(wanted.then(|| top.unwrap_or(0)))
}

/// The messages as templates read them.
fn messages(value: Value) -> Result<Vec<Value>, Problem> {
    let list = match value {
        Value::Array(list) if !list.is_empty() => list,
        _ => return Err(Problem::value("messages", "must be a list of at least one message")),
    };
    let message = |(index, value)| message(value, &format!("messages[{index}]"));
    list.into_iter().enumerate().map(message).collect()
}

fn message(value: Value, place: &str) -> Result<Value, Problem> {
    let mut fields = Fields::new(value, place)?;
    let role = fields.required("role")?;
    let role = match role.as_str() {
        // The newer name of the same role; templates know the older one.
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some(name @ ("tool" | "function")) => {
            let at = fields.place("role");
            return Err(Problem::unsupported(&at, &format!(": messages of a `{name}`")));
        }
        _ => {
            let rule = "must be one of system, developer, user and assistant";
            return Err(Problem::value(&fields.place("role"), rule));
        }
    };
    let content = content(fields.required("content")?, &fields.place("content"))?;
    let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.only("annotations", is_empty, "")?;
    fields.finish()?;
    Ok(json!({"role": role, "content": content}))
}

/// A text, or the texts of parts one after the other.
fn content(value: Value, place: &str) -> Result<String, Problem> {
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        _ => return Err(Problem::value(place, "must be a string or a list of parts")),
    };
    let mut all = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let mut fields = Fields::new(part, &format!("{place}[{index}]"))?;
        if fields.required("type")?.as_str() != Some("text") {
            return Err(Problem::unsupported(&fields.place("type"), ": parts are texts"));
        }
        let Value::String(text) = fields.required("text")? else {
            return Err(Problem::value(&fields.place("text"), "must be a string"));
        };
        all.push_str(&text);
        fields.finish()?;
    }
    Ok(all)
}

/// Fields of chat requests whose meaning this server lacks: they may say what happens anyway.
fn refuse_what_would_do_nothing(fields: &mut Fields) -> Result<(), Problem> {
    let is_text = |value: &Value| *value == json!({"type": "text"});
    fields.only("response_format", is_text, ": answers are free text")?;
    fields.only("tools", |_| false, "")?;
    fields.only("tool_choice", |value| *value == json!("none"), "")?;
    fields.only("functions", |_| false, "")?;
    fields.only("function_call", |value| *value == json!("none"), "")?;
    fields.only("parallel_tool_calls", |_| false, "")?;
    fields.only("modalities", |value| *value == json!(["text"]), "")?;
    fields.only("audio", |_| false, "")?;
    fields.only("prediction", |_| false, "")?;
    fields.only("reasoning_effort", |_| false, "; see `chat_template_kwargs`")?;
    fields.only("verbosity", |_| false, "")?;
    fields.only("web_search_options", |_| false, "")?;
    fields.only("store", |value| *value == json!(false), ": nothing is kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_roles_and_texts() {
        let given = json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "refusal": null, "tool_calls": null,
             "annotations": []},
        ]);
        let wanted = [
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": "ab"}),
            json!({"role": "assistant", "content": "c"}),
        ];
        assert_eq!(messages(given).unwrap(), wanted);
    }

    #[test]
    fn what_a_template_would_not_show_is_refused_with_its_place() {
        for (given, place) in [
            (json!([]), "'messages'"),
            (json!([{"content": "a"}]), "'messages[0].role'"),
            (json!([{"role": "user"}]), "'messages[0].content'"),
            (json!([{"role": "tool", "content": "a"}]), "'messages[0].role'"),
            (json!([{"role": "user", "content": "a", "name": "Ann"}]), "'messages[0].name'"),
            (
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
                "'messages[0].content[0].type'",
            ),
            (
                json!([{"role": "assistant", "content": "a", "tool_calls": [{}]}]),
                "'messages[0].tool_calls'",
            ),
        ] {
            let problem = messages(given).unwrap_err();
            assert!(problem.message.contains(place), "{}", problem.message);
            assert_eq!(problem.status, 400);
        }
    }
}
