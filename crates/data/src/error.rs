//! What can go wrong between a dataset file and packed micro-batches.

use std::path::PathBuf;

use crate::check::Problem;
use crate::layout::Shape;
use crate::record::Origin;

/// What can go wrong between a dataset file and packed micro-batches.
///
/// `Display` says what went wrong, `source` why, and [`Error::hint`] how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No file or folder lies at the path of the recipe.
    #[error("dataset not found at \"{}\"", path.display())]
    NotFound {
        /// The path as the recipe has it.
        path: PathBuf,
    },
    /// A file or folder could not be read; the source names it.
    #[error("cannot read the dataset")]
    Io(#[from] std::io::Error),
    /// A format that is not read here, named by the recipe or by a file's ending.
    #[error("unsupported dataset format \"{format}\"{}\nsupported formats: {SUPPORTED}", in_file(path.as_ref()))]
    UnsupportedFormat {
        /// The format as named, or the file's ending.
        format: String,
        /// The file, where a file is meant.
        path: Option<PathBuf>,
    },
    /// A layout name that does not exist.
    #[error("unknown dataset layout \"{name}\"\nknown layouts: {known}")]
    UnknownLayout {
        /// The name in the recipe.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// The file as a whole is not what its format says.
    #[error("{origin} is not readable as {format}: {detail}")]
    Malformed {
        /// Where reading stopped.
        origin: Origin,
        /// The format that was tried.
        format: &'static str,
        /// What the parser found.
        detail: String,
    },
    /// A folder or file without the split that the recipe names.
    #[error("no split \"{split}\" in `{}`\navailable splits: {available}", path.display())]
    NoSplit {
        /// The dataset's path.
        path: PathBuf,
        /// The split that was asked for.
        split: String,
        /// The splits that exist, separated by commas.
        available: String,
    },
    /// A dataset without any row.
    #[error("dataset `{}` has no rows", path.display())]
    NoRows {
        /// The dataset's path.
        path: PathBuf,
    },
    /// No row has the columns of any known layout.
    #[error(
        "dataset missing required field \"{field}\" at {origin}\navailable fields: {available}"
    )]
    MissingField {
        /// The first row that lacks it.
        origin: Origin,
        /// The field.
        field: String,
        /// The row's columns, separated by commas.
        available: String,
        /// What a row should look like.
        expected: String,
    },
    /// Rows of a shape that the method cannot learn from.
    #[error("{origin} is a row of {found} ({layout}), where {wanted} are needed")]
    WrongShape {
        /// The first such row.
        origin: Origin,
        /// The layout that was recognised.
        layout: &'static str,
        /// What was found.
        found: Shape,
        /// What the method needs.
        wanted: Shape,
    },
    /// A row is unusable and the recipe says `on_invalid: error`.
    #[error("{origin}: {problem}{}", detail_after(detail))]
    InvalidRow {
        /// The row.
        origin: Origin,
        /// What is wrong with it.
        problem: Problem,
        /// More about it; may be empty.
        detail: String,
    },
    /// Rows were read, and none was usable.
    #[error("none of the {rows} rows of the dataset is usable\n{summary}")]
    AllDropped {
        /// How many rows there were.
        rows: u64,
        /// The report's lines on what was wrong.
        summary: String,
    },
    /// A source's weight that is not a number above 0.
    #[error("the weight of `{}` is {weight}; it must be a number above 0, at most {max}", path.display())]
    Weight {
        /// The source.
        path: PathBuf,
        /// Its weight.
        weight: f64,
        /// The largest weight allowed.
        max: f64,
    },
    /// Templates, tokenizers and tokenization.
    #[error(transparent)]
    Tokens(#[from] crate::tokens_error::TokensError),
    /// A share of the data outside 0 to 1.
    #[error("`eval_fraction` is {fraction}; it must lie between 0 and 1")]
    EvalFraction {
        /// The value in the recipe.
        fraction: f64,
    },
}

/// The formats of seed recipes and ours, in the order in which messages name them.
pub const SUPPORTED: &str = "auto, json, jsonl, csv, parquet";

fn in_file(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(" (`{}`)", path.display())).unwrap_or_default()
}

fn detail_after(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

impl Error {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => {
                "check `dataset.path`; fetch a hub dataset first: `trueup download --repo-type dataset ORG/NAME`".into()
            }
            Self::UnsupportedFormat { format, .. } => conversion_hint(format),
            Self::MissingField { expected, .. } => format!(
                "expected format: {expected}; name other columns with `dataset.prompt_field`, `dataset.chosen_field` and `dataset.rejected_field`"
            ),
            Self::UnknownLayout { .. } => {
                "leave `dataset.layout` out to have it recognised from the rows".into()
            }
            Self::NoSplit { .. } => {
                "set `dataset.train_split` or `dataset.eval_split` to one of them".into()
            }
            Self::WrongShape { wanted, .. } => {
                format!("expected format: {}", wanted.expected())
            }
            Self::InvalidRow { problem: Problem::Duplicate, .. } => {
                "use the first of them with `dataset.on_duplicate: drop`".into()
            }
            Self::InvalidRow { problem: Problem::Contradiction, .. } => {
                "use both with `dataset.on_contradiction: keep`, or neither with `drop`".into()
            }
            Self::InvalidRow { problem, .. } => match problem.hint() {
                Some(hint) => format!("{hint}, or drop such rows with `dataset.on_invalid: drop`"),
                None => "drop such rows with `dataset.on_invalid: drop`".into(),
            },
            Self::AllDropped { .. } => {
                "see the rows and what is wrong with each with `trueup data check`".into()
            }
            Self::Tokens(error) => return error.hint(),
            Self::EvalFraction { .. } => "for example `eval_fraction: 0.05`".into(),
            // Some causes have a way out of their own.
            Self::Malformed { detail, .. } if detail.contains("write ") => return None,
            Self::Malformed { .. } => {
                "the file may be cut off or damaged: mend it, or fetch it again".into()
            }
            Self::NoRows { .. } => {
                "the file may not be written yet, or the path is another's".into()
            }
            Self::Io(_) | Self::Weight { .. } => return None,
        })
    }
}

/// A command that turns a foreign format into one that is read here.
fn conversion_hint(format: &str) -> String {
    match format {
        "arrow" | "feather" => {
            "convert it once: `python -c \"import datasets; datasets.load_from_disk('IN')['train'].to_parquet('train.parquet')\"`".into()
        }
        "gz" | "gzip" => "unpack it first: `gunzip FILE.jsonl.gz`".into(),
        "zst" | "zstd" => "unpack it first: `zstd -d FILE.jsonl.zst`".into(),
        "zip" => "unpack it first: `unzip FILE.zip`".into(),
        "xlsx" | "xls" | "ods" => "save the sheet as CSV from the spreadsheet program".into(),
        _ => "write one JSON object a line to a `.jsonl` file, for example {\"prompt\": \"2+2?\", \"chosen\": \"4\", \"rejected\": \"5\"}".into(),
    }
}
