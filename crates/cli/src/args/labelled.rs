//! Flags of what makes preference data with labels of factuality: `data judge`, `data corrupt` and
//! `data balance`.

use std::path::PathBuf;

use super::Asking;

/// Flags of `data judge`.
#[derive(Debug, clap::Args)]
pub struct DataJudge {
    /// Files of pairs.
    #[arg(required = true, value_name = "PATH")]
    pub pairs: Vec<PathBuf>,
    /// The file of labelled pairs, JSON Lines; rows that it has already are kept.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// The model behind an OpenAI-compatible endpoint that judges.
    #[arg(long, value_name = "MODEL")]
    pub judge: String,
    /// Take this many pairs.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The endpoint of the judge.
    #[command(flatten)]
    pub asking: Asking,
}

/// Flags of `data corrupt`.
#[derive(Debug, clap::Args)]
pub struct DataCorrupt {
    /// Files of labelled pairs; those with `h_w` 0 and `h_l` 1 are taken.
    #[arg(required = true, value_name = "PATH")]
    pub pairs: Vec<PathBuf>,
    /// The file of corrupted pairs, JSON Lines; rows that it has already are kept.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// The model behind an OpenAI-compatible endpoint that writes.
    #[arg(long, value_name = "NAME")]
    pub api_model: String,
    /// How many to make, drawn from all; absent, of each one.
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// Divides the logits.
    #[arg(long, value_name = "T", default_value_t = 0.8, value_parser = super::at_least_zero)]
    pub temperature: f64,
    /// Seed of which are taken, and of what is written.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// The endpoint.
    #[command(flatten)]
    pub asking: Asking,
}

/// Flags of `data balance`.
#[derive(Debug, clap::Args)]
pub struct DataBalance {
    /// Files of labelled pairs.
    #[arg(required = true, value_name = "PATH")]
    pub pairs: Vec<PathBuf>,
    /// The file that is written, JSON Lines.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// How many pairs with these labels, as `0,1=10000`; may be given for each kind, and kinds without
    /// it keep all.
    #[arg(long, value_name = "H_W,H_L=N", value_parser = target)]
    pub target: Vec<((u8, u8), usize)>,
    /// Turn pairs around whose rejected side alone is factual.
    #[arg(long)]
    pub flip: bool,
    /// Seed of which are taken, and of their order.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
}

/// `0,1=10000`.
fn target(text: &str) -> Result<((u8, u8), usize), String> {
    let parsed = || {
        let (labels, count) = text.split_once('=')?;
        let (h_w, h_l) = labels.split_once(',')?;
        let label = |text: &str| text.trim().parse::<u8>().ok().filter(|label| *label <= 1);
        Some(((label(h_w)?, label(h_l)?), count.trim().parse().ok()?))
    };
    parsed().ok_or_else(|| "two labels and a number, as `0,1=10000`".to_owned())
}
