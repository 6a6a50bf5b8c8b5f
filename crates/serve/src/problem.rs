//! What is wrong with a request, in the words and the shape of OpenAI's interface.

use serde_json::{Value, json};

/// Seconds after which a client that was turned away may come again.
const RETRY_SECS: &str = "1";

/// The kinds of problems, as clients tell them apart.
const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<Box<str>>,
    pub(crate) message: Box<str>,
    /// A header that the answer must have.
    pub(crate) header: Option<(&'static str, &'static str)>,
}

impl Problem {
    fn new(status: u16, code: Option<&'static str>, message: impl Into<Box<str>>) -> Self {
        let kind = if status < 500 { INVALID } else { SERVER };
        Self { status, kind, code, param: None, message: message.into(), header: None }
    }

    fn of(self, param: &str) -> Self {
        let param = Some(param).filter(|param| !param.is_empty()).map(Box::from);
        Self { param, ..self }
    }

    fn with(self, name: &'static str, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// A field that holds what it cannot hold; `rule` says what it must be.
    pub(crate) fn value(param: &str, rule: &str) -> Self {
        let name = if param.is_empty() { "the body" } else { param };
        Self::new(400, Some("invalid_value"), format!("'{name}' {rule}.")).of(param)
    }

    /// A field that must be there.
    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("you must provide the parameter '{param}'.");
        Self::new(400, Some("missing_required_parameter"), message).of(param)
    }

    /// A field that nobody knows.
    pub(crate) fn unknown(param: &str) -> Self {
        let message = format!("unknown parameter: '{param}'.");
        Self::new(400, Some("unknown_parameter"), message).of(param)
    }

    /// A field whose meaning this server does not have.
    pub(crate) fn unsupported(param: &str, instead: &str) -> Self {
        let message = format!("'{param}' is not supported by this server{instead}.");
        Self::new(400, Some("unsupported_parameter"), message).of(param)
    }

    /// A body that is no JSON.
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        Self::new(400, Some("invalid_json"), format!("the body is not valid JSON: {error}."))
    }

    /// More than the model can read.
    pub(crate) fn context(param: &str, tokens: usize, context: usize) -> Self {
        let message = format!(
            "this model's maximum context length is {context} tokens, and your {param} has \
             {tokens}; at least one must be left for the answer. Shorten it."
        );
        Self::new(400, Some("context_length_exceeded"), message).of(param)
    }

    /// The chat template or the tokenizer fails on what was sent.
    pub(crate) fn template(message: impl Into<Box<str>>) -> Self {
        Self::new(400, Some("invalid_value"), message).of("messages")
    }

    /// Without the key, or with another one.
    pub(crate) fn key(is_there: bool) -> Self {
        let message = if is_there {
            "incorrect API key provided."
        } else {
            "you didn't provide an API key: send `Authorization: Bearer <key>`."
        };
        Self::new(401, Some("invalid_api_key"), message).with("www-authenticate", "Bearer")
    }

    /// A model that is not served.
    pub(crate) fn model(name: &str, known: &str) -> Self {
        let message = format!("the model `{name}` does not exist; this server has {known}.");
        Self::new(404, Some("model_not_found"), message).of("model")
    }

    /// A path that means nothing.
    pub(crate) fn path(method: &str, path: &str) -> Self {
        Self::new(404, Some("unknown_url"), format!("unknown request URL: {method} {path}."))
    }

    /// A path that knows another method.
    pub(crate) fn method(method: &str, path: &str, allowed: &'static str) -> Self {
        let message = format!("{method} is not allowed on {path}; use {allowed}.");
        Self::new(405, Some("method_not_allowed"), message).with("allow", allowed)
    }

    /// A body that did not come in time.
    pub(crate) fn slow() -> Self {
        Self::new(408, Some("request_timeout"), "the request's body did not come in time.")
    }

    /// A connection that broke inside the body.
    pub(crate) fn broken() -> Self {
        Self::new(400, None, "the request's body ended too early.")
    }

    /// A body beyond the limit.
    pub(crate) fn large(limit: usize) -> Self {
        let message = format!("the request's body is larger than {limit} bytes.");
        Self::new(413, Some("request_too_large"), message)
    }

    /// A body that says that it is something else.
    pub(crate) fn media() -> Self {
        let message = "send the body as JSON, with `Content-Type: application/json`.";
        Self::new(415, Some("unsupported_media_type"), message)
    }

    /// No room in the queue.
    pub(crate) fn busy() -> Self {
        let message = "the server is busy and its queue is full; try again later.";
        Self { kind: "requests", ..Self::new(429, Some("rate_limit_exceeded"), message) }
            .with("retry-after", RETRY_SECS)
    }

    /// The program failed.
    pub(crate) fn internal(message: &str) -> Self {
        Self::new(500, None, message)
    }

    /// The server is about to end.
    pub(crate) fn closing() -> Self {
        Self::new(503, Some("shutting_down"), "the server is shutting down.")
            .with("retry-after", RETRY_SECS)
    }

    /// The answer took too long.
    pub(crate) fn timeout(secs: u64) -> Self {
        let message = format!("the answer was not done after {secs} seconds, and was given up.");
        Self::new(504, Some("timeout"), message)
    }

    /// The body of the answer.
    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}
