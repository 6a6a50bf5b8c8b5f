//! How fast things are: the kernels, a whole step part by part, and training beside TRL.

mod beside;
mod ours;
mod parts;
mod picture;
mod work;

use std::path::Path;

use anyhow::ensure;

pub use beside::beside;
pub use work::Work;

use crate::{
    files,
    run::{cargo, say},
};

/// Runs the kernels' examples that measure rates, optimized.
///
/// # Errors
///
/// If one of them cannot be built or run, or none has that name.
pub fn kernels(root: &Path, only: Option<&str>) -> anyhow::Result<()> {
    let examples = files::with_extension(&root.join("crates/kernels/examples"), "rs")?;
    let names: Vec<String> = examples
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| only.map_or(name.ends_with("_rate"), |only| only == name))
        .collect();
    ensure!(!names.is_empty(), "no example of `kernels` has that name");
    for name in names {
        say(&format!("{name}:"));
        let args = ["run", "--release", "--quiet", "--package", "kernels", "--example", &name];
        cargo(root, args).run()?;
    }
    Ok(())
}

/// Trains one epoch, and tells what its steps consist of: a table, and a picture beside it.
///
/// # Errors
///
/// If the program cannot be built or fails.
pub fn step(root: &Path, work: &Work) -> anyhow::Result<()> {
    let ours = ours::Ours::build(root, "bench/step")?;
    let recipe = work.recipe(&work.rows(ours.folder())?, None, ours.folder());
    let run = ours.align(&recipe, "run")?;
    let parts = parts::Parts::of(&run.timings);
    let peaks = ours::peaks(root, work.threads)?;
    say(&parts.table(&peaks, work.precision));
    let path = ours.folder().join("step.svg");
    fs_err::write(&path, picture::draw(&parts))?;
    say(&format!("\npicture: {}", path.display()));
    Ok(())
}
