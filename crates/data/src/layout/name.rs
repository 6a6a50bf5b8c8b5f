//! The layouts and their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How a row holds its prompt and its completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// TRL's `prompt` (or none), `chosen`, `rejected`, as text or messages; also UltraFeedback and
    /// MLX (`system`).
    Preference,
    /// Whole dialogues as text, `\n\nHuman: .. \n\nAssistant: ..`.
    HhRlhf,
    /// `instruction`, `input`, `chosen`, `rejected`, `system`, `history`.
    Alpaca,
    /// `conversations` with a `chosen` and a `rejected` turn.
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// `system`, `question`, `chosen`, `rejected`.
    Orca,
    /// `instruction`, `chosen_response`, `rejected_response`.
    Argilla,
    /// `input.messages`, `preferred_output`, `non_preferred_output`.
    #[serde(rename = "openai")]
    OpenAi,
    /// `context` and `completions`, each with a `rank`.
    NemoRl,
    /// `messages` that end with the chosen answer, and `rejected_response`.
    MsSwift,
    /// `chosen_messages` and `rejected_messages` of typed content.
    LlamaFactoryV1,
    /// `prompt_ids`, `chosen_ids`, `rejected_ids`.
    Tokens,
    /// `prompt`, `responses`, `scores` or `ranks`.
    Groups,
    /// `prompt`, `completion` (or `messages`) and a truth value `label`.
    Unpaired,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `instruction`, `input`, `output`.
    #[serde(rename = "alpaca-sft")]
    AlpacaSingle,
    /// `messages` that end with an answer.
    Messages,
    /// `text`.
    Text,
    /// `prompt` alone.
    Prompts,
    /// `prompt`, `completions`, `labels`: feedback on steps.
    Stepwise,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Self; 19] = [
        Self::Preference,
        Self::HhRlhf,
        Self::Alpaca,
        Self::ShareGpt,
        Self::Orca,
        Self::Argilla,
        Self::OpenAi,
        Self::NemoRl,
        Self::MsSwift,
        Self::LlamaFactoryV1,
        Self::Tokens,
        Self::Groups,
        Self::Unpaired,
        Self::PromptCompletion,
        Self::AlpacaSingle,
        Self::Messages,
        Self::Text,
        Self::Prompts,
        Self::Stepwise,
    ];

    /// Its name in recipes, reports and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preference => "preference",
            Self::HhRlhf => "hh-rlhf",
            Self::Alpaca => "alpaca",
            Self::ShareGpt => "sharegpt",
            Self::Orca => "orca",
            Self::Argilla => "argilla",
            Self::OpenAi => "openai",
            Self::NemoRl => "nemo-rl",
            Self::MsSwift => "ms-swift",
            Self::LlamaFactoryV1 => "llama-factory-v1",
            Self::Tokens => "tokens",
            Self::Groups => "groups",
            Self::Unpaired => "unpaired",
            Self::PromptCompletion => "prompt-completion",
            Self::AlpacaSingle => "alpaca-sft",
            Self::Messages => "messages",
            Self::Text => "text",
            Self::Prompts => "prompts",
            Self::Stepwise => "stepwise",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    /// The layout of a name; `trl`, `ultrafeedback` and `mlx` are names of `preference`.
    fn from_str(name: &str) -> Result<Self, Error> {
        if matches!(name, "trl" | "ultrafeedback" | "mlx") {
            return Ok(Self::Preference);
        }
        Self::ALL.into_iter().find(|layout| layout.name() == name).ok_or_else(|| {
            Error::UnknownLayout {
                name: name.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            }
        })
    }
}
