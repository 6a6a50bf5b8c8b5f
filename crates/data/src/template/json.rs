//! `tojson` and `repr` as Python writes them.
//!
//! Chat templates print tool definitions and calls as JSON, and models have read them in the exact
//! spelling of Python's `json.dumps`: a space after each separator, no HTML escaping, `1.0` for a
//! whole float, keys in their own order. A different spelling is different tokens.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// How deep a value may nest; deeper ones are refused, as Python's recursion limit would.
const DEPTH_MAX: usize = 200;

/// The options of `json.dumps` that templates use.
struct Layout {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

/// The filter `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the engine hands keyword arguments over by value"
)]
pub(super) fn tojson(value: &Value, arguments: Kwargs) -> Result<Value, Error> {
    let layout = Layout::read(&arguments)?;
    arguments.assert_all_used()?;
    let mut out = String::new();
    layout.write(&mut out, value, 0)?;
    Ok(Value::from(out))
}

impl Layout {
    fn read(arguments: &Kwargs) -> Result<Self, Error> {
        let indent = match arguments.get::<Option<Value>>("indent")? {
            None => None,
            Some(value) if value.is_none() => None,
            Some(value) => Some(match value.as_str() {
                Some(text) => text.to_owned(),
                None => " ".repeat(usize::try_from(value)?.min(64)),
            }),
        };
        let separators = arguments.get::<Option<Vec<String>>>("separators")?;
        let (item_separator, key_separator) = match separators.as_deref() {
            Some([item, key]) => (item.clone(), key.clone()),
            Some(_) => {
                return Err(Error::new(ErrorKind::InvalidOperation, "separators must be a pair"));
            }
            None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
            None => (", ".to_owned(), ": ".to_owned()),
        };
        Ok(Self {
            ensure_ascii: arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
            sort_keys: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
            indent,
            item_separator,
            key_separator,
        })
    }

    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if DEPTH_MAX < depth {
            return Err(Error::new(ErrorKind::InvalidOperation, "value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value, JSON_NOT_FINITE)),
            ValueKind::String => self.write_text(out, value.as_str().unwrap_or_default()),
            ValueKind::Map => self.write_map(out, value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                out.push('[');
                self.write_items(out, depth, &items, |out, item| self.write(out, item, depth + 1))?;
                out.push(']');
            }
            kind => {
                let message = format!("Object of type {kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn write_map(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let mut entries = Vec::new();
        for key in value.try_iter()?.checked() {
            let key = key?;
            entries.push((key_text(&key), value.get_item(&key)?));
        }
        if self.sort_keys {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        out.push('{');
        self.write_items(out, depth, &entries, |out, (key, item)| {
            self.write_text(out, key);
            out.push_str(&self.key_separator);
            self.write(out, item, depth + 1)
        })?;
        out.push('}');
        Ok(())
    }

    fn write_items<T>(
        &self,
        out: &mut String,
        depth: usize,
        items: &[T],
        mut write_item: impl FnMut(&mut String, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (index, item) in items.iter().enumerate() {
            if 0 < index {
                out.push_str(&self.item_separator);
            }
            self.start_line(out, depth + 1);
            write_item(out, item)?;
        }
        if !items.is_empty() {
            self.start_line(out, depth);
        }
        Ok(())
    }

    fn start_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
    }

    fn write_text(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !c.is_ascii()) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A key of a mapping, as `json.dumps` spells keys that are not strings.
fn key_text(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number => number(key, JSON_NOT_FINITE),
        _ => key.to_string(),
    }
}

/// The names of infinity and not-a-number in JSON as Python writes it.
const JSON_NOT_FINITE: [&str; 2] = ["Infinity", "NaN"];

/// A number as Python prints it: integers as they are, floats by their shortest digits.
fn number(value: &Value, [infinity, not_a_number]: [&str; 2]) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(x) if x.is_nan() => not_a_number.to_owned(),
        Ok(x) if x.is_infinite() => {
            format!("{}{infinity}", if x.is_sign_negative() { "-" } else { "" })
        }
        Ok(x) => float_text(x),
        Err(_) => value.to_string(),
    }
}

/// A finite float as Python's `repr`: fixed notation for exponents from -4 to 15, else scientific.
pub(super) fn float_text(x: f64) -> String {
    let scientific = format!("{x:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{x:?}"),
    }
}

/// A value as Python's `str` prints it inside templates.
pub(super) fn python_text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            let mut out = String::new();
            write_repr(&mut out, value, 0)?;
            Ok(out)
        }
        ValueKind::Number => Ok(number(value, ["inf", "nan"])),
        _ => Ok(value.to_string()),
    }
}

/// Writes Python's `repr`.
fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if DEPTH_MAX < depth {
        return Err(Error::new(ErrorKind::InvalidOperation, "value is nested too deeply"));
    }
    match value.kind() {
        ValueKind::String => write_repr_text(out, value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                out.push_str(if index == 0 { "" } else { ", " });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let [open, close] = if value.is_tuple() { ['(', ')'] } else { ['[', ']'] };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter()?.checked() {
                out.push_str(if count == 0 { "" } else { ", " });
                write_repr(out, &item?, depth + 1)?;
                count += 1;
            }
            out.push_str(if value.is_tuple() && count == 1 { "," } else { "" });
            out.push(close);
        }
        _ => out.push_str(&python_text(value)?),
    }
    Ok(())
}

/// Writes a string in Python's quotes: single ones, unless only those occur in it.
fn write_repr_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' || ('\u{7f}'..='\u{a0}').contains(&c) || c == '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_python_spells_them() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (123_456_789_012_345.6, "123456789012345.6"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (-2.5, "-2.5"),
            (-0.0, "-0.0"),
        ];
        for (x, expected) in cases {
            assert_eq!(float_text(x), expected);
        }
    }
}
