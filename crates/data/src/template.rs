//! Chat templates: from messages to the one text that a model was trained on.
//!
//! Templates are Jinja programs that ship with models. This engine renders them byte for byte as
//! `transformers` does: the same white-space rules, the same variables, JSON and numbers spelled
//! as Python spells them, and the few extensions that published templates use. Two things differ
//! on purpose: `strftime_now` shows a date that the caller fixed, so that a run does not change
//! with the day, and loops are bounded, so that a template cannot hang a run.

mod date;
mod generation;
mod json;
mod python;
mod source;

use std::collections::BTreeMap;
use std::error::Error as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value as Variable};
use serde_json::{Map, Value};

pub use date::{Moment, NotAMoment};
pub use source::Templates;
pub(crate) use source::read_json;

use crate::Error;
use crate::tokens_error::TokensError;

/// The longest run of a template, in steps of the engine: a loop past it is an error, not a hang.
const STEPS_MAX: u64 = 10_000_000;

/// The name under which an environment keeps its one template.
const NAME: &str = "chat template";

/// Put at the end of the last message when it is to be continued, and found again in the text.
/// The trailing space tells whether the template trims.
const CONTINUE_HERE: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The names under which the field knows an assistant's reasoning; templates read the first or second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A compiled chat template.
pub struct ChatTemplate {
    source: String,
    origin: String,
    now: Moment,
    environment: Environment<'static>,
}

/// What a template sees beside the messages.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions<'a> {
    /// Descriptions of tools, a list of JSON schemas.
    pub tools: Option<&'a Value>,
    /// Documents for retrieval templates, a list of objects with `title` and `text`.
    pub documents: Option<&'a Value>,
    /// Whether the text ends with the opening of an assistant's turn.
    pub add_generation_prompt: bool,
    /// Whether the last message stays open, so that a completion continues it.
    pub continue_final_message: bool,
    /// The tokenizer's special tokens by their role: `bos_token`, `eos_token`, ...
    pub special_tokens: &'a BTreeMap<String, String>,
    /// More variables, such as `enable_thinking`; they win over the special tokens.
    pub kwargs: &'a Map<String, Value>,
}

/// The text of `raise_exception`, kept as the source of the engine's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template; `origin` names it in messages, for example `chat_template.jinja`, and
    /// `now` is the date that `strftime_now` shows.
    ///
    /// # Errors
    ///
    /// A template that does not parse.
    pub fn new(
        source: impl Into<String>,
        origin: impl Into<String>,
        now: Moment,
    ) -> Result<Self, Error> {
        let (source, origin) = (source.into(), origin.into());
        let mut environment = environment(now);
        let compiled = generation::without_generation_tags(&source);
        environment.add_template_owned(NAME, compiled).map_err(|source| {
            TokensError::TemplateSyntax {
                template: origin.clone(),
                line: source.line().unwrap_or(1),
                source,
            }
        })?;
        Ok(Self { source, origin, now, environment })
    }

    /// The template as its author wrote it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where the template came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The date that the template shows where it asks for one.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Whether the template prints a date, which a run must then freeze.
    pub fn asks_for_date(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// Renders messages to text.
    ///
    /// # Errors
    ///
    /// The template refuses the messages or fails on them, or the last message cannot be continued.
    pub fn render(&self, messages: &[Value], options: &RenderOptions<'_>) -> Result<String, Error> {
        let mut messages: Vec<Value> = messages.iter().map(with_reasoning_names).collect();
        let last_text = if options.continue_final_message {
            Some(self.mark_last(&mut messages)?)
        } else {
            None
        };
        let mut variables = Map::new();
        for (name, token) in options.special_tokens {
            variables.insert(name.clone(), Value::from(token.as_str()));
        }
        variables.extend(options.kwargs.iter().map(|(name, value)| (name.clone(), value.clone())));
        variables.insert("messages".into(), Value::Array(messages));
        variables.insert("tools".into(), options.tools.cloned().unwrap_or_default());
        let documents = options.documents.or_else(|| options.kwargs.get("documents"));
        variables.insert("documents".into(), documents.cloned().unwrap_or_default());
        variables.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        let text = self.run(variables)?;
        match last_text {
            None => Ok(text),
            Some(last) => cut_at_mark(&text, &last),
        }
    }

    fn run(&self, variables: Map<String, Value>) -> Result<String, Error> {
        let template = self.environment.get_template(NAME).map_err(|e| self.failure(e))?;
        let text = template.render(Variable::from(Serde(Value::Object(variables))));
        Ok(text.map_err(|error| self.failure(error))?)
    }

    fn failure(&self, error: minijinja::Error) -> TokensError {
        let template = self.origin.clone();
        if let Some(message) = raised_text(&error) {
            return TokensError::TemplateRefused { template, message };
        }
        TokensError::TemplateFailed { template, line: error.line().unwrap_or(1), source: error }
    }

    /// Marks the end of the last message's text, and returns that text.
    fn mark_last(&self, messages: &mut [Value]) -> Result<String, TokensError> {
        let stop = |why| TokensError::NothingToContinue { why };
        let last = messages.last_mut().ok_or(stop("there are no messages"))?;
        if !self.source.contains("content") {
            return Err(stop("the chat template does not print `content`"));
        }
        let content = last.get_mut("content").ok_or(stop("the last message has no `content`"))?;
        let text = match content {
            Value::String(text) => text,
            Value::Array(parts) => parts
                .iter_mut()
                .rev()
                .find_map(|part| match part.get_mut("text") {
                    Some(Value::String(text)) => Some(text),
                    _ => None,
                })
                .ok_or(stop("the last message has no text"))?,
            _ => return Err(stop("the last message has no text")),
        };
        let original = text.clone();
        text.push_str(CONTINUE_HERE);
        Ok(original)
    }
}

/// The text before the mark; the mark's own space tells whether the template trimmed the message.
fn cut_at_mark(text: &str, last: &str) -> Result<String, Error> {
    let mark = CONTINUE_HERE.trim_end();
    match text.rfind(mark) {
        Some(at) if text.contains(last.trim()) => {
            let before = &text[..at];
            let kept = text[at..].starts_with(CONTINUE_HERE);
            Ok(if kept { before.to_owned() } else { before.trim_end().to_owned() })
        }
        _ => Err(TokensError::NothingToContinue {
            why: "the chat template leaves out parts of the last message",
        }
        .into()),
    }
}

/// The message with its reasoning under every name that templates read.
fn with_reasoning_names(message: &Value) -> Value {
    let Value::Object(fields) = message else { return message.clone() };
    let reasoning = REASONING.iter().find_map(|name| fields.get(*name).filter(|v| !v.is_null()));
    let Some(reasoning) = reasoning else { return message.clone() };
    let mut named = Map::new();
    named.insert("thinking".into(), reasoning.clone());
    named.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    named.insert("reasoning_content".into(), reasoning.clone());
    Value::Object(named)
}

/// What the template itself said through `raise_exception`, if that is why rendering stopped.
fn raised_text(error: &minijinja::Error) -> Option<String> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return Some(message.clone());
        }
        source = inner.source();
    }
    None
}

fn raise_exception(message: &Variable) -> Result<Variable, minijinja::Error> {
    let text = json::python_text(message)?;
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, text.clone()).with_source(Raised(text)))
}

/// The engine with the white-space rules, functions, filters and tests of chat templates.
fn environment(now: Moment) -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(STEPS_MAX));
    environment.set_unknown_method_callback(python::method);
    environment.set_formatter(|out, _, value| {
        if !value.is_undefined() {
            out.write_str(&json::python_text(value)?)?;
        }
        Ok(())
    });
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("trim", python::trim);
    environment.add_filter("string", python::string);
    environment.add_filter("length", python::length);
    environment.add_filter("count", python::length);
    environment.add_test("iterable", python::is_iterable);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |format: &str| now.format(format));
    environment
}
