//! Typed reading of a section's values; whatever is wrong is collected, nothing stops the reading.

use std::ops::{Bound, RangeBounds};

use super::{
    keys,
    problem::{Place, Problem, What},
    tree::{Entry, Node, Value},
};

/// A word of a recipe and what it stands for.
pub(super) type Words<T> = &'static [(&'static str, T)];

/// A section that is being read.
pub(super) struct Section<'a> {
    name: &'static str,
    entries: &'a [Entry],
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    /// Starts reading, and reports the keys that do not exist.
    pub(super) fn new(
        name: &'static str,
        entries: &'a [Entry],
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        for entry in entries {
            let is_section = name.is_empty() && keys::SECTIONS.contains(&&*entry.key);
            if keys::find(name, &entry.key).is_some() || is_section {
                continue;
            }
            let key =
                if name.is_empty() { entry.key.clone() } else { format!("{name}.{}", entry.key) };
            let instead = keys::instead(name, &entry.key);
            problems.push(Problem::new(entry.place.clone(), What::UnknownKey { key, instead }));
        }
        Self { name, entries, problems }
    }

    /// The value of a key, unless it is unset.
    pub(super) fn node(&self, key: &'static str) -> Option<&'a Node> {
        debug_assert!(keys::find(self.name, key).is_some(), "{}.{key} is in the table", self.name);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!matches!(entry.node.value, Value::Null)).then_some(&entry.node)
    }

    /// Whether a key has a value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// Adds a problem at a key's value, or at the file if the key is unset.
    pub(super) fn report(&mut self, key: &'static str, what: What) {
        let place = self.node(key).map_or(Place::File, |node| node.place.clone());
        self.problems.push(Problem::new(place, what));
    }

    /// Adds a problem at a place.
    pub(super) fn report_at(&mut self, place: Place, what: What) {
        self.problems.push(Problem::new(place, what));
    }

    /// Reports a key that has a value and can have no effect.
    pub(super) fn refuse(
        &mut self,
        key: &'static str,
        when: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.has(key) {
            let key_path = format!("{}.{key}", self.name);
            let (when, hint) = (when.into(), hint.into());
            self.report(key, What::NoEffect { key: key_path, when, hint });
        }
    }

    /// A text; empty ones are refused.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        match &node.value {
            Value::Scalar(text) if !text.trim().is_empty() => Some(text.clone()),
            other => {
                self.wrong(key, "a text", other.describe());
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Scalar(text) if matches!(&**text, "true" | "True" | "TRUE") => Some(true),
            Value::Scalar(text) if matches!(&**text, "false" | "False" | "FALSE") => Some(false),
            other => {
                self.wrong(key, "`true` or `false`", other.describe());
                None
            }
        }
    }

    /// A finite number in `range`; `1e-5` is one.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: impl RangeBounds<f64>,
        told: &'static str,
    ) -> Option<f64> {
        let node = self.node(key)?;
        let Some(number) = node.as_number() else {
            self.wrong(key, "a number", node.value.describe());
            return None;
        };
        if !range.contains(&number) {
            let got = node.value.describe();
            self.report(key, What::OutOfRange { key, range: told, got, hint: None });
            return None;
        }
        Some(number)
    }

    /// A whole number of at least `least`.
    pub(super) fn count(&mut self, key: &'static str, least: u64) -> Option<u64> {
        self.count_hinted(key, least, None)
    }

    /// Like [`Section::count`], with a hint for values that are too small.
    pub(super) fn count_hinted(
        &mut self,
        key: &'static str,
        least: u64,
        hint: Option<&'static str>,
    ) -> Option<u64> {
        let node = self.node(key)?;
        let Value::Scalar(text) = &node.value else {
            self.wrong(key, "a whole number", node.value.describe());
            return None;
        };
        let range = match least {
            0 => ">= 0",
            1 => ">= 1",
            _ => ">= 2",
        };
        match text.parse::<i128>() {
            Ok(number) if number < i128::from(least) => {
                self.report(key, What::OutOfRange { key, range, got: text.clone(), hint });
                None
            }
            Ok(number) if number <= i128::from(COUNT_MAX) => u64::try_from(number).ok(),
            Ok(_) => {
                let range = "at most 2^53";
                self.report(key, What::OutOfRange { key, range, got: text.clone(), hint: None });
                None
            }
            Err(_) => {
                self.wrong(key, "a whole number", node.value.describe());
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        noun: &'static str,
        words: Words<T>,
    ) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let supported = words.iter().map(|(word, _)| *word).collect();
        self.report(key, What::Unsupported { noun, got: text, supported, hint: None });
        None
    }

    /// A list of texts; a single text is a list of one. Refuses empty lists.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let node = self.node(key)?;
        let texts = match &node.value {
            Value::Scalar(text) => vec![text.clone()],
            Value::List(items) => items.iter().filter_map(scalar).collect(),
            _ => Vec::new(),
        };
        let is_whole = match &node.value {
            Value::List(items) => texts.len() == items.len() && !items.is_empty(),
            other => matches!(other, Value::Scalar(_)),
        };
        if !is_whole {
            self.wrong(key, "a text or a list of texts", node.value.describe());
            return None;
        }
        Some(texts)
    }

    /// A value of the wrong kind.
    pub(super) fn wrong(&mut self, key: &'static str, wanted: &'static str, got: String) {
        self.report(key, What::WrongKind { key, wanted, got });
    }
}

/// Larger whole numbers are not exact in the programs that read our files.
const COUNT_MAX: u64 = 1 << 53;

fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(text) if !text.trim().is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// Numbers above 0, up to 1.
pub(super) const UP_TO_ONE: (Bound<f64>, Bound<f64>) = (Bound::Excluded(0.0), Bound::Included(1.0));

/// Numbers above 0.
pub(super) const POSITIVE: (Bound<f64>, Bound<f64>) = (Bound::Excluded(0.0), Bound::Unbounded);
