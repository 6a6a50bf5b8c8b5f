//! What can go wrong between records and token ids.

use std::path::PathBuf;

use crate::record::Origin;

/// What can go wrong in templates, tokenizers and tokenization.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// A chat template that does not parse.
    #[error("chat template ({template}) has a mistake on line {line}")]
    TemplateSyntax {
        /// Where the template came from.
        template: String,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        source: minijinja::Error,
    },
    /// The template itself refuses these messages (`raise_exception`).
    #[error("the chat template ({template}) refuses these messages: {message}")]
    TemplateRefused {
        /// Where the template came from.
        template: String,
        /// The template's own words.
        message: String,
    },
    /// The template failed on these messages.
    #[error("chat template ({template}) failed on line {line}")]
    TemplateFailed {
        /// Where the template came from.
        template: String,
        /// The line, from 1.
        line: usize,
        /// What happened there.
        source: minijinja::Error,
    },
    /// `continue_final_message` where there is nothing to continue.
    #[error("the last message cannot be continued: {why}")]
    NothingToContinue {
        /// Why.
        why: &'static str,
    },
    /// A file of a model could not be read; the source names it.
    #[error("cannot read the model's tokenizer")]
    Read(#[source] std::io::Error),
    /// A file of a model that should be JSON and is not.
    #[error("`{}` is not readable as JSON", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A folder without a tokenizer.
    #[error("no `tokenizer.json` in `{}`", folder.display())]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
    },
    /// A tokenizer whose parts do not fit together.
    #[error("the tokenizer of {origin} cannot be built")]
    BadTokenizer {
        /// Where it came from.
        origin: String,
        /// What does not fit.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A merge whose parts or result are not in the vocabulary.
    #[error("the tokenizer merges `{left}` and `{right}`, which is not all in its vocabulary")]
    BadMerge {
        /// The left part.
        left: String,
        /// The right part.
        right: String,
    },
    /// A GGUF tokenizer with an algorithm that is not known.
    #[error("the GGUF file has a tokenizer of kind `{model}`; known are `gpt2` and `llama`")]
    UnknownAlgorithm {
        /// The name in the file.
        model: String,
    },
    /// A GGUF tokenizer that splits text in a way that is not known.
    #[error("the GGUF file splits text as `{pre}` does, which is not known here")]
    UnknownPre {
        /// The name in the file.
        pre: String,
        /// All known names, separated by commas.
        known: String,
    },
    /// A `SentencePiece` vocabulary without scores.
    #[error("the GGUF file has a `llama` tokenizer without a score for every token")]
    NoScores,
    /// A `SentencePiece` model that drops spaces from text.
    #[error(
        "the GGUF file's tokenizer removes repeated spaces (`remove_extra_whitespaces`), which is not supported"
    )]
    RemovesSpaces,
    /// A tokenizer that the tables of a GGUF file cannot describe.
    #[error("the tokenizer cannot be written into a GGUF file: {reason}")]
    NoGgufForm {
        /// Why.
        reason: String,
    },
    /// A tokenizer that gives other ids once it is read from a GGUF file.
    #[error("in a GGUF file the tokenizer would give other ids for {text:?}")]
    OtherIds {
        /// The start of a text that shows it.
        text: String,
    },
    /// A tokenizer that failed on a text.
    #[error("the tokenizer failed")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record that cannot be turned into tokens.
    #[error("{origin} cannot be turned into tokens")]
    Record {
        /// The record.
        origin: Origin,
        /// Why.
        source: Box<TokensError>,
    },
    /// Messages, and the model has no chat template.
    #[error("the record holds messages, and the model has no chat template")]
    NoTemplate,
    /// Messages, where the recipe refuses them.
    #[error("the record holds messages, and `dataset.chat_template` is `never`")]
    MessagesRefused,
    /// An answer whose tokens are others once more turns follow.
    #[error("turn {} is written otherwise once it is not the last one", index + 1)]
    AnswerMoves {
        /// Its place among the turns, from 0.
        index: usize,
    },
    /// Plain text where answers are looked for.
    #[error("the record holds plain text, which has no answers of an assistant")]
    NoAnswers,
    /// Token ids beside text in one record.
    #[error("the record mixes token ids, text and messages")]
    TokensBesideText,
    /// A tokenizer that names no end token.
    #[error("the tokenizer has no `eos_token`")]
    NoEos,
    /// A completion whose tokens do not end with an end token.
    #[error("a completion ends in {end:?}, without an end token (known: {known})")]
    NoEnd {
        /// The text of its last tokens.
        end: String,
        /// The end tokens that are known, separated by commas.
        known: String,
    },
    /// Two BOS tokens at the start.
    #[error("the text starts with `{bos}` twice")]
    DoubleBos {
        /// The token.
        bos: String,
    },
    /// The prompt alone and the prompt with a completion have no token in common.
    #[error("the prompt alone starts {prompt:?}, but with its completion {with:?}")]
    PromptNotPrefix {
        /// The first tokens of the prompt alone.
        prompt: String,
        /// The first tokens of the prompt with its completion.
        with: String,
    },
    /// A decoder that failed on ids.
    #[error("the tokenizer cannot turn ids into text")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TokensError {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TemplateRefused { .. } => "change the rows, or the template, with `dataset.chat_template`".into(),
            Self::NoTokenizer { .. } => "a model folder needs `tokenizer.json`; save it with `AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained(...)`".into(),
            Self::UnknownPre { known, .. } => format!("use the model's Hugging Face folder, or a GGUF file with one of: {known}"),
            Self::UnknownAlgorithm { .. } | Self::RemovesSpaces | Self::NoScores => "use the model's Hugging Face folder".into(),
            Self::NoGgufForm { .. } | Self::OtherIds { .. } => "write a folder with `--format safetensors`, and convert that with a program that knows this tokenizer".into(),
            Self::Record { source, .. } => return source.hint(),
            Self::NoTemplate => "use the instruct version of the model, give a template with `dataset.chat_template_path`, or write prompts and completions as text".into(),
            Self::AnswerMoves { .. } => "the chat template drops parts of earlier answers; leave `training.assistant_only_loss` out, or give one answer a row".into(),
            Self::NoAnswers => "leave `training.assistant_only_loss` out; for prompts with completions `training.completion_only_loss` says what is learned".into(),
            Self::MessagesRefused => "set `dataset.chat_template: auto`".into(),
            Self::NoEos => "name `eos_token` in the model's `tokenizer_config.json`".into(),
            Self::NoEnd { .. } => "a model that never sees an end token answers on and on; name the template's end token as `eos_token` in `tokenizer_config.json` or in `generation_config.json`".into(),
            Self::DoubleBos { bos } => format!("the tokenizer adds `{bos}` itself; remove it from the text"),
            Self::PromptNotPrefix { .. } => "the chat template writes earlier turns differently once an answer follows; use another template".into(),
            _ => return None,
        })
    }
}

impl From<crate::Error> for TokensError {
    /// Templates and tokenizers only fail with errors of this kind.
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Tokens(error) => error,
            other => Self::Encode(Box::new(other)),
        }
    }
}
