//! The section `training`: how a model is fine-tuned on completions.

use objectives::{Loss, Objective};

use super::{
    Model, Tuning,
    alignment::{self, Alignment, Around, Basis, Rates},
    problem::{Note, What},
    read::{Section, Words},
    saving::Compared,
    tuning::{self, ADAPTER_KEYS},
};
use crate::schedule::{SchedulerType, Warmup};

/// What fine-tuning has and alignment has not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finetuning {
    /// Whether prompts are left out of what is learned; by the layout of the rows if absent.
    pub completion_only_loss: Option<bool>,
    /// Whether of conversations the assistant's answers alone are learned.
    pub assistant_only_loss: bool,
    /// Whether rows are put together up to the longest length, and count as one.
    pub packing: bool,
    /// The share of an adapter's input that is dropped while training; at least 0, below 1.
    pub lora_dropout: f64,
}

/// What is trained, and over which weights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Lora,
    Qlora,
    Full,
}

impl Method {
    pub(super) const WORDS: Words<Self> =
        &[("lora", Self::Lora), ("qlora", Self::Qlora), ("full", Self::Full)];

    /// The method of a recipe that was read.
    pub(super) fn of(model: &Model, tuning: &Tuning) -> Self {
        match tuning {
            Tuning::Full => Self::Full,
            _ if model.load_in_4bit => Self::Qlora,
            _ => Self::Lora,
        }
    }
}

/// The longest rows where the recipe is silent, `LexAlign`'s.
const MAX_SEQ_LENGTH: usize = 512;

/// What the section says.
pub(super) struct Completions {
    pub(super) alignment: Alignment,
    /// The longest length of a row.
    pub(super) max_length: usize,
    /// Whether the weights are rounded to 4 bits under the adapter.
    pub(super) is_quantized: bool,
}

/// Reads the section.
pub(super) fn read(
    section: &mut Section<'_>,
    around: Around<'_>,
    notes: &mut Vec<Note>,
) -> Completions {
    let has_adapter = around.model.is_some_and(|model| model.adapter.is_some());
    let (tuning, is_quantized, lora_dropout) = method(section, has_adapter, notes);
    let finetuning = Finetuning {
        completion_only_loss: section.flag("completion_only_loss"),
        assistant_only_loss: section.flag("assistant_only_loss").unwrap_or(false),
        packing: section.flag("packing").unwrap_or(false),
        lora_dropout,
    };
    if finetuning.assistant_only_loss {
        let hint = "remove it: answers are learned wherever they are";
        section.refuse("completion_only_loss", "with `assistant_only_loss: true`", hint);
    }
    let usual = Rates {
        learning_rate: 3e-4,
        lr_scheduler_type: SchedulerType::Linear,
        warmup: Warmup::Steps(100),
    };
    let max_length = alignment::size(section, "max_seq_length", MAX_SEQ_LENGTH);
    let objective = Objective::new(Loss::Sft, 1.0);
    let basis = Basis { objective, tuning, usual, compared: Compared::Nothing };
    let training = alignment::training(section, around, basis);
    let alignment = Alignment { finetuning: Some(finetuning), ..training };
    Completions { alignment, max_length, is_quantized }
}

/// What is trained, whether over 4-bit weights, and the dropout.
fn method(
    section: &mut Section<'_>,
    has_adapter: bool,
    notes: &mut Vec<Note>,
) -> (Tuning, bool, f64) {
    let method = section.word("method", "method", Method::WORDS).unwrap_or(Method::Lora);
    let dropout = section.number("lora_dropout", 0.0..1.0, ">= 0 and < 1");
    let settings = tuning::settings(section);
    let bits = section.count("quantization_bits", 1);
    if method == Method::Qlora {
        if bits.is_some_and(|bits| bits != 4) {
            let got = bits.map(|bits| bits.to_string()).unwrap_or_default();
            let hint = Some("write 4, or use `method: lora`");
            let (key, range) = ("quantization_bits", "4");
            section.report(key, What::OutOfRange { key, range, got, hint });
        }
    } else {
        // LexAlign's recipes have it beside `method: lora`.
        notes.extend(bits.map(|_| Note::QuantizationBits));
    }
    if method == Method::Full {
        let (when, hint) = ("with `method: full`", "remove it, or use `method: lora`");
        for key in ADAPTER_KEYS.into_iter().chain(["lora_dropout"]) {
            section.refuse(key, when, hint);
        }
        if has_adapter {
            let first = "`model.adapter`".into();
            let second = "`method: full`".into();
            let hint = "remove one of the two".into();
            section.report("method", What::Conflict { first, second, hint });
        }
        return (Tuning::Full, false, 0.0);
    }
    let dropout = dropout.unwrap_or(0.05);
    if has_adapter {
        let (when, hint) = ("with `model.adapter`", "remove it: the adapter's own settings hold");
        for key in ADAPTER_KEYS {
            section.refuse(key, when, hint);
        }
        return (Tuning::Adapter, method == Method::Qlora, dropout);
    }
    (Tuning::Lora(settings), method == Method::Qlora, dropout)
}
