//! What can go wrong with a recipe or while training.

use std::{io, path::PathBuf};

use crate::recipe::{Difference, Problems};

/// What can go wrong with a recipe or while training.
///
/// `Display` says what went wrong, `source` why, and [`Error::hint`] how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no file at the recipe's path.
    #[error("recipe not found at \"{}\"", path.display())]
    RecipeNotFound {
        /// The path.
        path: PathBuf,
    },
    /// The recipe is wrong; every problem has its own text and hint.
    #[error("{0}")]
    Recipe(Problems),
    /// The run to be resumed was started with another recipe.
    #[error("cannot resume `{}` with another recipe: {}", path.display(), listed(differences))]
    OtherRecipe {
        /// The run folder.
        path: PathBuf,
        /// What differs; never empty.
        differences: Vec<Difference>,
    },
    /// The loss of a pair stopped being a number.
    #[error("the loss is {loss} at step {step}, pair `{id}`")]
    LossNotFinite {
        /// The optimizer step, from 1.
        step: u64,
        /// The pair.
        id: String,
        /// Its loss.
        loss: f64,
    },
    /// A gradient stopped being a number, while all losses were.
    #[error("the gradient is not finite at step {step}, pairs {}", quoted(ids))]
    GradientNotFinite {
        /// The optimizer step, from 1.
        step: u64,
        /// The pairs of the step.
        ids: Vec<String>,
    },
    /// The store of reference log-probabilities lacks a pair that it was filled with.
    #[error("the reference log-probability of pair `{id}` is missing")]
    NoReference {
        /// The pair.
        id: String,
    },
    /// A row lacks what the objective needs, or says what it cannot use.
    #[error("row `{id}` does not suit the objective")]
    Row {
        /// The row.
        id: String,
        /// Why.
        source: objectives::Error,
    },
    /// What an objective remembers is not what it wrote.
    #[error("the checkpoint's objective cannot be read")]
    Objective(#[source] objectives::Error),
    /// A checkpoint's tensors are not those of the model at hand.
    #[error("checkpoint `{}` belongs to another model", path.display())]
    OtherModel {
        /// The checkpoint.
        path: PathBuf,
    },
    /// What the reference says cannot be kept for later runs.
    #[error("cannot keep the reference's log-probabilities")]
    Store(#[source] io::Error),
    /// The run needs more memory than there is.
    #[error("out of memory: the run needs {}, and {} are available", gib(*needed), gib(*available))]
    Memory {
        /// What the run needs, in bytes.
        needed: u64,
        /// What there is, in bytes.
        available: u64,
    },
    /// The recipe names a date, and no template asks for one.
    #[error("`dataset.template_date` has no effect")]
    UnusedDate,
    /// The checks left no pair to train on.
    #[error("no pair is left to train on")]
    NoPairs {
        /// What was dropped and why.
        #[source]
        dropped: Dropped,
    },
    /// The model.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// A file of weights.
    #[error(transparent)]
    Format(#[from] formats::Error),
    /// The dataset.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The run folder.
    #[error(transparent)]
    Run(#[from] run::Error),
}

/// The report on rows that were dropped, as the reason why nothing is left.
#[derive(Debug, Default, thiserror::Error)]
#[error("{}", text.trim_end())]
pub struct Dropped {
    /// The report's lines.
    pub text: String,
}

fn listed(differences: &[Difference]) -> String {
    let texts = differences
        .iter()
        .map(|Difference { key, was, is }| format!("`{key}` was `{was}` and is `{is}`"));
    texts.collect::<Vec<_>>().join(", ")
}

/// The first few of many names.
fn quoted(ids: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown: Vec<String> = ids.iter().take(SHOWN_MAX).map(|id| format!("`{id}`")).collect();
    let more = if SHOWN_MAX < ids.len() { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
}

impl Error {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::RecipeNotFound { .. } => {
                Some("give the path of a recipe with `--config`".into())
            }
            Self::Recipe(problems) => match &problems.list[..] {
                [problem] => problem.hint(),
                _ => None,
            },
            Self::OtherRecipe { differences, .. } => differences.first().map(|first| {
                format!(
                    "set `{}: {}` to resume, or give another `output_dir` to start a new run",
                    first.key, first.was
                )
            }),
            Self::LossNotFinite { .. } | Self::GradientNotFinite { .. } => Some(
                "look at the pair with `trueup data check`; lower `alignment.learning_rate` if it reads well".into(),
            ),
            Self::Row { source, .. } | Self::Objective(source) => source.hint(),
            Self::NoReference { .. } => Some("clear the cache with `trueup cache clear`".into()),
            Self::OtherModel { .. } => {
                Some("resume with the model that the run was started with".into())
            }
            Self::Memory { .. } => Some(
                "try: reducing batch_size, enabling use_lora, or using gradient_accumulation_steps; `alignment.tokens_per_micro_batch` and `alignment.gradient_checkpointing: true` act first".into(),
            ),
            Self::UnusedDate => {
                Some("remove it: the model's chat template does not ask for the date".into())
            }
            Self::NoPairs { .. } => Some("see every row with `trueup data check`".into()),
            Self::Model(model::Error::Format(error)) | Self::Format(error)
                if matches!(error, formats::Error::Write { .. }) =>
            {
                let hint = error.hint()?;
                Some(format!("{hint}; then continue with `--resume auto`"))
            }
            Self::Model(error) => error.hint(),
            Self::Format(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Io(error) => run::io_hint(error.kind()),
            Self::Store(_) => Some(
                "free some space, name another folder in `TRUEUP_HOME`, or keep nothing with `--no-cache`"
                    .into(),
            ),
            Self::Run(error) => error.hint(),
        }
    }
}
