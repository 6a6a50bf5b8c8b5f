//! A file of JSON lines that only grows, and can be cut back after a kill.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use fs_err as fs;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// An object of a JSONL file.
pub(crate) type Object = Map<String, Value>;

/// A file of JSON lines, open for appending.
///
/// A line goes to the system in one write, and to the disk with [`Lines::sync`].
#[derive(Debug)]
pub(crate) struct Lines {
    file: fs::File,
}

impl Lines {
    /// Starts a file, or empties it.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: fs::File::create(path)? })
    }

    /// Opens a file to append to, first cutting it after the last object that `keep` wants.
    ///
    /// Reading stops at the first object that `keep` refuses, or at a last line that was cut off
    /// by a kill. Gives the kept objects.
    pub(crate) fn cut(path: &Path, keep: impl Fn(&Object) -> bool) -> Result<(Self, Vec<Object>)> {
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut kept = Vec::new();
        let mut end = 0;
        for object in whole_lines(path, &bytes) {
            let (object, line_end) = object?;
            if !keep(&object) {
                break;
            }
            kept.push(object);
            end = line_end;
        }
        file.set_len(end as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self { file }, kept))
    }

    /// Appends one object as one line.
    pub(crate) fn append(&mut self, object: &Object) -> Result<()> {
        // Keys are strings and numbers are finite, so this has a JSON form.
        let mut line = Value::Object(object.clone()).to_string();
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        Ok(())
    }

    /// Makes what was appended durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.sync_data()?;
        Ok(())
    }
}

/// The objects of a file, skipping a last line without its end.
pub(crate) fn read(path: &Path) -> Result<Vec<Object>> {
    let bytes = fs::read(path)?;
    whole_lines(path, &bytes).map(|object| Ok(object?.0)).collect()
}

/// Each whole line as an object, with the offset of its end.
fn whole_lines<'a>(
    path: &'a Path,
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<(Object, usize)>> + 'a {
    let mut end = 0;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    lines.enumerate().map(move |(index, line)| {
        end += line.len();
        let object = serde_json::from_slice(line).map_err(|source| Error::BadLine {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        Ok((object, end))
    })
}
