//! From records to token ids, exactly as TRL 1.16 makes them.
//!
//! Prompt, and prompt with each completion, are tokenized in one piece each, because tokens may
//! form across the seam. The prompt is what all of them start with; where the prompt alone ends
//! in other tokens than the prompt with a completion, those last tokens belong to the completions.
//! What TRL only warns about or passes over is checked here, because it trains silently on the
//! wrong thing: two BOS tokens, a completion without an end, a prompt that is not there at all.

mod answers;
mod cut;
mod preview;
mod seam;

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use cut::{Lengths, TruncationSide};
pub use preview::{Preview, Shown};
pub(crate) use seam::Seamed;

use crate::Error;
use crate::check::Problem;
use crate::record::{Content, Record};
use crate::report::{Action, DataReport};
use crate::template::{ChatTemplate, RenderOptions, Templates};
use crate::token_cache::{Entry, Kept, TokenCache};
use crate::tokenizer::Tokenizer;
use crate::tokens_error::TokensError;

/// Token ids of one record, cut to length and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The record's `id` column, else its file name and line.
    pub id: String,
    /// The tokens that all completions continue.
    pub prompt: Vec<u32>,
    /// The tokens of each completion: chosen and rejected for pairs. None is empty.
    pub completions: Vec<Vec<u32>>,
    /// How many first tokens of each completion are fed but not scored; 0 but for an empty prompt,
    /// after which nothing predicts the first token.
    pub unscored: Vec<usize>,
    /// Where a lone completion is scored, in order and apart from each other; empty for everywhere.
    pub spans: Vec<Range<usize>>,
    /// The record's other columns.
    pub extras: Map<String, Value>,
}

impl Example {
    /// Whether a token of a completion is scored; `side` is the completion, from 0.
    pub fn is_scored(&self, side: usize, index: usize) -> bool {
        let inside = self.spans.is_empty() || self.spans.iter().any(|span| span.contains(&index));
        self.unscored[side] <= index && inside
    }

    /// All tokens: the prompt once and every completion.
    pub fn token_count(&self) -> usize {
        self.prompt.len() + self.completions.iter().map(Vec::len).sum::<usize>()
    }
}

/// Which records go through the model's chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateUse {
    /// Messages do, plain text does not.
    #[default]
    Auto,
    /// All do: a plain prompt becomes a user's turn, a plain completion the assistant's.
    Always,
    /// None does; messages are refused.
    Never,
}

/// How records become tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which records go through the chat template.
    pub chat_template: TemplateUse,
    /// How long prompts and completions may be.
    pub lengths: Lengths,
    /// Whether of a conversation, which is one completion, the assistant's answers alone are scored.
    pub answers_only: bool,
    /// Whether records that the template refuses or the checks find wrong are left out and
    /// counted, instead of ending the run.
    pub drop_untokenizable: bool,
}

/// What was decided on the way, for one line on the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Records of plain text that went to the tokenizer as they are.
    pub plain: usize,
    /// Records that went through the chat template.
    pub templated: usize,
    /// Records that came as token ids.
    pub tokens: usize,
    /// Where the chat template came from, if one was used.
    pub template: Option<String>,
    /// Plain records with a model that has a chat template: `dataset.chat_template` is worth a look.
    pub plain_beside_template: bool,
    /// The tokens that were kept of an earlier run were damaged, and were made again.
    pub cache_was_damaged: bool,
}

/// Records as token ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokenized {
    /// In the records' order, without those that were dropped.
    pub examples: Vec<Example>,
    /// What was decided.
    pub decisions: Decisions,
}

/// Everything that turns records into tokens.
#[derive(Clone, Copy, Debug)]
pub struct Tokenization<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The model's chat templates; may be empty.
    pub templates: &'a Templates,
    /// How records become tokens.
    pub settings: Settings,
    /// Where tokens are kept between runs, if anywhere.
    pub cache: Option<&'a TokenCache>,
}

impl Tokenization<'_> {
    /// The tokens of all records, and in the report what was cut and dropped, with its place.
    ///
    /// Work is spread over the thread pool; the result is the same for any number of threads.
    ///
    /// # Errors
    ///
    /// The first record, in order, that cannot be turned into tokens, unless the settings drop it;
    /// and a prompt or completion that would silently train on the wrong tokens.
    pub fn run(&self, records: &[Record], report: &mut DataReport) -> Result<Tokenized, Error> {
        let (seamed, cache_was_damaged) = self.seam_cached(records)?;
        let mut examples = Vec::with_capacity(records.len());
        for (record, seamed) in records.iter().zip(seamed) {
            let Some(mut example) = self.finish(record, seamed, report) else { continue };
            if self.settings.answers_only {
                match self.answers(record, &example) {
                    Ok(spans) => example.spans = spans,
                    Err(error) if self.settings.drop_untokenizable => {
                        let why = with_causes(&error);
                        report.drop_record(Problem::Untokenizable, &record.origin, &why);
                        continue;
                    }
                    Err(source) => {
                        let origin = record.origin.clone();
                        return Err(TokensError::Record { origin, source: Box::new(source) }.into());
                    }
                }
            }
            examples.push(example);
        }
        let decisions = Decisions { cache_was_damaged, ..self.decisions(records) };
        Ok(Tokenized { examples, decisions })
    }

    /// The examples as a person can check them: decoded, with the scored tokens marked.
    ///
    /// # Errors
    ///
    /// Ids that the tokenizer cannot decode.
    pub fn preview(&self, example: &Example) -> Result<Preview, Error> {
        Preview::new(self.tokenizer, example)
    }

    /// Every record before its cut, from the cache where it has them; and whether what the cache
    /// has was damaged.
    fn seam_cached(&self, records: &[Record]) -> Result<(Vec<Kept>, bool), Error> {
        let Some(cache) = self.cache else { return Ok((self.seam_all(records)?, false)) };
        let key = cache.key(self, records);
        let entry = cache.load(&key, records.len());
        if let Entry::Sound(seamed) = entry {
            return Ok((seamed, false));
        }
        let seamed = self.seam_all(records)?;
        // A cache that cannot be written costs time, not the run.
        let _ = cache.store(&key, &seamed);
        Ok((seamed, entry == Entry::Damaged))
    }

    /// Every record before its cut, in order; the first error in order, if errors end the run.
    fn seam_all(&self, records: &[Record]) -> Result<Vec<Kept>, Error> {
        let results: Vec<Result<Seamed, TokensError>> =
            records.par_iter().map(|record| self.seam(record)).collect();
        let mut seamed = Vec::with_capacity(results.len());
        for (record, result) in records.iter().zip(results) {
            seamed.push(match result {
                Ok(tokens) => Ok(tokens),
                Err(error) if self.settings.drop_untokenizable => Err(with_causes(&error)),
                Err(source) => {
                    let origin = record.origin.clone();
                    return Err(TokensError::Record { origin, source: Box::new(source) }.into());
                }
            });
        }
        Ok(seamed)
    }

    /// One record as tokens, before its cut.
    fn seam(&self, record: &Record) -> Result<Seamed, TokensError> {
        if let Content::Tokens(prompt) = &record.prompt {
            return seam::from_tokens(prompt, &record.completions);
        }
        match self.template_for(record)? {
            Some(template) => seam::from_messages(self.tokenizer, template, record),
            None => seam::from_text(self.tokenizer, record),
        }
    }

    /// Where the answers of a conversation lie in its only completion.
    fn answers(
        &self,
        record: &Record,
        example: &Example,
    ) -> Result<Vec<Range<usize>>, TokensError> {
        let template = self.template_for(record)?.ok_or(TokensError::NoAnswers)?;
        let spans = match &example.completions[..] {
            [whole] if example.prompt.is_empty() => {
                answers::of((self.tokenizer, template), record, whole)?
            }
            _ => return Err(TokensError::NoAnswers),
        };
        // Without an answer that is left nothing is scored.
        Ok(if spans.is_empty() { std::iter::once(0..0).collect() } else { spans })
    }

    /// The template that a record goes through; `None` for plain text.
    fn template_for(&self, record: &Record) -> Result<Option<&ChatTemplate>, TokensError> {
        let has_messages = uses_messages(record);
        match self.settings.chat_template {
            TemplateUse::Auto | TemplateUse::Never if !has_messages => return Ok(None),
            TemplateUse::Never => return Err(TokensError::MessagesRefused),
            TemplateUse::Auto | TemplateUse::Always => {}
        }
        let template = self.templates.select(record.tools.as_ref().is_some_and(|t| !t.is_null()));
        template.map(Some).ok_or(TokensError::NoTemplate)
    }

    /// One record cut and checked, or `None` with its reason in the report.
    fn finish(
        &self,
        record: &Record,
        seamed: Result<Seamed, String>,
        report: &mut DataReport,
    ) -> Option<Example> {
        let seamed = match seamed {
            Ok(seamed) => seamed,
            Err(why) => {
                report.drop_record(Problem::Untokenizable, &record.origin, &why);
                return None;
            }
        };
        if seamed.loses_text {
            report.add(Problem::CharactersLost, Action::Kept, &record.origin, "");
        }
        if let Some(end) = &seamed.moved_end {
            let detail = format!("the prompt alone ends in {end:?}");
            report.add(Problem::PromptEndMoved, Action::Kept, &record.origin, &detail);
        }
        let (prompt, completions) =
            match self.settings.lengths.cut(seamed.prompt, seamed.completions) {
                cut::Cut::Kept { prompt, completions, was_cut } => {
                    if let Some(tokens) = was_cut {
                        let detail = format!("{tokens} tokens");
                        report.add(Problem::Truncated, Action::Kept, &record.origin, &detail);
                    }
                    (prompt, completions)
                }
                cut::Cut::Dropped { problem, detail } => {
                    report.drop_record(problem, &record.origin, &detail);
                    return None;
                }
            };
        let unscored = usize::from(prompt.is_empty());
        Some(Example {
            id: record.id(),
            unscored: vec![unscored; completions.len()],
            spans: Vec::new(),
            prompt,
            completions,
            extras: record.extras.clone(),
        })
    }

    fn decisions(&self, records: &[Record]) -> Decisions {
        let mut decisions = Decisions::default();
        for record in records {
            if matches!(record.prompt, Content::Tokens(_)) {
                decisions.tokens += 1;
                continue;
            }
            match self.template_for(record) {
                Ok(Some(template)) => {
                    decisions.templated += 1;
                    decisions.template.get_or_insert_with(|| template.origin().to_owned());
                }
                Ok(None) => decisions.plain += 1,
                Err(_) => {}
            }
        }
        let auto = self.settings.chat_template == TemplateUse::Auto;
        decisions.plain_beside_template =
            auto && 0 < decisions.plain && self.templates.default_template().is_some();
        decisions
    }
}

/// Whether any part of a record is messages.
fn uses_messages(record: &Record) -> bool {
    std::iter::once(&record.prompt)
        .chain(&record.completions)
        .any(|content| matches!(content, Content::Messages(_)))
}

/// The messages of a prompt or completion; plain text becomes one message of `role`.
fn messages(content: &Content, role: &str) -> Result<Vec<Value>, TokensError> {
    match content {
        Content::Messages(messages) => Ok(messages.clone()),
        Content::Text(text) if text.is_empty() && role == "user" => Ok(Vec::new()),
        Content::Text(text) => Ok(vec![json!({"role": role, "content": text})]),
        Content::Tokens(_) => Err(TokensError::TokensBesideText),
    }
}

/// What a template sees of a record.
fn render_options<'a>(
    tokenizer: &'a Tokenizer,
    record: &'a Record,
    add_generation_prompt: bool,
) -> RenderOptions<'a> {
    RenderOptions {
        tools: record.tools.as_ref(),
        documents: None,
        add_generation_prompt,
        continue_final_message: false,
        special_tokens: tokenizer.special_tokens(),
        kwargs: &record.template_kwargs,
    }
}

/// An error and what caused it, in one line.
fn with_causes(error: &TokensError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
