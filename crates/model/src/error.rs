//! What can go wrong with a model.

use std::path::PathBuf;

/// What can go wrong while a model is loaded, adapted or saved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing at the path.
    #[error("model not found at `{}`", path.display())]
    NotFound {
        /// The path as the user gave it.
        path: PathBuf,
    },
    /// A folder has no file that we can read weights from.
    #[error("`{}` holds no model: {missing} is missing", path.display())]
    Incomplete {
        /// The folder.
        path: PathBuf,
        /// The file that was looked for.
        missing: &'static str,
    },
    /// A folder holds an adapter where a model is wanted.
    #[error("`{}` holds an adapter, not a model", path.display())]
    AdapterAlone {
        /// The folder.
        path: PathBuf,
    },
    /// The configuration names an architecture that is not supported.
    #[error("architecture `{name}` is not supported")]
    Architecture {
        /// Its name in the file.
        name: String,
        /// The names that are supported.
        known: Vec<&'static str>,
    },
    /// A family for which no GGUF file can be written from a folder.
    #[error("a GGUF file of a `{family}` model cannot be made from a folder")]
    NoGguf {
        /// The family, as `model_type` names it.
        family: &'static str,
    },
    /// A family for which no folder can be written from a GGUF file.
    #[error("a folder of a `{family}` model cannot be made from a GGUF file")]
    NoFolder {
        /// The family, as `model_type` names it.
        family: &'static str,
    },
    /// A setting of the configuration changes the computation in a way that is not supported.
    #[error("`{key} = {value}` in `{}` is not supported", path.display())]
    Setting {
        /// The configuration file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value there.
        value: String,
    },
    /// A configuration value is missing or makes no sense.
    #[error("`{}` is not a usable configuration: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{name}` has shape {found:?}, the configuration asks for {wanted:?}")]
    Shape {
        /// The tensor's name in the file.
        name: String,
        /// Its shape there.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        wanted: Vec<usize>,
    },
    /// A tensor holds a value that is not finite.
    #[error("tensor `{name}` holds a value that is not finite (row {row})")]
    NotFinite {
        /// The tensor's name in the file.
        name: String,
        /// The first such row.
        row: usize,
    },
    /// `target_modules` names a module that the model does not have.
    #[error("no module of the model is named `{name}`")]
    NoSuchModule {
        /// The name in the recipe.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A layer index lies outside the model.
    #[error("`layers_to_transform` names layer {layer}, the model has {layers} (0 to {})", layers - 1)]
    NoSuchLayer {
        /// The layer in the recipe.
        layer: usize,
        /// How many the model has.
        layers: usize,
    },
    /// An adapter does not fit the model.
    #[error("the adapter `{}` does not fit the model: {reason}", path.display())]
    AdapterMismatch {
        /// The adapter's folder.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// An adapter changes the head of a model whose head is its token table.
    #[error("the adapter `{}` changes `lm_head`, which is the token table in this model", path.display())]
    TiedHead {
        /// The adapter's folder.
        path: PathBuf,
    },
    /// A weight is beyond the numbers of the type that it should be written in.
    #[error("tensor `{name}` holds {value:e}, which {dtype} cannot store")]
    Overflow {
        /// The tensor.
        name: String,
        /// The weight.
        value: f64,
        /// The type.
        dtype: formats::Dtype,
    },
    /// Whoever called asked to stop.
    #[error("stopped before the end")]
    Stopped,
    /// A token id lies outside the vocabulary.
    #[error("token id {id} lies outside the vocabulary of {vocabulary}")]
    Token {
        /// The id.
        id: u32,
        /// The number of tokens.
        vocabulary: usize,
    },
    /// A sequence is longer than the model's context.
    #[error("{tokens} tokens do not fit the model's context of {context}")]
    TooLong {
        /// The length asked for.
        tokens: usize,
        /// The model's limit.
        context: usize,
    },
    /// A weight file could not be read or written.
    #[error(transparent)]
    Format(#[from] formats::Error),
    /// A file could not be read or written.
    #[error("cannot read or write the model")]
    Io(#[from] std::io::Error),
    /// `config.json` is not JSON.
    #[error("`{}` is not valid JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some("give a folder, a GGUF file or a hub id".into()),
            Self::Incomplete { .. } => {
                Some("a model folder holds config.json, *.safetensors and tokenizer.json".into())
            }
            Self::AdapterAlone { path } => Some(format!(
                "put it into its base with `trueup fuse --adapter {} --output DIR` and take that, or name the base as the model and this as its adapter",
                path.display()
            )),
            Self::Architecture { name, known } => {
                let nearest = formats::nearest(name, known.iter().copied());
                let nearest = nearest.first().map(|name| format!("; the nearest is `{name}`"));
                Some(format!("supported are {}{}", known.join(", "), nearest.unwrap_or_default()))
            }
            Self::NoGguf { .. } => {
                Some("write a folder with `--format safetensors`, and convert that".into())
            }
            Self::NoFolder { .. } => Some("write GGUF, or start from the model's folder".into()),
            Self::Setting { key, .. } if key == "quantization_config" => Some(
                "take the model as it was before; `model.load_in_4bit: true` rounds it in the same way".into(),
            ),
            Self::Setting { .. } => Some(
                "docs/guides/model.md says which models are supported, and with what".into(),
            ),
            Self::Config { .. }
            | Self::Json { .. }
            | Self::NoSuchLayer { .. }
            | Self::Stopped
            | Self::Io(_) => None,
            Self::TiedHead { .. } => Some(
                "changing it would change the embeddings too; write the head as a tensor of its own, with `tie_word_embeddings: false`".into(),
            ),
            Self::Overflow { .. } => Some("use `--dtype bf16` or `--dtype f32`".into()),
            Self::Shape { .. } => {
                Some("the weights and the configuration come from different models".into())
            }
            Self::NotFinite { .. } => Some("the file is damaged; download it again".into()),
            Self::NoSuchModule { known, .. } => {
                Some(format!("use `all-linear` or names of: {}", known.join(", ")))
            }
            Self::AdapterMismatch { .. } => {
                Some("an adapter goes with the base model it was trained on".into())
            }
            Self::Token { .. } => {
                Some("the tokenizer and the model come from different checkpoints".into())
            }
            Self::TooLong { .. } => Some("lower `dataset.max_length`".into()),
            Self::Format(error) => error.hint(),
        }
    }
}
