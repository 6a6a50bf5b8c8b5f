//! `downloads.yaml`: models and datasets to fetch, with a token that a variable may hold.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::choice::Selection;
use crate::glob::Glob;
use crate::repo::{Kind, Repo};
use crate::snapshot::Request;
use crate::{Error, Result};

/// What a file asks for, checked.
#[derive(Debug)]
pub struct Downloads {
    path: PathBuf,
    token: Option<Spanned<String>>,
    /// The repositories, models first.
    pub requests: Vec<Request>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    huggingface: Option<Account>,
    models: Option<Vec<Item>>,
    datasets: Option<Vec<Item>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    token: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    repo: Spanned<String>,
    revision: Option<Spanned<String>>,
    files: Option<Spanned<Vec<String>>>,
    ignore: Option<Vec<String>>,
    output_dir: Option<Spanned<PathBuf>>,
}

impl Downloads {
    /// Reads a file's text; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Config`] with the line of what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let (what, hint) = in_words(&error);
            let line = error.location().map(|at| at.line());
            Error::Config { path: path.into(), line, what, hint }
        })?;
        let checker = Checker { path };
        let mut requests: Vec<Request> = Vec::new();
        let mut folders: Vec<(PathBuf, String)> = Vec::new();
        let items = |kind, items: Option<Vec<Item>>| {
            items.unwrap_or_default().into_iter().map(move |item| (kind, item))
        };
        for (kind, item) in
            items(Kind::Model, file.models).chain(items(Kind::Dataset, file.datasets))
        {
            if let Some(folder) = &item.output_dir {
                let used = folders
                    .iter()
                    .find(|(path, repo)| *path == folder.value && *repo != item.repo.value);
                if let Some((path, repo)) = used {
                    let what = format!("`{}` has the files of `{repo}` already", path.display());
                    return Err(checker.at(
                        folder.defined,
                        what,
                        "give each repository a folder of its own",
                    ));
                }
                folders.push((folder.value.clone(), item.repo.value.clone()));
            }
            requests.push(checker.request(kind, item)?);
        }
        if requests.is_empty() {
            let what = "neither `models` nor `datasets` has an entry".into();
            return Err(Error::Config { path: path.into(), line: None, what, hint: KEYS.into() });
        }
        let token = file.huggingface.and_then(|account| account.token);
        Ok(Self { path: path.into(), token, requests })
    }

    /// The token, with `${NAME}` replaced by what `lookup` says of the variable.
    ///
    /// # Errors
    /// [`Error::Config`] if the variable is not set.
    pub fn token(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>> {
        let Some(token) = &self.token else { return Ok(None) };
        let mut left = token.value.as_str();
        let mut text = String::new();
        while let Some((before, name, after)) = variable(left) {
            let value = lookup(name).filter(|value| !value.trim().is_empty()).ok_or_else(|| {
                let what = format!("`huggingface.token` needs the variable `{name}`, which is not set");
                let hint = format!(
                    "set it: `export {name}=hf_...`, or give `--token`, or remove the key: public repositories need none"
                );
                Checker { path: &self.path }.at(token.defined, what, &hint)
            })?;
            text.push_str(before);
            text.push_str(value.trim());
            left = after;
        }
        text.push_str(left);
        Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()))
    }
}

const KEYS: &str = "the keys are `huggingface.token`, `models` and `datasets`, and for each of their entries \
    `repo`, `revision`, `files`, `ignore`, `output_dir`";

/// Names that other programs give to our keys.
const PEERS: [(&str, &str); 9] = [
    ("model", "models"),
    ("dataset", "datasets"),
    ("repo_id", "repo"),
    ("include", "files"),
    ("allow_patterns", "files"),
    ("exclude", "ignore"),
    ("ignore_patterns", "ignore"),
    ("local_dir", "output_dir"),
    ("token", "huggingface.token"),
];

/// The parser's words in ours: what is wrong, and how to fix it.
fn in_words(error: &serde_saphyr::Error) -> (String, String) {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    if let Some((key, _)) = text.strip_prefix("unknown field `").and_then(|t| t.split_once('`')) {
        let peer = PEERS.iter().find(|(name, _)| *name == key);
        let hint =
            peer.map_or_else(|| KEYS.into(), |(_, ours)| format!("it is called `{ours}` here"));
        return (format!("unknown key `{key}`"), hint);
    }
    let what = match text {
        "expected mapping start" => "a mapping of keys to values is expected here",
        "expected sequence start" => "a list is expected here",
        text if text.contains("into string") => "a text is expected here",
        text => return (text.replace("missing field", "missing key"), KEYS.into()),
    };
    (what.into(), KEYS.into())
}

/// Text before the first `${NAME}`, the name, text after it.
fn variable(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (name, after) = rest.split_once('}')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((before, name, after))
}

struct Checker<'a> {
    path: &'a Path,
}

impl Checker<'_> {
    fn request(&self, kind: Kind, item: Item) -> Result<Request> {
        let bad = |place: Location| {
            move |error: Error| self.at(place, error.to_string(), &error.hint().unwrap_or_default())
        };
        let mut repo = Repo::new(kind, &item.repo.value).map_err(bad(item.repo.defined))?;
        if let Some(revision) = &item.revision {
            repo = repo.at(&revision.value).map_err(bad(revision.defined))?;
        }
        let selection = match item.files {
            Some(files) if files.value.is_empty() => {
                let hint = "name files such as `*.safetensors`, or remove the key";
                return Err(self.at(files.defined, "`files` is empty".into(), hint));
            }
            Some(files) => Selection::Matching(globs(&files.value)),
            None => Selection::usual(kind),
        };
        let exclude = globs(&item.ignore.unwrap_or_default());
        Ok(Request { repo, selection, exclude, folder: item.output_dir.map(|folder| folder.value) })
    }

    fn at(&self, place: Location, what: String, hint: &str) -> Error {
        Error::Config { path: self.path.into(), line: Some(place.line()), what, hint: hint.into() }
    }
}

fn globs(texts: &[String]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Downloads> {
        Downloads::parse(Path::new("downloads.yaml"), text)
    }

    /// Message and hint, as a user reads them.
    fn refused(text: &str) -> (String, String) {
        let error = parse(text).unwrap_err();
        (error.to_string(), error.hint().unwrap())
    }

    #[test]
    fn entries_become_requests() {
        let text = "huggingface:\n  token: \"${HF_TOKEN}\"\nmodels:\n  - repo: gpt2\n    files: [\"*.json\"]\n    ignore: [\"vocab*\"]\n    revision: v1\n    output_dir: ./models/gpt2\n  - repo: org/name\ndatasets:\n  - repo: org/rows\n";
        let downloads = parse(text).unwrap();
        let [gpt2, model, rows] = &downloads.requests[..] else { panic!("{downloads:?}") };
        assert_eq!((gpt2.repo.id(), gpt2.repo.revision()), ("gpt2", "v1"));
        assert_eq!(gpt2.selection, Selection::Matching(vec![Glob::new("*.json")]));
        assert_eq!(gpt2.exclude, [Glob::new("vocab*")]);
        assert_eq!(gpt2.folder.as_deref(), Some(Path::new("./models/gpt2")));
        assert_eq!((&model.selection, &model.folder), (&Selection::Model, &None));
        assert_eq!((rows.repo.kind(), &rows.selection), (Kind::Dataset, &Selection::All));
    }

    #[test]
    fn a_token_comes_from_the_variable_that_it_names() {
        let with = |token: &str| {
            parse(&format!("huggingface:\n  token: \"{token}\"\nmodels:\n  - repo: gpt2\n"))
                .unwrap()
        };
        let lookup = |name: &str| (name == "MINE").then(|| "hf_x\n".to_owned());
        assert_eq!(with("${MINE}").token(&lookup).unwrap().as_deref(), Some("hf_x"));
        assert_eq!(with("hf_y").token(&lookup).unwrap().as_deref(), Some("hf_y"));
        assert_eq!(with("").token(&lookup).unwrap(), None);
        assert_eq!(parse("models:\n  - repo: gpt2\n").unwrap().token(&lookup).unwrap(), None);
        let error = with("${HF_TOKEN}").token(&lookup).unwrap_err();
        assert_eq!(
            error.to_string(),
            "downloads.yaml:2: `huggingface.token` needs the variable `HF_TOKEN`, which is not set"
        );
        assert!(error.hint().unwrap().contains("export HF_TOKEN="));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, want) in [
            ("models:\n  - repo: gpt2\n    filse: [a]\n", "downloads.yaml:3: unknown key `filse`"),
            ("models:\n  - files: [a]\n", "downloads.yaml:2: missing key `repo`"),
            (
                "models:\n  - repo: a/b/c\n",
                "downloads.yaml:2: `a/b/c` is neither a path that exists nor a hub id",
            ),
            (
                "models:\n  - repo: gpt2\n    revision: ../x\n",
                "downloads.yaml:3: `../x` cannot be a branch, tag or commit",
            ),
            ("models:\n  - repo: gpt2\n    files: []\n", "downloads.yaml:3: `files` is empty"),
            (
                "models:\ndatasets:\n",
                "downloads.yaml: neither `models` nor `datasets` has an entry",
            ),
            (
                "models:\n  - repo: a\n    output_dir: x\n  - repo: b\n    output_dir: x\n",
                "downloads.yaml:5: `x` has the files of `a` already",
            ),
            ("models:\n  - repo: a\n    files: [\"x\n", "downloads.yaml:"),
            ("models:\n  - repo: a\n    repo: b\n", "downloads.yaml:3: duplicate"),
            ("", "downloads.yaml: neither"),
            (
                "models:\n  - gpt2\n",
                "downloads.yaml:2: a mapping of keys to values is expected here",
            ),
            ("models:\n  - repo: a\n    files: x\n", "downloads.yaml:3: a list is expected here"),
            (
                "models:\n  - repo: a\n    files: [x, ~]\n",
                "downloads.yaml:3: a text is expected here",
            ),
        ] {
            let (message, hint) = refused(text);
            assert!(message.starts_with(want), "{message}\nbut {want}");
            assert!(!hint.is_empty());
        }
        let (message, hint) = refused("models:\n  - repo: a\n    allow_patterns: [x]\n");
        assert_eq!(message, "downloads.yaml:3: unknown key `allow_patterns`");
        assert_eq!(hint, "it is called `files` here");
    }
}
