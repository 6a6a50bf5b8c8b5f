//! The index of a model in shards: reading and writing.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use super::{Checkpoint, File};
use crate::{Error, Result};

/// Longest index that is read; that of the largest published models has about ten megabytes.
const INDEX_BYTES_MAX: u64 = 256 << 20;

/// The JSON of an index; its `metadata` is not needed.
#[derive(serde::Deserialize)]
struct Index {
    /// The shard of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Writes the index of shards into their folder: each shard by its name, with its tensors.
///
/// `total_size` is what all tensors take, in bytes.
///
/// # Errors
///
/// [`Error::Write`] with the file, whose source is [`Error::Io`].
pub fn write_index(folder: &Path, shards: &[(String, Vec<String>)], total_size: u64) -> Result<()> {
    let path = folder.join(super::INDEX_FILE);
    let places =
        shards.iter().flat_map(|(shard, names)| names.iter().map(move |name| (name, shard)));
    let weight_map: BTreeMap<_, _> = places.collect();
    let index = serde_json::json!({
        "metadata": {"total_size": total_size},
        "weight_map": weight_map,
    });
    let text = serde_json::to_string_pretty(&index)
        .map_err(|source| Error::Json { what: "the index".into(), source }.writing(&path))?;
    crate::write_text(&path, &(text + "\n"))
}

/// Opens every shard that an index names.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let index = read(path)?;
    let checkpoint = open_shards(path, &index)?;
    for (name, shard) in &index.weight_map {
        let inside = checkpoint.places.get(name).is_some_and(|&(file, _)| {
            checkpoint.files[file].path.file_name() == Path::new(shard).file_name()
        });
        if !inside {
            let error = Error::NotInShard { name: name.clone(), shard: shard.clone() };
            return Err(error.reading(path));
        }
    }
    Ok(checkpoint)
}

/// Reads an index.
fn read(path: &Path) -> Result<Index> {
    let read = || {
        let size = fs_err::metadata(path)?.len();
        if size > INDEX_BYTES_MAX {
            let limit = INDEX_BYTES_MAX;
            return Err(Error::TooLong { what: "the index", length: size, limit });
        }
        let text = fs_err::read(path)?;
        serde_json::from_slice(&text)
            .map_err(|source| Error::Json { what: "the index".into(), source })
    };
    read().map_err(|error| error.reading(path))
}

/// Opens each shard once, in the order of their names.
fn open_shards(path: &Path, index: &Index) -> Result<Checkpoint> {
    let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
    for shard in index.weight_map.values() {
        *shards.entry(shard).or_default() += 1;
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files = Vec::with_capacity(shards.len());
    for (shard, tensor_count) in shards {
        if !is_plain_name(shard) {
            return Err(Error::ShardPath { shard: shard.to_owned() }.reading(path));
        }
        let file = folder.join(shard);
        if !file.exists() {
            let error = Error::MissingShard { shard: shard.to_owned(), tensor_count };
            return Err(error.reading(path));
        }
        files.push(File::open(&file)?);
    }
    Checkpoint::from_files(files)
}

/// Whether a name stays in its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && !name.contains(['/', '\\'])
}
