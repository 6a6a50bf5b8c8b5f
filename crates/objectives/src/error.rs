//! What can be wrong with an objective's settings.

use std::fmt;

/// What can be wrong with an objective's settings.
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
}

impl Error {
    /// How to fix it.
    pub fn hint(&self) -> Option<String> {
        let Self::OutOfRange { key, range, .. } = self;
        Some(format!("set `{key}` to a number {range}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::OutOfRange { key, value, range } = self;
        write!(f, "`{key}` is {value}, it must be {range}")
    }
}

impl std::error::Error for Error {}

/// Checks the setting that every objective has.
pub(crate) fn check_beta(beta: f64) -> Result<(), Error> {
    check("beta", beta, 0.0 < beta && beta < f64::INFINITY, "above 0")
}

/// An error unless the setting is in its range.
pub(crate) fn check(
    key: &'static str,
    value: f64,
    inside: bool,
    range: &'static str,
) -> Result<(), Error> {
    if inside { Ok(()) } else { Err(Error::OutOfRange { key, value, range }) }
}
