//! The fields of a request, taken one by one: what is left at the end is unknown, and refused.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::problem::Problem;

/// An object of a request. A field that is `null` counts as absent.
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// What stands before a field's name in problems.
    prefix: String,
}

impl Fields {
    /// The object that a body holds.
    pub(crate) fn of_body(body: &[u8]) -> Result<Self, Problem> {
        let value = serde_json::from_slice(body).map_err(|error| Problem::json(&error))?;
        Self::new(value, "")
    }

    /// The fields of a value at a place in the request.
    pub(crate) fn new(value: Value, place: &str) -> Result<Self, Problem> {
        let Value::Object(map) = value else {
            return Err(Problem::value(place, "must be an object"));
        };
        let prefix = if place.is_empty() { String::new() } else { format!("{place}.") };
        Ok(Self { map, prefix })
    }

    /// A field's name in problems.
    pub(crate) fn place(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Complains of fields that nobody took.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let left = self.map.iter().find(|(_, value)| !value.is_null());
        left.map_or(Ok(()), |(name, _)| Err(Problem::unknown(&self.place(name))))
    }

    /// A field, whatever it holds.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<Value, Problem> {
        self.take(name).ok_or_else(|| Problem::missing(&self.place(name)))
    }

    /// True or false.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(Problem::value(&self.place(name), "must be true or false")),
        }
    }

    /// A number in a range.
    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| range.contains(number));
        let rule = || format!("must be a number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| Problem::value(&self.place(name), &rule()))
    }

    /// A whole number in a range.
    pub(crate) fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        let rule = || match *range.end() {
            usize::MAX => format!("must be a whole number of at least {}", range.start()),
            end => format!("must be a whole number from {} to {end}", range.start()),
        };
        let count = count.filter(|count| range.contains(count));
        count.map(Some).ok_or_else(|| Problem::value(&self.place(name), &rule()))
    }

    /// A whole number of 64 bits, with a sign or without.
    pub(crate) fn seed(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
        let rule = "must be a whole number of 64 bits";
        seed.map(Some).ok_or_else(|| Problem::value(&self.place(name), rule))
    }

    /// A text, or a list of at most `most` texts; none of them empty.
    pub(crate) fn texts(&mut self, name: &str, most: usize) -> Result<Vec<String>, Problem> {
        let rule = format!("must be a string or a list of at most {most} strings, none empty");
        let problem = Problem::value(&self.place(name), &rule);
        let list = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() <= most => list,
            Some(text @ Value::String(_)) => vec![text],
            Some(_) => return Err(problem),
        };
        let text = |value: Value| match value {
            Value::String(text) if !text.is_empty() => Ok(text),
            _ => Err(problem.clone()),
        };
        list.into_iter().map(text).collect()
    }

    /// Takes a field that may only say what happens anyway.
    pub(crate) fn only(
        &mut self,
        name: &str,
        is_void: impl FnOnce(&Value) -> bool,
        instead: &str,
    ) -> Result<(), Problem> {
        match self.take(name) {
            Some(value) if !is_void(&value) => {
                Err(Problem::unsupported(&self.place(name), instead))
            }
            _ => Ok(()),
        }
    }

    /// Takes fields that are for the sender's own books and change no answer.
    pub(crate) fn pass_over(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::new(value, "").unwrap()
    }

    #[test]
    fn what_nobody_took_is_unknown_unless_it_is_null() {
        let mut it = fields(json!({"a": 1, "b": null, "user": "me", "c": {"d": 2}}));
        assert_eq!(it.count("a", 0..=1).unwrap(), Some(1));
        it.pass_over(&["user"]);
        let mut inner = Fields::new(it.take("c").unwrap(), "c").unwrap();
        assert_eq!(inner.place("d"), "c.d");
        it.finish().unwrap();
        assert_eq!(inner.take("e"), None);
        assert_eq!(inner.finish().unwrap_err(), Problem::unknown("c.d"));
    }

    #[test]
    fn values_are_what_they_may_be_or_a_problem() {
        for (value, good) in
            [(json!(0), true), (json!(2.0), true), (json!(2.1), false), (json!("1"), false)]
        {
            let number = fields(json!({ "x": value })).number("x", 0.0..=2.0);
            assert_eq!(number.is_ok(), good, "{value}");
        }
        for (value, good) in
            [(json!(1), true), (json!(0), false), (json!(1.5), false), (json!(-1), false)]
        {
            assert_eq!(fields(json!({ "x": value })).count("x", 1..=9).is_ok(), good, "{value}");
        }
        let seed = |value: Value| fields(json!({ "x": value })).seed("x");
        assert_eq!(seed(json!(-1)).unwrap(), Some(u64::MAX));
        assert!(seed(json!(1.5)).is_err());
        let texts = |value: Value| fields(json!({ "x": value })).texts("x", 2);
        assert_eq!(texts(json!("a")).unwrap(), ["a"]);
        assert_eq!(texts(json!(["a", "b"])).unwrap(), ["a", "b"]);
        for bad in [json!(""), json!(["a", 1]), json!(["a", "b", "c"]), json!(7)] {
            assert!(texts(bad).is_err());
        }
        assert!(Fields::of_body(b"{").is_err());
        assert!(Fields::of_body(b"[]").is_err());
    }
}
