//! Rules about the repository itself, each with its reason in `STYLE.md`.

mod crates;
mod families;
mod sources;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

use objectives::Objective;

use crate::files;

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file, from the root of the repository.
    pub path: PathBuf,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong, and what to do about it.
    pub what: String,
}

impl Complaint {
    fn new(path: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what } = self;
        if *line == 0 {
            write!(f, "{}: {what}", path.display())
        } else {
            write!(f, "{}:{line}: {what}", path.display())
        }
    }
}

/// A text file of the repository.
#[derive(Clone, Debug)]
struct Text {
    /// From the root of the repository.
    path: PathBuf,
    text: String,
}

/// Checks every rule, and returns what breaks one.
///
/// # Errors
///
/// If the repository cannot be read.
pub fn check(root: &Path) -> anyhow::Result<Vec<Complaint>> {
    let mut complaints = crates::check(root)?;
    let texts = texts(root)?;
    for text in &texts {
        complaints.extend(words::check(text));
        if text.path.extension().is_some_and(|has| has == "rs") {
            complaints.extend(sources::check(text));
            complaints.extend(families::check(text));
        }
    }
    complaints.extend(sources::unreachable(&texts));
    complaints.extend(objective_pages(root));
    complaints.extend(changelog(root));
    Ok(complaints)
}

/// All sources, scripts, pages and recipes.
fn texts(root: &Path) -> anyhow::Result<Vec<Text>> {
    let mut paths = files::with_extension(root, "md")?;
    for folder in ["crates", "docs", "fuzz", "goldens", "recipes", "xtask"] {
        paths.extend(files::below(&root.join(folder))?);
    }
    paths.retain(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("md" | "py" | "rs" | "toml" | "yaml"))
    });
    let read = |path: PathBuf| {
        Ok(Text { text: fs_err::read_to_string(&path)?, path: path.strip_prefix(root)?.to_owned() })
    };
    paths.into_iter().map(read).collect()
}

/// Every objective has its page and its golden.
fn objective_pages(root: &Path) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for name in Objective::NAMES.into_iter().chain(Objective::MODIFIERS) {
        for path in
            [format!("docs/objectives/{name}.md"), format!("goldens/objectives/{name}.json")]
        {
            if !root.join(&path).is_file() {
                let what = format!("is missing; objective `{name}` is done when it is there");
                complaints.push(Complaint::new(Path::new(&path), 0, what));
            }
        }
    }
    complaints
}

/// Changes are told to users.
fn changelog(root: &Path) -> Option<Complaint> {
    let path = Path::new("CHANGELOG.md");
    let text = fs_err::read_to_string(root.join(path)).unwrap_or_default();
    let told = text.lines().any(|line| line.starts_with("## "));
    (!told).then(|| Complaint::new(path, 0, "is missing or has no section `## ...`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_say_where() {
        let complaint = Complaint::new(Path::new("a.rs"), 3, "is wrong");
        assert_eq!(complaint.to_string(), "a.rs:3: is wrong");
        assert_eq!(Complaint { line: 0, ..complaint }.to_string(), "a.rs: is wrong");
    }

    #[test]
    fn an_empty_repository_lacks_its_pages_and_its_changelog() {
        let nowhere = Path::new("no/such/folder");
        let names = Objective::NAMES.len() + Objective::MODIFIERS.len();
        assert_eq!(objective_pages(nowhere).len(), 2 * names);
        assert!(changelog(nowhere).is_some());
    }
}
