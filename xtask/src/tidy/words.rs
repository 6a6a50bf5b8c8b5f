//! Words that do not belong into the repository, each with what to write instead.

use super::{Complaint, Text};

/// A word, the extensions it is looked for in, and what to write instead.
struct Banned {
    word: &'static str,
    extensions: &'static [&'static str],
    instead: &'static str,
}

const CODE: &[&str] = &["rs", "py"];
const RUST: &[&str] = &["rs"];
const ALL: &[&str] = &["rs", "py", "md", "toml", "yaml"];

// Written in two parts, so that this file does not hold them itself.
const BANNED: [Banned; 11] = [
    Banned { word: concat!("dbg", "!"), extensions: RUST, instead: "return or log the value" },
    Banned { word: concat!("todo", "!"), extensions: RUST, instead: "an error, or the code" },
    Banned { word: concat!("unimplemented", "!"), extensions: RUST, instead: "an error" },
    Banned { word: concat!("FIX", "ME"), extensions: ALL, instead: "`TODO(reason)`, or the fix" },
    Banned { word: concat!("XX", "X"), extensions: CODE, instead: "`TODO(reason)`, or the fix" },
    Banned { word: concat!("HA", "CK"), extensions: ALL, instead: "the reason for the code" },
    Banned { word: concat!("#[all", "ow("), extensions: RUST, instead: "`#[expect(.., reason)]`" },
    Banned {
        word: concat!("#![all", "ow("),
        extensions: RUST,
        instead: "`#![expect(.., reason)]`",
    },
    Banned { word: concat!("log_", "prob"), extensions: RUST, instead: "`logp`" },
    Banned { word: concat!("log", "prob"), extensions: RUST, instead: "`logp`" },
    Banned { word: concat!("/wo", "rk/"), extensions: ALL, instead: "a path inside the project" },
];

/// Checks each line for words.
pub(super) fn check(source: &Text) -> Vec<Complaint> {
    let Text { path, text } = source;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for Banned { word, extensions, instead } in &BANNED {
            if extensions.contains(&extension) && has_word(line, word) {
                let what = format!("says `{word}`; write {instead}");
                complaints.push(Complaint::new(path, number, what));
            }
        }
        if has_bare_todo(line) {
            let what = "says what to do without a reason; write `TODO(reason): ...`";
            complaints.push(Complaint::new(path, number, what));
        }
    }
    complaints
}

/// Whether a line holds a word that is not part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let inner = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + word.len()..]);
        let glued_before = inner(word.chars().next()) && part(before.chars().next_back());
        let glued_after = inner(word.chars().next_back()) && part(after.chars().next());
        !glued_before && !glued_after
    })
}

/// Whether a line announces work without saying, in parentheses, why it is not done.
fn has_bare_todo(line: &str) -> bool {
    const WORD: &str = concat!("TO", "DO");
    has_word(line, WORD)
        && line.match_indices(WORD).any(|(start, _)| {
            let after = &line[start + WORD.len()..];
            let reason = after.strip_prefix('(').and_then(|after| after.split_once(')'));
            // A word between backticks is spoken of, not used.
            !after.starts_with('`') && reason.is_none_or(|(reason, _)| reason.trim().is_empty())
        })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        check(&Text { path: PathBuf::from(path), text: text.to_owned() }).len()
    }

    #[test]
    fn every_banned_word_is_found_where_it_is_banned() {
        for Banned { word, extensions, .. } in &BANNED {
            for extension in *extensions {
                let path = format!("a.{extension}");
                assert_eq!(
                    complaints(&path, &format!("fine\n x {word} y\n")),
                    1,
                    "{word} in {path}"
                );
            }
        }
    }

    #[test]
    fn parts_of_longer_words_are_fine() {
        let longer = ["ref_{}s", "{}ability", "my_{}", "{}_sum"];
        for pattern in longer {
            let line = pattern.replace("{}", concat!("log_", "prob"));
            assert_eq!(complaints("a.rs", &line), 0, "{line}");
        }
        assert_eq!(complaints("a.md", concat!("TRL's `log_", "prob`")), 0);
    }

    #[test]
    fn work_to_do_needs_a_reason() {
        let word = concat!("TO", "DO");
        for bare in ["// {}: this", "// {} this", "// {}(): this", "// {}( )"] {
            assert_eq!(complaints("a.rs", &bare.replace("{}", word)), 1, "{bare}");
        }
        for fine in ["// {}(needs a GPU): this", "`{}` is refused", "{}S"] {
            assert_eq!(complaints("a.rs", &fine.replace("{}", word)), 0, "{fine}");
        }
    }
}
