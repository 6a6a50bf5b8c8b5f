//! One request for a chat completion, and the answer to it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is asked of an endpoint. What is absent is left to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model's name at the endpoint.
    pub model: String,
    /// The conversation, each message an object with `role` and `content`.
    pub messages: Vec<Value>,
    /// Divides the logits; 0 asks for the most likely answer.
    pub temperature: f64,
    /// Draw among the most likely tokens that have this probability together.
    pub top_p: Option<f64>,
    /// The most tokens to write.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Seed of the draws.
    pub seed: Option<u64>,
}

impl Request {
    /// A request for the most likely answer.
    pub fn new(model: &str, messages: Vec<Value>) -> Self {
        Self {
            model: model.to_owned(),
            messages,
            temperature: 0.0,
            top_p: None,
            max_tokens: None,
            stop: Vec::new(),
            seed: None,
        }
    }

    /// The JSON that is sent.
    pub fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("model".into(), json!(self.model));
        body.insert("messages".into(), json!(self.messages));
        body.insert("temperature".into(), json!(self.temperature));
        let optional = [
            ("top_p", self.top_p.map(|it| json!(it))),
            ("max_tokens", self.max_tokens.map(|it| json!(it))),
            ("stop", Some(json!(self.stop)).filter(|_| !self.stop.is_empty())),
            ("seed", self.seed.map(|it| json!(it))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        }
        Value::Object(body)
    }

    /// The same conversation, gone on: the answer that could not be read, and a word on how it should
    /// look.
    pub(crate) fn reminded(&self, answer: &str, reminder: &str) -> Self {
        let mut next = self.clone();
        next.messages.push(json!({"role": "assistant", "content": answer}));
        next.messages.push(json!({"role": "user", "content": reminder}));
        next
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ended, in the endpoint's words: `stop`, `length`, `content_filter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Tokens that were read for it, where that is told.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens that were written, where that is told.
    #[serde(default)]
    pub completion_tokens: u64,
}

impl Answer {
    /// Reads the body of a chat completion; says what is missing.
    pub(crate) fn parse(body: &str) -> Result<Self, String> {
        let body: Value =
            serde_json::from_str(body).map_err(|error| format!("no JSON: {error}"))?;
        let choice = &body["choices"][0];
        let message = choice.get("message").ok_or("it has no `choices[0].message`")?;
        let text = text_of(&message["content"])
            .or_else(|| message["refusal"].as_str().map(str::to_owned))
            .ok_or("its message has no text")?;
        Ok(Self {
            text,
            finish_reason: choice["finish_reason"].as_str().map(str::to_owned),
            prompt_tokens: body["usage"]["prompt_tokens"].as_u64().unwrap_or(0),
            completion_tokens: body["usage"]["completion_tokens"].as_u64().unwrap_or(0),
        })
    }
}

/// The text of a content, which may come in parts.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str()).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_sent() {
        let messages = vec![json!({"role": "user", "content": "Why?"})];
        let mut request = Request::new("m", messages.clone());
        assert_eq!(
            request.body().to_string(),
            r#"{"model":"m","messages":[{"role":"user","content":"Why?"}],"temperature":0.0}"#
        );
        request = Request {
            top_p: Some(0.5),
            max_tokens: Some(9),
            stop: vec!["x".into()],
            seed: Some(3),
            ..request
        };
        let body = request.body();
        assert_eq!(
            (&body["top_p"], &body["max_tokens"], &body["stop"], &body["seed"]),
            (&json!(0.5), &json!(9), &json!(["x"]), &json!(3))
        );
        let next = request.reminded("hm", "say it");
        assert_eq!(next.messages.len(), 3);
        assert_eq!(next.messages[1], json!({"role": "assistant", "content": "hm"}));
        assert_eq!(next.messages[2], json!({"role": "user", "content": "say it"}));
    }

    #[test]
    fn answers_are_read_and_what_is_none_is_told() {
        let whole = r#"{"choices": [{"message": {"content": "So."}, "finish_reason": "stop"}],
                        "usage": {"prompt_tokens": 7, "completion_tokens": 2}}"#;
        let answer = Answer {
            text: "So.".into(),
            finish_reason: Some("stop".into()),
            prompt_tokens: 7,
            completion_tokens: 2,
        };
        assert_eq!(Answer::parse(whole), Ok(answer));
        let parts = r#"{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}"#;
        assert_eq!(Answer::parse(parts).unwrap().text, "ab");
        let refusal = r#"{"choices": [{"message": {"content": null, "refusal": "No."}}]}"#;
        assert_eq!(Answer::parse(refusal).unwrap().text, "No.");
        for (body, what) in [
            ("<html>", "no JSON: "),
            ("{\"choices\": []}", "it has no `choices[0].message`"),
            ("{\"choices\": [{\"message\": {\"content\": null}}]}", "its message has no text"),
            ("{\"choices\": [{\"mess", "no JSON: "),
        ] {
            let error = Answer::parse(body).unwrap_err();
            assert!(error.starts_with(what), "{error}");
        }
    }
}
