//! What can go wrong with a report.

use std::{io, path::PathBuf};

/// What can go wrong with a report.
///
/// `Display` says what went wrong, `source` why, and [`Error::hint`] how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The events of a run cannot be read.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// The picture cannot be written.
    #[error(transparent)]
    Unwritten(run::Error),
    /// A file operation failed; the text names the operation and the path, the source says why.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No run lies where runs were to be compared.
    #[error("no run in `{}`", path.display())]
    NoRuns {
        /// The path.
        path: PathBuf,
    },
    /// The picture was to get a name that is not one of an SVG file.
    #[error("curves are written as SVG, and `{}` has another ending", path.display())]
    NotSvg {
        /// The path.
        path: PathBuf,
    },
    /// Where the picture should go lies something that is no such picture.
    #[error("`{}` was not written by `trueup compare`, so it is not replaced", path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Run(source) => source.hint(),
            Self::Unwritten(_) => {
                Some("choose another file with `--output`, or none with `--no-curves`".into())
            }
            Self::Io(_) => None,
            Self::NoRuns { .. } => {
                Some("give folders that `trueup align` or `trueup sweep` wrote".into())
            }
            Self::NotSvg { path } => {
                Some(format!("try `--output {}`", path.with_extension("svg").display()))
            }
            Self::NotOurs { .. } => {
                Some("choose another file with `--output`, or move that one away".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;

    #[test]
    fn errors_say_what_and_how() {
        let path = || PathBuf::from("runs/notes.png");
        let missing = || fs_err::read("nowhere/compare.svg").unwrap_err();
        let errors = [
            Error::NoRuns { path: path() },
            Error::NotSvg { path: path() },
            Error::NotOurs { path: path() },
            Error::Unwritten(missing().into()),
            Error::Io(missing()),
            Error::Run(run::Error::NoFolder { path: path() }),
        ];
        let hint = |error: &Error| error.hint().unwrap_or_else(|| "(no hint)".into());
        let told = errors.each_ref().map(|error| format!("{error}\n  {}\n", hint(error)));
        assert_data_eq!(
            told.concat(),
            str![[r#"
no run in `runs/notes.png`
  give folders that `trueup align` or `trueup sweep` wrote
curves are written as SVG, and `runs/notes.png` has another ending
  try `--output runs/notes.svg`
`runs/notes.png` was not written by `trueup compare`, so it is not replaced
  choose another file with `--output`, or move that one away
failed to open file `nowhere/compare.svg`
  choose another file with `--output`, or none with `--no-curves`
failed to open file `nowhere/compare.svg`
  (no hint)
run folder not found at `runs/notes.png`
  start the run without `--resume`, or give the folder of one of its checkpoints

"#]]
        );
    }
}
