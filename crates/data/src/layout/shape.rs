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
    /// A prompt with the steps of a solution, a truth value for each.
    Steps,
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
            Self::Steps => "{prompt: str, completions: [str], labels: [bool]}",
        }
    }

    /// The columns that rows of this shape cannot do without, under TRL's names.
    pub fn required(self) -> &'static [&'static str] {
        match self {
            Self::Pairs => &["chosen", "rejected", "prompt"],
            Self::Groups => &["prompt", "responses", "scores"],
            Self::Unpaired => &["prompt", "completion", "label"],
            Self::Completions => &["prompt", "completion"],
            Self::Texts => &["text"],
            Self::Prompts => &["prompt"],
            Self::Steps => &["prompt", "completions", "labels"],
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
            Self::Steps => "feedback on single steps",
        })
    }
}
