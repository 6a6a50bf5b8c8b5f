//! What kind of learning a row is good for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of learning a row is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A prompt with a chosen and a rejected completion.
    Pairs,
    /// A prompt with several completions, each with a score or a rank.
    Groups,
    /// A prompt with one completion and a truth value: good or bad.
    Unpaired,
    /// A prompt with one completion to imitate.
    Completions,
    /// A text without a prompt.
    Texts,
    /// A prompt alone.
    Prompts,
}

impl Shape {
    /// What a row of this shape looks like, for messages.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Pairs => "{prompt: str, chosen: str, rejected: str}",
            Self::Groups => "{prompt: str, responses: [str], scores: [number]}",
            Self::Unpaired => "{prompt: str, completion: str, label: bool}",
            Self::Completions => "{prompt: str, completion: str}",
            Self::Texts => "{text: str}",
            Self::Prompts => "{prompt: str}",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pairs => "\"chosen\"/\"rejected\" pairs",
            Self::Groups => "groups with scores or ranks",
            Self::Unpaired => "unpaired completions with a label",
            Self::Completions => "prompts with one completion",
            Self::Texts => "plain texts",
            Self::Prompts => "prompts without completion",
        })
    }
}
