//! What a request asks for, whatever its form, and the fields that all forms share.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    sync::atomic::{AtomicU64, Ordering},
};

use model::Sampling;
use serde_json::Value;

use crate::{fields::Fields, problem::Problem, words::Words};

/// The most stop strings of a request.
const STOPS_MAX: usize = 16;
/// The most answers to a request.
pub(crate) const ANSWERS_MAX: usize = 128;
/// The most alternatives of a token that can be asked for.
pub(crate) const TOP_MAX: usize = 20;

/// Fields for the sender's own books, which change no answer, of this server or of others.
const BOOKS: [&str; 5] =
    ["user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"];

/// What a request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The name that it asked for.
    pub(crate) model: String,
    /// The adapter of that name; `None` is the base.
    pub(crate) adapter: Option<usize>,
    pub(crate) form: Form,
    pub(crate) prompts: Vec<Prompt>,
    /// Answers to each prompt.
    pub(crate) choices: usize,
    /// The most tokens of an answer; the context ends it in any case.
    pub(crate) tokens_max: Option<usize>,
    pub(crate) sampling: Sampling,
    pub(crate) stops: Vec<String>,
    /// Whether log-probabilities are wanted, and for how many alternatives.
    pub(crate) top_logps: Option<usize>,
    /// Whether answers begin with their prompt.
    pub(crate) echo: bool,
    /// Whether the answer comes in pieces.
    pub(crate) stream: bool,
    /// Whether a stream ends with the number of tokens.
    pub(crate) include_usage: bool,
}

/// The two forms of requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Chat,
    Text,
}

/// What is to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<u32>,
    /// Its text, where it came as text.
    pub(crate) text: Option<String>,
}

impl Ask {
    /// Takes the fields that both forms have; prompts, limits and log-probabilities are to follow.
    pub(crate) fn shared(fields: &mut Fields, words: &Words, form: Form) -> Result<Self, Problem> {
        let Value::String(model) = fields.required("model")? else {
            return Err(Problem::value("model", "must be a string"));
        };
        let adapter = words.adapter(&model)?;
        let choices = fields.count("n", 1..=ANSWERS_MAX)?.unwrap_or(1);
        let stops = fields.texts("stop", STOPS_MAX)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let include_usage = stream_options(fields, stream)?;
        let sampling = sampling(fields, words)?;
        refuse_what_would_do_nothing(fields)?;
        Ok(Self {
            model,
            adapter,
            form,
            prompts: Vec::new(),
            choices,
            tokens_max: None,
            sampling,
            stops,
            top_logps: None,
            echo: false,
            stream,
            include_usage,
        })
    }

    /// Adds a prompt that the model can read, with room for an answer if one is wanted.
    pub(crate) fn add(
        &mut self,
        prompt: Prompt,
        words: &Words,
        param: &str,
    ) -> Result<(), Problem> {
        let (tokens, context) = (prompt.tokens.len(), words.config.context);
        if tokens == 0 {
            return Err(Problem::value(param, "must not be empty: there is nothing to go on from"));
        }
        let room = usize::from(self.tokens_max != Some(0));
        if context < tokens + room {
            return Err(Problem::context(param, tokens, context));
        }
        if let Some(id) = prompt.tokens.iter().find(|id| words.config.vocabulary <= **id as usize) {
            let rule = format!("holds the token {id}, which the model does not have");
            return Err(Problem::value(param, &rule));
        }
        self.prompts.push(prompt);
        Ok(())
    }
}

/// Whether a stream ends with the number of tokens.
fn stream_options(fields: &mut Fields, stream: bool) -> Result<bool, Problem> {
    let Some(options) = fields.take("stream_options") else { return Ok(false) };
    if !stream {
        return Err(Problem::value("stream_options", "goes with `stream: true` alone"));
    }
    let mut options = Fields::new(options, "stream_options")?;
    let include_usage = options.flag("include_usage")?.unwrap_or(false);
    // Streams are not padded here, which is what false asks for.
    options.only("include_obfuscation", |value| *value == Value::Bool(false), "")?;
    options.finish()?;
    Ok(include_usage)
}

fn sampling(fields: &mut Fields, words: &Words) -> Result<Sampling, Problem> {
    let defaults = words.defaults;
    let penalty = fields.number("repetition_penalty", f64::MIN_POSITIVE..=1e3)?;
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(defaults.temperature),
        top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(defaults.top_p),
        top_k: fields.count("top_k", 0..=usize::MAX)?.unwrap_or(defaults.top_k),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(defaults.min_p),
        repetition_penalty: penalty.unwrap_or(defaults.repetition_penalty),
        seed: fields.seed("seed")?.unwrap_or_else(any_seed),
    })
}

/// A seed that differs from request to request.
fn any_seed() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The standard library's only source of random numbers.
    RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Fields of OpenAI's interface whose meaning this server lacks: they may say what happens anyway.
fn refuse_what_would_do_nothing(fields: &mut Fields) -> Result<(), Problem> {
    fields.pass_over(&BOOKS);
    let is_zero = |value: &Value| value.as_f64().is_some_and(|it| it.abs() < f64::MIN_POSITIVE);
    for name in ["frequency_penalty", "presence_penalty"] {
        fields.only(name, is_zero, "; use `repetition_penalty`")?;
    }
    let is_empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    fields.only("logit_bias", is_empty, "")?;
    let is_plain = |value: &Value| matches!(value.as_str(), Some("auto" | "default"));
    fields.only("service_tier", is_plain, "")
}
