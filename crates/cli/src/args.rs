//! Commands and flags.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
    /// Align a model with preference data, as a recipe says.
    Align(Align),
    /// Align many times, as the table `sweep` of a recipe says.
    Sweep(Sweep),
    /// Show runs side by side: a table, and a picture of their curves.
    Compare(Compare),
    /// Align a small model on sample data in a few minutes, and show what changed.
    Quickstart(Quickstart),
    /// Look at preference data, or write a sample of it.
    #[command(subcommand)]
    Data(Data),
    /// Fetch models and datasets from the hub.
    Download(Download),
    /// Generate one answer with a model, with or without an adapter.
    Generate(Generate),
    /// Show or clear what is kept between runs.
    #[command(subcommand)]
    Cache(Cache),
    /// Show what this machine offers: processor, kernels, memory, caches, models.
    Doctor,
}

/// Flags of `align`.
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
    /// Set a key of the recipe, as `alignment.beta=0.3`; may be given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Keep no tokens and no reference log-probabilities for later runs.
    #[arg(long)]
    pub no_cache: bool,
}

/// Flags of `sweep`.
#[derive(Debug, clap::Args)]
pub struct Sweep {
    /// The recipe with a table `sweep`, a YAML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Run only these, by the names that `--dry-run` shows; may be given many times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Show the runs and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Tell more: a line for each step.
    #[arg(long, short)]
    pub verbose: bool,
    /// Set a key of every run, as `alignment.seed=1`; may be given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
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

/// Flags of `download`.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command are independent switches")]
#[derive(Debug, clap::Args)]
pub struct Download {
    /// The repository, such as `org/name`.
    #[arg(value_name = "REPO", required_unless_present = "config", conflicts_with = "config")]
    pub repo: Option<String>,
    /// A YAML file that lists models and datasets.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A branch, tag or commit, in place of `main`.
    #[arg(long, value_name = "REVISION", conflicts_with = "config")]
    pub revision: Option<String>,
    /// Fetch the files that this pattern means, and no others; may be given many times.
    #[arg(long, value_name = "GLOB", conflicts_with = "config")]
    pub include: Vec<String>,
    /// Leave out the files that this pattern means; may be given many times.
    #[arg(long, value_name = "GLOB", conflicts_with = "config")]
    pub exclude: Vec<String>,
    /// What the repository holds: model or dataset.
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "model",
        hide_possible_values = true,
        conflicts_with = "config"
    )]
    pub repo_type: RepoType,
    /// Write plain files into this folder, in place of the Hugging Face cache.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub local_dir: Option<PathBuf>,
    /// The access token, in place of the file's, `HF_TOKEN` and that of a login.
    #[arg(long, short, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Show what would be fetched and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Fetch the file's models alone.
    #[arg(long, requires = "config", conflicts_with_all = ["datasets_only", "repo"])]
    pub models_only: bool,
    /// Fetch the file's datasets alone.
    #[arg(long, requires = "config", conflicts_with = "repo")]
    pub datasets_only: bool,
    /// Tell more: a line for each file.
    #[arg(long, short)]
    pub verbose: bool,
}

/// What a repository holds.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum RepoType {
    /// Weights, a config and a tokenizer.
    Model,
    /// Rows.
    Dataset,
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
    /// The most tokens to write.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_new_tokens: usize,
    /// Divides the logits; 0 always takes the most likely token.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f64,
    /// Draw among this many of the most likely tokens; 0 among all.
    #[arg(long, value_name = "K", default_value_t = 0, requires = "temperature")]
    pub top_k: usize,
    /// Draw among the most likely tokens that have this probability together.
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "temperature")]
    pub top_p: f64,
    /// Seed of the draws.
    #[arg(long, value_name = "N", default_value_t = 42, requires = "temperature")]
    pub seed: u64,
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
