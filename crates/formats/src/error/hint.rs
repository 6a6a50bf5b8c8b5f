//! How to mend what is wrong.

use std::io;

use super::{Error, list};
use crate::{Dtype, Signature};

/// Where a file cannot be what its author meant.
const DAMAGED: &str =
    "the file is damaged, or the program that wrote it is wrong; get it again from its source";

/// Where a file stops too early.
const INCOMPLETE: &str = "the file is probably incomplete; download or copy it again";

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { source, .. } | Self::Write { source, .. } => return source.hint(),
            Self::Io(source) => return io_hint(source).map(str::to_owned),
            Self::WrongFormat { found, .. } => return signature_hint(*found).map(str::to_owned),
            Self::MissingTensor { nearest, .. } | Self::MissingKey { nearest, .. }
                if !nearest.is_empty() =>
            {
                return Some(format!("the nearest names are {}", list(nearest)));
            }
            Self::UnknownDtype { .. } => return Some(dtype_hint()),
            Self::GgufVersion { version } if version.trailing_zeros() >= 16 => {
                "the file is big-endian; convert it to little-endian"
            }
            Self::GgufVersion { .. } => "versions 2 and 3 are read; convert the model anew",
            Self::NotAFile | Self::NoSuchFile { .. } => {
                "give a `.safetensors` or `.gguf` file, or a folder that holds the weights"
            }
            Self::Pickle { .. } => {
                "load it in Python where you trust it, and save it with \
                 `safetensors.torch.save_file` or `save_pretrained`"
            }
            Self::Truncated { .. } | Self::Count { .. } => INCOMPLETE,
            Self::MissingShard { .. } | Self::NotInShard { .. } => {
                "download the model again, with all its files"
            }
            Self::HeaderLength { .. }
            | Self::TooLong { .. }
            | Self::Duplicate { .. }
            | Self::ShapeOverflow { .. }
            | Self::PartialBlock { .. }
            | Self::TensorSize { .. }
            | Self::Overlap { .. }
            | Self::Gap { .. }
            | Self::Misaligned { .. }
            | Self::ShardPath { .. }
            | Self::Depth { .. }
            | Self::ValueType { .. }
            | Self::NotUtf8 { .. }
            | Self::Alignment { .. }
            | Self::Dimensions { .. }
            | Self::TokenizerTable { .. }
            | Self::SpecialToken { .. }
            | Self::Merge { .. } => DAMAGED,
            Self::MissingTensor { .. } | Self::ShapeMismatch { .. } => {
                "check that the configuration and the weights belong to the same model"
            }
            Self::AdapterFeature { field, .. } => return Some(adapter_hint(field)),
            Self::AdapterPattern { .. } => {
                "look-around and back-references are not supported; write the pattern without them"
            }
            Self::AdapterTensor { .. } | Self::AdapterMatrix { .. } => {
                "only LoRA on linear layers is supported, named \
                 `base_model.model.<module>.lora_A.weight`; merge other adapters into their base \
                 with PEFT"
            }
            Self::AdapterHalf { .. } | Self::AdapterRank { .. } | Self::EmptyAdapter => {
                "check that `adapter_config.json` and `adapter_model.safetensors` belong together"
            }
            Self::Json { .. }
            | Self::MissingKey { .. }
            | Self::WrongDtype { .. }
            | Self::RowOutOfRange { .. }
            | Self::RowLength { .. }
            | Self::KeyType { .. }
            | Self::AdapterValue { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// The types that a model can be converted to.
fn dtype_hint() -> String {
    let names: Vec<_> = Dtype::ALL.map(|dtype| format!("`{dtype}`")).into();
    format!("convert the model to one of {}", names.join(", "))
}

/// What helps against common failures of the operating system.
fn io_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::NotFound => Some("check the path"),
        io::ErrorKind::PermissionDenied => Some("check who may read and write there"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space on the disk; nothing half written is left")
        }
        io::ErrorKind::FileTooLarge => Some(
            "raise the limit on the size of a file (`ulimit -f`); nothing half written is left",
        ),
        io::ErrorKind::NotADirectory => Some("a part of the path is a file; choose another path"),
        _ => None,
    }
}

/// What helps where a file is of another kind.
fn signature_hint(found: Signature) -> Option<&'static str> {
    Some(match found {
        Signature::LfsPointer => {
            "the repository was cloned without its large files; run `git lfs pull`"
        }
        Signature::Html => "a download was answered with a web page; log in, or check the address",
        Signature::Zip => {
            "it may be a PyTorch pickle; save it in Python with `safetensors.torch.save_file`"
        }
        Signature::Ggml => "convert it to GGUF with the tools of llama.cpp",
        Signature::Empty => INCOMPLETE,
        Signature::Gguf => "give it a name that ends in `.gguf`",
        Signature::Safetensors => "give it a name that ends in `.safetensors`",
        Signature::Json => "give the weights, not their configuration or index",
        Signature::Unknown => return None,
    })
}

/// What helps where an adapter needs something that is not supported.
fn adapter_hint(field: &str) -> String {
    match field {
        "peft_type" => {
            "only LoRA adapters are supported; train one with `peft_type` = `LORA`".into()
        }
        "init_lora_weights" => "such an adapter changes the base weights; save it in PEFT with \
             `path_initial_model_for_weight_conversion`, which makes a plain LoRA of it"
            .into(),
        _ => format!("merge the adapter into its base with PEFT, or train one without `{field}`"),
    }
}
