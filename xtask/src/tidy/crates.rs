//! The crate table of `ARCHITECTURE.md` says what the manifests say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::Complaint;
use crate::run::cargo;

/// Which crates of ours a crate may use.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Compares the table with the manifests.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Complaint>> {
    let path = Path::new("ARCHITECTURE.md");
    let drawn = drawn(&fs_err::read_to_string(root.join(path))?);
    let metadata = cargo(root, ["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let built = built(&serde_json::from_slice(&metadata.output()?)?)?;
    let differences = differences(&drawn, &built);
    Ok(differences.into_iter().map(|what| Complaint::new(path, 0, what)).collect())
}

/// The table: rows whose first cell is a name between backticks and nothing else; the second names
/// what it uses.
fn drawn(text: &str) -> Graph {
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(String::from).collect()
    };
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` |")?;
        let uses = rest.split('|').next()?;
        (!name.contains('`')).then(|| (name.to_owned(), names(uses)))
    };
    text.lines().filter_map(row).collect()
}

/// The same from the manifests of the crates under `crates/`; what only tests use does not count.
fn built(metadata: &Value) -> anyhow::Result<Graph> {
    let packages = metadata["packages"].as_array().context("cargo names packages")?;
    let ours: Vec<&Value> = packages
        .iter()
        .filter(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
            manifest.iter().rev().nth(2).is_some_and(|folder| folder == "crates")
        })
        .collect();
    let name = |package: &Value| package["name"].as_str().unwrap_or_default().to_owned();
    let names: BTreeSet<String> = ours.iter().map(|package| name(package)).collect();
    let graph = ours.iter().map(|package| {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let used = dependencies.filter(|dependency| dependency["kind"].is_null()).map(name);
        (name(package), used.filter(|name| names.contains(name)).collect())
    });
    Ok(graph.collect())
}

/// What the table and the manifests do not agree on.
fn differences(drawn: &Graph, built: &Graph) -> Vec<String> {
    let crates: BTreeSet<&String> = drawn.keys().chain(built.keys()).collect();
    let differ = |name: &String| {
        let (drawn, built) = match (drawn.get(name), built.get(name)) {
            (None, _) => return Some(format!("crate `{name}` has no row in the crate table")),
            (_, None) => return Some(format!("the crate table names `{name}`, which is no crate")),
            (Some(drawn), Some(built)) => (drawn, built),
        };
        (drawn != built).then(|| {
            format!(
                "`{name}` uses {built:?}, its row says {drawn:?}; a new edge between crates is a \
                 design decision, so change the table first"
            )
        })
    };
    crates.into_iter().filter_map(differ).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_row_is_named() {
        let table = "| crate | uses |\n|---|---|\n| `base` | - | text with `base` |\n\
                     | `top` | `base`, `gone` | |\n| `gone` | - | |\n\
                     | `base` uses nothing | `top` |\n";
        let dependency = |name: &str, kind: Value| json!({"name": name, "kind": kind});
        let package = |name: &str, dependencies: Value| {
            let manifest = format!("/some/where/crates/{name}/Cargo.toml");
            json!({"name": name, "manifest_path": manifest, "dependencies": dependencies})
        };
        let tool = json!({"name": "tool", "manifest_path": "/some/where/tool/Cargo.toml", "dependencies": []});
        let uses = json!([
            dependency("base", Value::Null),
            dependency("serde", Value::Null),
            dependency("new", json!("dev"))
        ]);
        let metadata = json!({"packages": [
            tool, package("base", json!([])), package("top", uses), package("new", json!([]))
        ]});
        let (drawn, built) = (drawn(table), built(&metadata).unwrap());
        let complaints = differences(&drawn, &built);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert!(complaints[0].contains("names `gone`"));
        assert!(complaints[1].contains("`new` has no row"));
        assert!(complaints[2].contains("`top` uses {\"base\"}"));
        assert_eq!(differences(&built, &built).len(), 0);
    }
}
