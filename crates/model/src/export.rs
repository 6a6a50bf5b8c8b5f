//! Writing a fully trained model as a Hugging Face folder.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use formats::{Dtype, safetensors};
use serde_json::{Map, Value};

use crate::{Checkpoint, Error, Policy, families};

/// Writes `config.json` and `model.safetensors` (f32) of a fully trained model.
///
/// A `config.json` beside the original weights is copied and only its dtype changed; from a GGUF
/// it is made anew. Tokenizer files are the caller's.
///
/// # Errors
///
/// A file that cannot be read or written.
pub fn write_folder(policy: &Policy, checkpoint: &Checkpoint, folder: &Path) -> Result<(), Error> {
    fs_err::create_dir_all(folder)?;
    let mut config = config_json(checkpoint)?;
    config.remove("torch_dtype");
    config.insert("dtype".into(), "float32".into());
    let text = serde_json::to_string_pretty(&config)
        .map_err(|source| Error::Json { path: folder.join("config.json"), source })?;
    formats::write_text(&folder.join("config.json"), &(text + "\n"))?;
    let arena = policy.arena();
    let layouts: Vec<_> = arena
        .slots()
        .iter()
        .map(|slot| safetensors::Layout {
            name: slot.name.clone(),
            dtype: Dtype::F32,
            shape: slot.file_shape(),
        })
        .collect();
    safetensors::write_with(folder.join(safetensors::MODEL_FILE), &layouts, &metadata(), |index| {
        Ok::<_, Error>(Cow::Owned(little_endian(&arena.file_value(index))))
    })
}

/// What PEFT and transformers expect in a file's metadata.
pub(crate) fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

/// Numbers as the file holds them.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(crate) fn config_json(checkpoint: &Checkpoint) -> Result<Map<String, Value>, Error> {
    let path = checkpoint.path().join("config.json");
    if checkpoint.gguf().is_some() {
        return families::config_json(checkpoint.path(), checkpoint.config());
    }
    families::json(&path)
}
