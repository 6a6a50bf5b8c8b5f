//! The section `dataset`: which records, how long, and how they become text.

use data::{
    check::{OnInvalid, OnRepeated, Policy},
    layout::{Fields, Layout},
    read::{Format, WEIGHT_MAX},
    template::Moment,
    tokenize::{Lengths, TemplateUse, TruncationSide},
};

use super::{
    problem::What,
    read::{POSITIVE, Section, Words},
    tree::{Entry, Node, Value},
};

/// Which records to learn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Files and folders; never empty.
    pub sources: Vec<Source>,
    /// How the files are read.
    pub format: Format,
    /// How a row holds prompt and completions; recognised if absent.
    pub layout: Option<Layout>,
    /// The field that holds the prompt.
    pub prompt_field: String,
    /// The field that holds the chosen completion.
    pub chosen_field: String,
    /// The field that holds the rejected completion.
    pub rejected_field: String,
    /// The field that holds a lone completion.
    pub completion_field: String,
    /// The field that holds a text without a prompt.
    pub text_field: String,
    /// The split to train on, where there are splits.
    pub train_split: String,
    /// Pairs to evaluate on.
    pub eval_path: Option<String>,
    /// The split to evaluate on.
    pub eval_split: Option<String>,
    /// The share of prompts set apart to evaluate on; above 0, below 1.
    pub eval_fraction: Option<f64>,
    /// What is done with rows that have a problem.
    pub policy: Policy,
    /// Whether the pairs of a prompt become one group.
    pub group_by_prompt: bool,
    /// How long pairs may be; `max_length` is absent until the model's context is known.
    pub lengths: Lengths,
    /// Which records go through the model's template.
    pub chat_template: TemplateUse,
    /// The day that templates see; today if absent.
    pub template_date: Option<Moment>,
}

/// A file or folder with its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// A file or a folder.
    pub path: String,
    /// How often each of its rows is taken an epoch; above 0, at most [`WEIGHT_MAX`].
    pub weight: f64,
}

pub(super) const FORMATS: Words<Format> = &[
    ("auto", Format::Auto),
    ("json", Format::Json),
    ("csv", Format::Csv),
    ("jsonl", Format::Jsonl),
    ("parquet", Format::Parquet),
];
pub(super) const INVALID: Words<OnInvalid> =
    &[("drop", OnInvalid::Drop), ("error", OnInvalid::Error)];
pub(super) const REPEATED: Words<OnRepeated> =
    &[("keep", OnRepeated::Keep), ("drop", OnRepeated::Drop), ("error", OnRepeated::Error)];
pub(super) const SIDES: Words<TruncationSide> =
    &[("left", TruncationSide::Left), ("right", TruncationSide::Right)];
pub(super) const TEMPLATES: Words<TemplateUse> =
    &[("auto", TemplateUse::Auto), ("always", TemplateUse::Always), ("never", TemplateUse::Never)];

impl Dataset {
    /// Whether there is anything to evaluate on.
    pub fn has_evaluation(&self) -> bool {
        self.eval_path.is_some() || self.eval_split.is_some() || self.eval_fraction.is_some()
    }

    /// The files to train on, as the reader takes them.
    pub fn training_sources(&self) -> Vec<data::read::Source> {
        let source = |source: &Source| data::read::Source {
            weight: source.weight,
            ..self.source(&source.path, &self.train_split)
        };
        self.sources.iter().map(source).collect()
    }

    /// The files to evaluate on; none where a share of the training data is set apart, and none
    /// without evaluation.
    pub fn evaluation_sources(&self) -> Vec<data::read::Source> {
        let split = self.eval_split.as_ref();
        match (&self.eval_path, split) {
            (Some(path), _) => vec![self.source(path, split.unwrap_or(&self.train_split))],
            (None, Some(split)) => {
                self.sources.iter().map(|source| self.source(&source.path, split)).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    fn source(&self, path: &str, split: &str) -> data::read::Source {
        let mut fields = Fields::default();
        for (name, column) in [
            ("prompt", &self.prompt_field),
            ("chosen", &self.chosen_field),
            ("rejected", &self.rejected_field),
            ("completion", &self.completion_field),
            ("text", &self.text_field),
        ] {
            if name != column {
                fields.set(name, column);
            }
        }
        data::read::Source {
            path: path.into(),
            split: split.to_owned(),
            weight: 1.0,
            format: self.format,
            layout: self.layout,
            fields,
        }
    }
}

/// Reads the section.
pub(super) fn read(section: &mut Section<'_>) -> Option<Dataset> {
    let sources = sources(section);
    if !section.has("path") {
        let key = "dataset.path".into();
        section.report("path", What::Missing { key, example: "path: ./data/preferences.jsonl" });
    }
    let field = |section: &mut Section<'_>, key, default: &str| {
        section.text(key).unwrap_or_else(|| default.to_owned())
    };
    let dataset = Dataset {
        sources: sources.unwrap_or_default(),
        format: section.word("format", "dataset format", FORMATS).unwrap_or_default(),
        layout: layout(section),
        prompt_field: field(section, "prompt_field", "prompt"),
        chosen_field: field(section, "chosen_field", "chosen"),
        rejected_field: field(section, "rejected_field", "rejected"),
        completion_field: field(section, "completion_field", "completion"),
        text_field: field(section, "text_field", "text"),
        train_split: field(section, "train_split", "train"),
        eval_path: section.text("eval_path"),
        eval_split: section.text("eval_split"),
        eval_fraction: eval_fraction(section),
        policy: policy(section),
        group_by_prompt: section.flag("group_by_prompt").unwrap_or(false),
        lengths: lengths(section),
        chat_template: section
            .word("chat_template", "chat template", TEMPLATES)
            .unwrap_or_default(),
        template_date: template_date(section),
    };
    check(section, &dataset);
    (!dataset.sources.is_empty()).then_some(dataset)
}

fn layout(section: &mut Section<'_>) -> Option<Layout> {
    let name = section.text("layout")?;
    let known = Layout::ALL.into_iter().find(|layout| layout.name() == name);
    if known.is_none() {
        let supported = Layout::ALL.iter().map(|layout| layout.name()).collect();
        let hint = Some("leave it out to have the layout recognised from the rows");
        let what = What::Unsupported { noun: "dataset layout", got: name, supported, hint };
        section.report("layout", what);
    }
    known
}

fn template_date(section: &mut Section<'_>) -> Option<Moment> {
    let text = section.text("template_date")?;
    let date = Moment::parse_date(text.trim());
    if date.is_none() {
        let hint = Some("for example `template_date: 2026-01-31`");
        let (key, range) = ("template_date", "a day as YYYY-MM-DD");
        section.report(key, What::OutOfRange { key, range, got: text, hint });
    }
    date
}

fn policy(section: &mut Section<'_>) -> Policy {
    let usual = Policy::default();
    let action = "action";
    Policy {
        on_invalid: section.word("on_invalid", action, INVALID).unwrap_or(usual.on_invalid),
        on_duplicate: section.word("on_duplicate", action, REPEATED).unwrap_or(usual.on_duplicate),
        on_contradiction: section
            .word("on_contradiction", action, REPEATED)
            .unwrap_or(usual.on_contradiction),
    }
}

fn lengths(section: &mut Section<'_>) -> Lengths {
    Lengths {
        max_length: section.count("max_length", 2).map(|count| count as usize),
        max_prompt_length: section.count("max_prompt_length", 1).map(|count| count as usize),
        truncation_side: section
            .word("truncation_side", "truncation side", SIDES)
            .unwrap_or_default(),
    }
}

fn eval_fraction(section: &mut Section<'_>) -> Option<f64> {
    // The upper end lies outside, the lower one too.
    let below_one = (POSITIVE.0, std::ops::Bound::Excluded(1.0));
    section.number("eval_fraction", below_one, "> 0 and < 1")
}

fn check(section: &mut Section<'_>, dataset: &Dataset) {
    for other in ["eval_path", "eval_split"] {
        if dataset.eval_fraction.is_some() && section.has(other) {
            let first = "`dataset.eval_fraction`".into();
            let second = format!("`dataset.{other}`");
            let hint = format!("keep `eval_fraction` to set training data apart, or `{other}`");
            section.report("eval_fraction", What::Conflict { first, second, hint });
        }
    }
    if dataset.eval_path.is_none() && dataset.eval_split.as_ref() == Some(&dataset.train_split) {
        let first = "`dataset.eval_split`".into();
        let second = "`dataset.train_split`".into();
        let hint = "evaluate on another split, or set `eval_fraction`".into();
        section.report("eval_split", What::Conflict { first, second, hint });
    }
    if let (Some(prompt), Some(all)) =
        (dataset.lengths.max_prompt_length, dataset.lengths.max_length)
        && all <= prompt
    {
        let first = format!("`max_prompt_length: {prompt}`");
        let second = format!("`max_length: {all}`");
        let hint = "leave room for the completion: raise `dataset.max_length`".into();
        section.report("max_prompt_length", What::Conflict { first, second, hint });
    }
}

/// The sources: a text, or a list of texts and `{path, weight}`.
fn sources(section: &mut Section<'_>) -> Option<Vec<Source>> {
    let node = section.node("path")?;
    let items = match &node.value {
        Value::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    let sources: Vec<Source> = items.iter().filter_map(|item| source(section, item)).collect();
    if items.is_empty() {
        section.wrong("path", "a path or a list of paths", "an empty list".into());
    }
    (sources.len() == items.len()).then_some(sources)
}

fn source(section: &mut Section<'_>, item: &Node) -> Option<Source> {
    let wrong = |section: &mut Section<'_>, node: &Node, key, wanted| {
        let got = node.value.describe();
        section.report_at(node.place.clone(), What::WrongKind { key, wanted, got });
    };
    let entries = match &item.value {
        Value::Scalar(path) if !path.trim().is_empty() => {
            return Some(Source { path: path.clone(), weight: 1.0 });
        }
        Value::Map(entries) => entries,
        _ => {
            wrong(section, item, "path", "a path, or a mapping of `path` and `weight`");
            return None;
        }
    };
    let mut found = Source { path: String::new(), weight: 1.0 };
    for Entry { key, place, node } in entries {
        match (&**key, &node.value) {
            ("path", Value::Scalar(path)) => found.path.clone_from(path),
            ("weight", Value::Scalar(text)) => {
                match text
                    .parse::<f64>()
                    .ok()
                    .filter(|weight| 0.0 < *weight && *weight <= WEIGHT_MAX)
                {
                    Some(weight) => found.weight = weight,
                    None => wrong(section, node, "weight", "a number > 0 and <= 1000"),
                }
            }
            ("path" | "weight", _) => wrong(section, node, "path", "a path, and `weight` a number"),
            _ => {
                let key = format!("dataset.path.{key}");
                let instead = Some("an item has `path` and `weight`".into());
                section.report_at(place.clone(), What::UnknownKey { key, instead });
            }
        }
    }
    if found.path.is_empty() {
        wrong(section, item, "path", "a path, or a mapping of `path` and `weight`");
        return None;
    }
    Some(found)
}
