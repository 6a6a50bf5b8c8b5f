//! From what a recipe says to a folder or file on disk; nothing is fetched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::download::snapshot;
use crate::repo::{Kind, Repo, is_id};
use crate::{Caches, Error, Result};

/// Where a model or dataset lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The folder or file.
    pub path: PathBuf,
    /// The commit, where it is a repository in the cache.
    pub commit: Option<String>,
}

/// Finds what `name` means: a path that exists, else a hub id in the Hugging Face cache.
///
/// `revision` is a branch, tag or commit, by default `main`; a path has none.
///
/// # Errors
/// [`Error::NotFound`] if it is neither, [`Error::Incomplete`] if an earlier download of a model
/// stopped half-way.
pub fn locate(kind: Kind, name: &str, revision: Option<&str>, caches: &Caches) -> Result<Located> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(Located { path: path.into(), commit: None });
    }
    let not_found = |is_id| Error::NotFound { kind, name: name.into(), is_id };
    if !is_id(name) || has_file_ending(path) {
        return Err(not_found(false));
    }
    let repo = Repo::new(kind, name)?.at(revision.unwrap_or("main"))?;
    let root = caches.hub.join(repo.folder_name());
    let path = snapshot(&root, repo.revision()).ok_or_else(|| not_found(true))?;
    let missing = match kind {
        Kind::Model => missing_from_model(&path)?,
        Kind::Dataset => None,
    };
    if let Some(missing) = missing {
        return Err(Error::Incomplete { id: name.into(), path, missing });
    }
    let commit = path.file_name().map(|commit| commit.to_string_lossy().into_owned());
    let path = match kind {
        Kind::Model => only_gguf(name, &path)?.unwrap_or(path),
        Kind::Dataset => path,
    };
    Ok(Located { path, commit })
}

/// The GGUF file of a folder that has no other model.
///
/// # Errors
/// [`Error::ManyModels`] if there are several.
fn only_gguf(id: &str, folder: &Path) -> Result<Option<PathBuf>> {
    let has = |name: &str| folder.join(name).exists();
    if has("config.json") || has("adapter_config.json") {
        return Ok(None);
    }
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "gguf") {
            files.push(path);
        }
    }
    files.sort();
    match &files[..] {
        [_, _, ..] => Err(Error::ManyModels { id: id.into(), files }),
        _ => Ok(files.pop()),
    }
}

/// Whether a name that could be an id is meant as a file.
fn has_file_ending(path: &Path) -> bool {
    let endings = ["gguf", "safetensors", "json", "jsonl", "csv", "parquet", "bin"];
    path.extension()
        .is_some_and(|ending| endings.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The first file that a model's folder should have and has not.
///
/// A folder with a GGUF file is whole by itself; else there must be a config (of a model or an
/// adapter) and weights, with an index all of its shards.
pub(crate) fn missing_from_model(folder: &Path) -> Result<Option<String>> {
    let mut names = BTreeSet::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.path().exists() {
            return Ok(Some(format!("the content of `{name}`"))); // a link into nothing
        }
        names.insert(name);
    }
    let has_ending = |ending: &str| {
        names.iter().any(|name| Path::new(name).extension().is_some_and(|found| found == ending))
    };
    if has_ending("gguf") {
        return Ok(None);
    }
    if !names.contains("config.json") && !names.contains("adapter_config.json") {
        return Ok(Some("`config.json`".into()));
    }
    let index = folder.join("model.safetensors.index.json");
    if index.exists() {
        let shards = shards(&fs_err::read_to_string(&index)?);
        return Ok(shards
            .into_iter()
            .find(|shard| !names.contains(shard))
            .map(|s| format!("`{s}`")));
    }
    Ok((!has_ending("safetensors")).then(|| "`model.safetensors`".into()))
}

/// The files that an index of shards names; an index that cannot be read names none.
pub(crate) fn shards(index: &str) -> BTreeSet<String> {
    let Ok(index) = serde_json::from_str::<serde_json::Value>(index) else {
        return BTreeSet::new();
    };
    let names = index.get("weight_map").and_then(serde_json::Value::as_object);
    let values = names.into_iter().flat_map(serde_json::Map::values);
    values.filter_map(|shard| shard.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Caches) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join("hub/models--org--name").join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        let caches = Caches { hub: folder.path().join("hub"), own: folder.path().join("own") };
        (folder, caches)
    }

    #[test]
    fn a_path_wins_over_an_id() {
        let (folder, caches) = cache_with(&[]);
        let path = folder.path().to_str().unwrap();
        let located = locate(Kind::Model, path, None, &caches).unwrap();
        assert_eq!(located, Located { path: path.into(), commit: None });
    }

    #[test]
    fn an_id_is_found_through_its_ref_or_commit() {
        let (_folder, caches) = cache_with(&[
            ("refs/main", "abc\n"),
            ("snapshots/abc/config.json", "{}"),
            ("snapshots/abc/model.safetensors", ""),
        ]);
        let want = caches.hub.join("models--org--name/snapshots/abc");
        for revision in [None, Some("main"), Some("abc")] {
            let located = locate(Kind::Model, "org/name", revision, &caches).unwrap();
            assert_eq!(located, Located { path: want.clone(), commit: Some("abc".into()) });
        }
        let error = locate(Kind::Model, "org/name", Some("v2"), &caches).unwrap_err();
        assert!(matches!(error, Error::NotFound { is_id: true, .. }));
    }

    #[test]
    fn the_only_gguf_of_a_repository_is_its_model() {
        let one =
            [("refs/main", "abc"), ("snapshots/abc/README.md", ""), ("snapshots/abc/a.gguf", "")];
        let (_folder, caches) = cache_with(&one);
        let located = locate(Kind::Model, "org/name", None, &caches).unwrap();
        assert_eq!(located.path, caches.hub.join("models--org--name/snapshots/abc/a.gguf"));
        assert_eq!(located.commit.as_deref(), Some("abc"));

        let (_folder, caches) = cache_with(&[&one[..], &[("snapshots/abc/b.gguf", "")]].concat());
        let error = locate(Kind::Model, "org/name", None, &caches).unwrap_err();
        assert_eq!(error.to_string(), "`org/name` has several models: a.gguf, b.gguf");
        assert!(error.hint().unwrap().ends_with("snapshots/abc/a.gguf`"), "{error:?}");

        let with_config = [&one[..], &[("snapshots/abc/config.json", "")]].concat();
        let (_folder, caches) = cache_with(&with_config);
        let located = locate(Kind::Model, "org/name", None, &caches).unwrap();
        assert!(located.path.is_dir());
    }

    #[test]
    fn a_half_downloaded_model_says_what_is_missing() {
        let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
        let mut files = vec![("refs/main", "abc")];
        let steps = [
            ("snapshots/abc/generation_config.json", "{}", "`config.json`"),
            ("snapshots/abc/config.json", "{}", "`model.safetensors`"),
            ("snapshots/abc/model.safetensors.index.json", index, "`model-1.safetensors`"),
            ("snapshots/abc/model-1.safetensors", "", "`model-2.safetensors`"),
        ];
        for (name, text, want) in steps {
            files.push((name, text));
            let (_folder, caches) = cache_with(&files);
            match locate(Kind::Model, "org/name", None, &caches) {
                Err(Error::Incomplete { missing, .. }) => assert_eq!(missing, want),
                other => panic!("{other:?}"),
            }
        }
        files.push(("snapshots/abc/model-2.safetensors", ""));
        let (_folder, caches) = cache_with(&files);
        locate(Kind::Model, "org/name", None, &caches).unwrap();
    }

    #[test]
    fn a_missing_file_is_not_called_an_id() {
        let (_folder, caches) = cache_with(&[]);
        for name in ["models/x.gguf", "./nothing", "/nothing/here", "a/b/c"] {
            let error = locate(Kind::Model, name, None, &caches).unwrap_err();
            assert!(matches!(error, Error::NotFound { is_id: false, .. }), "{name}");
        }
        let error = locate(Kind::Model, "org/name", None, &caches).unwrap_err();
        assert_eq!(error.to_string(), "model not found at \"org/name\"");
        assert!(error.hint().unwrap().contains("trueup download org/name"));
    }
}
