//! The reference's log-probabilities, kept on disk.
//!
//! A store belongs to one way of computing them: weights, quantization, precision, kernel path,
//! version of the numerics, and reference adapter. An entry belongs to one completion after one
//! prompt. So a killed run goes on where it was, a sweep pays once, and an edited row costs one row.
//!
//! A store is a folder of segment files. Each writer has a segment of its own, so that concurrent
//! runs share a store without locks; a record is 48 bytes with a checksum, and a torn tail is
//! skipped.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::Error;

/// Changes when a kernel's numbers change, so that no stale entry is ever used.
const NUMERICS_VERSION: u32 = 2;

const RECORD_BYTES: usize = 48;

/// The name of one completion after one prompt.
pub type EntryKey = [u8; 32];

/// What an entry's number depends on, beside its tokens.
#[derive(Clone, Debug)]
pub struct StoreKey {
    /// Fingerprint of weights and configuration.
    pub weights: String,
    /// Precision and kernel path, as `bf16/avx512bf16`.
    pub path: String,
    /// Fingerprint of the reference adapter, if the reference has one.
    pub adapter: Option<String>,
}

impl StoreKey {
    /// The folder name of the store.
    pub fn folder(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("trueup 2026 reference store");
        hasher.update(&NUMERICS_VERSION.to_le_bytes());
        for part in [&self.weights, &self.path, self.adapter.as_ref().unwrap_or(&String::new())] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// The name of a completion: a hash of prompt and completion ids, and of where scoring begins.
pub fn entry_key(prompt: &[u32], completion: &[u32], unscored: usize) -> EntryKey {
    let mut hasher = blake3::Hasher::new_derive_key("trueup 2026 reference entry");
    for ids in [prompt, completion] {
        hasher.update(&(ids.len() as u64).to_le_bytes());
        for id in ids {
            hasher.update(&id.to_le_bytes());
        }
    }
    hasher.update(&(unscored as u64).to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// Log-probabilities by completion; on disk if it has a folder.
#[derive(Debug, Default)]
pub struct ReferenceStore {
    entries: BTreeMap<EntryKey, f64>,
    segment: Option<Segment>,
    damaged: usize,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: Option<fs_err::File>,
}

impl ReferenceStore {
    /// A store that lives as long as the run.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Opens a store in a folder, and reads what earlier runs left there.
    ///
    /// # Errors
    ///
    /// A folder that cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        fs_err::create_dir_all(folder).map_err(Error::Store)?;
        let mut entries = BTreeMap::new();
        let mut damaged = 0;
        let mut paths: Vec<PathBuf> =
            fs_err::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "log")) {
            let bytes = fs_err::read(path)?;
            for record in bytes.chunks_exact(RECORD_BYTES).map(parse) {
                damaged += usize::from(record.is_none());
                entries.extend(record);
            }
        }
        let free = (0..=u32::MAX)
            .map(|index| folder.join(format!("{index:05}.log")))
            .find(|path| !path.exists());
        let segment = free.map(|path| Segment { path, file: None });
        Ok(Self { entries, segment, damaged })
    }

    /// Number of records on disk that are not what was written; none of them is used.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// The log-probability of a completion, if it is known.
    pub fn get(&self, key: &EntryKey) -> Option<f64> {
        self.entries.get(key).copied()
    }

    /// Number of completions known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds what a pass computed, on disk first.
    ///
    /// # Errors
    ///
    /// A segment that cannot be written.
    pub fn insert(&mut self, new: &[(EntryKey, f64)]) -> Result<(), Error> {
        if let Some(segment) = &mut self.segment {
            let bytes: Vec<u8> = new.iter().flat_map(|(key, logp)| record(key, *logp)).collect();
            segment.file()?.write_all(&bytes).map_err(Error::Store)?;
        }
        self.entries.extend(new.iter().copied());
        Ok(())
    }
}

impl Segment {
    /// The file, made when the first record comes; the next free number if another run took ours.
    fn file(&mut self) -> Result<&mut fs_err::File, Error> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.create()?,
        };
        Ok(self.file.insert(file))
    }

    fn create(&mut self) -> Result<fs_err::File, Error> {
        let folder = self.path.parent().map(Path::to_path_buf).unwrap_or_default();
        for index in 0_u32.. {
            let path = folder.join(format!("{index:05}.log"));
            match fs_err::OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    self.path = path;
                    return Ok(file);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::Store(error)),
            }
        }
        Err(Error::Store(std::io::Error::other("no free segment number")))
    }
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(bytes);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.as_bytes()[..8]);
    sum
}

fn record(key: &EntryKey, logp: f64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..32].copy_from_slice(key);
    bytes[32..40].copy_from_slice(&logp.to_le_bytes());
    let sum = checksum(&bytes[..40]);
    bytes[40..].copy_from_slice(&sum);
    bytes
}

fn parse(bytes: &[u8]) -> Option<(EntryKey, f64)> {
    let (body, sum) = bytes.split_at(40);
    if checksum(body) != sum {
        return None;
    }
    let key = body[..32].try_into().ok()?;
    let logp = f64::from_le_bytes(body[32..].try_into().ok()?);
    Some((key, logp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_and_a_torn_tail_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (entry_key(&[1, 2], &[3], 0), entry_key(&[1], &[2, 3], 0));
        assert_ne!(one, two);
        let mut store = ReferenceStore::open(folder.path()).unwrap();
        store.insert(&[(one, -1.5)]).unwrap();
        let mut other = ReferenceStore::open(folder.path()).unwrap();
        other.insert(&[(two, -2.5)]).unwrap();
        let torn = folder.path().join("00001.log");
        let bytes = fs_err::read(&torn).unwrap();
        fs_err::write(&torn, [&bytes[..], &bytes[..20]].concat()).unwrap();

        let again = ReferenceStore::open(folder.path()).unwrap();
        assert_eq!((again.get(&one), again.get(&two), again.len()), (Some(-1.5), Some(-2.5), 2));
    }

    #[test]
    fn a_flipped_bit_loses_its_entry_alone() {
        let folder = tempfile::tempdir().unwrap();
        let keys = [entry_key(&[1], &[2], 0), entry_key(&[1], &[3], 0)];
        ReferenceStore::open(folder.path()).unwrap().insert(&keys.map(|key| (key, -1.0))).unwrap();
        let path = folder.path().join("00000.log");
        let mut bytes = fs_err::read(&path).unwrap();
        bytes[35] ^= 1;
        fs_err::write(&path, bytes).unwrap();
        let again = ReferenceStore::open(folder.path()).unwrap();
        assert_eq!((again.get(&keys[0]), again.get(&keys[1])), (None, Some(-1.0)));
        assert_eq!(again.damaged(), 1);
    }
}
