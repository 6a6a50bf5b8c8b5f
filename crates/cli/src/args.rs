//! Commands and flags.

mod download;
mod judge;
mod labelled;
mod serve;
mod sweep;

use std::{fmt, path::PathBuf};

use clap::{
    Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use formats::gguf::FileType;

pub use self::{
    download::{Download, RepoType},
    judge::{Asking, By, Compare as JudgeCompare, Factuality, Judge, Reaching},
    labelled::{DataBalance, DataCorrupt, DataJudge},
    serve::Serve,
    sweep::Sweep,
};

/// Turn a language model and preference data into an aligned model.
#[derive(Debug, Parser)]
#[command(name = "trueup", version, disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fine-tune a model on texts, answers or conversations, as a recipe says.
    Finetune(Align),
    /// Align a model with preference data, as a recipe says.
    Align(Align),
    /// Show what a recipe will take: memory by part, time, and what to change where it is too much.
    Plan(Plan),
    /// Align many times, as the table `sweep` of a recipe says.
    Sweep(Sweep),
    /// Score preference pairs with a model or an adapter, without training.
    Eval(Eval),
    /// Let models answer prompts, and a judge or a rule say what the answers are worth.
    #[command(subcommand)]
    Judge(Judge),
    /// Show runs side by side: a table, and a picture of their curves.
    Compare(Compare),
    /// Align a small model on sample data in a few minutes, and show what changed.
    Quickstart(Quickstart),
    /// Look at preference data, or make some.
    #[command(subcommand)]
    Data(Data),
    /// Fetch models and datasets from the hub.
    Download(Download),
    /// Generate one answer with a model, with or without an adapter.
    Generate(Generate),
    /// Talk with a model, and switch its adapter on and off to hear the difference.
    Chat(Chat),
    /// Serve a model and its adapters over HTTP, with OpenAI's interface.
    Serve(Serve),
    /// Put an adapter into the weights of its base, as a Hugging Face folder or a GGUF file.
    Fuse(Fuse),
    /// Show or clear what is kept between runs.
    #[command(subcommand)]
    Cache(Cache),
    /// Show what this machine offers: processor, kernels, memory, caches, models.
    Doctor,
}

/// Flags of `align` and `finetune`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, clap::Args)]
pub struct Align {
    /// The recipe, a YAML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Go on from this checkpoint; `auto` takes the newest whole one, or starts over.
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Where to compute, in place of the recipe's `device`: cuda or cpu.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Show the resolved recipe and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Tell more: a line for each step.
    #[arg(long, short)]
    pub verbose: bool,
    /// Set a key of the recipe, as `section.key=value`; may be given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Keep no tokens and no reference log-probabilities for later runs.
    #[arg(long)]
    pub no_cache: bool,
    /// Let timings.jsonl tell what each step consists of.
    #[arg(long, conflicts_with = "dry_run")]
    pub profile: bool,
}

/// Flags of `plan`.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// The recipe, a YAML file.
    #[arg(value_name = "RECIPE")]
    pub recipe: PathBuf,
    /// Set a key of the recipe, as `section.key=value`; may be given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print one JSON object in place of a table.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `eval`.
#[derive(Debug, clap::Args)]
pub struct Eval {
    /// Files, folders or hub ids of preferences.
    #[arg(required = true, value_name = "PATH")]
    pub data: Vec<String>,
    /// A model folder, a GGUF file or a hub id; absent, the one that the adapter names.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The folder of an adapter.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// What rewards are measured from: `base`, the weights without the adapter, or another adapter's folder.
    #[arg(long, value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// Write what is said of each row into this file, JSON Lines.
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    /// Print one JSON object in place of a table.
    #[arg(long)]
    pub json: bool,
    /// Set a key of a recipe, as `alignment.beta=0.3` or `dataset.max_length=512`; may be given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Keep no tokens and no reference log-probabilities for later.
    #[arg(long)]
    pub no_cache: bool,
}

/// Flags of `compare`.
#[derive(Debug, clap::Args)]
pub struct Compare {
    /// Run folders, or folders of run folders.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Where the curves go, an SVG file; those of an earlier comparison are replaced.
    #[arg(long, value_name = "FILE", default_value = "compare.svg")]
    pub output: PathBuf,
    /// Show the table alone and write nothing.
    #[arg(long, conflicts_with = "output")]
    pub no_curves: bool,
}

/// What can be done with preference data.
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Read preference data as `align` would, and tell what happened to each row.
    Check(DataCheck),
    /// Write a sample preference set: 396 pairs to train on and 108 about other subjects.
    Sample(DataSample),
    /// Make preference pairs of questions with answers, the other side written by a model.
    Pairs(DataPairs),
    /// Let an OpenAI-compatible endpoint judge each side of each pair: factual or not.
    Judge(DataJudge),
    /// Make pairs whose chosen side has errors of fact, of pairs whose chosen side alone is factual.
    Corrupt(DataCorrupt),
    /// Draw so many labelled pairs of each kind, and turn around those that are the wrong way.
    Balance(DataBalance),
}

/// Flags of `data pairs`.
#[derive(Debug, clap::Args)]
pub struct DataPairs {
    /// Files of questions with answers, as `question` and `answer`, messages, or texts.
    #[arg(required = true, value_name = "PATH")]
    pub questions: Vec<PathBuf>,
    /// The file of pairs, JSON Lines; rows that it has already are kept.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// A model folder, a GGUF file or a hub id; absent, the one that the adapter names.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The folder of an adapter.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Let an OpenAI-compatible endpoint write, with this model of its own.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "adapter", "top_k", "min_p", "repetition_penalty"])]
    pub api_model: Option<String>,
    /// That endpoint.
    #[command(flatten)]
    pub asking: Asking,
    /// Which side the model writes; the given answer is the other one.
    #[arg(long, value_name = "SIDE", default_value_t = Written::Rejected)]
    pub write: Written,
    /// Answers that the model writes to each question; more than one make a list.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub samples: u16,
    /// How a question is put; `chat` where the model has a template, else `question-answer`.
    #[arg(long, value_name = "FORM")]
    pub form: Option<Form>,
    /// A system message before each question.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Take this many questions.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// How it writes.
    #[command(flatten)]
    pub writing: Writing,
}

/// The side of a pair that a model writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Written {
    /// The rejected completion.
    Rejected,
    /// The chosen completion.
    Chosen,
}

/// How a question is put to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// As messages, through the model's chat template.
    Chat,
    /// `Question: ...`, a new line, `Answer:`, as plain text.
    QuestionAnswer,
    /// As it stands, as plain text.
    Plain,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "rejected",
            Self::Chosen => "chosen",
        })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chat => "chat",
            Self::QuestionAnswer => "question-answer",
            Self::Plain => "plain",
        })
    }
}

/// Flags of `data sample`.
#[derive(Debug, clap::Args)]
pub struct DataSample {
    /// The folder that gets `train.jsonl` and `test.jsonl`.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Flags of `quickstart`.
#[derive(Debug, clap::Args)]
pub struct Quickstart {
    /// A model folder or GGUF file, in place of SmolLM2-135M-Instruct.
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Where data, recipe and run go.
    #[arg(long, value_name = "DIR", default_value = "trueup-quickstart")]
    pub output_dir: PathBuf,
}

/// Flags of `generate`.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// A model folder, a GGUF file or a hub id; absent, the one that the adapter names.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The folder of an adapter.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// What to answer.
    #[arg(long, value_name = "TEXT")]
    pub prompt: String,
    /// A system message before it.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Continue the prompt as it stands, without the model's chat template.
    #[arg(long)]
    pub raw: bool,
    /// How it writes.
    #[command(flatten)]
    pub writing: Writing,
}

/// Flags of `chat`.
#[derive(Debug, clap::Args)]
pub struct Chat {
    /// A model folder, a GGUF file or a hub id; absent, the one that the adapter names.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The folder of an adapter; `/adapter off` and `/adapter on` switch it in the conversation.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// A system message before the conversation.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// How it writes.
    #[command(flatten)]
    pub writing: Writing,
}

/// Flags of what writes text.
#[derive(Clone, Debug, clap::Args)]
pub struct Writing {
    /// The most tokens to write.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_new_tokens: usize,
    /// Divides the logits; 0 always takes the most likely token.
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = at_least_zero)]
    pub temperature: f64,
    /// Draw among this many of the most likely tokens; 0 among all.
    #[arg(long, value_name = "K", default_value_t = 0, requires = "temperature")]
    pub top_k: usize,
    /// Draw among the most likely tokens that have this probability together.
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "temperature", value_parser = share)]
    pub top_p: f64,
    /// Draw among tokens with this share of the most likely one's probability.
    #[arg(long, value_name = "P", default_value_t = 0.0, requires = "temperature", value_parser = share)]
    pub min_p: f64,
    /// Make tokens that were there before less likely, by this factor; 1 leaves them.
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = above_zero)]
    pub repetition_penalty: f64,
    /// Seed of the draws.
    #[arg(long, value_name = "N", default_value_t = 42, requires = "temperature")]
    pub seed: u64,
    /// Stop before this text; may be given many times.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stop: Vec<String>,
}

impl Default for Writing {
    /// The most likely tokens, as without any flag.
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 42,
            stop: Vec::new(),
        }
    }
}

fn at_least_zero(text: &str) -> Result<f64, String> {
    number(text, "at least 0", |it| 0.0 <= it && it.is_finite())
}

fn above_zero(text: &str) -> Result<f64, String> {
    number(text, "above 0", |it| 0.0 < it && it.is_finite())
}

fn share(text: &str) -> Result<f64, String> {
    number(text, "from 0 to 1", |it| (0.0..=1.0).contains(&it))
}

fn number(text: &str, range: &str, holds: fn(f64) -> bool) -> Result<f64, String> {
    text.parse().ok().filter(|number| holds(*number)).ok_or_else(|| format!("must be {range}"))
}

/// Flags of `fuse`.
#[derive(Debug, clap::Args)]
pub struct Fuse {
    /// The folder of an adapter, or of the run that made it; with `--format gguf` it may be absent,
    /// and the model is written as it is.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The folder that gets the model; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// A model folder, a GGUF file or a hub id; absent, the one that the adapter names.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// What is written.
    #[arg(long, value_name = "FORMAT", default_value_t = Format::Safetensors)]
    pub format: Format,
    /// The type of all weights, in GGUF files also a quantized one; absent, each tensor keeps its
    /// own, and quantized ones become f32.
    #[arg(long, value_name = "TYPE", value_parser = stored_type())]
    pub dtype: Option<FileType>,
    /// Compare what the model says before and after; exit code 7 where it differs too much.
    #[arg(long)]
    pub check: bool,
    /// Write a quantized type even where rounding erases half of the adapter's update or more.
    #[arg(long)]
    pub allow_erasure: bool,
    /// The largest file of weights, as 5GB or 500MiB; absent, files are cut as those of the base,
    /// or at 5GB where it is a GGUF file or `--dtype` is given.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub max_shard_size: Option<u64>,
}

/// What `fuse` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A Hugging Face folder.
    Safetensors,
    /// One file for llama.cpp and what is built on it, with a Modelfile for Ollama.
    Gguf,
    /// The adapter alone, for llama.cpp to add to its base.
    GgufAdapter,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::GgufAdapter => "gguf-adapter",
        })
    }
}

/// A type that weights are written in, as people write it.
fn stored_type() -> impl TypedValueParser<Value = FileType> {
    const NAMES: [(&str, FileType); 11] = [
        ("f32", FileType::F32),
        ("bf16", FileType::Bf16),
        ("f16", FileType::F16),
        ("q8_0", FileType::Q8_0),
        ("q6_k", FileType::Q6K),
        ("q5_k_m", FileType::Q5KM),
        ("q5_1", FileType::Q5_1),
        ("q5_0", FileType::Q5_0),
        ("q4_k_m", FileType::Q4KM),
        ("q4_1", FileType::Q4_1),
        ("q4_0", FileType::Q4_0),
    ];
    PossibleValuesParser::new(NAMES.map(|(name, _)| name)).map(|name| {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map_or(FileType::F32, |(_, file_type)| *file_type)
    })
}

/// A number of bytes as people write it.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("", 1),
    ];
    let size = UNITS.iter().find_map(|(unit, size)| {
        let count: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        count.checked_mul(*size).filter(|size| *size > 0)
    });
    size.ok_or_else(|| "a size is a whole number with KB, MB, GB, KiB, MiB or GiB".to_owned())
}

/// Flags of `data check`.
#[derive(Debug, clap::Args)]
pub struct DataCheck {
    /// Files or folders of pairs.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The split to read, where the data has splits.
    #[arg(long, default_value = "train")]
    pub split: String,
    /// How rows hold prompt and completions; recognised if absent.
    #[arg(long)]
    pub layout: Option<String>,
    /// The field that holds the prompt.
    #[arg(long, value_name = "NAME", default_value = "prompt")]
    pub prompt_field: String,
    /// The field that holds the chosen completion.
    #[arg(long, value_name = "NAME", default_value = "chosen")]
    pub chosen_field: String,
    /// The field that holds the rejected completion.
    #[arg(long, value_name = "NAME", default_value = "rejected")]
    pub rejected_field: String,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What can be done with the caches.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Cache {
    /// Show each cache with its size.
    List,
    /// Remove the caches of tokens and reference log-probabilities; models stay.
    Clear,
}
