//! The exit codes of what the libraries fail with.

use super::exit_code;

pub(super) fn train_code(error: &train::Error) -> u8 {
    use train::Error;
    match error {
        Error::RecipeNotFound { .. }
        | Error::Recipe(_)
        | Error::OtherRecipe { .. }
        | Error::UnusedDate => exit_code::RECIPE,
        Error::LossNotFinite { .. } | Error::GradientNotFinite { .. } => exit_code::DIVERGED,
        Error::NoPairs { .. } | Error::Row { .. } => exit_code::DATA,
        // A file that cannot be written is no fault of the weights in it.
        Error::Format(formats::Error::Write { .. })
        | Error::Model(model::Error::Format(formats::Error::Write { .. }))
        | Error::Memory { .. }
        | Error::Io(_)
        | Error::Store(_) => exit_code::RESOURCES,
        Error::OtherModel { .. } | Error::Objective(_) | Error::Model(_) | Error::Format(_) => {
            exit_code::WEIGHTS
        }
        Error::NoReference { .. } => exit_code::UNEXPECTED,
        Error::Data(error) => data_code(error),
        Error::Run(error) => run_code(error),
    }
}

/// A tokenizer and its template belong to the model, all else to the data.
pub(super) fn data_code(error: &data::Error) -> u8 {
    use data::TokensError as Tokens;
    match error {
        data::Error::Tokens(
            Tokens::NoTokenizer { .. }
            | Tokens::BadTokenizer { .. }
            | Tokens::UnknownAlgorithm { .. }
            | Tokens::UnknownPre { .. }
            | Tokens::TemplateSyntax { .. },
        ) => exit_code::WEIGHTS,
        _ => exit_code::DATA,
    }
}

pub(super) fn hub_code(error: &hub::Error) -> u8 {
    use hub::Error;
    match error {
        Error::NotFound { kind: hub::Kind::Dataset, .. } => exit_code::DATA,
        Error::NotFound { .. }
        | Error::Incomplete { .. }
        | Error::ManyModels { .. }
        | Error::NoWeights { .. } => exit_code::WEIGHTS,
        Error::BadId { .. }
        | Error::BadRevision { .. }
        | Error::Config { .. }
        | Error::NoRepo { .. }
        | Error::NoRevision { .. }
        | Error::NoFile { .. }
        | Error::NoMatch { .. }
        | Error::Foreign { .. } => exit_code::RECIPE,
        Error::Interrupted => exit_code::INTERRUPTED,
        _ => exit_code::RESOURCES,
    }
}

pub(super) fn run_code(error: &run::Error) -> u8 {
    use run::Error;
    match error {
        Error::NotEmpty { .. }
        | Error::UnderFile { .. }
        | Error::NoFolder { .. }
        | Error::Locked { .. }
        | Error::NotACheckpoint { .. } => exit_code::RECIPE,
        Error::Damaged { .. } | Error::BadLine { .. } | Error::EventsTooShort { .. } => {
            exit_code::WEIGHTS
        }
        Error::Io(_) | Error::Json { .. } => exit_code::RESOURCES,
    }
}

pub(super) fn report_code(error: &report::Error) -> u8 {
    use report::Error;
    match error {
        Error::Run(error) => run_code(error),
        Error::NoRuns { .. } | Error::NotSvg { .. } | Error::NotOurs { .. } => exit_code::RECIPE,
        Error::Io(_) | Error::Unwritten(_) => exit_code::RESOURCES,
    }
}

pub(super) fn serve_code(error: &serve::Error) -> u8 {
    use serve::Error;
    match error {
        Error::Listen { .. } | Error::Threads(_) => exit_code::RESOURCES,
        Error::Open { .. } | Error::SameName { .. } | Error::Nothing { .. } | Error::Key { .. } => {
            exit_code::RECIPE
        }
        Error::Default { .. } => exit_code::WEIGHTS,
        Error::Worker => exit_code::UNEXPECTED,
    }
}

pub(super) fn judge_code(error: &judge::Error) -> u8 {
    use judge::Error;
    match error {
        Error::Address { .. }
        | Error::Key
        | Error::NotJournal { .. }
        | Error::Locked { .. }
        | Error::Config { .. }
        | Error::Rule { .. }
        | Error::Status { status: 400 | 401 | 403 | 404 | 422, .. } => exit_code::RECIPE,
        Error::Stopped => exit_code::INTERRUPTED,
        _ => exit_code::RESOURCES,
    }
}
