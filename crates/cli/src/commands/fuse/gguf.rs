//! Fused models and adapters as GGUF files.

use std::{ffi::OsStr, path::Path};

use formats::{
    Dtype,
    gguf::{Metadata, Value},
};
use fs_err as fs;
use model::{Checkpoint, FusedGguf, GgufOptions};
use train::prepare::ModelFiles;

use super::{Adapter, check, modelfile, open_files, says, tell_rounding, whole_folder};
use crate::{args::Fuse, failure::Failure, terminal::Terminal};

/// Below this share of the update a quantized type is refused: the file would behave as the base.
const KEPT_QUANTIZED_MIN: f64 = 0.5;

/// Writes a model as a GGUF file, with a Modelfile beside it, and checks it if asked to.
pub(super) fn run(
    args: &Fuse,
    path: &Path,
    adapter: Option<&Adapter>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let files = open_files(path)?;
    let before =
        args.check.then(|| says(&files, adapter.map(|(adapter, _)| adapter))).transpose()?;
    let metadata = metadata(args, path, adapter, &files)?;
    let (fused, name) = whole_folder(&args.output, |folder, stop| {
        let unnamed = folder.join("model.gguf");
        let options = GgufOptions { file_type: args.dtype, metadata: &metadata, stop };
        let adapter = adapter.map(|(adapter, origin)| (adapter, origin.as_path()));
        let fused = model::fuse_gguf(&files.checkpoint, adapter, &options, &unnamed)
            .map_err(Failure::Fuse)?;
        refuse_erasure(args, &fused)?;
        let name = format!("{}-{}.gguf", stem(&args.output), fused.file_type.name());
        fs::rename(unnamed, folder.join(&name))?;
        let text = modelfile::text(&files, path, &name)?;
        run::atomic::write(&folder.join("Modelfile"), text.as_bytes())?;
        Ok((fused, name))
    })?;
    let written = args.output.join(name);
    tell(&written, &fused, terminal)?;
    match before {
        Some(before) => {
            let dtypes: Vec<Dtype> = fused.matrices.keys().copied().collect();
            check(&written, &before, &dtypes, terminal)
        }
        None => Ok(()),
    }
}

/// What files in the output folder are named after.
fn stem(output: &Path) -> String {
    let whole = fs::canonicalize(output).ok();
    let named = output.file_name().or_else(|| whole.as_deref().and_then(Path::file_name));
    named.unwrap_or(OsStr::new("model")).to_string_lossy().into_owned()
}

/// What the file says of itself, and the tokenizer where the base is no GGUF file itself.
fn metadata(
    args: &Fuse,
    path: &Path,
    adapter: Option<&Adapter>,
    files: &ModelFiles,
) -> Result<Metadata, Failure> {
    let mut metadata = general(args, path, adapter);
    if files.checkpoint.gguf().is_none() {
        let rows = files.checkpoint.config().vocabulary;
        metadata.extend(files.tokenizer.to_gguf(rows, &files.templates)?.metadata());
    }
    Ok(metadata)
}

/// The file's name, and that of the model that it was made of.
fn general(args: &Fuse, path: &Path, adapter: Option<&Adapter>) -> Metadata {
    let text = |text: &str| Value::String(text.to_owned());
    let named = adapter.and_then(|(adapter, _)| adapter.config.base_model_name_or_path.as_deref());
    let base = args.model.as_deref().or(named).unwrap_or_default();
    let mut metadata = vec![("general.name".to_owned(), text(&stem(&args.output)))];
    // A path is nobody's business but this machine's; its last part is the model's name.
    let (owner, name) = match base.split_once('/') {
        Some((owner, name)) if !Path::new(base).exists() && !name.contains('/') => {
            (Some(owner), name.to_owned())
        }
        _ => (None, stem(path)),
    };
    metadata.push(("general.base_model.count".into(), Value::U32(1)));
    metadata.push(("general.base_model.0.name".into(), text(&name)));
    let owner = owner.map(|owner| ("general.base_model.0.organization".into(), text(owner)));
    metadata.extend(owner);
    metadata
}

/// Refuses a quantized file in which the update is lost.
fn refuse_erasure(args: &Fuse, fused: &FusedGguf) -> Result<(), Failure> {
    let kept = fused.rounding.kept();
    let is_quantized = fused.file_type.usual().is_quantized();
    if is_quantized && kept < KEPT_QUANTIZED_MIN && !args.allow_erasure {
        return Err(Failure::Erased { kept, dtype: fused.file_type.name() });
    }
    Ok(())
}

/// Types with how many matrices have each.
fn counts<'a>(types: impl IntoIterator<Item = (&'a Dtype, &'a usize)>) -> String {
    let each = types.into_iter().map(|(dtype, count)| format!("{count} as {dtype}"));
    each.collect::<Vec<_>>().join(", ")
}

/// Says what was written, and what rounding did.
fn tell(written: &Path, fused: &FusedGguf, terminal: &Terminal) -> Result<(), Failure> {
    let linears = match fused.modules {
        0 => "wrote the model".to_owned(),
        modules => format!("fused {modules} linears and wrote the model"),
    };
    terminal.data(&format!(
        "{linears} as {} into `{}`, {}: {} matrices, {}\n",
        fused.file_type.name(),
        written.display(),
        super::super::size(fused.bytes),
        fused.matrices.values().sum::<usize>(),
        counts(&fused.matrices),
    ))?;
    if !fused.replaced.is_empty() {
        terminal.note(&format!(
            "rows of some matrices are no whole blocks of what {} asks for; instead they are stored {}",
            fused.file_type.name(),
            counts(&fused.replaced),
        ));
    }
    let is_quantized = fused.matrices.keys().any(|dtype| dtype.is_quantized());
    let rounding = &fused.rounding;
    match (is_quantized, fused.modules) {
        (false, 0) => Ok(()),
        (false, _) => tell_rounding(rounding, fused.file_type.name(), terminal),
        (true, 0) => terminal.data(&format!(
            "rounding moved the weights by {:.1} % of their norm\n",
            100.0 * rounding.error_share()
        )),
        (true, _) if rounding.asked <= 0.0 => {
            terminal.warn("the adapter changes nothing: its product is zero everywhere");
            Ok(())
        }
        (true, _) => terminal.data(&format!(
            "rounding kept {:.1} % of the update, at a cosine of {:.4}: it also moved the weights by \
             {:.1} % of their norm, {:.1} times the update\n",
            100.0 * rounding.kept(),
            rounding.cosine(),
            100.0 * rounding.error_share(),
            rounding.noise_share(),
        )),
    }
}

/// Writes an adapter alone.
pub(super) fn run_adapter(
    args: &Fuse,
    path: &Path,
    adapter: &Adapter,
    dtype: Dtype,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let base = Checkpoint::open(path).map_err(Failure::Fuse)?;
    let name = format!("{}-{}.gguf", stem(&args.output), dtype.name());
    let metadata = general(args, path, Some(adapter));
    let modules = whole_folder(&args.output, |folder, _| {
        let adapter = (&adapter.0, adapter.1.as_path());
        model::write_gguf_adapter(&base, adapter, dtype, &metadata, &folder.join(&name))
            .map_err(Failure::Fuse)
    })?;
    let written = args.output.join(name);
    terminal.data(&format!(
        "wrote the adapter of {modules} linears as {dtype} into `{}`, {}\n",
        written.display(),
        super::super::size(fs::metadata(&written)?.len()),
    ))
}
