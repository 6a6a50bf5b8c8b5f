//! Python's methods on strings, lists and mappings, where templates meet them.
//!
//! Most come from the template engine's own collection. Here are those that it lacks and those
//! where Python differs: what counts as white space, and where lines end.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::json::python_text;

/// White space as Python's `str.isspace` has it: Unicode's, and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The callback for methods that a value does not have itself.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let found = match value.kind() {
        ValueKind::String => text_method(value.as_str().unwrap_or_default(), name, args)?,
        ValueKind::Seq => list_method(value, name, args)?,
        ValueKind::Map if name == "copy" => Some(value.clone()),
        _ => None,
    };
    match found {
        Some(value) => Ok(value),
        None => pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn text_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, name, characters))
        }
        "split" | "rsplit" => split(text, name, args)?,
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            Value::from(split_lines(text, keep_ends.unwrap_or(false)))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, name, separator)?
        }
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let at = text.find(part).ok_or_else(|| invalid("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(is_space))
        }
        "casefold" => {
            let () = from_args(args)?;
            Value::from(text.to_lowercase().replace('ß', "ss"))
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = match text.strip_prefix(['+', '-']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text),
            };
            let missing = width.min(PADDING_MAX).saturating_sub(text.chars().count());
            Value::from(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        "ljust" | "rjust" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let missing = width.min(PADDING_MAX).saturating_sub(text.chars().count());
            let padding: String = std::iter::repeat_n(fill.unwrap_or(' '), missing).collect();
            let padded = if name == "ljust" { format!("{text}{padding}") } else { padding + text };
            Value::from(padded)
        }
        _ => return Ok(None),
    }))
}

/// The widest padding a template may ask for, so that a width cannot eat the memory.
const PADDING_MAX: usize = 1 << 16;

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn strip<'a>(text: &'a str, name: &str, characters: Option<&str>) -> &'a str {
    let drop = |c: char| characters.map_or_else(|| is_space(c), |set| set.contains(c));
    match name {
        "lstrip" => text.trim_start_matches(drop),
        "rstrip" => text.trim_end_matches(drop),
        _ => text.trim_matches(drop),
    }
}

/// `str.title`: a capital after everything that is not a letter, as in `It'S`.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            titled.extend(c.to_lowercase());
        } else {
            titled.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    titled
}

/// `str.split` and `str.rsplit`; with no separator, runs of white space separate.
fn split(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (rest, keywords): (Rest<Value>, Kwargs) = from_args(args)?;
    let mut separator = rest.first().cloned().unwrap_or_default();
    let mut count = rest.get(1).cloned().unwrap_or_default();
    if let Some(value) = keywords.get::<Option<Value>>("sep")? {
        separator = value;
    }
    if let Some(value) = keywords.get::<Option<Value>>("maxsplit")? {
        count = value;
    }
    keywords.assert_all_used()?;
    let count = match count.kind() {
        ValueKind::Undefined | ValueKind::None => usize::MAX,
        _ => usize::try_from(i64::try_from(count)?).unwrap_or(usize::MAX),
    };
    let parts = match separator.as_str() {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) if name == "split" => {
            text.splitn(count.saturating_add(1), separator).map(Value::from).collect()
        }
        Some(separator) => {
            let mut parts: Vec<Value> =
                text.rsplitn(count.saturating_add(1), separator).map(Value::from).collect();
            parts.reverse();
            parts
        }
        None if name == "split" => split_at_space(text, count),
        None => rsplit_at_space(text, count),
    };
    Ok(Value::from(parts))
}

fn split_at_space(text: &str, count: usize) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if parts.len() == count {
            parts.push(Value::from(rest));
            break;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        parts.push(Value::from(&rest[..end]));
        rest = rest[end..].trim_start_matches(is_space);
    }
    parts
}

fn rsplit_at_space(text: &str, count: usize) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        if parts.len() == count {
            parts.push(Value::from(rest));
            break;
        }
        let word = rest.rsplit(is_space).next().unwrap_or(rest);
        parts.push(Value::from(word));
        rest = rest[..rest.len() - word.len()].trim_end_matches(is_space);
    }
    parts.reverse();
    parts
}

/// `str.splitlines`: every character that ends a line in Python, `\r\n` once.
fn split_lines(text: &str, keep_ends: bool) -> Vec<Value> {
    let ends_line = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some((at, end)) = rest.char_indices().find(|&(_, c)| ends_line(c)) else {
            lines.push(Value::from(rest));
            break;
        };
        let end = if rest[at..].starts_with("\r\n") { at + 2 } else { at + end.len_utf8() };
        lines.push(Value::from(&rest[..if keep_ends { end } else { at }]));
        rest = &rest[end..];
    }
    lines
}

fn partition(text: &str, name: &str, separator: &str) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let first = name == "partition";
    let found = if first { text.split_once(separator) } else { text.rsplit_once(separator) };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if first => [text, "", ""],
        None => ["", "", text],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

fn list_method(list: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(match name {
        "index" => {
            let (wanted,): (Value,) = from_args(args)?;
            for (at, item) in list.try_iter()?.checked().enumerate() {
                if item? == wanted {
                    return Ok(Some(Value::from(at)));
                }
            }
            return Err(invalid("value is not in list"));
        }
        "copy" => Some(list.clone()),
        _ => None,
    })
}

/// The filter `trim`, with Python's white space.
pub(super) fn trim(value: &Value, characters: Option<&str>) -> Result<Value, Error> {
    let text = python_text(value)?;
    Ok(Value::from(strip(&text, "strip", characters)))
}

/// The filter `string`, with Python's spelling of containers and floats.
pub(super) fn string(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.clone()),
        _ => Ok(Value::from(python_text(value)?)),
    }
}

/// The test `iterable`: what Python can loop over. `None` is not; an absent variable is empty.
pub(super) fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq
            | ValueKind::Map
            | ValueKind::Iterable
            | ValueKind::String
            | ValueKind::Undefined
    )
}

/// The filter `length`; an absent variable has none.
pub(super) fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| invalid("object has no length"))
}
