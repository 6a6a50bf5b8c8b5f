//! Values from the command line, put in place before anything is checked.

use super::{
    problem::{Place, Problem, What},
    tree::{self, Entry, Node, Value},
};

/// A value from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    argument: String,
    assignment: String,
}

impl Override {
    /// The value of `--set`: `section.key=value`, the value written as YAML.
    pub fn set(assignment: &str) -> Self {
        Self { argument: format!("--set {assignment}"), assignment: assignment.to_owned() }
    }

    /// The value of a flag of its own, such as `--device`.
    pub fn flag(flag: &str, key: &str, value: &str) -> Self {
        Self { argument: format!("{flag} {value}"), assignment: format!("{key}={value}") }
    }
}

/// Puts the values in place, later ones over earlier ones.
pub(super) fn apply(root: &mut Vec<Entry>, overrides: &[Override], problems: &mut Vec<Problem>) {
    for given in overrides {
        let place = Place::Argument(given.argument.clone());
        let Some((path, value)) = given.assignment.split_once('=') else {
            problems.push(Problem::new(place, What::BadOverride));
            continue;
        };
        if let Some(node) = tree::parse(value, &|_| place.clone(), problems) {
            put(root, path.trim(), node, &place);
        }
    }
}

pub(super) fn put(root: &mut Vec<Entry>, path: &str, node: Node, place: &Place) {
    let Some((section, key)) = path.split_once('.') else {
        put_entry(root, path, node, place);
        return;
    };
    let index = root.iter().position(|entry| entry.key == section).unwrap_or_else(|| {
        let node = Node { place: place.clone(), value: Value::Map(Vec::new()) };
        put_entry(root, section, node, place);
        root.len() - 1
    });
    let value = &mut root[index].node.value;
    if matches!(value, Value::Null) {
        *value = Value::Map(Vec::new());
    }
    // A section that is no mapping is reported where it is read.
    if let Value::Map(entries) = value {
        put_entry(entries, key, node, place);
    }
}

fn put_entry(entries: &mut Vec<Entry>, key: &str, node: Node, place: &Place) {
    entries.retain(|entry| entry.key != key);
    entries.push(Entry { key: key.to_owned(), place: place.clone(), node });
}
