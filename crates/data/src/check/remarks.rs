//! What is worth a line in the report though the row is used: ties, and garbled text.

use serde_json::{Map, Value};

use super::{Problem, side_name};
use crate::layout::{Fault, Shape};
use crate::record::{Content, Record};

/// What is suspicious about a record that is used.
pub fn remarks(record: &Record, shape: Shape) -> Vec<Fault> {
    let mut found = Vec::new();
    if shape == Shape::Pairs && is_tied(&record.extras) {
        found.push(Fault::new(Problem::Tied, ""));
    }
    let sides = record.completions.iter().enumerate();
    let sides = sides.map(|(index, content)| (side_name(shape, index), content));
    let mut parts = std::iter::once(("the prompt".to_owned(), &record.prompt)).chain(sides);
    if let Some((name, _)) = parts.find(|(_, content)| has_garbled(content)) {
        found.push(Fault::new(Problem::Garbled, name));
    }
    found
}

/// Whether the row itself gives both sides the same score.
fn is_tied(extras: &Map<String, Value>) -> bool {
    let number = |name: &str| extras.get(name).and_then(Value::as_f64);
    match (number("score_chosen"), number("score_rejected")) {
        (Some(chosen), Some(rejected)) => chosen.total_cmp(&rejected).is_eq(),
        _ => false,
    }
}

fn has_garbled(content: &Content) -> bool {
    match content {
        Content::Text(text) => is_garbled(text),
        Content::Messages(all) => {
            all.iter().any(|it| it.get("content").and_then(Value::as_str).is_some_and(is_garbled))
        }
        Content::Tokens(_) => false,
    }
}

/// Whether a text was read with the wrong character set before it came here: it holds the mark of
/// a lost character, or UTF-8 that somebody took for Windows-1252.
///
/// Only what nobody writes on purpose counts: the pairs that accented letters become, the triples
/// of typographic marks, and the first half of an emoji.
fn is_garbled(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let mut last = [' '; 2];
    for next in text.chars() {
        let is_broken = match last {
            [_, '\u{f0}'] => matches!(next, '\u{178}' | '\u{9f}'),
            [_, '\u{c2}'] => matches!(next, '\u{80}'..='\u{bf}'),
            // A capital A with tilde may end a word, and a dot or quote may follow it.
            [_, '\u{c3}'] => matches!(
                next,
                '\u{80}'
                    ..='\u{bf}'
                        | '\u{160}'
                        | '\u{161}'
                        | '\u{178}'
                        | '\u{192}'
                        | '\u{2c6}'
                        | '\u{2030}'
                        | '\u{2039}'
                        | '\u{20ac}'
            ),
            ['\u{e2}', '\u{20ac}' | '\u{80}'] => matches!(
                next,
                '\u{80}'..='\u{bf}' | '\u{2122}' | '\u{153}' | '\u{201c}' | '\u{201d}' | '\u{2dc}'
            ),
            _ => false,
        };
        let is_found = is_broken || next == char::REPLACEMENT_CHARACTER;
        if is_found {
            return true;
        }
        last = [last[1], next];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbled_text_is_told_from_text_with_accents() {
        // What Windows-1252 makes of the UTF-8 of `é`, `’`, `«`, `É`, an emoji; a lost character.
        for text in ["caf\u{c3}\u{a9}", "that\u{e2}\u{20ac}\u{2122}s", "\u{c2}\u{ab}"] {
            assert!(is_garbled(text), "{text}");
        }
        for text in ["\u{c3}\u{2030}t\u{c3}\u{a9}", "ha \u{f0}\u{178}\u{2dc}", "a \u{fffd}"] {
            assert!(is_garbled(text), "{text}");
        }
        let sound =
            ["plain", "café à la crème", "«Où ?»", "NÃO", "AMANHÃ…", "“MAÇÃ”", "5 €", "日本"];
        for text in sound.iter().chain(&["â€ urs", "Åse — Öl", "ça coûte 3 °C", "\u{f0}etta 😀"])
        {
            assert!(!is_garbled(text), "{text}");
        }
    }
}
