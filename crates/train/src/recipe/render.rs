//! Writing a recipe so that it reads back to itself.
//!
//! Every key that acts is written, with its value or `null`; keys that could have no effect are
//! left out, as they would be refused. Numbers are written so that every YAML reader sees one.

use std::fmt::Write as _;

use ::data::template::Moment;
use ::model::{Layers, Targets};

use super::{
    Alignment, Dataset, Dequantize, Device, Finetuning, Model, Precision, Recipe, Reference,
    Tuning,
    alignment::CHECKPOINTING,
    dataset::{FORMATS, INVALID, REPEATED, SIDES, Source, TEMPLATES},
    finetuning::Method,
    guards,
    keys::SECTIONS,
    objective,
    read::Words,
};
use crate::schedule::{SchedulerType, Warmup};

/// A key with its section, and its value as YAML.
pub(super) type Row = (&'static str, &'static str, String);

impl Recipe {
    /// The recipe as YAML, every key in the order of [`super::KEYS`].
    pub fn render(&self) -> String {
        let rows = self.rows();
        let mut text = String::new();
        for section in SECTIONS {
            if !rows.iter().any(|row| row.0 == section) {
                continue;
            }
            let _ = writeln!(text, "{section}:");
            for (_, key, value) in rows.iter().filter(|row| row.0 == section) {
                let _ = writeln!(text, "  {key}: {value}");
            }
        }
        for (_, key, value) in rows.iter().filter(|row| row.0.is_empty()) {
            let _ = writeln!(text, "{key}: {value}");
        }
        text
    }

    /// Every key that acts, with its value.
    pub(super) fn rows(&self) -> Vec<Row> {
        let alignment = &self.alignment;
        let mut rows = model(&self.model);
        rows.extend(dataset(&self.dataset));
        let is_void = |section: &str, key: &str| match (section, key) {
            ("model", "load_in_4bit" | "dequantize") => alignment.tuning == Tuning::Full,
            ("model", "reference") => {
                alignment.finetuning.is_some() || !alignment.objective.needs_reference()
            }
            ("dataset", "group_by_prompt") => alignment.objective.gdpo.is_none(),
            ("dataset", "chosen_field" | "rejected_field" | "max_length") => {
                alignment.finetuning.is_some()
            }
            ("dataset", "completion_field") => {
                alignment.finetuning.is_none() && !alignment.objective.needs().desirable
            }
            ("dataset", "text_field") => alignment.finetuning.is_none(),
            _ => false,
        };
        rows.retain(|(section, key, _)| !is_void(section, key));
        match &alignment.finetuning {
            Some(finetuning) => {
                let max_length = self.dataset.lengths.max_length;
                let method = Method::of(&self.model, &alignment.tuning);
                rows.extend(completions(method, alignment, finetuning, max_length));
            }
            None => rows.extend(preferences(alignment)),
        }
        rows.extend(saving(alignment));
        rows.push(("", "device", word(Device::WORDS, self.device).into()));
        rows.push(("", "threads", optional(self.threads)));
        rows
    }
}

fn model(model: &Model) -> Vec<Row> {
    let reference = match &model.reference {
        Reference::Base => "base".into(),
        Reference::Adapter => "adapter".into(),
        Reference::Path(path) => quoted(path),
    };
    let row = |key, value| ("model", key, value);
    vec![
        row("path", quoted(&model.path)),
        row("base_model", optional_text(model.base_model.as_ref())),
        row("adapter", optional_text(model.adapter.as_ref())),
        row("reference", reference),
        row("precision", word(Precision::WORDS, model.precision).into()),
        row("load_in_4bit", model.load_in_4bit.to_string()),
        row("dequantize", word(Dequantize::WORDS, model.dequantize).into()),
    ]
}

fn dataset(dataset: &Dataset) -> Vec<Row> {
    let row = |key, value| ("dataset", key, value);
    let (policy, lengths) = (dataset.policy, dataset.lengths);
    vec![
        row("path", sources(&dataset.sources)),
        row("format", word(FORMATS, dataset.format).into()),
        row("layout", dataset.layout.map_or_else(null, |layout| layout.name().into())),
        row("prompt_field", quoted(&dataset.prompt_field)),
        row("chosen_field", quoted(&dataset.chosen_field)),
        row("rejected_field", quoted(&dataset.rejected_field)),
        row("completion_field", quoted(&dataset.completion_field)),
        row("text_field", quoted(&dataset.text_field)),
        row("train_split", quoted(&dataset.train_split)),
        row("eval_path", optional_text(dataset.eval_path.as_ref())),
        row("eval_split", optional_text(dataset.eval_split.as_ref())),
        row("eval_fraction", dataset.eval_fraction.map_or_else(null, number)),
        row("on_invalid", word(INVALID, policy.on_invalid).into()),
        row("on_duplicate", word(REPEATED, policy.on_duplicate).into()),
        row("on_contradiction", word(REPEATED, policy.on_contradiction).into()),
        row("group_by_prompt", dataset.group_by_prompt.to_string()),
        row("max_length", optional(lengths.max_length)),
        row("max_prompt_length", optional(lengths.max_prompt_length)),
        row("truncation_side", word(SIDES, lengths.truncation_side).into()),
        row("chat_template", word(TEMPLATES, dataset.chat_template).into()),
        row("template_date", dataset.template_date.map_or_else(null, Moment::to_date)),
    ]
}

/// What is learned from preferences, and how fast.
fn preferences(alignment: &Alignment) -> Vec<Row> {
    let row = |key, value| ("alignment", key, value);
    let mut rows = vec![
        row("method", if alignment.objective.gdpo.is_some() { "gdpo" } else { "dpo" }.into()),
        row("output_dir", quoted(&alignment.output_dir.to_string_lossy())),
        row("run_name", optional_text(alignment.run_name.as_ref())),
    ];
    rows.extend(
        objective::rows(&alignment.objective).into_iter().map(|(key, value)| row(key, value)),
    );
    if alignment.objective.modifiers.delta.is_some() {
        rows.push(row("flip", alignment.flip.to_string()));
    }
    if alignment.objective.needs_reference() {
        rows.push(row("sync_ref_model", alignment.sync.is_some().to_string()));
    }
    if let Some(sync) = alignment.sync {
        rows.push(row("ref_model_mixup_alpha", number(sync.mixup_alpha)));
        rows.push(row("ref_model_sync_steps", sync.steps.to_string()));
    }
    rows.push(row("use_lora", (alignment.tuning != Tuning::Full).to_string()));
    rows.extend(adapter(alignment, None).into_iter().map(|(key, value)| row(key, value)));
    rows.extend(rates(alignment).into_iter().map(|(key, value)| row(key, value)));
    rows
}

/// What is learned from completions, and how fast.
fn completions(
    method: Method,
    alignment: &Alignment,
    finetuning: &Finetuning,
    max_length: Option<usize>,
) -> Vec<Row> {
    let mut rows = vec![
        ("method", word(Method::WORDS, method).into()),
        ("output_dir", quoted(&alignment.output_dir.to_string_lossy())),
        ("run_name", optional_text(alignment.run_name.as_ref())),
    ];
    if method == Method::Qlora {
        rows.push(("quantization_bits", "4".into()));
    }
    if !finetuning.assistant_only_loss {
        rows.push(("completion_only_loss", optional(finetuning.completion_only_loss)));
    }
    rows.push(("assistant_only_loss", finetuning.assistant_only_loss.to_string()));
    rows.push(("max_seq_length", optional(max_length)));
    rows.push(("packing", finetuning.packing.to_string()));
    rows.extend(adapter(alignment, Some(finetuning.lora_dropout)));
    rows.extend(rates(alignment));
    rows.into_iter().map(|(key, value)| ("training", key, value)).collect()
}

/// The adapter's keys; none where all weights are trained, and few where it is there already.
fn adapter(alignment: &Alignment, dropout: Option<f64>) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Tuning::Lora(lora) = &alignment.tuning {
        rows.push(("lora_r", lora.r.to_string()));
        rows.push(("lora_alpha", number(lora.lora_alpha)));
    }
    if alignment.tuning != Tuning::Full {
        rows.extend(dropout.map(|dropout| ("lora_dropout", number(dropout))));
    }
    if let Tuning::Lora(lora) = &alignment.tuning {
        rows.push(("use_rslora", lora.use_rslora.to_string()));
        let targets = match &lora.targets {
            Targets::AllLinear => "all-linear".into(),
            Targets::Named(names) => list(names.iter().map(|name| quoted(name))),
        };
        rows.push(("target_modules", targets));
        rows.push(match &lora.layers {
            Layers::All => ("layers_to_transform", null()),
            Layers::Named(layers) => {
                ("layers_to_transform", list(layers.iter().map(ToString::to_string)))
            }
            Layers::Last(count) => ("num_layers", count.to_string()),
        });
    }
    rows
}

fn rates(alignment: &Alignment) -> Vec<(&'static str, String)> {
    let rates = alignment.rates;
    let kind = word(SchedulerType::WORDS, rates.lr_scheduler_type);
    vec![
        ("learning_rate", number(rates.learning_rate)),
        ("lr_scheduler_type", kind.into()),
        match rates.warmup {
            Warmup::Steps(steps) => ("warmup_steps", steps.to_string()),
            Warmup::Ratio(ratio) => ("warmup_ratio", number(ratio)),
        },
    ]
}

fn saving(alignment: &Alignment) -> Vec<Row> {
    let section = if alignment.finetuning.is_some() { "training" } else { "alignment" };
    let row = |key, value| (section, key, value);
    let optimizer = alignment.optimizer;
    let mut rows = vec![
        row("batch_size", alignment.batch_size.to_string()),
        row("gradient_accumulation_steps", alignment.gradient_accumulation_steps.to_string()),
        row("num_epochs", alignment.num_epochs.to_string()),
        row("max_steps", optional(alignment.max_steps)),
    ];
    if alignment.finetuning.is_none() && alignment.max_steps.is_some() {
        rows.push(row("max_epochs", optional(alignment.max_epochs)));
    }
    rows.extend([
        row("weight_decay", number(optimizer.weight_decay)),
        row("adam_beta1", number(optimizer.adam_beta1)),
        row("adam_beta2", number(optimizer.adam_beta2)),
        row("adam_epsilon", number(optimizer.adam_epsilon)),
        row("max_grad_norm", number(optimizer.max_grad_norm)),
        row("shuffle_dataset", alignment.shuffle_dataset.to_string()),
        row("seed", alignment.seed.to_string()),
        row("save_steps", alignment.save_steps.to_string()),
        row("save_total_limit", optional(alignment.save_total_limit)),
    ]);
    if let Some(evaluation) = alignment.evaluation {
        rows.push(row("eval_steps", evaluation.eval_steps.to_string()));
    }
    rows.push(row("logging_steps", alignment.logging_steps.to_string()));
    if let Some(evaluation) = alignment.evaluation {
        let patience = optional(evaluation.early_stopping_patience);
        rows.push(row("load_best_model_at_end", evaluation.load_best_model_at_end.to_string()));
        rows.push(row("metric_for_best_model", evaluation.metric_for_best_model.name().into()));
        rows.push(row("early_stopping_patience", patience));
    }
    if alignment.finetuning.is_none() {
        rows.push(row("stop_when", guards::shown(&alignment.stop_when)));
    }
    rows.push(row("tokens_per_micro_batch", alignment.tokens_per_micro_batch.to_string()));
    let checkpointing = word(CHECKPOINTING, alignment.gradient_checkpointing);
    rows.push(row("gradient_checkpointing", checkpointing.into()));
    rows
}

/// The word for a value; every value has one.
pub(super) fn word<T: PartialEq + Copy>(words: Words<T>, value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("null", |(word, _)| word)
}

fn null() -> String {
    "null".into()
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(null, |value| value.to_string())
}

fn optional_text(text: Option<&String>) -> String {
    text.map_or_else(null, |text| quoted(text))
}

/// A text in double quotes; JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The shortest text that reads back to the same number, with the point that YAML 1.1 wants.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let point = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{mantissa}{point}e{sign}{exponent}")
        }
        None => text,
    }
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn sources(sources: &[Source]) -> String {
    let is_plain = |source: &Source| source.weight.to_bits() == 1.0_f64.to_bits();
    match sources {
        [source] if is_plain(source) => quoted(&source.path),
        _ => list(sources.iter().map(|source| {
            if is_plain(source) {
                quoted(&source.path)
            } else {
                format!("{{path: {}, weight: {}}}", quoted(&source.path), number(source.weight))
            }
        })),
    }
}
