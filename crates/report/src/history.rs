//! Runs as they are compared: a name for each, and what it measured.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use run::Event;

use crate::{Error, Result};

/// A run with everything that it measured.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Where it lies.
    pub folder: PathBuf,
    /// The last part of its folder's path, and as much more as tells it from the others.
    pub name: String,
    /// Its events in the order in which they were written; none where it did not get that far.
    pub events: Vec<Event>,
}

impl History {
    /// Its last evaluation, if it has one.
    pub fn last_evaluation(&self) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.is_evaluation())
    }
}

/// The runs in these folders and right below them, in the order given and then by path.
///
/// A folder that is named twice counts once.
///
/// # Errors
///
/// [`Error::NoRuns`] for the first path without any, [`Error::Run`] for events that cannot be read.
pub fn histories(paths: &[PathBuf]) -> Result<Vec<History>> {
    let (mut folders, mut known) = (Vec::new(), BTreeSet::new());
    for path in paths {
        let found = runs_of(path)?;
        if found.is_empty() {
            return Err(Error::NoRuns { path: path.clone() });
        }
        for folder in found {
            if known.insert(fs_err::canonicalize(&folder)?) {
                folders.push(folder);
            }
        }
    }
    of_folders(&folders)
}

/// One for each folder, also where no event is there yet.
///
/// # Errors
///
/// [`Error::Run`] for events that cannot be read.
pub fn of_folders(folders: &[PathBuf]) -> Result<Vec<History>> {
    let read = |(folder, name): (&PathBuf, String)| {
        let path = run::events_path(folder);
        let events = if path.is_file() { run::read_events(&path)? } else { Vec::new() };
        Ok(History { folder: folder.clone(), name, events })
    };
    folders.iter().zip(names(folders)).map(read).collect()
}

/// The path itself if it is a run, else the runs right below it, by name.
fn runs_of(path: &Path) -> Result<Vec<PathBuf>> {
    let is_run = |path: &Path| run::events_path(path).is_file();
    if is_run(path) {
        return Ok(vec![path.to_owned()]);
    }
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs_err::read_dir(path)? {
        let path = entry?.path();
        if is_run(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The shortest ends of the paths that tell them apart.
fn names(folders: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<String>> = folders.iter().map(|folder| parts(folder)).collect();
    let name = |index: usize, length: usize| {
        let own = &parts[index];
        own[own.len().saturating_sub(length)..].join("/")
    };
    let mut lengths = vec![1; folders.len()];
    let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
    for _ in 1..longest {
        let mut owners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, length) in lengths.iter().enumerate() {
            owners.entry(name(index, *length)).or_default().push(index);
        }
        for index in owners.into_values().filter(|owners| 1 < owners.len()).flatten() {
            lengths[index] += 1;
        }
    }
    lengths.into_iter().enumerate().map(|(index, length)| name(index, length)).collect()
}

/// The names along a path; that of the folder itself where the path is `.` or ends in `..`.
fn parts(folder: &Path) -> Vec<String> {
    let ends_in_name = folder.file_name().is_some();
    let real = if ends_in_name { None } else { fs_err::canonicalize(folder).ok() };
    let path = real.as_deref().unwrap_or(folder);
    let names = path.components().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => {
            Some(part.as_os_str().to_string_lossy().into_owned())
        }
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use run::Events;

    use super::*;

    #[test]
    fn names_are_as_long_as_they_must_be() {
        let folders = ["a/runs/x", "./runs/y", "b/runs/x/", "z"].map(PathBuf::from);
        assert_eq!(names(&folders), ["a/runs/x", "y", "b/runs/x", "z"]);
        assert_eq!(names(&["runs/x".into(), "../runs/x".into()]), ["runs/x", "../runs/x"]);
        let here = std::env::current_dir().unwrap();
        let own = here.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(names(&[PathBuf::from(".")]), [own]);
    }

    #[test]
    fn runs_are_found_once_and_by_name() {
        let home = tempfile::tempdir().unwrap();
        for name in ["runs/b", "runs/a", "runs/empty"] {
            fs_err::create_dir_all(home.path().join(name)).unwrap();
        }
        for (name, loss) in [("runs/b", 2.0), ("runs/a", 1.0)] {
            let mut events = Events::create(&run::events_path(&home.path().join(name))).unwrap();
            events.append(&Event::new(1).with("loss", loss)).unwrap();
            events.append(&Event::new(1).with("eval_loss", 3.0)).unwrap();
        }
        let at = |name: &str| home.path().join(name);
        let found = histories(&[at("runs/b"), at("runs")]).unwrap();
        let names: Vec<&str> = found.iter().map(|history| history.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(found[1].events[0].get("loss"), Some(1.0));
        assert_eq!(found[1].last_evaluation().unwrap().get("eval_loss"), Some(3.0));
        for nothing in ["runs/empty", "nowhere"] {
            let err = histories(&[at("runs"), at(nothing)]).unwrap_err();
            assert!(matches!(err, Error::NoRuns { path } if path == at(nothing)));
        }
        assert_eq!(of_folders(&[at("runs/empty")]).unwrap()[0].events, []);
    }
}
