//! Patterns for file names, with the meaning that the hub's other clients give them.
//!
//! `*` stands for any characters, `/` among them, `?` for one, `[a-c]` and `[!a-c]` for one of a set
//! or one outside it. A pattern that ends in `/` means everything in that folder.

use std::fmt;

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// This character.
    Char(char),
    /// Any one character.
    One,
    /// Any characters, also none.
    Any,
    /// One character of these ranges, or of none of them.
    Set { ranges: Vec<(char, char)>, is_negated: bool },
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => true,
            Self::Any => false,
            Self::Set { ranges, is_negated } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *is_negated
            }
        }
    }
}

impl Glob {
    /// Reads a pattern; any text is one.
    pub fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut parts = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            let (part, next) = match chars[at] {
                '*' => (Part::Any, at + 1),
                '?' => (Part::One, at + 1),
                '[' => set(&chars, at).unwrap_or((Part::Char('['), at + 1)),
                c => (Part::Char(c), at + 1),
            };
            parts.push(part);
            at = next;
        }
        if text.ends_with('/') {
            parts.push(Part::Any);
        }
        Self { text: text.to_owned(), parts }
    }

    /// Whether a file's name, with its folders, is meant.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where the last `*` stands, and how much of the name it has taken.
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.parts.get(part) {
                Some(Part::Any) => {
                    star = Some((part, at));
                    part += 1;
                }
                Some(own) if own.takes(name[at]) => {
                    part += 1;
                    at += 1;
                }
                _ => match star {
                    Some((place, taken)) => {
                        star = Some((place, taken + 1));
                        part = place + 1;
                        at = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        self.parts[part..].iter().all(|part| *part == Part::Any)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The set that begins at `[`, and where it ends; none if it is not closed.
fn set(chars: &[char], open: usize) -> Option<(Part, usize)> {
    let is_negated = chars.get(open + 1) == Some(&'!');
    let first = open + 1 + usize::from(is_negated);
    // A `]` right at the start belongs to the set.
    let close = first + 1 + chars.get(first + 1..)?.iter().position(|c| *c == ']')?;
    let mut ranges = Vec::new();
    let mut at = first;
    while at < close {
        if at + 2 < close && chars[at + 1] == '-' {
            ranges.push((chars[at], chars[at + 2]));
            at += 3;
        } else {
            ranges.push((chars[at], chars[at]));
            at += 1;
        }
    }
    Some((Part::Set { ranges, is_negated }, close + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line agrees with `fnmatch.fnmatchcase` of Python, save for the folder at the end.
    #[test]
    fn patterns_mean_what_they_mean_elsewhere() {
        let cases = [
            ("*", "a/b.json", true),
            ("*.json", "data/train/x.json", true),
            ("*.json", "x.jsonl", false),
            ("data/*.json", "data/a/b.json", true),
            ("data/*.json", "other/b.json", false),
            ("model-?????-of-*.safetensors", "model-00001-of-00002.safetensors", true),
            ("model-?????-of-*.safetensors", "model-1-of-2.safetensors", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[!a-c]x", "dx", true),
            ("[]]x", "]x", true),
            ("[ab", "[ab", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("", "", true),
            ("", "x", false),
            ("config.json", "config.json", true),
            ("config.json", "Config.json", false),
            ("onnx/", "onnx/model.onnx", true),
            ("onnx/", "onnx", false),
            ("äö?", "äöü", true),
        ];
        for (pattern, name, want) in cases {
            assert_eq!(Glob::new(pattern).matches(name), want, "{pattern} {name}");
        }
    }
}
