//! The file of paid answers: each is on disk before it counts, and found again by what was asked.

use std::{
    collections::BTreeMap,
    fs::TryLockError,
    io::{Read as _, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::{Answer, Error};

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    /// The name of the request; see [`Endpoint`](crate::Endpoint).
    request: String,
    #[serde(flatten)]
    answer: Answer,
}

/// A file of answers that grows, for many threads of one process.
pub struct Journal {
    inner: Mutex<Inner>,
}

struct Inner {
    file: fs::File,
    answers: BTreeMap<String, Answer>,
}

impl Journal {
    /// Opens a file, new or from an earlier run; a last line that was torn when the program ended
    /// goes.
    ///
    /// # Errors
    ///
    /// [`Error::NotJournal`] for a file that something else wrote, [`Error::Locked`] for one that
    /// another process writes.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::OpenOptions::new().create(true).read(true).append(true).open(path)?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.into() }),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // Through the handle that holds the lock, which keeps out all others on some systems.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut answers = BTreeMap::new();
        for (index, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let Ok(Line { request, answer }) = serde_json::from_slice(line) else {
                return Err(Error::NotJournal { path: path.into(), line: index + 1 });
            };
            // The first one counts, as it did when it came.
            answers.entry(request).or_insert(answer);
        }
        file.set_len(whole as u64)?;
        Ok(Self { inner: Mutex::new(Inner { file, answers }) })
    }

    /// The answer to a request, if there is one.
    pub(crate) fn find(&self, request: &str) -> Option<Answer> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.answers.get(request).cloned()
    }

    /// Keeps an answer; it is on disk when this returns.
    pub(crate) fn keep(&self, request: &str, answer: &Answer) -> Result<(), Error> {
        let line = Line { request: request.to_owned(), answer: answer.clone() };
        let text = serde_json::to_string(&line).map_err(std::io::Error::other)? + "\n";
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.file.write_all(text.as_bytes())?;
        inner.file.sync_data()?;
        inner.answers.insert(line.request, line.answer);
        Ok(())
    }

    /// How many answers there are.
    pub fn count(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).answers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        let text = text.to_owned();
        Answer { text, finish_reason: None, prompt_tokens: 3, completion_tokens: 1 }
    }

    #[test]
    fn answers_stay_and_a_torn_line_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/journal.jsonl");
        let journal = Journal::open(&path).unwrap();
        assert!(matches!(Journal::open(&path).err().unwrap(), Error::Locked { .. }));
        journal.keep("a", &answer("one\ntwo")).unwrap();
        journal.keep("b", &answer("ü")).unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        // Torn anywhere in the last line, even inside a character.
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in first..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let journal = Journal::open(&path).unwrap();
            assert_eq!((journal.count(), journal.find("a")), (1, Some(answer("one\ntwo"))));
            assert_eq!(journal.find("b"), None);
            drop(journal);
            assert_eq!(fs::read(&path).unwrap(), &whole[..first]);
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(Journal::open(&path).unwrap().find("b"), Some(answer("ü")));
    }

    #[test]
    fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        for (text, bad) in [("{\"id\": 1}\n", 1), ("\n", 1), ("hello\nworld\n", 1)] {
            fs::write(&path, text).unwrap();
            let error = Journal::open(&path).err().unwrap();
            assert!(matches!(error, Error::NotJournal { line, .. } if line == bad), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
