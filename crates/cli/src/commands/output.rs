//! A file of rows that grows: those that were written before stay, and a torn last line goes.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use fs_err as fs;
use serde_json::Value;

use crate::failure::Failure;

/// A file of rows that grows.
pub(super) struct Output {
    path: PathBuf,
    file: fs::File,
    ids: BTreeSet<String>,
}

impl Output {
    /// Opens a file, new or from an earlier run with the same settings.
    ///
    /// # Errors
    ///
    /// A file that something else wrote, or that was written with other settings.
    pub(super) fn open(path: &Path, source: &Value) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut ids = BTreeSet::new();
        for (index, line) in text[..whole].lines().enumerate() {
            let row: Option<Value> = serde_json::from_str(line).ok();
            let (id, was) = match &row {
                Some(row) => (row["id"].as_str(), row.get("source")),
                None => (None, None),
            };
            let (Some(id), Some(was)) = (id, was) else {
                return Err(Failure::NotRows { path: path.into(), line: index + 1 });
            };
            if was != source {
                let (key, was, is) = difference(was, source);
                return Err(Failure::OtherRows { path: path.into(), key, was, is });
            }
            ids.insert(id.to_owned());
        }
        if let Some(folder) = path.parent().filter(|folder| *folder != PathBuf::new()) {
            fs::create_dir_all(folder)?;
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        // What follows the last whole line was torn when the program ended.
        file.set_len(whole as u64)?;
        Ok(Self { path: path.into(), file, ids })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a row was written before.
    pub(super) fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Adds a row; it is on disk when this returns.
    pub(super) fn append(
        &mut self,
        id: &str,
        mut row: Value,
        source: &Value,
    ) -> Result<(), Failure> {
        row["source"] = source.clone();
        self.file.write_all(format!("{row}\n").as_bytes())?;
        self.file.sync_data()?;
        self.ids.insert(id.to_owned());
        Ok(())
    }
}

/// The first setting that differs.
fn difference(was: &Value, is: &Value) -> (String, String, String) {
    let keys = is.as_object().into_iter().flatten().map(|(key, _)| key);
    let differing = keys.into_iter().find(|key| was.get(key.as_str()) != is.get(key.as_str()));
    let key = differing.map_or("source", String::as_str);
    (key.to_owned(), was[key].to_string(), is[key].to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_stay_and_a_torn_line_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/pairs.jsonl");
        let source = json!({"model": "m", "seed": 1});
        let mut output = Output::open(&path, &source).unwrap();
        output.append("a", json!({"id": "a"}), &source).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"id\": \"b")).unwrap();
        let output = Output::open(&path, &source).unwrap();
        assert!(output.has("a") && !output.has("b"));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);

        let other = Output::open(&path, &json!({"model": "m", "seed": 2})).err().unwrap();
        assert_eq!(
            other.to_string(),
            format!("`{}` was written with `seed: 1`, and here it is `2`", path.display())
        );
        fs::write(&path, "{\"prompt\": 1}\n").unwrap();
        assert!(matches!(Output::open(&path, &source), Err(Failure::NotRows { line: 1, .. })));
    }
}
