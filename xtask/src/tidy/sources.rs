//! What every Rust file keeps to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Complaint, Text};

/// Lines of code of a file, its tests left out: a file is one idea.
const CODE_LINES_MAX: usize = 400;

/// Where unsafe code may be: everything else is safe by construction.
const UNSAFE_PATHS: [&str; 3] = [
    "crates/kernels",
    // Mapping a file is unsafe in every crate that offers it.
    "crates/formats/src/mapped.rs",
    // Counts what an allocator gives out; no part of the program.
    "fuzz",
];

/// What follows the keyword where it opens something.
const AFTER_UNSAFE: [&str; 5] = ["{", "fn", "impl", "extern", "trait"];

/// Checks a file by itself.
pub(super) fn check(source: &Text) -> Vec<Complaint> {
    let Text { path, text } = source;
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        let what = "starts with `//!`: what the file is, in one sentence, then why it is here";
        complaints.push(Complaint::new(path, 1, what));
    }
    let lines = code_lines(text);
    if !is_test(path) && lines > CODE_LINES_MAX {
        let what = format!("has {lines} lines of code, at most {CODE_LINES_MAX} are one idea");
        complaints.push(Complaint::new(path, 0, what));
    }
    if !UNSAFE_PATHS.iter().any(|allowed| path.starts_with(allowed)) {
        for (number, line) in (1..).zip(text.lines()) {
            if opens_unsafe(line) {
                let what = "is unsafe; unsafe code lives in `kernels`, and where a file is mapped";
                complaints.push(Complaint::new(path, number, what));
            }
        }
    }
    complaints
}

fn is_test(path: &Path) -> bool {
    let folder = path.iter().any(|part| part == "tests" || part == "benches");
    folder || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Lines of code up to the file's own tests: neither empty nor comments nor entries of a table of
/// texts, which is data.
fn code_lines(text: &str) -> usize {
    let mut count = 0;
    let mut after_test_attribute = false;
    for line in text.lines().map(str::trim) {
        if after_test_attribute && line.starts_with("mod ") && line.ends_with('{') {
            // The attribute is not code either.
            return count - 1;
        }
        after_test_attribute = line == "#[cfg(test)]";
        let data = line.starts_with('"') || matches!(line, "[" | "]," | "(" | "),");
        count += usize::from(!line.is_empty() && !line.starts_with("//") && !data);
    }
    count
}

fn opens_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let words: Vec<&str> = code.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let keyword = pair[0].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next();
        keyword == Some("unsafe") && AFTER_UNSAFE.iter().any(|next| pair[1].starts_with(next))
    })
}

/// Files under `src` that no `mod` reaches are never compiled, and rot.
pub(super) fn unreachable(texts: &[Text]) -> Vec<Complaint> {
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let sources = texts.iter().filter(|text| text.path.extension().is_some_and(|has| has == "rs"));
    for Text { path, text } in sources.clone() {
        let folder = module_folder(path);
        for name in text.lines().filter_map(declared_module) {
            reached.insert(folder.join(format!("{name}.rs")));
            reached.insert(folder.join(name).join("mod.rs"));
        }
    }
    sources
        .map(|source| &source.path)
        .filter(|path| path.iter().any(|part| part == "src") && !is_root(path))
        .filter(|path| !reached.contains(*path))
        .map(|path| Complaint::new(path, 0, "is reached by no `mod`, so it is never compiled"))
        .collect()
}

/// Where a file's modules lie.
fn module_folder(path: &Path) -> PathBuf {
    let own = path.file_stem().is_some_and(|stem| stem == "lib" || stem == "main" || stem == "mod");
    if own { path.parent().unwrap_or(path).to_owned() } else { path.with_extension("") }
}

/// The name in `mod name;`, whatever stands before it.
fn declared_module(line: &str) -> Option<&str> {
    let (before, name) = line.trim().strip_suffix(';')?.rsplit_once("mod ")?;
    (before.is_empty() || before.ends_with(' ')).then_some(name)
}

/// Whether cargo itself compiles a file: `src/lib.rs`, `src/main.rs`, `src/bin/*.rs`.
fn is_root(path: &Path) -> bool {
    let mut parts = path.iter().rev().filter_map(|part| part.to_str());
    let (file, folder) = (parts.next(), parts.next());
    folder == Some("bin") || (folder == Some("src") && matches!(file, Some("lib.rs" | "main.rs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        let source = Text { path: PathBuf::from(path), text: text.to_owned() };
        check(&source).into_iter().map(|complaint| complaint.to_string()).collect()
    }

    #[test]
    fn every_rule_complains_once() {
        assert_eq!(complaints("crates/data/src/a.rs", "//! Fine.\n"), Vec::<String>::new());
        assert!(complaints("crates/data/src/a.rs", "use b;\n")[0].contains("starts with `//!`"));
        for (keyword, next) in [("unsafe", "{ x }"), ("pub unsafe", "fn x() {"), ("=unsafe", "{")] {
            let text = format!("//! Fine.\n{keyword} {next}\n");
            assert!(complaints("crates/data/src/a.rs", &text)[0].contains(":2: is unsafe"));
            assert_eq!(complaints("crates/kernels/src/a.rs", &text).len(), 0);
        }
        let comment = "//! Fine.\n// an unsafe { is mentioned\n";
        assert_eq!(complaints("crates/data/src/a.rs", comment).len(), 0);
    }

    #[test]
    fn long_files_are_counted_without_comments_and_tests() {
        let code = "let x = 1;\n".repeat(CODE_LINES_MAX);
        let rest = "\n// Why.\n[\n\"a text\",\n],\n#[cfg(test)]\nmod tests {\nlet x = 1;\n}\n";
        let fits = format!("//! Fine.\n{code}{rest}");
        assert_eq!(complaints("crates/data/src/a.rs", &fits).len(), 0);
        let long = format!("//! Fine.\nlet x = 1;\n{code}{rest}");
        assert!(complaints("crates/data/src/a.rs", &long)[0].contains("has 401 lines of code"));
        assert_eq!(complaints("crates/data/src/a/tests.rs", &long).len(), 0);
        assert_eq!(complaints("crates/data/tests/a.rs", &long).len(), 0);
    }

    #[test]
    fn files_that_nothing_reaches_are_named() {
        let texts = [
            ("crates/a/src/lib.rs", "//! A.\npub(crate) mod one;\n#[cfg(test)]\nmod two;\n"),
            ("crates/a/src/one.rs", "//! B.\nmod deep;\n"),
            ("crates/a/src/one/deep.rs", "//! C.\n"),
            ("crates/a/src/two/mod.rs", "//! D.\n"),
            ("crates/a/src/deep.rs", "//! E.\n"),
            ("crates/a/src/bin/tool.rs", "//! F.\n"),
            ("crates/a/tests/free.rs", "//! G.\n"),
        ];
        let texts =
            texts.map(|(path, text)| Text { path: PathBuf::from(path), text: text.to_owned() });
        let found = unreachable(&texts);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, Path::new("crates/a/src/deep.rs"));
    }
}
