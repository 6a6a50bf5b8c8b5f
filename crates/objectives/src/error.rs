//! What can be wrong with an objective's settings and with the rows it is given.

use std::fmt;

/// What can be wrong with an objective's settings and with the rows it is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// A setting lies outside its range.
    OutOfRange {
        /// The setting's name in recipes.
        key: &'static str,
        /// Its value.
        value: f64,
        /// The range, in words.
        range: &'static str,
    },
    /// No loss is named.
    NoLoss,
    /// A setting would do nothing, or nothing that is defined, with a loss.
    NotWith {
        /// The setting's name in recipes.
        key: &'static str,
        /// What it does not go with: a `loss_type`, or another setting.
        other: &'static str,
    },
    /// A row lacks something that the objective needs.
    Missing {
        /// What is missing, in words.
        what: &'static str,
        /// Who needs it, as named in recipes.
        by: &'static str,
    },
    /// A row has a number that the objective cannot use.
    Row {
        /// What the number is, in words.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The range, in words.
        range: &'static str,
    },
    /// The chosen completion is not factual while the rejected one is.
    Unflipped,
    /// The completions are not best first, or all of them are tied.
    NoOrder,
    /// A row has more or fewer completions than the loss compares.
    Shape {
        /// The loss, as named in recipes.
        by: &'static str,
        /// How many the row has.
        completions: usize,
        /// How many it takes, in words.
        wanted: &'static str,
    },
    /// A remembered number that no objective has written.
    UnknownState {
        /// Its name.
        name: String,
    },
}

impl Error {
    /// How to fix it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::OutOfRange { key, range, .. } => format!("set `{key}` to a number: {range}"),
            Self::NoLoss => "name one, such as `loss_type: sigmoid`".to_owned(),
            Self::NotWith { key, other } => format!("remove `{key}`, or `{other}`"),
            Self::Missing { what, by } => format!("add {what} to the row, or remove `{by}`"),
            Self::Row { what, range, .. } => format!("give {what} a number: {range}"),
            Self::Unflipped => {
                "swap the completions and their labels, which `flip: true` does".to_owned()
            }
            Self::NoOrder => "list the completions best first, with at least two ranks".to_owned(),
            Self::Shape { wanted, .. } => format!("give the row {wanted}"),
            Self::UnknownState { .. } => {
                "resume with the version of the program that wrote the checkpoint".to_owned()
            }
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { key, value, range } => {
                write!(f, "`{key}` is {value}, it must be {range}")
            }
            Self::NoLoss => write!(f, "no loss is named"),
            Self::NotWith { key, other } => {
                write!(f, "`{key}` has no effect or no meaning with `{other}`")
            }
            Self::Missing { what, by } => write!(f, "the row has no {what}, which `{by}` needs"),
            Self::Row { what, value, range } => write!(f, "{what} is {value}, it must be {range}"),
            Self::Unflipped => {
                write!(f, "the chosen completion is not factual while the rejected one is")
            }
            Self::NoOrder => write!(f, "the ranks of the completions give no order"),
            Self::Shape { by, completions, wanted } => {
                write!(f, "`{by}` takes {wanted} a row, not {completions}")
            }
            Self::UnknownState { name } => write!(f, "no objective remembers `{name}`"),
        }
    }
}

impl std::error::Error for Error {}

/// An error unless the setting is in its range.
pub(crate) fn check(
    key: &'static str,
    value: f64,
    inside: bool,
    range: &'static str,
) -> Result<(), Error> {
    if inside { Ok(()) } else { Err(Error::OutOfRange { key, value, range }) }
}

/// An error unless the setting is a number above 0.
pub(crate) fn above_zero(key: &'static str, value: f64) -> Result<(), Error> {
    check(key, value, 0.0 < value && value < f64::INFINITY, "above 0")
}

/// An error unless the setting is a number of at least 0.
pub(crate) fn at_least_zero(key: &'static str, value: f64) -> Result<(), Error> {
    check(key, value, (0.0..f64::INFINITY).contains(&value), "at least 0")
}

/// An error unless the setting is a number.
pub(crate) fn finite(key: &'static str, value: f64) -> Result<(), Error> {
    check(key, value, value.is_finite(), "finite")
}
