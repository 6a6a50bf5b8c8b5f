//! Checkpoints: folders with a checksum over every file, whole or absent.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, RunFolder, atomic,
    error::Damage,
    folder::{CHECKPOINT, MANIFEST, STATE},
};

/// A checkpoint that was whole when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    path: PathBuf,
    step: u64,
}

/// What a checkpoint holds, as `trueup/manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    step: u64,
    files: BTreeMap<String, Entry>,
}

/// Size and checksum of one file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    blake3: String,
}

impl Checkpoint {
    /// Opens a checkpoint and checks every file against its checksum.
    ///
    /// # Errors
    ///
    /// [`Error::NotACheckpoint`] if the path is no folder `checkpoint-<step>` or was not written
    /// by this program, [`Error::Damaged`] for the first file that is not what was written,
    /// [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let none = || Error::NotACheckpoint { path: path.to_owned() };
        let step = step_of(path).filter(|_| path.is_dir()).ok_or_else(none)?;
        let manifest_path = state_folder(path).join(MANIFEST);
        if !manifest_path.is_file() {
            return Err(none());
        }
        let damaged = |file: &str, damage| Error::Damaged {
            path: path.to_owned(),
            file: file.to_owned(),
            damage,
        };
        let manifest = serde_json::from_slice::<Manifest>(&fs::read(&manifest_path)?).ok();
        let manifest = manifest
            .filter(|manifest| manifest.step == step)
            .ok_or_else(|| damaged(&format!("{STATE}/{MANIFEST}"), Damage::Unreadable))?;
        for (name, entry) in &manifest.files {
            let file = path.join(name);
            if !file.is_file() {
                return Err(damaged(name, Damage::Missing));
            }
            if fs::metadata(&file)?.len() != entry.bytes {
                return Err(damaged(name, Damage::Size));
            }
            if checksum(&file)? != *entry {
                return Err(damaged(name, Damage::Checksum));
            }
        }
        Ok(Self { path: path.to_owned(), step })
    }

    /// Its folder, which loads as an adapter or model by itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many optimizer steps were done when it was written.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The folder of the run it belongs to.
    pub fn run(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// The folder inside it for what only this program reads.
    pub fn state(&self) -> PathBuf {
        state_folder(&self.path)
    }
}

/// The folder for what only this program reads, inside a checkpoint that is being written.
pub fn state_folder(checkpoint: &Path) -> PathBuf {
    checkpoint.join(STATE)
}

impl RunFolder {
    /// Where the checkpoint of a step lies.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.root().join(format!("{CHECKPOINT}{step}"))
    }

    /// Writes the checkpoint of a step.
    ///
    /// `fill` writes every file into the folder it is given; [`state_folder`] of it exists. Files
    /// are then checksummed, synced, and appear all at once.
    ///
    /// # Errors
    ///
    /// Those of `fill`, and [`Error::Io`]; nothing is left of the attempt.
    pub fn write_checkpoint<E: From<Error>>(
        &self,
        step: u64,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Checkpoint, E> {
        let path = self.checkpoint_path(step);
        atomic::folder(&path, |at| {
            fs::create_dir(state_folder(at)).map_err(Error::from)?;
            fill(at)?;
            write_manifest(at, step)?;
            Ok::<(), E>(())
        })?;
        Ok(Checkpoint { path, step })
    }

    /// The newest checkpoint that is whole, and why each newer one is not.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the run folder cannot be read.
    pub fn newest_checkpoint(&self) -> Result<(Option<Checkpoint>, Vec<Error>)> {
        let mut passed_over = Vec::new();
        for (_, path) in folders(self.root())? {
            match Checkpoint::open(&path) {
                Ok(checkpoint) => return Ok((Some(checkpoint), passed_over)),
                Err(err) => passed_over.push(err),
            }
        }
        Ok((None, passed_over))
    }

    /// Removes the oldest checkpoints until `limit` are left, and gives their steps.
    ///
    /// The newest one and the one of step `best` stay, so a limit of 1 may leave 2.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn prune_checkpoints(&self, limit: usize, best: Option<u64>) -> Result<Vec<u64>> {
        let found = folders(self.root())?;
        let mut excess = found.len().saturating_sub(limit.max(1));
        let mut removed = Vec::new();
        for (step, path) in found.iter().skip(1).rev() {
            if excess == 0 {
                break;
            }
            if Some(*step) != best {
                atomic::remove_folder(path)?;
                removed.push(*step);
                excess -= 1;
            }
        }
        Ok(removed)
    }
}

/// The folders of a run that are named as checkpoints, newest first; whole or not.
///
/// # Errors
///
/// [`Error::Io`].
pub fn folders(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if let Some(step) = step_of(&path).filter(|_| path.is_dir()) {
            found.push((step, path));
        }
    }
    found.sort_by(|left, right| right.cmp(left));
    Ok(found)
}

/// The step in a folder's name; only the spelling that this program writes counts.
fn step_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(CHECKPOINT)?;
    digits.parse().ok().filter(|step: &u64| step.to_string() == digits)
}

fn write_manifest(folder: &Path, step: u64) -> Result<()> {
    let mut files = BTreeMap::new();
    add_entries(folder, "", &mut files)?;
    let path = state_folder(folder).join(MANIFEST);
    let mut text = serde_json::to_string_pretty(&Manifest { step, files })
        .map_err(|source| Error::Json { path: path.clone(), source })?;
    text.push('\n');
    atomic::write(&path, text.as_bytes())
}

fn add_entries(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Entry>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add_entries(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, checksum(&entry.path())?);
        }
    }
    Ok(())
}

fn checksum(path: &Path) -> Result<Entry> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(Entry { bytes: hasher.count(), blake3: hasher.finalize().to_hex().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(run: &RunFolder, step: u64) -> Checkpoint {
        run.write_checkpoint::<Error>(step, |at| {
            atomic::write(&at.join("adapter_model.safetensors"), &step.to_le_bytes())?;
            atomic::write(&state_folder(at).join("optimizer.safetensors"), &[7; 100])
        })
        .unwrap()
    }

    fn steps(run: &RunFolder) -> Vec<u64> {
        folders(run.root()).unwrap().into_iter().map(|(step, _)| step).collect()
    }

    #[test]
    fn what_was_written_opens() {
        let home = tempfile::tempdir().unwrap();
        let run = RunFolder::create(home.path()).unwrap();
        let written = write(&run, 500);
        assert_eq!(Checkpoint::open(written.path()).unwrap(), written);
        assert_eq!((written.run(), written.step()), (home.path(), 500));
        // A file that somebody adds later does no harm.
        atomic::write(&written.path().join("README.md"), b"mine").unwrap();
        Checkpoint::open(written.path()).unwrap();
    }

    #[test]
    fn every_kind_of_damage_is_found() {
        let home = tempfile::tempdir().unwrap();
        let run = RunFolder::create(home.path()).unwrap();
        let damage = |spoil: &dyn Fn(&Path)| {
            let checkpoint = write(&run, 1);
            spoil(checkpoint.path());
            match Checkpoint::open(checkpoint.path()) {
                Err(Error::Damaged { file, damage, .. }) => (file, damage),
                other => panic!("{other:?}"),
            }
        };
        let weights = "adapter_model.safetensors";
        let optimizer = "trueup/optimizer.safetensors";
        let spoilt = damage(&|at| fs::remove_file(at.join(weights)).unwrap());
        assert_eq!(spoilt, (weights.into(), Damage::Missing));
        let spoilt = damage(&|at| atomic::write(&at.join(optimizer), &[7; 99]).unwrap());
        assert_eq!(spoilt, (optimizer.into(), Damage::Size));
        let spoilt = damage(&|at| atomic::write(&at.join(optimizer), &[8; 100]).unwrap());
        assert_eq!(spoilt, (optimizer.into(), Damage::Checksum));
        let spoilt = damage(&|at| atomic::write(&at.join("trueup/manifest.json"), b"{").unwrap());
        assert_eq!(spoilt, ("trueup/manifest.json".into(), Damage::Unreadable));
    }

    #[test]
    fn other_folders_are_no_checkpoints() {
        let home = tempfile::tempdir().unwrap();
        let run = RunFolder::create(home.path()).unwrap();
        for name in ["checkpoint-07", "checkpoint-x", "checkpoint-", "checkpoint--1", "run-5"] {
            let path = home.path().join(name);
            fs::create_dir(&path).unwrap();
            assert!(matches!(Checkpoint::open(&path), Err(Error::NotACheckpoint { .. })));
        }
        assert!(steps(&run).is_empty());
        // The name is right, but another program wrote it.
        fs::create_dir(home.path().join("checkpoint-7")).unwrap();
        let (newest, passed_over) = run.newest_checkpoint().unwrap();
        assert_eq!(newest, None);
        assert!(matches!(passed_over[..], [Error::NotACheckpoint { .. }]));
    }

    #[test]
    fn the_newest_whole_checkpoint_is_found() {
        let home = tempfile::tempdir().unwrap();
        let run = RunFolder::create(home.path()).unwrap();
        let [nine, ten] = [9, 10].map(|step| write(&run, step));
        assert_eq!(run.newest_checkpoint().unwrap().0, Some(ten.clone()));
        fs::remove_file(ten.state().join("optimizer.safetensors")).unwrap();
        let (newest, passed_over) = run.newest_checkpoint().unwrap();
        assert_eq!(newest, Some(nine));
        assert_eq!(passed_over.len(), 1);
    }

    #[test]
    fn pruning_keeps_the_newest_and_the_best() {
        let home = tempfile::tempdir().unwrap();
        let run = RunFolder::create(home.path()).unwrap();
        for step in [1, 2, 3, 4, 10] {
            write(&run, step);
        }
        assert_eq!(run.prune_checkpoints(3, Some(1)).unwrap(), [2, 3]);
        assert_eq!(steps(&run), [10, 4, 1]);
        assert_eq!(run.prune_checkpoints(1, Some(1)).unwrap(), [4]);
        assert_eq!(steps(&run), [10, 1]);
        assert_eq!(run.prune_checkpoints(1, Some(10)).unwrap(), [1]);
        assert_eq!(run.prune_checkpoints(1, None).unwrap(), [] as [u64; 0]);
    }

    #[test]
    fn a_failed_checkpoint_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let run = RunFolder::create(home.path()).unwrap();
        let failed = run.write_checkpoint::<Error>(1, |at| {
            atomic::write(&at.join("half"), &[0; 10])?;
            Err(Error::Io(std::io::ErrorKind::StorageFull.into()))
        });
        assert!(failed.unwrap_err().is_disk_full());
        let names: Vec<_> =
            fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [".lock"]);
    }
}
