//! The section `alignment`: how the policy is trained; fine-tuning is a training of the same kind.

use std::path::PathBuf;

use model::LoraSettings;
use objectives::Objective;

use super::{
    dataset::Dataset,
    finetuning::Finetuning,
    guards,
    model::{Model, Reference},
    objective,
    problem::{Note, What},
    read::{POSITIVE, Section, UP_TO_ONE, Words},
    saving::{self, Compared, Evaluation},
    tuning,
};
use crate::{
    moving::SyncSettings,
    optimizer::OptimizerSettings,
    schedule::{SchedulerType, Warmup},
    stopping::StopWhen,
};

/// How the policy is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// What there is beside the rest if completions are learned, not preferences between them.
    pub finetuning: Option<Finetuning>,
    /// The run folder.
    pub output_dir: PathBuf,
    /// What the run is called where runs are compared; the folder's name if absent.
    pub run_name: Option<String>,
    /// What is minimized.
    pub objective: Objective,
    /// How the reference follows the policy; it stays where it is if absent.
    pub sync: Option<SyncSettings>,
    /// Whether completions whose labels of factuality are in the wrong order change places.
    pub flip: bool,
    /// What is trained.
    pub tuning: Tuning,
    /// How fast.
    pub rates: Rates,
    /// AdamW's constants, and clipping.
    pub optimizer: OptimizerSettings,
    /// Pairs a micro-batch as TRL counts; at least 1.
    pub batch_size: usize,
    /// Factor of `batch_size`; at least 1.
    pub gradient_accumulation_steps: usize,
    /// Passes over the data; at least 1.
    pub num_epochs: u64,
    /// Steps, in place of `num_epochs`; at least 1.
    pub max_steps: Option<u64>,
    /// Passes over the data after which the run ends before its `max_steps`; at least 1.
    pub max_epochs: Option<u64>,
    /// Whether pairs come in a new order each epoch, or as the files have them.
    pub shuffle_dataset: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// Steps between checkpoints; at least 1.
    pub save_steps: u64,
    /// Checkpoints kept; at least 1.
    pub save_total_limit: Option<usize>,
    /// Steps between entries of the history in `trainer_state.json`; at least 1.
    pub logging_steps: u64,
    /// What evaluations are for; absent without evaluation data.
    pub evaluation: Option<Evaluation>,
    /// Guards that end the run; usually none.
    pub stop_when: StopWhen,
    /// Tokens in memory at once; at least 1.
    pub tokens_per_micro_batch: usize,
    /// Whether activations are computed twice; absent until the memory is planned.
    pub gradient_checkpointing: Option<bool>,
}

/// What is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Tuning {
    /// All weights.
    Full,
    /// A new adapter.
    Lora(LoraSettings),
    /// The adapter of `model.adapter`, with its own settings.
    Adapter,
}

/// The learning rate over the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// The peak; above 0.
    pub learning_rate: f64,
    /// The shape.
    pub lr_scheduler_type: SchedulerType,
    /// The way up.
    pub warmup: Warmup,
}

impl SchedulerType {
    pub(super) const WORDS: Words<Self> = &[
        ("linear", Self::Linear),
        ("cosine", Self::Cosine),
        ("constant", Self::Constant),
        ("constant_with_warmup", Self::ConstantWithWarmup),
    ];
}

/// The default of `tokens_per_micro_batch`: enough rows for full-speed products, in an amount of
/// memory that small machines have. A constant, so that a recipe gives the same bytes everywhere.
pub const TOKENS_PER_MICRO_BATCH: usize = 1024;

/// What the other sections decide.
pub(super) struct Around<'a> {
    pub(super) model: Option<&'a Model>,
    pub(super) dataset: Option<&'a Dataset>,
    /// Where the run goes if the recipe does not say.
    pub(super) output_dir: PathBuf,
}

/// Reads the section.
pub(super) fn read(
    section: &mut Section<'_>,
    around: Around<'_>,
    notes: &mut Vec<Note>,
) -> Option<Alignment> {
    let objective = objective::read(section, notes);
    let has_adapter = around.model.is_some_and(|model| model.adapter.is_some());
    let tuning = tuning::read(section, has_adapter, notes);
    let is_unpaired = |o: &&Objective| o.terms.iter().any(|term| term.loss.is_unpaired());
    let unpaired = objective.as_ref().filter(is_unpaired).map(Objective::name);
    let compared = unpaired.map_or(Compared::Pairs, Compared::Sides);
    let usual = Rates {
        learning_rate: 1e-5,
        lr_scheduler_type: SchedulerType::Linear,
        warmup: Warmup::Ratio(0.1),
    };
    let flip = section.flag("flip").unwrap_or(false);
    let sync = sync(section, &tuning, around.model);
    let stop_when = guards::read(section, unpaired.is_none());
    let basis = Basis { objective: objective?, tuning, usual, compared };
    let max_epochs = max_epochs(section);
    Some(Alignment { sync, flip, max_epochs, stop_when, ..training(section, around, basis) })
}

/// What the kind of training decides about the keys that every training has.
pub(super) struct Basis {
    pub(super) objective: Objective,
    pub(super) tuning: Tuning,
    /// The rates where the recipe is silent.
    pub(super) usual: Rates,
    /// What evaluations compare.
    pub(super) compared: Compared,
}

/// Reads the keys that every training has.
pub(super) fn training(section: &mut Section<'_>, around: Around<'_>, basis: Basis) -> Alignment {
    let save_steps = section.count("save_steps", 1).unwrap_or(500);
    // A recipe without a readable dataset has its own problem already.
    let has_evaluation = around.dataset.is_none_or(Dataset::has_evaluation);
    Alignment {
        finetuning: None,
        output_dir: section.text("output_dir").map_or(around.output_dir, PathBuf::from),
        run_name: section.text("run_name"),
        sync: None,
        objective: basis.objective,
        flip: false,
        tuning: basis.tuning,
        rates: rates(section, basis.usual),
        optimizer: optimizer(section),
        batch_size: size(section, "batch_size", 4),
        gradient_accumulation_steps: size(section, "gradient_accumulation_steps", 4),
        num_epochs: section.count("num_epochs", 1).unwrap_or(3),
        max_steps: section.count_hinted("max_steps", 1, Some("leave it out for whole epochs")),
        max_epochs: None,
        shuffle_dataset: section.flag("shuffle_dataset").unwrap_or(true),
        seed: section.count("seed", 0).unwrap_or(42),
        save_steps,
        save_total_limit: section
            .count_hinted("save_total_limit", 1, Some("leave it out to keep all checkpoints"))
            .map(|limit| limit as usize),
        logging_steps: section.count("logging_steps", 1).unwrap_or(10),
        evaluation: saving::read(section, has_evaluation, &basis.compared, save_steps),
        stop_when: StopWhen::new(),
        tokens_per_micro_batch: size(section, "tokens_per_micro_batch", TOKENS_PER_MICRO_BATCH),
        gradient_checkpointing: section
            .word("gradient_checkpointing", "gradient_checkpointing", CHECKPOINTING)
            .flatten(),
    }
}

pub(super) const CHECKPOINTING: Words<Option<bool>> =
    &[("auto", None), ("true", Some(true)), ("false", Some(false))];

/// The bound of a run whose steps are counted.
fn max_epochs(section: &mut Section<'_>) -> Option<u64> {
    let epochs = section.count("max_epochs", 1);
    if !section.has("max_steps") {
        section.refuse("max_epochs", "without `max_steps`", "write `num_epochs`");
    }
    epochs
}

/// A count that fits into memory.
pub(super) fn size(section: &mut Section<'_>, key: &'static str, default: usize) -> usize {
    section.count(key, 1).map_or(default, |count| count as usize)
}

/// A reference that follows the policy.
fn sync(section: &mut Section<'_>, tuning: &Tuning, model: Option<&Model>) -> Option<SyncSettings> {
    let alpha = section.number("ref_model_mixup_alpha", UP_TO_ONE, "> 0 and <= 1");
    let steps = section.count("ref_model_sync_steps", 1);
    if section.flag("sync_ref_model") != Some(true) {
        let hint = "remove it, or set `sync_ref_model: true`";
        for key in ["ref_model_mixup_alpha", "ref_model_sync_steps"] {
            section.refuse(key, "without `sync_ref_model: true`", hint);
        }
        return None;
    }
    let is_full = *tuning == Tuning::Full;
    let usual = if is_full { 0.6 } else { 1.0 };
    let mixup_alpha = alpha.unwrap_or(usual);
    if !is_full && mixup_alpha < 1.0 {
        let first = format!("`ref_model_mixup_alpha: {mixup_alpha}`");
        let hint = "write 1.0: what lies between two adapters is no adapter of their rank; or set `use_lora: false`";
        let (second, hint) = ("an adapter".into(), hint.into());
        section.report("ref_model_mixup_alpha", What::Conflict { first, second, hint });
    }
    let start = if *tuning == Tuning::Adapter { Reference::Adapter } else { Reference::Base };
    if model.is_some_and(|model| model.reference != start) {
        let first = "`sync_ref_model`".into();
        let second = "a `model.reference` that is not the policy as it starts".into();
        let hint = "leave `model.reference` out".into();
        section.report("sync_ref_model", What::Conflict { first, second, hint });
    }
    Some(SyncSettings { mixup_alpha, steps: steps.unwrap_or(512) })
}

/// The learning rate over the run; `usual` holds where the recipe is silent.
fn rates(section: &mut Section<'_>, usual: Rates) -> Rates {
    let lr_scheduler_type = section
        .word("lr_scheduler_type", "lr_scheduler_type", SchedulerType::WORDS)
        .unwrap_or(usual.lr_scheduler_type);
    let rate = section.number("learning_rate", POSITIVE, "> 0");
    Rates {
        learning_rate: rate.unwrap_or(usual.learning_rate),
        lr_scheduler_type,
        warmup: warmup(section, lr_scheduler_type, usual.warmup),
    }
}

fn warmup(section: &mut Section<'_>, kind: SchedulerType, usual: Warmup) -> Warmup {
    let ratio = section.number("warmup_ratio", 0.0..=1.0, ">= 0 and <= 1");
    let share = section.node("warmup_steps").and_then(super::tree::Node::as_number);
    let steps = if share.is_some_and(|share| 0.0 < share && share < 1.0) {
        let got = share.map(|share| share.to_string()).unwrap_or_default();
        let hint = Some("for a share of all steps write `warmup_ratio`");
        let key = "warmup_steps";
        section.report(key, What::OutOfRange { key, range: "a whole number", got, hint });
        None
    } else {
        section.count("warmup_steps", 0)
    };
    if section.has("warmup_ratio") && section.has("warmup_steps") {
        let first = "`warmup_steps`".into();
        let second = "`warmup_ratio`".into();
        let hint = "keep one of the two".into();
        section.report("warmup_ratio", What::Conflict { first, second, hint });
    }
    let warmup = match (steps, ratio) {
        (Some(steps), _) => Warmup::Steps(steps),
        (None, Some(ratio)) => Warmup::Ratio(ratio),
        (None, None) if kind == SchedulerType::Constant => Warmup::Steps(0),
        (None, None) => usual,
    };
    if kind == SchedulerType::Constant {
        let when = "with `lr_scheduler_type: constant`";
        let hint = "remove it, or use `lr_scheduler_type: constant_with_warmup`";
        if steps.is_some_and(|steps| 0 < steps) {
            section.refuse("warmup_steps", when, hint);
        }
        if ratio.is_some_and(|ratio| 0.0 < ratio) {
            section.refuse("warmup_ratio", when, hint);
        }
    }
    warmup
}

/// AdamW's constants.
fn optimizer(section: &mut Section<'_>) -> OptimizerSettings {
    let told = ">= 0 and < 1";
    OptimizerSettings {
        adam_beta1: section.number("adam_beta1", 0.0..1.0, told).unwrap_or(0.9),
        adam_beta2: section.number("adam_beta2", 0.0..1.0, told).unwrap_or(0.999),
        adam_epsilon: section.number("adam_epsilon", POSITIVE, "> 0").unwrap_or(1e-8),
        weight_decay: section.number("weight_decay", 0.0.., ">= 0").unwrap_or(0.01),
        max_grad_norm: section.number("max_grad_norm", 0.0.., ">= 0").unwrap_or(1.0),
    }
}
