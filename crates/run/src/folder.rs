//! The folder of a run: the only place that knows the names in it.
//!
//! ```text
//! recipe.yaml          the resolved recipe
//! events.jsonl         one object a step, byte-reproducible
//! timings.jsonl        one object a step, what the clock said
//! data.json            what happened to the records
//! checkpoint-<step>/   an adapter or model that loads by itself, trainer_state.json, and
//!   trueup/            what resuming needs, with manifest.json over every file of the checkpoint
//! trainer_state.json   written last: a run that has it here is finished
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use fs_err as fs;
use serde::Serialize;

use crate::{
    Error, Result, TrainerState, atomic,
    lock::{LOCK, Lock},
};

const RECIPE: &str = "recipe.yaml";
const EVENTS: &str = "events.jsonl";
const TIMINGS: &str = "timings.jsonl";
const DATA_REPORT: &str = "data.json";
pub(crate) const TRAINER_STATE: &str = "trainer_state.json";
pub(crate) const CHECKPOINT: &str = "checkpoint-";
/// The folder inside a checkpoint that only this program reads.
pub(crate) const STATE: &str = "trueup";
pub(crate) const MANIFEST: &str = "manifest.json";

/// Where the events of the run in a folder lie, for readers; see [`crate::read_events`].
pub fn events_path(root: &Path) -> PathBuf {
    root.join(EVENTS)
}

/// Where the recipe of the run in a folder lies, for readers.
pub fn recipe_path(root: &Path) -> PathBuf {
    root.join(RECIPE)
}

/// Whether the run in a folder is finished, for readers.
pub fn is_finished(root: &Path) -> bool {
    root.join(TRAINER_STATE).is_file()
}

/// A run folder, open for writing by this process alone.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: Lock,
}

impl RunFolder {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] if something lies there (leftovers of a killed write do not count),
    /// [`Error::UnderFile`] if a part of the path is a file, [`Error::Locked`], [`Error::Io`].
    pub fn create(root: &Path) -> Result<Self> {
        if let Some(file) = root.ancestors().find(|part| part.is_file()) {
            return Err(Error::UnderFile { path: root.to_owned(), file: file.to_owned() });
        }
        fs::create_dir_all(root)?;
        let folder = Self::open(root)?;
        for entry in fs::read_dir(root)? {
            if entry?.file_name() != LOCK {
                return Err(Error::NotEmpty { path: root.to_owned() });
            }
        }
        Ok(folder)
    }

    /// Opens the folder of a run that is to be resumed, and removes what a killed process left.
    ///
    /// # Errors
    ///
    /// [`Error::NoFolder`], [`Error::Locked`], [`Error::Io`].
    pub fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            return Err(Error::NoFolder { path: root.to_owned() });
        }
        let lock = Lock::take(root)?;
        atomic::clean(root)?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// Removes what this program wrote here before, for a run that starts over.
    ///
    /// Files of other names stay.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn start_over(&self) -> Result<()> {
        for name in [TRAINER_STATE, RECIPE, EVENTS, TIMINGS, DATA_REPORT] {
            match fs::remove_file(self.root.join(name)) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err.into()),
                _ => {}
            }
        }
        for (_, path) in crate::checkpoint::folders(&self.root)? {
            atomic::remove_folder(&path)?;
        }
        Ok(())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the resolved recipe lies.
    pub fn recipe_path(&self) -> PathBuf {
        recipe_path(&self.root)
    }

    /// Where the events lie; see [`crate::Events`].
    pub fn events_path(&self) -> PathBuf {
        events_path(&self.root)
    }

    /// Where the timings lie; see [`crate::Timings`].
    pub fn timings_path(&self) -> PathBuf {
        self.root.join(TIMINGS)
    }

    /// Writes `recipe.yaml`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write_recipe(&self, text: &str) -> Result<()> {
        atomic::write(&self.recipe_path(), text.as_bytes())
    }

    /// Reads `recipe.yaml`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn read_recipe(&self) -> Result<String> {
        Ok(fs::read_to_string(self.recipe_path())?)
    }

    /// Writes `data.json`, indented.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Json`].
    pub fn write_data_report(&self, report: &impl Serialize) -> Result<()> {
        let path = self.root.join(DATA_REPORT);
        let mut text = serde_json::to_string_pretty(report)
            .map_err(|source| Error::Json { path: path.clone(), source })?;
        text.push('\n');
        atomic::write(&path, text.as_bytes())
    }

    /// Marks the run as finished; to be called after everything else is written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Json`].
    pub fn finish(&self, state: &TrainerState) -> Result<()> {
        state.write(&self.root)
    }

    /// Whether [`RunFolder::finish`] was reached.
    pub fn is_finished(&self) -> bool {
        is_finished(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_wants_an_empty_folder() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("a/b");
        let folder = RunFolder::create(&root).unwrap();
        folder.write_recipe("model:\n").unwrap();
        assert_eq!(folder.read_recipe().unwrap(), "model:\n");
        drop(folder);
        assert!(matches!(RunFolder::create(&root), Err(Error::NotEmpty { .. })));
        RunFolder::open(&root).unwrap().start_over().unwrap();
        RunFolder::create(&root).unwrap();
    }

    #[test]
    fn leftovers_of_a_killed_start_are_not_in_the_way() {
        let home = tempfile::tempdir().unwrap();
        fs::File::create(home.path().join(".tmp-1-0-recipe.yaml")).unwrap();
        drop(RunFolder::create(home.path()).unwrap());
        RunFolder::create(home.path()).unwrap();
    }

    #[test]
    fn two_runs_do_not_write_one_folder() {
        let home = tempfile::tempdir().unwrap();
        let first = RunFolder::create(home.path()).unwrap();
        assert!(matches!(RunFolder::create(home.path()), Err(Error::Locked { .. })));
        assert!(matches!(RunFolder::open(home.path()), Err(Error::Locked { .. })));
        drop(first);
        RunFolder::open(home.path()).unwrap();
    }

    #[test]
    fn a_path_through_a_file_is_refused_by_name() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::File::create(&file).unwrap();
        for root in [file.clone(), file.join("run")] {
            let err = RunFolder::create(&root).unwrap_err();
            assert!(matches!(err, Error::UnderFile { file: at, .. } if at == file));
        }
        assert!(matches!(RunFolder::open(&file), Err(Error::NoFolder { .. })));
    }

    #[test]
    fn a_finished_run_says_so() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path()).unwrap();
        assert!(!folder.is_finished());
        folder.finish(&TrainerState::default()).unwrap();
        assert!(folder.is_finished());
    }
}
