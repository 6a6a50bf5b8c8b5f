//! What can be wrong with one row, in one closed list.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What can be wrong with one row.
///
/// The names in `data.json` are the variants in `snake_case`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// The line or row cannot be parsed.
    Unreadable,
    /// A column that the layout needs is absent.
    MissingField,
    /// A prompt or completion is `null`.
    Null,
    /// A prompt or completion is a truth value, a number or another wrong type.
    WrongType,
    /// A message lacks its role or content, or has a role that is not known.
    BadMessage,
    /// Content that is not text: an image, a file, a masked message.
    Unsupported,
    /// A prompt or completion holds nothing but white space.
    Empty,
    /// Chosen and rejected are the same.
    Identical,
    /// The prompts on the chosen and on the rejected side differ.
    PromptsDiffer,
    /// The same row came before.
    Duplicate,
    /// Another row has the same prompt with chosen and rejected swapped, or another label for the
    /// same answer.
    Contradiction,
    /// Both completions have the same score.
    Tied,
    /// The text was read with the wrong character set before it came here.
    Garbled,
    /// The prompt alone fills the maximal length.
    PromptTooLong,
    /// A prompt or completion was cut to the maximal length.
    Truncated,
    /// Nothing of a completion is left after the cut.
    EmptyAfterTruncation,
    /// Chosen and rejected are the same tokens after the cut.
    IdenticalAfterTruncation,
    /// The prompt alone ends in other tokens than before its completions; those count as theirs.
    PromptEndMoved,
    /// The vocabulary has no token for some characters.
    CharactersLost,
    /// The text cannot be turned into tokens of this model.
    Untokenizable,
}

impl Problem {
    /// How to fix rows like this, where that can be said in general.
    pub fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::WrongType => "write prompts and completions as JSON strings or lists of messages",
            Self::PromptsDiffer => "both sides of a pair must answer the same prompt",
            Self::PromptTooLong | Self::EmptyAfterTruncation | Self::IdenticalAfterTruncation => {
                "raise `dataset.max_length`"
            }
            Self::Unsupported => "keep only text in messages",
            Self::Unreadable => "write one JSON object a line, in UTF-8",
            _ => return None,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::MissingField => "missing field",
            Self::Null => "null instead of a value",
            Self::WrongType => "wrong type",
            Self::BadMessage => "bad message",
            Self::Unsupported => "unsupported content",
            Self::Empty => "empty text",
            Self::Identical => "chosen and rejected are the same",
            Self::PromptsDiffer => "chosen and rejected answer different prompts",
            Self::Duplicate => "duplicate row",
            Self::Contradiction => {
                "contradicts another row (sides swapped, or the same answer judged otherwise)"
            }
            Self::Tied => "both completions have the same score",
            Self::Garbled => "text that was read with the wrong character set",
            Self::PromptTooLong => "prompt fills the maximal length",
            Self::Truncated => "cut to the maximal length",
            Self::EmptyAfterTruncation => "no completion left after the cut",
            Self::IdenticalAfterTruncation => "chosen and rejected are the same after the cut",
            Self::PromptEndMoved => "prompt ends in other tokens before a completion",
            Self::CharactersLost => "characters that the vocabulary cannot spell",
            Self::Untokenizable => "cannot be turned into tokens",
        })
    }
}
