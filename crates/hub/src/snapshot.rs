//! A whole repository, or the part of it that is of use: first a plan, then the transfers.

use std::path::{Path, PathBuf};

use crate::choice::{Choice, Selection, choose, is_pickle};
use crate::client::{Client, Listed, Listing};
use crate::download::{Fetcher, snapshot, write_ref};
use crate::folder::Paths;
use crate::glob::Glob;
use crate::locate::missing_from_model;
use crate::repo::{Kind, Repo};
use crate::transfer::{Transfer, Watch, patiently, size};
use crate::{Caches, Error, Result};

/// What is wanted of a repository, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The repository and its revision.
    pub repo: Repo,
    /// The files.
    pub selection: Selection,
    /// What of them is not wanted.
    pub exclude: Vec<Glob>,
    /// A folder for plain files; absent, they go into the cache.
    pub folder: Option<PathBuf>,
}

/// What a download will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The request.
    pub request: Request,
    /// The commit that its revision stands for.
    pub commit: String,
    /// The files, in the hub's order.
    pub files: Vec<Planned>,
    /// Weights that a model is not read from, and that were not asked for.
    pub left_out: Vec<Planned>,
    /// Exclusions that mean no file.
    pub idle: Vec<Glob>,
}

/// One file of a plan.
#[derive(Debug, Clone)]
pub struct Planned {
    listed: Listed,
    /// Nothing of it need be fetched.
    pub is_here: bool,
    /// What an earlier transfer left of it.
    pub partial_bytes: u64,
}

impl Planned {
    /// Its name, with folders.
    pub fn name(&self) -> &str {
        &self.listed.name
    }

    /// Its size, where the hub told it.
    pub fn size_bytes(&self) -> Option<u64> {
        self.listed.size_bytes
    }

    /// Whether it holds pickled objects, which can run code when they are read.
    pub fn is_pickle(&self) -> bool {
        is_pickle(self.name())
    }
}

/// Asks the hub what is to be done; nothing is written.
///
/// # Errors
/// [`Error::NoWeights`] if a model has nothing that can be read here, [`Error::NoFile`] and
/// [`Error::NoMatch`] for what is not there, [`Error::Offline`], and those of the network.
pub fn plan(client: &Client, caches: &Caches, request: &Request, watch: Watch<'_>) -> Result<Plan> {
    let repo = &request.repo;
    if client.settings().offline {
        return Err(Error::Offline { what: repo.id().into() });
    }
    let transfer = Transfer { file: "", done_bytes: 0, total_bytes: None, wait: None };
    let mut list = |_: Watch<'_>| client.list(repo);
    let Listing { commit, files } = patiently(client, transfer, watch, &mut list, &|| 0)?;
    let is_idle = |glob: &&Glob| !files.iter().any(|file| glob.matches(&file.name));
    let idle = request.exclude.iter().filter(is_idle).cloned().collect();
    let Choice { taken, left_out } = choose(repo, files, &request.selection, &request.exclude)?;
    let planned = |listed: Listed| planned(caches, request, &commit, listed);
    Ok(Plan {
        request: request.clone(),
        files: taken.into_iter().map(planned).collect(),
        left_out: left_out.into_iter().map(planned).collect(),
        commit: commit.clone(),
        idle,
    })
}

/// What of a file is on this machine.
fn planned(caches: &Caches, request: &Request, commit: &str, listed: Listed) -> Planned {
    let root = caches.hub.join(request.repo.folder_name());
    let (is_here, partial) = if let Some(folder) = &request.folder {
        let paths = Paths::new(folder, &listed.name);
        let is_here = paths.content().is_some_and(|content| Some(content) == listed.etag);
        (is_here, listed.etag.as_ref().map(|etag| paths.partial(etag)))
    } else {
        let blob = listed.etag.as_ref().map(|etag| root.join("blobs").join(etag));
        let is_here = root.join("snapshots").join(commit).join(&listed.name).is_file()
            || blob.as_ref().is_some_and(|blob| blob.is_file());
        (is_here, blob.map(|blob| blob.with_extension("incomplete")))
    };
    let partial_bytes = partial.filter(|_| !is_here).map_or(0, |path| size(&path));
    Planned { listed, is_here, partial_bytes }
}

impl Plan {
    /// The bytes that are still to come; none where the hub does not tell all sizes.
    pub fn missing_bytes(&self) -> Option<u64> {
        let missing = self.files.iter().filter(|file| !file.is_here);
        missing.map(|file| Some(file.size_bytes()?.saturating_sub(file.partial_bytes))).sum()
    }

    /// Does it, and gives the folder that has the files.
    ///
    /// # Errors
    /// [`Error::Foreign`] if a file is in the way, and those of [`fetch`](crate::fetch).
    pub fn run(&self, client: &Client, caches: &Caches, watch: Watch<'_>) -> Result<PathBuf> {
        let asked = &self.request.repo;
        // The commit, so that all files are of one state even if the branch moves meanwhile.
        let repo = &asked.clone().at(&self.commit)?;
        let fetcher = Fetcher { client, caches, repo };
        for Planned { listed, .. } in &self.files {
            let known = client.known(repo, listed);
            match &self.request.folder {
                Some(folder) => fetcher.fetch_to_folder(folder, &listed.name, known, watch)?,
                None => fetcher.fetch_to_cache(&listed.name, known, watch)?,
            };
        }
        if let Some(folder) = &self.request.folder {
            return Ok(folder.clone());
        }
        let root = caches.hub.join(repo.folder_name());
        write_ref(&root, asked.revision(), &self.commit)?;
        Ok(root.join("snapshots").join(&self.commit))
    }
}

/// Fetches the selected files of a repository into the cache and gives the snapshot's folder.
///
/// Files that the cache has are not fetched again. Offline, or where the hub cannot be reached, a
/// snapshot that the cache has as a whole is given.
///
/// # Errors
/// Those of [`plan`] and [`Plan::run`].
pub fn fetch_snapshot(
    client: &Client,
    caches: &Caches,
    repo: &Repo,
    selection: &Selection,
    watch: Watch<'_>,
) -> Result<PathBuf> {
    let request = Request {
        repo: repo.clone(),
        selection: selection.clone(),
        exclude: Vec::new(),
        folder: None,
    };
    match plan(client, caches, &request, watch) {
        Ok(plan) => plan.run(client, caches, watch),
        Err(error @ (Error::Unreachable { .. } | Error::Offline { .. })) => {
            kept(caches, &request)?.ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// The cache's snapshot for a request, if nothing is missing as far as the cache can tell.
///
/// # Errors
/// Those of reading the cache.
pub fn kept(caches: &Caches, request: &Request) -> Result<Option<PathBuf>> {
    let root = caches.hub.join(request.repo.folder_name());
    let Some(folder) = snapshot(&root, request.repo.revision()) else {
        return Ok(None);
    };
    let whole = match &request.selection {
        Selection::Files(files) => files.iter().all(|file| folder.join(file).is_file()),
        Selection::Matching(globs) => {
            let names = names(&folder)?;
            globs.iter().all(|glob| names.iter().any(|name| glob.matches(name)))
        }
        Selection::Model if request.repo.kind() == Kind::Model => {
            missing_from_model(&folder)?.is_none()
        }
        Selection::Model | Selection::All => true,
    };
    Ok(whole.then_some(folder))
}

/// The names of all files under a folder whose content is there, with `/` between their parts.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut open = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        for entry in fs_err::read_dir(path)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                open.push((path, format!("{name}/")));
            } else if path.is_file() {
                names.push(name);
            }
        }
    }
    Ok(names)
}
