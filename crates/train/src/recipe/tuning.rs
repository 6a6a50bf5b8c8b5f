//! What is trained: all weights, a new adapter, or one that is there already.

use model::{Layers, LoraSettings, Targets};

use super::{
    alignment::Tuning,
    problem::{Note, What},
    read::{POSITIVE, Section},
    tree::Value,
};

/// The keys of a new adapter.
pub(super) const ADAPTER_KEYS: [&str; 6] =
    ["lora_r", "lora_alpha", "use_rslora", "target_modules", "layers_to_transform", "num_layers"];

/// Reads what is trained, from the section `alignment`.
pub(super) fn read(section: &mut Section<'_>, has_adapter: bool, notes: &mut Vec<Note>) -> Tuning {
    let use_lora = section.flag("use_lora").unwrap_or(true);
    let dropout = section.number("lora_dropout", 0.0..1.0, ">= 0 and < 1").unwrap_or(0.0);
    if section.flag("disable_dropout") == Some(false) {
        let what = "`alignment.disable_dropout: false`".into();
        let hint = "remove it: alignment runs without dropout, as in TRL";
        section.report("disable_dropout", What::NotYet { what, hint });
    }
    let settings = settings(section);
    if !use_lora {
        let (when, hint) = ("with `use_lora: false`", "remove it, or set `use_lora: true`");
        for key in ADAPTER_KEYS.into_iter().chain(["lora_dropout"]) {
            section.refuse(key, when, hint);
        }
        if has_adapter {
            let first = "`model.adapter`".into();
            let second = "`use_lora: false`".into();
            let hint = "remove one of the two".into();
            section.report("use_lora", What::Conflict { first, second, hint });
        }
        return Tuning::Full;
    }
    if 0.0 < dropout {
        notes.push(Note::LoraDropout);
    }
    if has_adapter {
        let (when, hint) = ("with `model.adapter`", "remove it: the adapter's own settings hold");
        for key in ADAPTER_KEYS {
            section.refuse(key, when, hint);
        }
        return Tuning::Adapter;
    }
    Tuning::Lora(settings)
}

/// The settings of a new adapter.
pub(super) fn settings(section: &mut Section<'_>) -> LoraSettings {
    LoraSettings {
        r: section.count("lora_r", 1).unwrap_or(16) as usize,
        lora_alpha: section.number("lora_alpha", POSITIVE, "> 0").unwrap_or(32.0),
        use_rslora: section.flag("use_rslora").unwrap_or(false),
        targets: targets(section),
        layers: layers(section),
    }
}

fn targets(section: &mut Section<'_>) -> Targets {
    match section.texts("target_modules") {
        None => Targets::AllLinear,
        Some(names) if names == ["all-linear"] => Targets::AllLinear,
        Some(names) => Targets::Named(names),
    }
}

/// Blocks by number, or so many of the last.
fn layers(section: &mut Section<'_>) -> Layers {
    let named = layers_to_transform(section);
    let last = section.count("num_layers", 1);
    if section.has("layers_to_transform") && section.has("num_layers") {
        let (first, second) = ("`layers_to_transform`".into(), "`num_layers`".into());
        let hint = "keep one of the two".into();
        section.report("num_layers", What::Conflict { first, second, hint });
    }
    match (named, last) {
        (Some(named), _) => Layers::Named(named),
        (None, Some(last)) => Layers::Last(last as usize),
        (None, None) => Layers::All,
    }
}

fn layers_to_transform(section: &mut Section<'_>) -> Option<Vec<usize>> {
    let node = section.node("layers_to_transform")?;
    let index = |text: &str| text.parse::<u32>().ok().map(|index| index as usize);
    let layers = match &node.value {
        Value::Scalar(text) => index(text).map(|index| vec![index]),
        Value::List(items) if !items.is_empty() => items
            .iter()
            .map(|item| match &item.value {
                Value::Scalar(text) => index(text),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    if layers.is_none() {
        let got = node.value.describe();
        section.wrong("layers_to_transform", "a list of whole numbers", got);
    }
    layers
}
