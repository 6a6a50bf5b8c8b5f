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
}

impl TokensError {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TemplateRefused { .. } => "change the rows, or the template, with `dataset.chat_template`".into(),
            _ => return None,
        })
    }
}
