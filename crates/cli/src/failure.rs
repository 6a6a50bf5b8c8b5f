//! Everything a command can fail with: its words and its exit code.

mod codes;

use std::{error::Error as _, fmt::Write as _, io, path::PathBuf};

use self::codes::{data_code, hub_code, judge_code, report_code, run_code, serve_code, train_code};

/// The exit codes.
pub mod exit_code {
    /// Everything was done.
    pub const DONE: u8 = 0;
    /// Something that nobody expected.
    pub const UNEXPECTED: u8 = 1;
    /// The arguments or the recipe are wrong.
    pub const RECIPE: u8 = 2;
    /// The data cannot be used.
    pub const DATA: u8 = 3;
    /// Weights, a tokenizer or a checkpoint cannot be used.
    pub const WEIGHTS: u8 = 4;
    /// The training diverged.
    pub const DIVERGED: u8 = 5;
    /// Not enough memory or disk, or a device or the network failed.
    pub const RESOURCES: u8 = 6;
    /// A comparison did not hold.
    pub const COMPARISON: u8 = 7;
    /// Ctrl-C; a checkpoint was saved.
    pub const INTERRUPTED: u8 = 130;
    /// Asked to end; a checkpoint was saved.
    pub const TERMINATED: u8 = 143;
}

/// Everything a command can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A recipe, or training.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// A dataset.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A model or dataset that should be on this machine.
    #[error(transparent)]
    Hub(#[from] hub::Error),
    /// A run folder.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// A comparison of runs.
    #[error(transparent)]
    Report(#[from] report::Error),
    /// A server.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// A judge, or another endpoint.
    #[error(transparent)]
    Judge(#[from] judge::Error),
    /// A model that an evaluation names and that is not there.
    #[error("there is no folder `{}`", folder.display())]
    NotTrained {
        /// The folder.
        folder: PathBuf,
    },
    /// A contest in which nothing can be held against each other.
    #[error("no prompt has both sides")]
    NoBouts,
    /// A pair whose labels should be known.
    #[error("{origin} has no labels `h_w` and `h_l` of 0 or 1")]
    NoLabels {
        /// The file and the line or row.
        origin: String,
    },
    /// Pairs are wanted of which there are none.
    #[error("no pair has the labels (h_w, h_l) = ({h_w}, {h_l}), and {count} are wanted")]
    NoneOfKind {
        /// Whether the chosen side is not factual.
        h_w: u8,
        /// Whether the rejected side is not factual.
        h_l: u8,
        /// How many are wanted.
        count: usize,
    },
    /// A variable that should hold a key.
    #[error("the environment variable `{name}` is not set")]
    NoVariable {
        /// Its name.
        name: String,
    },
    /// A server was asked to end, and some answers took too long.
    #[error("answers were cut off: {answers}")]
    CutOff {
        /// The signal's number.
        signal: usize,
        /// How many.
        answers: usize,
    },
    /// A file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A report has no JSON form.
    #[error("cannot write the report as JSON")]
    Json(#[from] serde_json::Error),
    /// `--resume auto` without a folder that the next run will find again.
    #[error("`--resume auto` needs `alignment.output_dir` in the recipe")]
    NowhereToResume,
    /// A run that the sweep does not have.
    #[error("the sweep has no run `{name}`")]
    NoSuchRun {
        /// What was asked for.
        name: String,
        /// The runs that it has.
        known: Vec<String>,
    },
    /// Runs of a sweep failed; each said why.
    #[error("{} of {of} runs failed: {}", names.len(), names.join(", "))]
    RunsFailed {
        /// Which.
        names: Vec<String>,
        /// How many runs there are.
        of: usize,
        /// The exit code of the first.
        code: u8,
    },
    /// A command without a model, and without an adapter that names one.
    #[error("no model is named, and no adapter names one")]
    NoModel,
    /// An adapter and its base could not become one model.
    #[error(transparent)]
    Fuse(model::Error),
    /// A model should be written where something is.
    #[error("output folder is not empty: `{}`", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// A model should be written where a file is.
    #[error("output folder `{}` cannot be created: `{}` is a file", path.display(), file.display())]
    UnderFile {
        /// The folder that was asked for.
        path: PathBuf,
        /// The part of its path that is not a folder.
        file: PathBuf,
    },
    /// A fused model says something else than base and adapter.
    #[error("the fused model differs by {found:.1e} nats at a token, more than {limit}")]
    Differs {
        /// The largest difference of a token's log-probability.
        found: f64,
        /// The most that its type allows.
        limit: f64,
    },
    /// Asked to stop while a model was written.
    #[error("interrupted; nothing was written")]
    Unfinished {
        /// The signal's number.
        signal: usize,
    },
    /// A folder should be fused without an adapter.
    #[error("no adapter is named")]
    NoAdapter,
    /// A type that a format does not have.
    #[error("`{dtype}` cannot be written as {format}")]
    WrongType {
        /// The type.
        dtype: &'static str,
        /// The format.
        format: String,
    },
    /// Rounding to a quantized type would lose an adapter's update.
    #[error("rounding to {dtype} keeps {:.1} % of the adapter's update", 100.0 * kept)]
    Erased {
        /// The share that is kept.
        kept: f64,
        /// The type.
        dtype: &'static str,
    },
    /// A flag that would do nothing.
    #[error("`{flag}` has no effect {when}")]
    Useless {
        /// The flag.
        flag: &'static str,
        /// When: the setting that makes it void.
        when: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A file that should hold rows of an earlier run.
    #[error("`{}` line {line} is no row that this command wrote", path.display())]
    NotRows {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A file of rows that were written with other settings.
    #[error("`{}` was written with `{key}: {was}`, and here it is `{is}`", path.display())]
    OtherRows {
        /// The file.
        path: PathBuf,
        /// The first setting that differs.
        key: String,
        /// What it was.
        was: String,
        /// What it is.
        is: String,
    },
    /// Asked to stop while rows were written.
    #[error("stopped; what was done so far is in `{}`", output.display())]
    WorkStopped {
        /// The signal's number.
        signal: usize,
        /// The file or folder.
        output: PathBuf,
    },
    /// No variable says where the user's files are.
    #[error("no folder for caches: neither `TRUEUP_HOME` nor `HOME` is set")]
    NoHome,
    /// The clock shows a time that no calendar here has.
    #[error("the clock of this machine is not set")]
    Clock,
    /// Whoever read our output has gone.
    #[error("the output was closed")]
    Pipe,
    /// A download was asked to stop; what came so far is kept.
    #[error("the download was interrupted")]
    DownloadStopped {
        /// The signal's number.
        signal: usize,
    },
    /// Only models or only datasets of a file that lists none.
    #[error("`{}` lists no {kind}", path.display())]
    NothingToFetch {
        /// The file.
        path: PathBuf,
        /// Models or datasets.
        kind: &'static str,
    },
    /// The run was asked to stop, and saved a checkpoint if it had begun.
    #[error("training interrupted{}", saved(checkpoint.as_ref()))]
    Stopped {
        /// The signal's number.
        signal: usize,
        /// The checkpoint.
        checkpoint: Option<PathBuf>,
        /// The command that goes on.
        resume: String,
    },
}

fn saved(checkpoint: Option<&PathBuf>) -> String {
    checkpoint.map_or_else(String::new, |path| format!("; checkpoint saved to: {}", path.display()))
}

impl Failure {
    /// The documented exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Train(error) => train_code(error),
            Self::Data(error) => data_code(error),
            Self::Hub(error) => hub_code(error),
            Self::Run(error) => run_code(error),
            Self::Report(error) => report_code(error),
            Self::Serve(error) => serve_code(error),
            Self::Judge(error) => judge_code(error),
            Self::NoBouts | Self::NoLabels { .. } | Self::NoneOfKind { .. } => exit_code::DATA,
            Self::Io(_)
            | Self::Fuse(
                model::Error::Io(_) | model::Error::Format(formats::Error::Write { .. }),
            ) => exit_code::RESOURCES,
            Self::NowhereToResume
            | Self::NoModel
            | Self::NoAdapter
            | Self::WrongType { .. }
            | Self::NoVariable { .. }
            | Self::NothingToFetch { .. }
            | Self::NoSuchRun { .. }
            | Self::Useless { .. }
            | Self::NotRows { .. }
            | Self::OtherRows { .. }
            | Self::Occupied { .. }
            | Self::UnderFile { .. } => exit_code::RECIPE,
            Self::NotTrained { .. } | Self::Fuse(_) => exit_code::WEIGHTS,
            Self::Differs { .. } | Self::Erased { .. } => exit_code::COMPARISON,
            Self::RunsFailed { code, .. } => *code,
            Self::NoHome | Self::Clock | Self::Json(_) => exit_code::UNEXPECTED,
            Self::Pipe => exit_code::DONE,
            Self::Stopped { signal, .. }
            | Self::DownloadStopped { signal }
            | Self::WorkStopped { signal, .. }
            | Self::CutOff { signal, .. }
            | Self::Unfinished { signal }
                if *signal == crate::signals::TERMINATE =>
            {
                exit_code::TERMINATED
            }
            Self::Stopped { .. }
            | Self::DownloadStopped { .. }
            | Self::WorkStopped { .. }
            | Self::CutOff { .. }
            | Self::Unfinished { .. } => exit_code::INTERRUPTED,
        }
    }

    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Train(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Hub(hub::Error::Io(error)) => io_hint(error.kind()).map(|hint| {
                let goes_on = "the same command goes on where it stopped";
                if is_full(error.kind()) { format!("{hint}; {goes_on}") } else { hint.to_owned() }
            }),
            Self::Hub(error) => error.hint(),
            Self::Run(error) => error.hint(),
            Self::Report(report::Error::Io(error))
            | Self::Judge(judge::Error::Io(error))
            | Self::Fuse(model::Error::Io(error))
            | Self::Io(error) => {
                io_hint(error.kind()).map(str::to_owned)
            }
            Self::Report(error) => error.hint(),
            Self::Serve(error) => error.hint(),
            Self::NotTrained { .. } => Some(
                "train it with `trueup sweep`, or remove its model or margin from the file".into(),
            ),
            Self::NoBouts => Some("see what was left out above".into()),
            Self::NoLabels { .. } => Some("`trueup data judge` gives every pair its labels".into()),
            Self::NoneOfKind { .. } => Some(
                "remove the target, or make some: `trueup data corrupt` writes pairs with (1, 0)".into(),
            ),
            Self::Judge(error) => error.hint(),
            Self::Fuse(error) => error.hint(),
            Self::Occupied { .. } => Some("choose a new folder with `--output`".into()),
            Self::UnderFile { file, .. } => {
                Some(format!("choose another `--output`, or move `{}` away", file.display()))
            }
            Self::Differs { .. } => Some(
                "the folder stays; write it with `--dtype f32` to see what rounding did".into(),
            ),
            Self::NowhereToResume => {
                Some("set it, so that the next run finds the same folder".into())
            }
            Self::NoSuchRun { known, .. } => Some(format!("it has {}", known.join(", "))),
            Self::RunsFailed { .. } => {
                Some("the same command runs those again, and no others".into())
            }
            Self::DownloadStopped { .. } => hub::Error::Interrupted.hint(),
            Self::NothingToFetch { .. } => Some("leave the flag away".into()),
            Self::Useless { hint, .. } => Some((*hint).into()),
            Self::NotRows { .. } => Some("give `--output` another name".into()),
            Self::OtherRows { .. } => {
                Some("repeat that setting to go on, or give `--output` another name".into())
            }
            Self::WorkStopped { .. } => Some("the same command goes on from there".into()),
            Self::NoVariable { name } => Some(format!("set `{name}` to the key")),
            Self::NoModel => Some("name one with `--model`".into()),
            Self::NoAdapter => Some(
                "name one with `--adapter`, or write the model as it is with `--format gguf`".into(),
            ),
            Self::WrongType { .. } => Some(
                "choose `--dtype f32`, `bf16` or `f16`, or a whole model with `--format gguf`".into(),
            ),
            Self::Erased { .. } => Some(
                "the file would behave as the base; choose a wider `--dtype`, start from a base that is not quantized itself, or write it all the same with `--allow-erasure`".into(),
            ),
            Self::NoHome => Some("set `TRUEUP_HOME` to a folder".into()),
            Self::Stopped { resume, .. } => Some(format!("resume with: {resume}")),
            Self::Json(_)
            | Self::Clock
            | Self::Pipe
            | Self::Unfinished { .. }
            | Self::CutOff { .. } => None,
        }
    }

    /// What went wrong, why, and how to fix it; a block each for the problems of a recipe.
    pub fn render(&self) -> String {
        if let Self::Train(train::Error::Recipe(problems)) = self {
            let block = |problem| block(&problems.render(problem), &[], problem.hint().as_deref());
            return problems.list.iter().map(block).collect::<Vec<_>>().join("\n");
        }
        let mut causes = Vec::new();
        let mut cause = self.source();
        while let Some(err) = cause {
            causes.push(err.to_string());
            cause = err.source();
        }
        block(&self.to_string(), &causes, self.hint().as_deref())
    }
}

/// Whether there is no more room.
fn is_full(kind: io::ErrorKind) -> bool {
    use io::ErrorKind;
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// What helps where the system refuses a file.
fn io_hint(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::NotADirectory => "a part of the path is a file; choose another path",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that you may write to"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space on the disk",
        io::ErrorKind::FileTooLarge => "raise the limit on the size of a file (`ulimit -f`)",
        _ => return None,
    })
}

fn block(what: &str, causes: &[String], hint: Option<&str>) -> String {
    let mut text = format!("error: {what}\n");
    for cause in causes {
        let _ = writeln!(text, "  because: {}", cause.replace('\n', "\n    "));
    }
    if let Some(hint) = hint {
        text.push('\n');
        for line in hint.lines() {
            let _ = writeln!(text, "hint: {line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;

    #[test]
    fn failures_say_what_why_and_how() {
        let missing = fs_err::read("nowhere.yaml").unwrap_err();
        assert_data_eq!(
            Failure::Io(missing).render(),
            str![[r#"
error: failed to open file `nowhere.yaml`
  because: No such file or directory (os error 2)

hint: check the path

"#]]
        );
        let memory = train::Error::Memory { needed: 9 << 30, available: 3 << 30 };
        assert_data_eq!(
            Failure::Train(memory).render(),
            str![[r#"
error: out of memory: the run needs 9.0 GiB, and 3.0 GiB are available

hint: try: reducing batch_size, enabling use_lora, or using gradient_accumulation_steps; `alignment.tokens_per_micro_batch` and `alignment.gradient_checkpointing: true` act first

"#]]
        );
        let stopped = Failure::Stopped {
            signal: crate::signals::INTERRUPT,
            checkpoint: Some("./checkpoints/gpt2-aligned/checkpoint-500".into()),
            resume: "trueup align --config config/align.yaml --resume ./checkpoints/gpt2-aligned/checkpoint-500".into(),
        };
        assert_data_eq!(
            stopped.render(),
            str![[r#"
error: training interrupted; checkpoint saved to: ./checkpoints/gpt2-aligned/checkpoint-500

hint: resume with: trueup align --config config/align.yaml --resume ./checkpoints/gpt2-aligned/checkpoint-500

"#]]
        );
    }

    #[test]
    fn exit_codes_are_those_that_are_documented() {
        let stopped = |signal| Failure::Stopped { signal, checkpoint: None, resume: String::new() };
        let path = || PathBuf::from("x");
        let not_found = |kind| hub::Error::NotFound { kind, name: "x".into(), is_id: false };
        let codes: [(Failure, u8); 20] = [
            (Failure::NoHome, 1),
            (train::Error::RecipeNotFound { path: path() }.into(), 2),
            (run::Error::NotEmpty { path: path() }.into(), 2),
            (report::Error::NotOurs { path: path() }.into(), 2),
            (report::Error::Unwritten(io::Error::other("x").into()).into(), 6),
            (data::Error::NotFound { path: path() }.into(), 3),
            (not_found(hub::Kind::Dataset).into(), 3),
            (train::Error::NoPairs { dropped: train::Dropped::default() }.into(), 3),
            (not_found(hub::Kind::Model).into(), 4),
            (data::Error::Tokens(data::TokensError::NoTokenizer { folder: path() }).into(), 4),
            (run::Error::EventsTooShort { path: path(), last: 1, step: 2 }.into(), 4),
            (train::Error::LossNotFinite { step: 1, id: "x".into(), loss: f64::NAN }.into(), 5),
            (train::Error::Memory { needed: 2, available: 1 }.into(), 6),
            (Failure::Occupied { path: path() }, 2),
            (Failure::Fuse(model::Error::TiedHead { path: path() }), 4),
            (Failure::Fuse(io::Error::from(io::ErrorKind::StorageFull).into()), 6),
            (Failure::Differs { found: 1.0, limit: 0.1 }, 7),
            (Failure::Unfinished { signal: crate::signals::INTERRUPT }, 130),
            (stopped(crate::signals::INTERRUPT), 130),
            (stopped(crate::signals::TERMINATE), 143),
        ];
        for (failure, code) in codes {
            assert_eq!(failure.exit_code(), code, "{failure}");
        }
    }
}
