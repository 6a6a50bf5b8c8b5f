//! `events.jsonl`: what every step and every evaluation measured, and nothing that depends on the
//! clock or the machine's paths, so that two runs of one recipe write the same bytes.
//!
//! A line is an object like those in the `log_history` of transformers: `step` first, then the
//! values in the order in which they were given. An evaluation's keys start with `eval_`. Numbers
//! are written as the shortest text that reads back to the same f64; a value that is not finite
//! has no JSON form and is written as `null`.

use std::path::Path;

use serde_json::Number;

use crate::{
    Error, Result,
    lines::{self, Lines, Object},
};

/// One number of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A count, written as an integer.
    Count(u64),
    /// A measurement, written with a decimal point or an exponent.
    Real(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl Value {
    /// The value as a number.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::Real(real) => real,
        }
    }

    pub(crate) fn to_json(self) -> serde_json::Value {
        match self {
            Self::Count(count) => count.into(),
            Self::Real(real) => Number::from_f64(real).map_or(serde_json::Value::Null, Into::into),
        }
    }

    fn from_json(value: &serde_json::Value) -> Self {
        value.as_u64().map_or_else(|| Self::Real(value.as_f64().unwrap_or(f64::NAN)), Self::Count)
    }
}

/// What a step or an evaluation measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The optimizer step, from 1; for an evaluation the last step before it, from 0.
    pub step: u64,
    /// Names and values, in the order in which they are written.
    pub values: Vec<(String, Value)>,
}

impl Event {
    /// Starts an event.
    pub fn new(step: u64) -> Self {
        Self { step, values: Vec::new() }
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.values.push((name.to_owned(), value.into()));
        self
    }

    /// The value of that name, as a real number.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_f64())
    }

    /// The count of that name; `None` if it is absent or a measurement.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.values.iter().find(|(key, _)| key == name).and_then(|(_, value)| match value {
            Value::Count(count) => Some(*count),
            Value::Real(_) => None,
        })
    }

    /// Whether an evaluation wrote it.
    pub fn is_evaluation(&self) -> bool {
        self.values.iter().any(|(name, _)| name.starts_with("eval_"))
    }

    pub(crate) fn to_json(&self) -> Object {
        let mut object = Object::new();
        object.insert("step".into(), self.step.into());
        object.extend(self.values.iter().map(|(name, value)| (name.clone(), value.to_json())));
        object
    }

    fn from_json(object: &Object) -> Self {
        let values = object.iter().filter(|(name, _)| *name != "step");
        Self {
            step: step_of(object),
            values: values.map(|(name, value)| (name.clone(), Value::from_json(value))).collect(),
        }
    }
}

fn step_of(object: &Object) -> u64 {
    object.get("step").and_then(serde_json::Value::as_u64).unwrap_or(u64::MAX)
}

/// The events of a run, open for appending.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
}

impl Events {
    /// Starts the events of a new run.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { lines: Lines::create(path)? })
    }

    /// Opens the events of a run that resumes after `step`, cut back to what happened until then.
    ///
    /// Gives what is kept. A last line that a kill cut off is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::EventsTooShort`] if they end before `step`, [`Error::BadLine`], [`Error::Io`].
    pub fn resume(path: &Path, step: u64) -> Result<(Self, Vec<Event>)> {
        let last = read(path)?.last().map_or(0, |event| event.step);
        if last < step {
            return Err(Error::EventsTooShort { path: path.to_owned(), last, step });
        }
        let (lines, kept) = Lines::cut(path, |object| step_of(object) <= step)?;
        Ok((Self { lines }, kept.iter().map(Event::from_json).collect()))
    }

    /// Appends an event; it survives a kill of the process, and after [`Events::sync`] a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn append(&mut self, event: &Event) -> Result<()> {
        self.lines.append(&event.to_json())
    }

    /// Makes the events durable; to be called before the checkpoint of the same step is written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        self.lines.sync()
    }
}

/// Reads the events of a run, also while it goes on.
///
/// # Errors
///
/// [`Error::BadLine`], [`Error::Io`].
pub fn read(path: &Path) -> Result<Vec<Event>> {
    Ok(lines::read(path)?.iter().map(Event::from_json).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use fs_err as fs;

    use super::*;

    fn event(step: u64) -> Event {
        Event::new(step).with("loss", 0.1 * step as f64).with("num_tokens", 7 * step)
    }

    #[test]
    fn lines_have_a_fixed_form() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("events.jsonl");
        let mut events = Events::create(&path).unwrap();
        let odd = Event::new(1)
            .with("loss", 0.1 + 0.2)
            .with("rewards/margins", -0.0)
            .with("learning_rate", 1e-6)
            .with("entropy", f64::NAN)
            .with("num_tokens", 12_u64);
        events.append(&odd).unwrap();
        events.append(&Event::new(1).with("eval_loss", 1.0)).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"step\":1,\"loss\":0.30000000000000004,\"rewards/margins\":-0.0,\
             \"learning_rate\":1e-6,\"entropy\":null,\"num_tokens\":12}\n\
             {\"step\":1,\"eval_loss\":1.0}\n"
        );
        let back = read(&path).unwrap();
        assert_eq!(back[0].get("loss"), Some(0.1 + 0.2));
        assert!(back[0].get("entropy").unwrap().is_nan());
        assert!(!back[0].is_evaluation() && back[1].is_evaluation());
    }

    #[test]
    fn every_f64_reads_back_to_itself() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("events.jsonl");
        let mut events = Events::create(&path).unwrap();
        // A multiplicative walk over the bit patterns of f64.
        let values: Vec<f64> = (0..2000_u64)
            .map(|index| f64::from_bits(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .filter(|value| value.is_finite())
            .collect();
        for value in &values {
            events.append(&Event::new(1).with("loss", *value)).unwrap();
        }
        let back: Vec<u64> =
            read(&path).unwrap().iter().map(|event| event.get("loss").unwrap().to_bits()).collect();
        assert_eq!(back, values.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn a_resumed_run_writes_the_same_bytes() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("events.jsonl");
        let mut events = Events::create(&path).unwrap();
        for step in 1..=6 {
            events.append(&event(step)).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        // The kill comes in the middle of a line.
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"step\":7,\"lo")
            .unwrap();
        let (mut events, kept) = Events::resume(&path, 4).unwrap();
        assert_eq!(kept, (1..=4).map(event).collect::<Vec<_>>());
        events.append(&event(5)).unwrap();
        events.append(&event(6)).unwrap();
        events.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn lost_or_damaged_events_are_an_error() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("events.jsonl");
        let mut events = Events::create(&path).unwrap();
        events.append(&event(1)).unwrap();
        let short = Events::resume(&path, 2).unwrap_err();
        assert!(matches!(short, Error::EventsTooShort { last: 1, step: 2, .. }));
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{]\n").unwrap();
        assert!(matches!(Events::resume(&path, 1), Err(Error::BadLine { line: 2, .. })));
    }
}
