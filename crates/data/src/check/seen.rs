//! Finding rows that repeat or contradict others, by hash.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::record::{Content, Record};

/// Columns that objectives read, so that rows that differ in them are different rows.
const JUDGED: [&str; 12] = [
    "h_w",
    "h_l",
    "label",
    "annotator",
    "annotators",
    "weight",
    "margin",
    "scores",
    "score_chosen",
    "score_rejected",
    "agreement",
    "votes",
];

/// 128 bits of a content hash; a collision among a billion rows has odds of one in 10^20.
type Hash = [u8; 16];

/// What is known of a record from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing like it came before.
    New,
    /// The record of this index is the same in all that objectives read.
    Duplicate(usize),
    /// The record of this index has the same prompt and the sides swapped, or another label for an
    /// answer that both give.
    Contradiction(usize),
}

/// The records that came before; 32 to 64 bytes for each.
#[derive(Debug, Default)]
pub struct Seen {
    rows: BTreeMap<Hash, usize>,
    pairs: BTreeMap<Hash, usize>,
    labels: BTreeMap<Hash, (Hash, usize)>,
}

impl Seen {
    /// Compares a record with those before and remembers it under `index`.
    pub fn add(&mut self, record: &Record, index: usize) -> Found {
        let row = hash(record, &record.completions.iter().collect::<Vec<_>>(), true);
        if let Some(&first) = self.rows.get(&row) {
            return Found::Duplicate(first);
        }
        self.rows.insert(row, index);
        let judged_otherwise = self.judged_otherwise(record, index);
        let [chosen, rejected] = record.completions.as_slice() else {
            return judged_otherwise.map_or(Found::New, Found::Contradiction);
        };
        if record.extras.contains_key("scores") {
            return Found::New;
        }
        let swapped = hash(record, &[rejected, chosen], false);
        self.pairs.entry(hash(record, &[chosen, rejected], false)).or_insert(index);
        match self.pairs.get(&swapped) {
            Some(&other) if other != index => Found::Contradiction(other),
            _ => judged_otherwise.map_or(Found::New, Found::Contradiction),
        }
    }

    /// Remembers what the record says of each of its answers; the index of a record that says
    /// otherwise of one of them.
    fn judged_otherwise(&mut self, record: &Record, index: usize) -> Option<usize> {
        let names: &[&str] =
            if record.completions.len() == 1 { &["label"] } else { &["h_w", "h_l"] };
        let mut found = None;
        for (name, completion) in names.iter().zip(&record.completions) {
            let Some(label) = record.extras.get(*name).filter(|it| !it.is_null()) else { continue };
            let mut hasher = blake3::Hasher::new();
            value(&mut hasher, label);
            let label = short(&hasher);
            let key = hash(record, &[completion], false);
            let (first, other) = *self.labels.entry(key).or_insert((label, index));
            if first != label && other != index {
                found = found.or(Some(other));
            }
        }
        found
    }
}

fn short(hasher: &blake3::Hasher) -> Hash {
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

/// A hash of what a record asks: its prompt and tools. Records of one prompt share it.
pub fn prompt_hash(record: &Record) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    asked(&mut hasher, record);
    *hasher.finalize().as_bytes()
}

/// A hash of an answer, but for white space around it.
pub(crate) fn answer_hash(answer: &Content) -> Hash {
    let mut hasher = blake3::Hasher::new();
    match answer {
        Content::Text(it) => text(&mut hasher, *b"text", it.trim().as_bytes()),
        Content::Messages(all) => {
            length(&mut hasher, *b"msgs", all.len());
            for message in all {
                let mut message = message.clone();
                if let Some(Value::String(it)) = message.get_mut("content") {
                    *it = it.trim().to_owned();
                }
                value(&mut hasher, &message);
            }
        }
        Content::Tokens(_) => content(&mut hasher, answer),
    }
    short(&hasher)
}

fn hash(record: &Record, completions: &[&Content], judged: bool) -> Hash {
    let mut hasher = blake3::Hasher::new();
    asked(&mut hasher, record);
    for completion in completions {
        content(&mut hasher, completion);
    }
    if judged {
        for name in JUDGED {
            value(&mut hasher, record.extras.get(name).unwrap_or(&Value::Null));
        }
    }
    short(&hasher)
}

fn asked(hasher: &mut blake3::Hasher, record: &Record) {
    content(hasher, &record.prompt);
    value(hasher, record.tools.as_ref().unwrap_or(&Value::Null));
    object(hasher, &record.template_kwargs);
}

fn content(hasher: &mut blake3::Hasher, content: &Content) {
    match content {
        Content::Text(it) => text(hasher, *b"text", it.as_bytes()),
        Content::Tokens(ids) => {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            text(hasher, *b"ids ", &bytes);
        }
        Content::Messages(all) => {
            length(hasher, *b"msgs", all.len());
            for message in all {
                value(hasher, message);
            }
        }
    }
}

/// Every part has a mark and a length, so that no two values give the same bytes.
fn text(hasher: &mut blake3::Hasher, mark: [u8; 4], bytes: &[u8]) {
    length(hasher, mark, bytes.len());
    hasher.update(bytes);
}

fn length(hasher: &mut blake3::Hasher, mark: [u8; 4], length: usize) {
    hasher.update(&mark).update(&(length as u64).to_le_bytes());
}

fn value(hasher: &mut blake3::Hasher, it: &Value) {
    match it {
        Value::Null => length(hasher, *b"null", 0),
        Value::Bool(it) => length(hasher, *b"bool", usize::from(*it)),
        Value::Number(it) => text(hasher, *b"numb", it.to_string().as_bytes()),
        Value::String(it) => text(hasher, *b"strg", it.as_bytes()),
        Value::Array(all) => {
            length(hasher, *b"list", all.len());
            for it in all {
                value(hasher, it);
            }
        }
        Value::Object(fields) => object(hasher, fields),
    }
}

/// The order of keys is no content.
fn object(hasher: &mut blake3::Hasher, fields: &Map<String, Value>) {
    length(hasher, *b"objt", fields.len());
    let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
    for (key, it) in sorted {
        text(hasher, *b"key ", key.as_bytes());
        value(hasher, it);
    }
}
