//! What comes from outside a recipe: variables, the clock.

use std::{
    env,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use hub::{Caches, Kind};

use crate::failure::Failure;

/// What an environment variable holds.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn lookup(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// Where models and caches are kept.
///
/// # Errors
///
/// [`Failure::NoHome`] if no variable names a place.
pub fn caches() -> Result<Caches, Failure> {
    Caches::from_environment(&lookup).ok_or(Failure::NoHome)
}

/// The folder of a dataset that is named by its hub id and lies in the cache.
pub fn dataset(name: &str, caches: &Caches) -> Option<PathBuf> {
    let found = hub::locate(Kind::Dataset, name, None, caches).ok()?;
    found.commit.map(|_| found.path)
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A moment as `20260225-120000`, in UTC; sorts as text.
pub fn timestamp(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// The date of a day since 1970-01-01; Hinnant's `civil_from_days` for days that are not negative.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        for (seconds, text) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (1_772_020_800, "20260225-120000"),
            (4_107_542_399, "21000228-235959"),
            (4_107_542_400, "21000301-000000"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
