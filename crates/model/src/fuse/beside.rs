//! What lies beside the weights of a fused model: the configuration, and files of the base.

use std::path::Path;

use formats::Dtype;

use super::part::Part;
use crate::{Checkpoint, Error, export};

/// Files beside the weights that belong to the model; run folders and repositories hold others too.
const COMPANIONS: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// The folder of the templates that are not the default one.
const MORE_TEMPLATES: &str = "additional_chat_templates";

/// How the names of files start that say what may be done with a model.
const LEGAL: [&str; 3] = ["LICENSE", "NOTICE", "USE_POLICY"];

/// Writes `config.json`: as it stands where no type is asked for, else with that type.
pub(super) fn write_config(
    checkpoint: &Checkpoint,
    parts: &[Part<'_>],
    dtype: Option<Dtype>,
    folder: &Path,
) -> Result<(), Error> {
    let path = folder.join("config.json");
    if dtype.is_none() && checkpoint.gguf().is_none() {
        let bytes = fs_err::read(checkpoint.path().join("config.json"))?;
        return write_file(&path, &bytes);
    }
    let mut config = export::config_json(checkpoint)?;
    // The widest of the matrices; vectors are kept wider than the rest in GGUF files.
    let matrices = parts.iter().filter(|part| 1 < part.view.shape.len());
    let widest = matrices.map(|part| part.written).min().unwrap_or(Dtype::F32);
    let name = match widest {
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        _ => "float32",
    };
    // The older name is kept where it stands: programs of its time know no other.
    let is_old = config.contains_key("torch_dtype") && !config.contains_key("dtype");
    let key = if is_old { "torch_dtype" } else { "dtype" };
    config.remove("torch_dtype");
    config.insert(key.into(), name.into());
    let text = serde_json::to_string_pretty(&config)
        .map_err(|source| Error::Json { path: path.clone(), source })?;
    write_file(&path, (text + "\n").as_bytes())
}

/// Copies what belongs to a model beside its weights and its configuration.
pub(super) fn copy_companions(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_legal = LEGAL.iter().any(|start| name.starts_with(start));
        if entry.path().is_file() && (is_legal || COMPANIONS.contains(&name.as_str())) {
            write_file(&to.join(&name), &fs_err::read(entry.path())?)?;
        }
    }
    let templates = from.join(MORE_TEMPLATES);
    if templates.is_dir() {
        fs_err::create_dir(to.join(MORE_TEMPLATES))?;
        for entry in fs_err::read_dir(templates)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                write_file(&to.join(MORE_TEMPLATES).join(name), &fs_err::read(&path)?)?;
            }
        }
    }
    Ok(())
}

/// Copies what says what may be done with a model.
pub(super) fn copy_legal(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs_err::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && LEGAL.iter().any(|start| name.starts_with(start)) {
            write_file(&to.join(&name), &fs_err::read(&path)?)?;
        }
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs_err::write(path, bytes).map_err(|error| {
        let source = Box::new(formats::Error::Io(error));
        Error::Format(formats::Error::Write { path: path.into(), source })
    })
}
