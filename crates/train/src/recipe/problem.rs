//! What can be wrong with a recipe, where, and how to fix it.

use std::{fmt, path::PathBuf};

/// Everything that is wrong with a recipe; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Problems {
    /// The recipe's file.
    pub file: PathBuf,
    /// The problems, in the order of their lines.
    pub list: Vec<Problem>,
}

/// One thing that is wrong with a recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub what: What,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the recipe, from 1.
    Line(usize),
    /// A command-line argument, as it was typed.
    Argument(String),
    /// Nowhere: something is missing from the file.
    File,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum What {
    /// The text is not YAML.
    #[error("not readable as YAML: {detail}")]
    Syntax {
        /// What the parser found.
        detail: String,
    },
    /// More than one YAML document.
    #[error("a recipe is one YAML document, and here a second one begins")]
    ManyDocuments,
    /// A YAML alias.
    #[error("YAML anchors and aliases are not read in a recipe")]
    Alias,
    /// The same key twice.
    #[error("`{key}` is given twice")]
    Duplicate {
        /// The key, without its section.
        key: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// The key, with its section.
        key: String,
        /// What to write instead.
        instead: Option<String>,
    },
    /// A section, or the whole recipe, is not a mapping.
    #[error("`{section}` must be a mapping of keys to values (got: {got})")]
    NotASection {
        /// The section.
        section: String,
        /// What it is.
        got: String,
    },
    /// A key without which there is no run.
    #[error("`{key}` is missing")]
    Missing {
        /// The key, with its section.
        key: String,
        /// What it is for.
        example: &'static str,
    },
    /// A value of the wrong kind.
    #[error("{key} must be {wanted} (got: {got})")]
    WrongKind {
        /// The key, without its section.
        key: &'static str,
        /// What it should be.
        wanted: &'static str,
        /// What it is.
        got: String,
    },
    /// A value outside its range.
    #[error("{key} must be {range} (got: {got})")]
    OutOfRange {
        /// The key, without its section.
        key: &'static str,
        /// The range.
        range: &'static str,
        /// The value.
        got: String,
        /// Why the range is what it is, or what to do.
        hint: Option<&'static str>,
    },
    /// A word that is not one of those a key takes.
    #[error("unsupported {noun} \"{got}\"\nsupported {}s: {}", last_word(noun), supported.join(", "))]
    Unsupported {
        /// What the key names.
        noun: &'static str,
        /// The word.
        got: String,
        /// The words it takes.
        supported: Vec<&'static str>,
        /// What to do.
        hint: Option<&'static str>,
    },
    /// A recipe of another command.
    #[error("`{section}:` belongs to `trueup {command}`")]
    OtherCommand {
        /// What it was recognised by.
        section: String,
        /// The command.
        command: &'static str,
    },
    /// Something this version cannot do, recognised by name.
    #[error("{what} is not supported yet")]
    NotYet {
        /// What was asked for.
        what: String,
        /// What to do meanwhile.
        hint: &'static str,
    },
    /// A key that would do nothing.
    #[error("`{key}` has no effect {when}")]
    NoEffect {
        /// The key, with its section.
        key: String,
        /// When: the setting that makes it void.
        when: String,
        /// What to do.
        hint: String,
    },
    /// Two settings that contradict each other.
    #[error("{first} and {second} contradict each other")]
    Conflict {
        /// One setting.
        first: String,
        /// The other.
        second: String,
        /// What to do.
        hint: String,
    },
    /// `--set` without a key and a value.
    #[error("not of the form `section.key=value`")]
    BadOverride,
}

fn last_word(noun: &str) -> &str {
    noun.rsplit(' ').next().unwrap_or(noun)
}

impl Problem {
    pub(super) fn new(place: Place, what: What) -> Self {
        Self { place, what }
    }

    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match &self.what {
            What::Syntax { .. } | What::WrongKind { .. } => return None,
            What::ManyDocuments => "write one file a run".into(),
            What::Alias => "write the value out".into(),
            What::Duplicate { .. } => "remove one of the two".into(),
            What::UnknownKey { instead, .. } => return instead.clone(),
            What::NotASection { section, .. } => {
                format!("write its keys below `{section}:`, each indented by two blanks")
            }
            What::Missing { example, .. } => format!("for example `{example}`"),
            What::OutOfRange { hint, .. } | What::Unsupported { hint, .. } => {
                return hint.map(Into::into);
            }
            What::OtherCommand { command, .. } => {
                format!("run `trueup {command} --config` on this file")
            }
            What::NotYet { hint, .. } => (*hint).into(),
            What::NoEffect { hint, .. } | What::Conflict { hint, .. } => hint.clone(),
            What::BadOverride => "for example `--set alignment.beta=0.3`".into(),
        })
    }
}

impl Problems {
    /// A problem's place and text, as `file:line: text`.
    pub fn render(&self, problem: &Problem) -> String {
        let file = self.file.display();
        match &problem.place {
            Place::File => format!("{file}: {}", problem.what),
            Place::Line(line) => format!("{file}:{line}: {}", problem.what),
            Place::Argument(argument) => format!("`{argument}`: {}", problem.what),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{}", self.render(problem))?;
        }
        Ok(())
    }
}

/// A key that is accepted and does nothing, which the user should know.
///
/// The list is closed: these are the keys of documented recipes that must run unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// `lora_dropout` above 0 under `alignment`.
    LoraDropout,
    /// `group_delay_size` with a method that has no groups.
    GroupDelaySize,
    /// `group_delay_weight` with a method that has no groups.
    GroupDelayWeight,
    /// `quantization_bits` with a method that rounds nothing.
    QuantizationBits,
    /// A `wandb` block of AIXpert's file.
    Wandb,
    /// `per_device_eval_batch_size` of AIXpert's file.
    EvalBatchSize,
    /// A `lora_alpha` of MLX's flat file that says something else than its scale.
    LoraAlpha,
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::LoraDropout => {
                "`alignment.lora_dropout` is not used: alignment runs without dropout, as in TRL"
            }
            Self::GroupDelaySize => {
                "`alignment.group_delay_size` is not used: it belongs to `method: gdpo`"
            }
            Self::GroupDelayWeight => {
                "`alignment.group_delay_weight` is not used: it belongs to `method: gdpo`"
            }
            Self::QuantizationBits => {
                "`training.quantization_bits` is not used: it belongs to `method: qlora`"
            }
            Self::Wandb => {
                "nothing is sent to Weights & Biases: `run_prefix` names the runs, and `trueup compare` draws their curves"
            }
            Self::LoraAlpha => {
                "`lora_alpha` is not used: MLX multiplies by `lora_scale` (10 if it is not there) and divides by no rank"
            }
            Self::EvalBatchSize => {
                "`per_device_eval_batch_size` is not used: rows are packed by tokens, see `alignment.tokens_per_micro_batch`"
            }
        })
    }
}
