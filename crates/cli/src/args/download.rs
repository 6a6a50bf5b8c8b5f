//! Flags of `download`.

use std::path::PathBuf;

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
