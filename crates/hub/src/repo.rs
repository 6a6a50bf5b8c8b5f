//! What is asked of a hub: a repository, its kind and a revision.

use crate::{Error, Result};

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Weights, a config and a tokenizer.
    Model,
    /// Rows.
    Dataset,
}

impl Kind {
    /// The kind's plural, as addresses and the cache spell it.
    fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// One repository of a hub at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    kind: Kind,
    id: String,
    revision: String,
}

impl Repo {
    /// The repository `id`, at its branch `main`.
    ///
    /// # Errors
    /// [`Error::BadId`] if `id` is not `name` or `org/name` in letters, digits, `-`, `_` and `.`.
    pub fn new(kind: Kind, id: &str) -> Result<Self> {
        if !is_id(id) {
            return Err(Error::BadId { id: id.into() });
        }
        Ok(Self { kind, id: id.into(), revision: "main".into() })
    }

    /// The same repository at a branch, a tag or a commit.
    ///
    /// # Errors
    /// [`Error::BadRevision`] if the text cannot be a revision.
    pub fn at(self, revision: &str) -> Result<Self> {
        let plain = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && part.chars().all(is_name)
        };
        if !revision.split('/').all(plain) {
            return Err(Error::BadRevision { revision: revision.into() });
        }
        Ok(Self { revision: revision.into(), ..self })
    }

    /// The id, such as `org/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the repository holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The folder's name in the cache, such as `models--org--name`.
    pub fn folder_name(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }

    /// The part of an address after the endpoint under which a file lies.
    pub(crate) fn file_address(&self, file: &str) -> String {
        let prefix = match self.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        let revision = self.revision.replace('/', "%2F");
        format!("{prefix}{}/resolve/{revision}/{}", self.id, escaped(file))
    }

    /// The part of an address after the endpoint that lists the files.
    pub(crate) fn list_address(&self) -> String {
        let revision = self.revision.replace('/', "%2F");
        format!("api/{}/{}/revision/{revision}", self.kind.plural(), self.id)
    }
}

/// Whether a text can be a hub id: `name` or `org/name`.
pub(crate) fn is_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(is_name)
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
            && !part.contains("--")
            && !part.contains("..")
    };
    parts.len() <= 2 && parts.iter().all(plain)
}

/// Whether a file's name stays inside its repository.
///
/// # Errors
/// [`Error::BadFileName`] for absolute names, `..` and the like: a server is not trusted with paths.
pub(crate) fn check_file_name(file: &str) -> Result<()> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if file.contains(['\\', ':', '\0']) || !file.split('/').all(plain) {
        return Err(Error::BadFileName { file: file.into() });
    }
    Ok(())
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// A file's name with everything but unreserved characters and `/` escaped for an address.
fn escaped(file: &str) -> String {
    file.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_with_at_most_one_slash() {
        for id in ["gpt2", "org/name", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b_c.d"] {
            assert!(is_id(id), "{id}");
        }
        for id in
            ["", "/", "a/b/c", "./model", "../model", "a//b", "a b/c", "~/model", "a/b.", "a--b"]
        {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn names_that_leave_the_repository_are_refused() {
        for file in ["../x", "/etc/x", "a/../x", "a//b", "", "C:x", "a\\b", "./x"] {
            assert!(check_file_name(file).is_err(), "{file}");
        }
        check_file_name("onnx/model.onnx").unwrap();
    }

    #[test]
    fn addresses_carry_kind_revision_and_escapes() {
        let repo = Repo::new(Kind::Dataset, "org/name").unwrap().at("refs/pr/1").unwrap();
        assert_eq!(
            repo.file_address("data/a b.jsonl"),
            "datasets/org/name/resolve/refs%2Fpr%2F1/data/a%20b.jsonl"
        );
        assert_eq!(repo.list_address(), "api/datasets/org/name/revision/refs%2Fpr%2F1");
        assert_eq!(repo.folder_name(), "datasets--org--name");
        assert!(Repo::new(Kind::Model, "gpt2").unwrap().at("../x").is_err());
    }
}
