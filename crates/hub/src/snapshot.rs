//! A whole repository, or the part of it that is of use, into the cache.

use std::path::{Path, PathBuf};

use crate::client::Client;
use crate::download::{Watch, fetch, snapshot};
use crate::locate::{missing_from_model, shards};
use crate::repo::{Kind, Repo};
use crate::{Caches, Error, Result};

/// Files beside the weights that a model needs: configs, tokenizer, template, licence.
const SMALL_FILES: [&str; 12] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "adapter_config.json",
    "LICENSE",
];
const INDEX: &str = "model.safetensors.index.json";

/// Which files of a repository are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// What a model is read from: safetensors weights, configs and tokenizer.
    Model,
    /// All files, as a dataset needs.
    All,
    /// These files, such as one GGUF of many.
    Files(Vec<String>),
}

/// Fetches the selected files of a repository into the cache and gives the snapshot's folder.
///
/// Files that the cache has are not fetched again. Offline, or where the hub cannot be reached, a
/// snapshot that the cache has as a whole is given.
///
/// # Errors
/// [`Error::NoWeights`] if a model has no safetensors, [`Error::NoFile`] for a selected file that is
/// not there, and those of [`fetch`].
pub fn fetch_snapshot(
    client: &Client,
    caches: &Caches,
    repo: &Repo,
    selection: &Selection,
    watch: Watch<'_>,
) -> Result<PathBuf> {
    let kept = || whole_snapshot(caches, repo, selection);
    if client.settings().offline {
        return kept()?.ok_or_else(|| Error::Offline { what: repo.id().into() });
    }
    let listing = match client.list(repo) {
        Ok(listing) => listing,
        Err(error @ Error::Unreachable { .. }) => return kept()?.ok_or(error),
        Err(error) => return Err(error),
    };
    // The commit, so that all files are of one state even if the branch moves meanwhile.
    let pinned = repo.clone().at(&listing.commit)?;
    let files = match selection {
        Selection::All => listing.files,
        Selection::Files(wanted) => wanted.clone(),
        Selection::Model => {
            let mut files = small_files(&listing.files);
            if listing.files.iter().any(|file| file == INDEX) {
                let index = fetch(client, caches, &pinned, INDEX, watch)?;
                files.extend(shards(&fs_err::read_to_string(index)?));
            } else {
                files.extend(weight_files(repo, &listing.files)?);
            }
            files
        }
    };
    for file in &files {
        fetch(client, caches, &pinned, file, watch)?;
    }
    let root = caches.hub.join(repo.folder_name());
    crate::download::write_ref(&root, repo.revision(), &listing.commit)?;
    Ok(root.join("snapshots").join(listing.commit))
}

/// The cache's snapshot, if nothing of the selection is missing as far as the cache can tell.
fn whole_snapshot(caches: &Caches, repo: &Repo, selection: &Selection) -> Result<Option<PathBuf>> {
    let root = caches.hub.join(repo.folder_name());
    let Some(folder) = snapshot(&root, repo.revision()) else {
        return Ok(None);
    };
    let whole = match selection {
        Selection::Files(files) => files.iter().all(|file| folder.join(file).is_file()),
        Selection::Model if repo.kind() == Kind::Model => missing_from_model(&folder)?.is_none(),
        Selection::Model | Selection::All => true,
    };
    Ok(whole.then_some(folder))
}

fn small_files(files: &[String]) -> Vec<String> {
    files.iter().filter(|file| SMALL_FILES.contains(&file.as_str())).cloned().collect()
}

/// The weights of a model without an index: the usual file, else all safetensors at the top.
fn weight_files(repo: &Repo, files: &[String]) -> Result<Vec<String>> {
    for usual in ["model.safetensors", "adapter_model.safetensors"] {
        if files.iter().any(|file| file == usual) {
            return Ok(vec![usual.into()]);
        }
    }
    let of = |endings: &[&str]| -> Vec<String> {
        let is_one = |file: &&String| {
            let ending = Path::new(file.as_str()).extension().and_then(|ending| ending.to_str());
            !file.contains('/') && ending.is_some_and(|ending| endings.contains(&ending))
        };
        files.iter().filter(is_one).cloned().collect()
    };
    let weights = of(&["safetensors"]);
    if weights.is_empty() {
        let others = of(&["gguf", "bin", "pt", "pth", "ckpt", "h5", "onnx"]).join(", ");
        return Err(Error::NoWeights { id: repo.id().into(), others });
    }
    Ok(weights)
}
