//! Tokens kept on disk between runs.
//!
//! An entry's name is the hash of everything that decides its tokens: the records, the tokenizer,
//! the chat templates with their date, and the template setting. Lengths are not part of it; cutting
//! is cheap and happens each time. Entries are written to a temporary name and renamed, so runs may
//! share the folder; an entry that is broken in any way is made again.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::record::{Content, Record};
use crate::tokenize::{Seamed, Tokenization};

/// Raised with every change of tokens or of the file's layout.
const VERSION: u32 = 1;

/// The first bytes of an entry.
const MAGIC: &[u8; 8] = b"TUTOKENS";

/// A folder of entries.
#[derive(Clone, Debug)]
pub struct TokenCache {
    folder: PathBuf,
}

/// One record's tokens or why it has none, as an entry keeps them.
pub(crate) type Kept = Result<Seamed, String>;

/// What the cache has under a name.
#[derive(Debug, PartialEq)]
pub(crate) enum Entry {
    /// Nothing.
    Absent,
    /// Bytes that are not what was written.
    Damaged,
    /// One entry a record.
    Sound(Vec<Kept>),
}

impl TokenCache {
    /// The cache in a folder, which is made when the first entry is.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file of an entry.
    pub fn path(&self, key: &blake3::Hash) -> PathBuf {
        self.folder.join(format!("{}.tokens", key.to_hex()))
    }

    /// The name of the entry for these records.
    pub fn key(&self, tokenization: &Tokenization<'_>, records: &[Record]) -> blake3::Hash {
        let mut hasher = Hasher(blake3::Hasher::new());
        hasher.number(u64::from(VERSION));
        hasher.bytes(tokenization.tokenizer.content_hash().as_bytes());
        hasher.number(tokenization.settings.chat_template as u64);
        hasher.number(u64::from(tokenization.settings.drop_untokenizable));
        for (name, template) in tokenization.templates.iter() {
            hasher.bytes(name.as_bytes());
            hasher.bytes(template.source().as_bytes());
            if template.asks_for_date() {
                hasher.bytes(template.now().to_string().as_bytes());
            }
        }
        hasher.number(records.len() as u64);
        for record in records {
            hasher.record(record);
        }
        hasher.0.finalize()
    }

    /// The entry's tokens, one entry a record.
    pub(crate) fn load(&self, key: &blake3::Hash, records: usize) -> Entry {
        match fs_err::read(self.path(key)) {
            Ok(bytes) => parse(&bytes, records).map_or(Entry::Damaged, Entry::Sound),
            Err(_) => Entry::Absent,
        }
    }

    /// Writes an entry: whole or not at all.
    pub(crate) fn store(&self, key: &blake3::Hash, kept: &[Kept]) -> std::io::Result<()> {
        let mut body = MAGIC.to_vec();
        put_number(&mut body, VERSION);
        put_number(&mut body, kept.len() as u32);
        for entry in kept {
            put_kept(&mut body, entry);
        }
        let checksum = blake3::hash(&body);
        body.extend_from_slice(checksum.as_bytes());
        fs_err::create_dir_all(&self.folder)?;
        write_whole(&self.folder, &self.path(key), &body)
    }
}

/// The entries of a file, if every byte is what was written.
fn parse(bytes: &[u8], records: usize) -> Option<Vec<Kept>> {
    let (body, checksum) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(body) != *checksum {
        return None;
    }
    let mut reader = Reader(body.strip_prefix(MAGIC)?);
    if reader.number()? != VERSION || reader.number()? as usize != records {
        return None;
    }
    let kept: Option<Vec<Kept>> = (0..records).map(|_| reader.kept()).collect();
    kept.filter(|_| reader.0.is_empty())
}

fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Hashes parts so that no two different sequences of parts are the same bytes.
struct Hasher(blake3::Hasher);

impl Hasher {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn json(&mut self, value: &Value) {
        self.bytes(value.to_string().as_bytes());
    }

    fn record(&mut self, record: &Record) {
        self.content(&record.prompt);
        self.number(record.completions.len() as u64);
        for completion in &record.completions {
            self.content(completion);
        }
        self.json(record.tools.as_ref().unwrap_or(&Value::Null));
        self.number(record.template_kwargs.len() as u64);
        for (name, value) in &record.template_kwargs {
            self.bytes(name.as_bytes());
            self.json(value);
        }
    }

    fn content(&mut self, content: &Content) {
        match content {
            Content::Text(text) => {
                self.number(0);
                self.bytes(text.as_bytes());
            }
            Content::Messages(messages) => {
                self.number(1);
                self.number(messages.len() as u64);
                for message in messages {
                    self.json(message);
                }
            }
            Content::Tokens(ids) => {
                self.number(2);
                self.number(ids.len() as u64);
                for id in ids {
                    self.0.update(&id.to_le_bytes());
                }
            }
        }
    }
}

fn put_number(body: &mut Vec<u8>, number: u32) {
    body.extend_from_slice(&number.to_le_bytes());
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    put_number(body, text.len() as u32);
    body.extend_from_slice(text.as_bytes());
}

fn put_ids(body: &mut Vec<u8>, ids: &[u32]) {
    put_number(body, ids.len() as u32);
    body.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
}

/// How a record starts in an entry.
const HAS_NO_TOKENS: u32 = 0;
const HAS_TOKENS: u32 = 1;
const HAS_MOVED_END: u32 = 2;
const LOSES_TEXT: u32 = 4;

fn put_kept(body: &mut Vec<u8>, kept: &Kept) {
    let seamed = match kept {
        Ok(seamed) => seamed,
        Err(why) => {
            put_number(body, HAS_NO_TOKENS);
            put_text(body, why);
            return;
        }
    };
    let moved = if seamed.moved_end.is_some() { HAS_MOVED_END } else { 0 };
    let loses = if seamed.loses_text { LOSES_TEXT } else { 0 };
    put_number(body, HAS_TOKENS | moved | loses);
    put_ids(body, &seamed.prompt);
    put_number(body, seamed.completions.len() as u32);
    for completion in &seamed.completions {
        put_ids(body, completion);
    }
    if let Some(end) = &seamed.moved_end {
        put_text(body, end);
    }
}

/// What is left to read; every length is checked against it.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(bytes.to_vec()).ok()
    }

    fn ids(&mut self) -> Option<Vec<u32>> {
        let count = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(count.checked_mul(4)?)?;
        self.0 = rest;
        Some(bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect())
    }

    fn kept(&mut self) -> Option<Kept> {
        let flags = self.number()?;
        if flags == HAS_NO_TOKENS {
            return Some(Err(self.text()?));
        }
        let prompt = self.ids()?;
        let count = self.number()?;
        let completions = (0..count).map(|_| self.ids()).collect::<Option<_>>()?;
        let moved_end = if flags & HAS_MOVED_END == 0 { None } else { Some(self.text()?) };
        let loses_text = flags & LOSES_TEXT != 0;
        Some(Ok(Seamed { prompt, completions, moved_end, loses_text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept() -> impl Strategy<Value = Kept> {
        let ids = || prop::collection::vec(any::<u32>(), 0..5);
        let seamed =
            (ids(), prop::collection::vec(ids(), 0..4), prop::option::of(".{0,5}"), any::<bool>())
                .prop_map(|(prompt, completions, moved_end, loses_text)| Seamed {
                    prompt,
                    completions,
                    moved_end,
                    loses_text,
                });
        prop_oneof![seamed.prop_map(Ok), ".{0,9}".prop_map(Err)]
    }

    fn cache() -> (tempfile::TempDir, TokenCache, blake3::Hash) {
        let folder = tempfile::tempdir().unwrap();
        let cache = TokenCache::new(folder.path().join("tokens"));
        (folder, cache, blake3::hash(b"key"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_is_stored_is_loaded(entries in prop::collection::vec(kept(), 0..6)) {
            let (_folder, cache, key) = cache();
            prop_assert_eq!(cache.load(&key, entries.len()), Entry::Absent);
            cache.store(&key, &entries).unwrap();
            prop_assert_eq!(cache.load(&key, entries.len()), Entry::Sound(entries.clone()));
            prop_assert_eq!(cache.load(&key, entries.len() + 1), Entry::Damaged);
        }

        #[test]
        fn a_broken_entry_is_no_entry(
            entries in prop::collection::vec(kept(), 1..4), at in any::<prop::sample::Index>(), flip in 1_u8..,
        ) {
            let (_folder, cache, key) = cache();
            cache.store(&key, &entries).unwrap();
            let mut bytes = fs_err::read(cache.path(&key)).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            fs_err::write(cache.path(&key), &bytes).unwrap();
            prop_assert_eq!(cache.load(&key, entries.len()), Entry::Damaged);
            fs_err::write(cache.path(&key), &bytes[..at]).unwrap();
            prop_assert_eq!(cache.load(&key, entries.len()), Entry::Damaged);
        }
    }
}
