//! Where a run begins: in a new folder, at a checkpoint, or over again.

use std::path::PathBuf;

use run::{Checkpoint, RunFolder};

use crate::{
    Error,
    align::Start,
    recipe::{Difference, Recipe},
};

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// A new run in a new or empty folder.
    No,
    /// Go on at the newest whole checkpoint of `output_dir`; start over if there is none.
    Auto,
    /// Go on at this checkpoint; its parent is the run folder.
    From(PathBuf),
}

/// What was found.
pub enum Opening {
    /// A run to start or to go on with.
    Run {
        /// Its folder, locked.
        folder: RunFolder,
        /// Where it begins.
        start: Start,
        /// What the user should know: other values of free keys, damaged checkpoints.
        notes: Vec<String>,
    },
    /// The run was finished already.
    Finished {
        /// Its folder.
        root: PathBuf,
    },
}

/// Opens the run folder of a recipe; the recipe takes over what the first process resolved.
///
/// # Errors
///
/// A folder that is not empty where a new run was asked for, a checkpoint that is damaged, or a
/// recipe that differs in a key that changes numbers.
pub fn open(recipe: &mut Recipe, resume: &Resume) -> Result<Opening, Error> {
    match resume {
        Resume::No => {
            let folder = RunFolder::create(&recipe.alignment.output_dir)?;
            Ok(Opening::Run { folder, start: Start::Fresh, notes: Vec::new() })
        }
        Resume::Auto => auto(recipe),
        Resume::From(path) => {
            let checkpoint = Checkpoint::open(path)?;
            recipe.alignment.output_dir = checkpoint.run().to_path_buf();
            let folder = RunFolder::open(checkpoint.run())?;
            let notes = take_over(recipe, &folder)?;
            Ok(Opening::Run { folder, start: Start::Checkpoint(checkpoint), notes })
        }
    }
}

fn auto(recipe: &mut Recipe) -> Result<Opening, Error> {
    let root = recipe.alignment.output_dir.clone();
    if !root.is_dir() {
        return open(recipe, &Resume::No);
    }
    let folder = RunFolder::open(&root)?;
    if folder.is_finished() {
        return Ok(Opening::Finished { root });
    }
    let (newest, passed_over) = folder.newest_checkpoint()?;
    let mut notes: Vec<String> =
        passed_over.iter().map(|error| format!("passed over a checkpoint: {error}")).collect();
    let start = match newest {
        Some(checkpoint) => {
            notes.extend(take_over(recipe, &folder)?);
            Start::Checkpoint(checkpoint)
        }
        None => Start::Over,
    };
    Ok(Opening::Run { folder, start, notes })
}

/// Takes over what the first process resolved, and refuses another recipe.
fn take_over(recipe: &mut Recipe, folder: &RunFolder) -> Result<Vec<String>, Error> {
    let path = folder.recipe_path();
    let first = crate::recipe::read(&path, None, &[], "")?.recipe;
    recipe.take_resolved(&first);
    let (free, differences) = recipe.differences(&first);
    if !differences.is_empty() {
        return Err(Error::OtherRecipe { path: folder.root().into(), differences });
    }
    Ok(free.iter().filter(|difference| difference.key != "alignment.output_dir").map(say).collect())
}

fn say(difference: &Difference) -> String {
    let Difference { key, was, is } = difference;
    match key.as_str() {
        "device" => format!(
            "`device` was `{was}` and is `{is}`: bytes no longer match the first part of the run"
        ),
        _ => format!("`{key}` was `{was}` and is `{is}` from here on"),
    }
}
