//! JSON in every form that rows come in.
//!
//! A list of objects; one object a line; objects one after the other; an object with a list of
//! rows or one list a split. Which of them a file holds is found from its content, since a
//! `.json` file is often JSONL and a `.jsonl` file is sometimes a list.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::files::{same_split, split_word};
use super::scan::{Scanner, Stop};
use super::{Item, ROW_BYTES_MAX, Row};
use crate::error::Error;
use crate::record::{Origin, Unit};

/// Keys of an object that hold a list of rows.
const ROW_LISTS: [&str; 7] =
    ["data", "rows", "examples", "instances", "records", "items", "samples"];

/// Keys that make an object a row and not a holder of rows.
const ROW_KEYS: [&str; 14] = [
    "prompt",
    "chosen",
    "rejected",
    "messages",
    "conversations",
    "conversation",
    "context",
    "completion",
    "completions",
    "responses",
    "instruction",
    "chosen_messages",
    "input",
    "text",
];

/// A JSON file that is being read.
#[derive(Debug)]
pub(super) struct Json {
    file: Arc<Path>,
    scanner: Scanner<BufReader<fs_err::File>>,
    lines: BufReader<fs_err::File>,
    form: Form,
    line: u64,
    /// Rows that stood on one line with the row handed out last.
    waiting: Vec<Item>,
    done: bool,
}

/// How the rows lie in the file.
#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// One value a line.
    Lines,
    /// Values with white space between them.
    Values,
    /// A list.
    List,
    /// A list under a key of the one object.
    Under(String),
}

/// What the first value of a file looks like from outside.
struct First {
    /// Keys whose value is a list of objects, or an empty list.
    lists: Vec<String>,
    /// All keys.
    keys: BTreeSet<String>,
    /// Whether `prompt` holds an object, as where columns were written instead of rows.
    columns: bool,
}

impl Json {
    pub(super) fn open(path: &Path, split: &str) -> Result<Self, Error> {
        let form = form_of(path, split)?;
        let mut scanner = scanner(path)?;
        match &form {
            Form::Lines | Form::Values => {}
            Form::List => {
                scanner.expect(b'[').map_err(|stop| broken(path, &scanner, stop))?;
            }
            Form::Under(key) => {
                enter_list(&mut scanner, key).map_err(|stop| broken(path, &scanner, stop))?;
            }
        }
        let mut lines = BufReader::new(fs_err::File::open(path)?);
        if lines.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            lines.consume(3);
        }
        let file = Arc::from(path);
        Ok(Self { file, scanner, lines, form, line: 0, waiting: Vec::new(), done: false })
    }

    /// Whether each row has a line of its own.
    pub(super) fn is_lines(&self) -> bool {
        self.form == Form::Lines
    }

    pub(super) fn next_item(&mut self) -> Result<Option<Item>, Error> {
        if let Some(item) = self.waiting.pop() {
            return Ok(Some(item));
        }
        if self.done {
            return Ok(None);
        }
        let found = match self.form {
            Form::Lines => self.next_line(),
            Form::Values => self.next_value(),
            Form::List | Form::Under(_) => self.next_element(),
        };
        self.done = !matches!(found, Ok(Some(_)));
        found
    }

    fn next_line(&mut self) -> Result<Option<Item>, Error> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let limit = ROW_BYTES_MAX as u64 + 1;
            let read = (&mut self.lines).take(limit).read_until(b'\n', &mut bytes)?;
            self.line += 1;
            if read == 0 {
                return Ok(None);
            }
            if ROW_BYTES_MAX < read {
                return Err(self.malformed(self.line, "a line of more than 256 MiB"));
            }
            if !bytes.trim_ascii().is_empty() {
                break;
            }
        }
        self.waiting = items(&self.origin(self.line), bytes.trim_ascii_end());
        Ok(self.waiting.pop())
    }

    fn next_value(&mut self) -> Result<Option<Item>, Error> {
        if self.scanner.peek()?.is_none() {
            return Ok(None);
        }
        self.element()
    }

    fn next_element(&mut self) -> Result<Option<Item>, Error> {
        let mut next = self.scanner.peek()?;
        if next == Some(b',') {
            self.scanner.bump();
            next = self.scanner.peek()?;
        }
        match next {
            Some(b']') => {
                self.scanner.bump();
                self.after_list()?;
                Ok(None)
            }
            Some(_) => {
                let item = self.element()?;
                match self.scanner.peek()? {
                    Some(b',' | b']') => Ok(item),
                    Some(byte) => Err(broken(&self.file, &self.scanner, Stop::Byte(byte))),
                    None => Err(broken(&self.file, &self.scanner, Stop::End)),
                }
            }
            None => Err(broken(&self.file, &self.scanner, Stop::End)),
        }
    }

    /// Nothing may follow a list that is the whole file.
    fn after_list(&mut self) -> Result<(), Error> {
        if self.form == Form::List && self.scanner.peek()?.is_some() {
            return Err(self.malformed(self.scanner.line, "text after the end of the list"));
        }
        Ok(())
    }

    fn element(&mut self) -> Result<Option<Item>, Error> {
        let mut bytes = Vec::new();
        let line = self.scanner.line;
        self.scanner.value(Some(&mut bytes)).map_err(|stop| match stop {
            Stop::End => self.malformed(line, "the value that starts here has no end"),
            stop => broken(&self.file, &self.scanner, stop),
        })?;
        Ok(items(&self.origin(line), &bytes).pop())
    }

    fn origin(&self, number: u64) -> Origin {
        Origin { file: Arc::clone(&self.file), unit: Unit::Line, number }
    }

    fn malformed(&self, line: u64, detail: &str) -> Error {
        Error::Malformed { origin: self.origin(line), format: "JSON", detail: detail.to_owned() }
    }
}

fn scanner(path: &Path) -> Result<Scanner<BufReader<fs_err::File>>, Error> {
    let mut scanner = Scanner::new(BufReader::with_capacity(1 << 16, fs_err::File::open(path)?));
    scanner.skip_mark()?;
    Ok(scanner)
}

fn broken<R>(path: &Path, scanner: &Scanner<R>, stop: Stop) -> Error {
    let detail = match stop {
        Stop::Io(error) => return error.into(),
        Stop::End => "the file ends in the middle; it may be cut off".to_owned(),
        Stop::TooLong => "a row of more than 256 MiB".to_owned(),
        Stop::Byte(byte) => format!("unexpected `{}`", char::from(byte).escape_default()),
    };
    Error::Malformed { origin: Origin::line(path, scanner.line), format: "JSON", detail }
}

/// Finds the form of a file by stepping over its first value.
fn form_of(path: &Path, split: &str) -> Result<Form, Error> {
    let mut scanner = scanner(path)?;
    match scanner.peek()? {
        Some(b'[') => return Ok(Form::List),
        Some(b'{') => {}
        Some(_) | None => return Ok(Form::Lines),
    }
    let start = scanner.line;
    let first = match first_object(&mut scanner) {
        Ok(first) => first,
        Err(Stop::Io(error)) => return Err(error.into()),
        // A broken first line must not hide the lines after it.
        Err(Stop::End | Stop::TooLong | Stop::Byte(_)) => return Ok(Form::Lines),
    };
    let one_line = scanner.line == start;
    if scanner.peek()?.is_some() {
        return Ok(if one_line { Form::Lines } else { Form::Values });
    }
    if first.columns {
        return Err(Error::Malformed {
            origin: Origin::line(path, start),
            format: "JSON",
            detail: "columns instead of rows; from pandas, write `to_json(path, orient=\"records\", lines=True)`".into(),
        });
    }
    match list_of(&first, path, split)? {
        Some(key) => Ok(Form::Under(key)),
        None if one_line => Ok(Form::Lines),
        None => Ok(Form::Values),
    }
}

/// Which list of the one object holds the rows of a split; nothing where the object is a row.
fn list_of(first: &First, path: &Path, split: &str) -> Result<Option<String>, Error> {
    if first.keys.iter().any(|key| ROW_KEYS.contains(&key.as_str())) {
        return Ok(None);
    }
    if let Some(key) = first.lists.iter().find(|key| same_split(key, split)) {
        return Ok(Some(key.clone()));
    }
    let splits: Vec<&str> =
        first.lists.iter().map(String::as_str).filter(|key| split_word(key).is_some()).collect();
    if !splits.is_empty() {
        return Err(no_split(path, split, &splits.join(", ")));
    }
    let rows = first
        .lists
        .iter()
        .find(|key| ROW_LISTS.contains(&key.as_str()))
        .or_else(|| first.lists.first().filter(|_| first.lists.len() == 1));
    match rows {
        Some(_) if !same_split(split, "train") => Err(no_split(path, split, "train")),
        rows => Ok(rows.cloned()),
    }
}

fn no_split(path: &Path, split: &str, available: &str) -> Error {
    Error::NoSplit {
        path: PathBuf::from(path),
        split: split.to_owned(),
        available: available.to_owned(),
    }
}

/// Steps over an object and notes what it holds.
fn first_object<R: BufRead>(scanner: &mut Scanner<R>) -> Result<First, Stop> {
    let mut first = First { lists: Vec::new(), keys: BTreeSet::new(), columns: false };
    scanner.expect(b'{')?;
    loop {
        match scanner.peek()? {
            Some(b'}') => {
                scanner.bump();
                return Ok(first);
            }
            Some(b',') => scanner.bump(),
            Some(b'"') => {
                let key = key(scanner)?;
                match scanner.peek()? {
                    Some(b'[') => {
                        if list(scanner)? {
                            first.lists.push(key.clone());
                        }
                    }
                    next => {
                        first.columns |= key == "prompt" && next == Some(b'{');
                        scanner.value(None)?;
                    }
                }
                first.keys.insert(key);
            }
            Some(byte) => return Err(Stop::Byte(byte)),
            None => return Err(Stop::End),
        }
    }
}

/// Consumes a key and its colon.
fn key<R: BufRead>(scanner: &mut Scanner<R>) -> Result<String, Stop> {
    let mut bytes = Vec::new();
    scanner.value(Some(&mut bytes))?;
    let key = serde_json::from_slice(&bytes).map_err(|_| Stop::Byte(b'"'))?;
    scanner.expect(b':')?;
    Ok(key)
}

/// Steps over a list; true where its first element is an object or it has none.
fn list<R: BufRead>(scanner: &mut Scanner<R>) -> Result<bool, Stop> {
    scanner.expect(b'[')?;
    let mut objects = None;
    loop {
        match scanner.peek()? {
            Some(b']') => {
                scanner.bump();
                return Ok(objects.unwrap_or(true));
            }
            Some(b',') => scanner.bump(),
            Some(byte) => {
                objects.get_or_insert(byte == b'{');
                scanner.value(None)?;
            }
            None => return Err(Stop::End),
        }
    }
}

/// Goes to the first element of the list under a key.
fn enter_list<R: BufRead>(scanner: &mut Scanner<R>, wanted: &str) -> Result<(), Stop> {
    scanner.expect(b'{')?;
    loop {
        match scanner.peek()? {
            Some(b',') => scanner.bump(),
            Some(b'"') => {
                let key = key(scanner)?;
                if key == wanted && scanner.peek()? == Some(b'[') {
                    return scanner.expect(b'[');
                }
                scanner.value(None)?;
            }
            Some(byte) => return Err(Stop::Byte(byte)),
            None => return Err(Stop::End),
        }
    }
}

/// The rows in a line or value, last first; almost always one.
fn items(origin: &Origin, bytes: &[u8]) -> Vec<Item> {
    let mut found = Vec::new();
    // Lone carriage returns and missing line ends leave several objects on one line.
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    for value in &mut values {
        let broken = value.is_err();
        found.push(match value {
            Ok(Value::Object(fields)) => row(origin.clone(), fields),
            Ok(other) => Item::Unreadable {
                origin: origin.clone(),
                detail: format!("{} where an object is needed", kind(&other)),
            },
            Err(error) => {
                Item::Unreadable { origin: origin.clone(), detail: explain(&error, bytes) }
            }
        });
        if broken {
            break;
        }
    }
    found.reverse();
    found
}

/// A row; the hub's preview service wraps each in `{"row_idx": .., "row": {..}}`.
fn row(origin: Origin, mut fields: Map<String, Value>) -> Item {
    let fields = match fields.get_mut("row") {
        Some(Value::Object(inner)) if fields_are_wrapped(inner) => std::mem::take(inner),
        _ => fields,
    };
    Item::Row(Row { origin, fields, cells: false })
}

fn fields_are_wrapped(inner: &Map<String, Value>) -> bool {
    inner.keys().any(|key| ROW_KEYS.contains(&key.as_str()))
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(true) => "the truth value `true`",
        Value::Bool(false) => "the truth value `false`",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The parser's words, with a column, and why for the usual causes.
fn explain(error: &serde_json::Error, bytes: &[u8]) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let line =
        if error.line() <= 1 { String::new() } else { format!("line {} of it, ", error.line()) };
    let why = if text.contains("surrogate") || text.contains("hex escape") {
        " (half an emoji: text was cut in the middle of a `\\ud83d\\ude00` pair)"
    } else if error.is_eof() {
        " (the line is cut off)"
    } else if text.contains("control character") {
        " (a bare return, line break or tab inside text; write `\\r`, `\\n` or `\\t`)"
    } else if text.contains("unicode code point") {
        " (not UTF-8)"
    } else if contains(bytes, b"NaN") || contains(bytes, b"Infinity") {
        " (`NaN` and `Infinity` are not JSON; write null)"
    } else {
        ""
    };
    format!("{line}column {}: {text}{why}", error.column())
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}
