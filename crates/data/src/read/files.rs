//! From the recipe's `dataset.path` to data files: a file, a folder of shards, a list with weights.

use std::path::{Path, PathBuf};

use super::format::{Format, ending};
use crate::error::Error;
use crate::layout::{Fields, Layout};

/// The largest weight of a source.
pub const WEIGHT_MAX: f64 = 1000.0;

/// How deep a folder is searched; the hub's datasets are at most `config/split/shard`.
const DEPTH_MAX: usize = 3;

/// One part of a dataset, as the recipe names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// A file, or a folder of files.
    pub path: PathBuf,
    /// The split to use, such as `train`; files that name no split are `train`.
    pub split: String,
    /// How often each row is used in an epoch; above 0. With 0.5, half of the rows are used; with
    /// 2.5, each twice and half of them three times.
    pub weight: f64,
    /// How rows are written down.
    pub format: Format,
    /// How a row holds prompt and completions; recognised from the rows where it is not named.
    pub layout: Option<Layout>,
    /// Columns that have other names than the layout's.
    pub fields: Fields,
}

impl Source {
    /// Training data at a path, with everything recognised.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            split: "train".into(),
            weight: 1.0,
            format: Format::Auto,
            layout: None,
            fields: Fields::default(),
        }
    }
}

/// One file of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its path.
    pub path: PathBuf,
    /// The split that its name stands for; nothing where it names none.
    pub split: Option<String>,
}

/// The files of a source for its split, sorted by path.
///
/// A folder's files name their split as `train.jsonl`, `train-00000-of-00002.parquet`,
/// `prefs_test.csv` or `validation/0000.parquet`. Files in a folder that name none are `train`.
///
/// # Errors
///
/// The path is absent or unreadable, holds no data file of a known format, or has no such split.
pub fn files_of(source: &Source) -> Result<Vec<DataFile>, Error> {
    let path = &source.path;
    let Ok(metadata) = fs_err::metadata(path) else {
        return Err(Error::NotFound { path: path.clone() });
    };
    if !metadata.is_dir() {
        // A single file may hold its splits inside, so that its name decides nothing.
        return Ok(vec![DataFile { path: path.clone(), split: None }]);
    }
    let mut found = Vec::new();
    let mut foreign = Vec::new();
    walk(path, DEPTH_MAX, &mut found, &mut foreign)?;
    found.sort();
    if found.is_empty() {
        foreign.sort();
        return Err(match foreign.into_iter().next() {
            Some(other) => Error::UnsupportedFormat { format: ending(&other), path: Some(other) },
            None => Error::NoRows { path: path.clone() },
        });
    }
    choose(path, found, &source.split)
}

/// Keeps the files of one split.
fn choose(root: &Path, found: Vec<PathBuf>, split: &str) -> Result<Vec<DataFile>, Error> {
    let mut files: Vec<DataFile> =
        found.into_iter().map(|path| DataFile { split: split_of(root, &path), path }).collect();
    // A split named in full, such as `train_prefs`, is taken alone.
    let exact = |file: &DataFile| stem(&file.path) == split || parent_is(root, &file.path, split);
    if files.iter().any(exact) {
        files.retain(exact);
        return Ok(files);
    }
    let name = |file: &DataFile| file.split.clone().unwrap_or_else(|| "train".into());
    let mut available: Vec<String> = files.iter().map(name).collect();
    available.sort();
    available.dedup();
    files.retain(|file| same_split(&name(file), split));
    if files.is_empty() {
        return Err(Error::NoSplit {
            path: root.to_owned(),
            split: split.to_owned(),
            available: available.join(", "),
        });
    }
    Ok(files)
}

fn walk(
    folder: &Path,
    depth: usize,
    found: &mut Vec<PathBuf>,
    foreign: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if fs_err::metadata(&path)?.is_dir() {
            if 1 < depth {
                walk(&path, depth - 1, found, foreign)?;
            }
            continue;
        }
        let ending = ending(&path);
        if Format::from_ending(&ending).is_some() {
            // Descriptions beside the data are JSON and no rows.
            if !is_description(&name) {
                found.push(path);
            }
        } else if is_foreign(&ending) {
            foreign.push(path);
        }
    }
    Ok(())
}

/// Files beside the data that are JSON and no rows.
fn is_description(name: &str) -> bool {
    matches!(
        name,
        "dataset_info.json"
            | "dataset_infos.json"
            | "dataset_dict.json"
            | "state.json"
            | "metadata.json"
            | "config.json"
            | "data.json"
    )
}

/// Endings that data files of other formats have.
fn is_foreign(ending: &str) -> bool {
    matches!(
        ending,
        "arrow"
            | "feather"
            | "txt"
            | "gz"
            | "zst"
            | "zip"
            | "bz2"
            | "xz"
            | "xlsx"
            | "xls"
            | "ods"
            | "pkl"
            | "pickle"
            | "db"
            | "sqlite"
            | "avro"
            | "orc"
            | "yaml"
            | "yml"
            | "xml"
    )
}

/// A file's name without ending and without the numbers of its shard.
fn stem(path: &Path) -> String {
    let name = path.file_stem().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut words: Vec<&str> = name.split('-').collect();
    if let [.., first, "of", last] = words.as_slice()
        && is_number(first)
        && is_number(last)
    {
        words.truncate(words.len() - 3);
    }
    let name = words.join("-");
    match name.rsplit_once(['-', '_', '.']) {
        Some((head, tail)) if is_number(tail) => head.to_owned(),
        _ if is_number(&name) => String::new(),
        _ => name,
    }
}

fn parent_is(root: &Path, path: &Path, split: &str) -> bool {
    path.parent()
        .filter(|parent| *parent != root)
        .and_then(Path::file_name)
        .is_some_and(|name| name.to_string_lossy() == split)
}

/// The split that a file's name, else its folder's name, stands for.
fn split_of(root: &Path, path: &Path) -> Option<String> {
    let parent = path
        .parent()
        .filter(|parent| *parent != root)
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    let stem = stem(path);
    let words = stem.split(['-', '_', '.', ' ']);
    words.chain(parent.as_deref()).find_map(|word| split_word(word).map(str::to_owned))
}

/// The split a word stands for, one name for its synonyms.
pub(super) fn split_word(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "train" | "training" => "train",
        "validation" | "valid" | "val" | "dev" | "eval" | "evaluation" => "validation",
        "test" | "testing" => "test",
        _ => return None,
    })
}

/// Whether two names mean one split.
pub(super) fn same_split(one: &str, other: &str) -> bool {
    one == other || matches!((split_word(one), split_word(other)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_shards_lose_their_numbers() {
        for (name, wanted) in [
            ("train-00000-of-00002.parquet", "train"),
            ("train_prefs-00000-of-00001.parquet", "train_prefs"),
            ("0000.parquet", ""),
            ("part-7.jsonl", "part"),
            ("train.jsonl", "train"),
            ("my-train_01.csv", "my-train"),
            ("of-2.csv", "of"),
        ] {
            assert_eq!(stem(Path::new(name)), wanted, "{name}");
        }
    }

    #[test]
    fn a_split_is_found_in_the_name_or_in_the_folder() {
        let root = Path::new("d");
        for (path, wanted) in [
            ("d/train-00000-of-00002.parquet", Some("train")),
            ("d/prefs_test.csv", Some("test")),
            ("d/valid.jsonl", Some("validation")),
            ("d/default/dev/0000.parquet", Some("validation")),
            ("d/contest.jsonl", None),
            ("d/a.jsonl", None),
        ] {
            assert_eq!(split_of(root, Path::new(path)).as_deref(), wanted, "{path}");
        }
    }
}
