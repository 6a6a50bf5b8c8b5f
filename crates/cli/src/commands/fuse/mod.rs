//! `trueup fuse`: an adapter put into the weights of its base.

mod check;
mod gguf;
mod modelfile;

use std::path::{Path, PathBuf};

use formats::{Dtype, gguf::FileType, peft};
use fs_err as fs;
use model::{Checkpoint, FuseOptions, Fused, Rounding};
use train::prepare::ModelFiles;

use super::generate::model_path;
use crate::{
    args::{Format, Fuse},
    failure::Failure,
    signals::Signals,
    terminal::Terminal,
};
use check::{check, open_files, says};

/// Below this share of the update the user is warned.
const KEPT_MIN: f64 = 0.9;

/// Writes the fused model, and checks it if asked to.
pub(super) fn run(args: &Fuse, terminal: &Terminal) -> Result<(), Failure> {
    let dtype = plain_type(args)?;
    let adapter = args.adapter.as_ref().map(|folder| Ok((peft::read(folder)?, folder.clone())));
    let adapter: Option<Adapter> =
        adapter.transpose().map_err(|error: formats::Error| Failure::Fuse(error.into()))?;
    let path = model_path(args.model.as_deref(), adapter.as_ref().map(|(adapter, _)| adapter))?;
    expect_free(&args.output)?;
    match (args.format, &adapter) {
        (Format::Gguf, adapter) => gguf::run(args, &path, adapter.as_ref(), terminal),
        (_, None) => Err(Failure::NoAdapter),
        (Format::GgufAdapter, Some(adapter)) => {
            gguf::run_adapter(args, &path, adapter, dtype.unwrap_or(Dtype::F32), terminal)
        }
        (Format::Safetensors, Some(adapter)) => folder(args, &path, adapter, dtype, terminal),
    }
}

/// An adapter and where it lies.
type Adapter = (peft::Adapter, PathBuf);

/// The type where no blocks are allowed; flags that would do nothing are refused.
fn plain_type(args: &Fuse) -> Result<Option<Dtype>, Failure> {
    let dtype = args.dtype.map(FileType::usual);
    let is_quantized = dtype.is_some_and(Dtype::is_quantized);
    let useless = |flag, when, hint| Err(Failure::Useless { flag, when, hint });
    if let Some(file_type) = args.dtype.filter(|_| is_quantized && args.format != Format::Gguf) {
        let (dtype, format) = (file_type.name(), args.format.to_string());
        return Err(Failure::WrongType { dtype, format });
    }
    if args.allow_erasure && !(is_quantized && args.adapter.is_some()) {
        return useless(
            "--allow-erasure",
            "unless an adapter is rounded into a quantized type",
            "leave it away",
        );
    }
    if args.format != Format::Safetensors && args.max_shard_size.is_some() {
        return useless("--max-shard-size", "on GGUF files", "leave it away: it is one file");
    }
    if args.format == Format::GgufAdapter && args.check {
        return useless(
            "--check",
            "on an adapter, which is copied as it is",
            "check the fused model, with `--format gguf`",
        );
    }
    Ok(dtype)
}

/// A fused model as a Hugging Face folder.
fn folder(
    args: &Fuse,
    path: &Path,
    adapter: &Adapter,
    dtype: Option<Dtype>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let base = Base::open(path, args.check)?;
    let before = match &base {
        Base::Whole(files) if args.check => Some(says(files, Some(&adapter.0))?),
        _ => None,
    };
    let fused = write(args, &base, adapter, dtype)?;
    tell(args, &fused, terminal)?;
    match before {
        Some(before) => check(&args.output, &before, &fused.dtypes, terminal),
        None => Ok(()),
    }
}

/// The base model: its tokenizer is opened only where it is needed.
enum Base {
    Whole(Box<ModelFiles>),
    Bare(Box<Checkpoint>),
}

impl Base {
    fn open(path: &Path, needs_tokenizer: bool) -> Result<Self, Failure> {
        if needs_tokenizer || !path.is_dir() {
            return Ok(Self::Whole(Box::new(open_files(path)?)));
        }
        let bare = Checkpoint::open(path).map_err(Failure::Fuse)?;
        Ok(Self::Bare(Box::new(bare)))
    }

    fn checkpoint(&self) -> &Checkpoint {
        match self {
            Self::Whole(files) => &files.checkpoint,
            Self::Bare(checkpoint) => checkpoint,
        }
    }
}

/// Refuses a place where something is.
fn expect_free(output: &Path) -> Result<(), Failure> {
    if let Some(file) = output.ancestors().find(|part| part.is_file()) {
        return Err(Failure::UnderFile { path: output.into(), file: file.into() });
    }
    if output.is_dir() && fs::read_dir(output)?.next().is_some() {
        return Err(Failure::Occupied { path: output.into() });
    }
    Ok(())
}

/// Makes the output folder beside its place and then gives it its name.
///
/// `fill` gets the folder, and what says that the user wants to stop.
fn whole_folder<T>(
    output: &Path,
    fill: impl FnOnce(&Path, &dyn Fn() -> bool) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let signals = Signals::listen()?;
    if let Some(parent) = output.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    run::atomic::folder(output, |folder| {
        let filled = fill(folder, &|| signals.received().is_some());
        if let Some(signal) = signals.received() {
            return Err(Failure::Unfinished { signal });
        }
        let filled = filled?;
        expect_free(output)?;
        Ok(filled)
    })
}

/// Writes the model.
fn write(
    args: &Fuse,
    base: &Base,
    (adapter, origin): &Adapter,
    dtype: Option<Dtype>,
) -> Result<Fused, Failure> {
    whole_folder(&args.output, |folder, stop| {
        let options = FuseOptions { dtype, shard_bytes: args.max_shard_size, stop };
        let done = model::fuse(base.checkpoint(), adapter, origin, &options, folder);
        let fused = done.map_err(Failure::Fuse)?;
        if let Base::Whole(files) = base
            && files.checkpoint.gguf().is_some()
        {
            files.write_tokenizer(folder)?;
        }
        Ok(fused)
    })
}

/// Says what was written, and what rounding did.
fn tell(args: &Fuse, fused: &Fused, terminal: &Terminal) -> Result<(), Failure> {
    let types = fused.dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ");
    let plural = if fused.files == 1 { "file" } else { "files" };
    terminal.data(&format!(
        "fused {} linears as {types} into `{}`: {} {plural}, {}\n",
        fused.modules,
        args.output.display(),
        fused.files,
        super::size(fused.bytes),
    ))?;
    tell_rounding(&fused.rounding, &types, terminal)
}

/// Says what rounding to plain types did to an update.
fn tell_rounding(rounding: &Rounding, types: &str, terminal: &Terminal) -> Result<(), Failure> {
    if rounding.asked <= 0.0 {
        terminal.warn("the adapter changes nothing: its product is zero everywhere");
        return Ok(());
    }
    terminal.data(&format!(
        "rounding kept {:.1} % of the update: {:.1} % of its norm, at a cosine of {:.4}\n",
        100.0 * rounding.kept(),
        100.0 * rounding.norm_share(),
        rounding.cosine(),
    ))?;
    if rounding.kept() < KEPT_MIN {
        terminal.print(&format!(
            "warning: rounding to {types} erased {:.1} % of the adapter's update\n\
             \x20 because: changes below half a unit in a weight's last place are lost\n\
             hint: write wider weights with `--dtype f32`\n",
            100.0 * (1.0 - rounding.kept()),
        ));
    }
    Ok(())
}
