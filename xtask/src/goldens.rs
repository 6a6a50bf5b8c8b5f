//! Making the reference values, and verifying that the programs they come from still compute them.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use serde_json::Value;

use crate::files;
use crate::run::{Job, say};

/// Scripts that need something that is not kept here; their heads say what, and they are run by
/// hand.
const NEED_INPUT: [&str; 1] = ["make_stories.py"];

/// How far numbers may lie apart relative to the larger one: the programs round f32 differently on
/// other processors.
const SAME_NUMBER: f64 = 1e-5;

/// Makes every golden again, in place.
///
/// # Errors
///
/// If a script fails.
pub fn make(root: &Path, python: &Job) -> anyhow::Result<()> {
    for script in scripts(&root.join("goldens"))? {
        python.clone().args([script]).folder(root).run()?;
    }
    Ok(())
}

/// Makes every golden again in a copy, and compares.
///
/// # Errors
///
/// If a script fails, or a golden differs.
pub fn check(root: &Path, python: &Job) -> anyhow::Result<()> {
    let copy_root = root.join("target/goldens-check");
    if copy_root.exists() {
        fs_err::remove_dir_all(&copy_root)?;
    }
    let (kept, copy) = (root.join("goldens"), copy_root.join("goldens"));
    for path in files::below(&kept)? {
        let target = copy.join(path.strip_prefix(&kept)?);
        if let Some(folder) = target.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::copy(&path, target)?;
    }
    make(&copy_root, python)?;

    let names = |folder: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let paths = files::below(folder)?.into_iter();
        let names = paths.map(|path| Ok(path.strip_prefix(folder)?.to_owned()));
        // Python leaves compiled modules beside those that a script imports.
        let compiled = |path: &PathBuf| path.extension().is_some_and(|has| has == "pyc");
        let names: anyhow::Result<Vec<PathBuf>> = names.collect();
        Ok(names?.into_iter().filter(|path| !compiled(path)).collect())
    };
    let mut differing = Vec::new();
    for name in names(&copy)? {
        if !kept.join(&name).exists() || !same(&kept.join(&name), &copy.join(&name))? {
            differing.push(name.display().to_string());
        }
    }
    ensure!(
        differing.is_empty(),
        "goldens differ from what their programs compute: {}\n\nhint: compare with target/goldens-check",
        differing.join(", ")
    );
    say("goldens are what their programs compute");
    Ok(())
}

/// The scripts that make goldens, in order of their names.
fn scripts(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut scripts = files::with_extension(folder, "py")?;
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    for left_out in NEED_INPUT {
        let before = scripts.len();
        scripts.retain(|path| name(path).as_deref() != Some(left_out));
        if scripts.len() == before {
            bail!("goldens/{left_out} is listed as needing input, but does not exist");
        }
        say(&format!("goldens/{left_out} is left out: run it by hand with its input"));
    }
    Ok(scripts)
}

/// Whether two files hold the same bytes or, if they are JSON, the same numbers.
fn same(kept: &Path, made: &Path) -> anyhow::Result<bool> {
    let (kept_bytes, made_bytes) = (fs_err::read(kept)?, fs_err::read(made)?);
    if kept_bytes == made_bytes {
        return Ok(true);
    }
    if kept.extension().is_none_or(|has| has != "json") {
        return Ok(false);
    }
    Ok(same_value(&serde_json::from_slice(&kept_bytes)?, &serde_json::from_slice(&made_bytes)?))
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= SAME_NUMBER * a.abs().max(b.abs()),
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same_entry =
                |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| same_value(a, b));
            a.len() == b.len() && a.iter().all(same_entry)
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_may_round_differently_and_nothing_else_may() {
        let kept = json!({"source": "torch", "cases": [{"x": 1.0, "y": [0.0, -3e30]}]});
        let near =
            json!({"cases": [{"x": 1.000_001, "y": [0.0, -3.000_003e30]}], "source": "torch"});
        assert!(same_value(&kept, &near));
        for far in [
            json!({"source": "torch", "cases": [{"x": 1.0001, "y": [0.0, -3e30]}]}),
            json!({"source": "torch", "cases": [{"x": 1.0, "y": [1e-30, -3e30]}]}),
            json!({"source": "torch", "cases": [{"x": 1.0, "y": [0.0]}]}),
            json!({"source": "jax", "cases": [{"x": 1.0, "y": [0.0, -3e30]}]}),
            json!({"source": "torch", "cases": [{"x": 1.0, "y": [0.0, -3e30], "z": 1}]}),
        ] {
            assert!(!same_value(&kept, &far), "{far}");
        }
    }
}
