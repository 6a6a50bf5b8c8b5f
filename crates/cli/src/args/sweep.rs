//! Flags of `sweep`.

use std::path::PathBuf;

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
