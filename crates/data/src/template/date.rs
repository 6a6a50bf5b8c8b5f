//! The date that `strftime_now` shows a template.
//!
//! Some templates print today's date into every prompt. A run must not change with the day, so the
//! date is a value that the caller fixes once and keeps in its run folder.

use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A frozen point of local time, to the second; written `2026-01-02` or `2026-01-02T03:04:05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Moment {
    /// A day at midnight; `None` if the calendar has no such day or the year is not 1 to 9999.
    pub fn date(year: u16, month: u8, day: u8) -> Option<Self> {
        let moment = Self { year, month, day, hour: 0, minute: 0, second: 0 };
        ((1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day))
        .then_some(moment)
    }

    /// The day that `YYYY-MM-DD` names, at midnight.
    pub fn parse_date(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return None };
        let is_written_out = (year.len(), month.len(), day.len()) == (4, 2, 2);
        let of = |text: &str| text.parse::<u16>().ok().filter(|_| is_written_out);
        Self::date(of(year)?, of(month)? as u8, of(day)? as u8)
    }

    /// The same day at midnight.
    #[must_use]
    pub fn at_midnight(self) -> Self {
        Self { hour: 0, minute: 0, second: 0, ..self }
    }

    /// The day as `YYYY-MM-DD`.
    pub fn to_date(self) -> String {
        self.format("%Y-%m-%d")
    }

    /// The moment so many seconds after 1970-01-01, without a time zone; `None` past the year 9999.
    pub fn from_unix_seconds(seconds: u64) -> Option<Self> {
        let mut days = seconds / 86_400;
        let mut year = 1970;
        while u64::from(days_in_year(year)) <= days {
            days -= u64::from(days_in_year(year));
            year += 1;
            if 9999 < year {
                return None;
            }
        }
        let mut month = 1;
        while u64::from(days_in_month(year, month)) <= days {
            days -= u64::from(days_in_month(year, month));
            month += 1;
        }
        let moment = Self::date(year, month, days as u8 + 1)?;
        let clock = seconds % 86_400;
        let (hour, minute) = ((clock / 3600) as u8, (clock / 60 % 60) as u8);
        Some(Self { hour, minute, second: (clock % 60) as u8, ..moment })
    }

    /// The day of the year, from 1.
    fn day_of_year(self) -> u16 {
        let before: u16 = (1..self.month).map(|m| u16::from(days_in_month(self.year, m))).sum();
        before + u16::from(self.day)
    }

    /// The day of the week, Monday 0.
    fn weekday(self) -> usize {
        let years = u32::from(self.year) - 1;
        let days = years * 365 + years / 4 - years / 100 + years / 400;
        // 0001-01-01 was a Monday in the proleptic Gregorian calendar.
        (days + u32::from(self.day_of_year()) - 1) as usize % 7
    }

    /// The moment in the C locale's `strftime` format; an unknown directive stays as it is written.
    pub(super) fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let directive = rest.next();
            // glibc's `-` writes the number without padding.
            let (padded, directive) = match directive {
                Some('-') => (false, rest.next()),
                other => (true, other),
            };
            let Some(directive) = directive else {
                out.push('%');
                break;
            };
            self.write_directive(&mut out, directive, padded);
        }
        out
    }

    fn write_directive(self, out: &mut String, directive: char, padded: bool) {
        let mut number = |value: u16, width: usize| {
            let width = if padded { width } else { 0 };
            let _ = write!(out, "{value:0width$}");
        };
        let hour12 = u16::from((self.hour + 11) % 12 + 1);
        match directive {
            'Y' => number(self.year, 4),
            'y' => number(self.year % 100, 2),
            'm' => number(u16::from(self.month), 2),
            'd' => number(u16::from(self.day), 2),
            'H' => number(u16::from(self.hour), 2),
            'I' => number(hour12, 2),
            'M' => number(u16::from(self.minute), 2),
            'S' => number(u16::from(self.second), 2),
            'j' => number(self.day_of_year(), 3),
            'e' => {
                let width = if padded { 2 } else { 0 };
                let _ = write!(out, "{:width$}", self.day);
            }
            'B' => out.push_str(MONTHS[usize::from(self.month) - 1]),
            'b' | 'h' => out.push_str(&MONTHS[usize::from(self.month) - 1][..3]),
            'A' => out.push_str(WEEKDAYS[self.weekday()]),
            'a' => out.push_str(&WEEKDAYS[self.weekday()][..3]),
            'u' => out.push_str(&(self.weekday() + 1).to_string()),
            'w' => out.push_str(&((self.weekday() + 1) % 7).to_string()),
            'p' => out.push_str(if self.hour < 12 { "AM" } else { "PM" }),
            'F' => out.push_str(&self.format("%Y-%m-%d")),
            'T' | 'X' => out.push_str(&self.format("%H:%M:%S")),
            'R' => out.push_str(&self.format("%H:%M")),
            'D' | 'x' => out.push_str(&self.format("%m/%d/%y")),
            'c' => out.push_str(&self.format("%a %b %e %H:%M:%S %Y")),
            'n' => out.push('\n'),
            't' => out.push('\t'),
            '%' => out.push('%'),
            // A frozen moment carries no zone; Python prints nothing for a naive one.
            'Z' | 'z' => {}
            other => {
                out.push('%');
                out.push(other);
            }
        }
    }
}

fn days_in_year(year: u16) -> u16 {
    if is_leap(year) { 366 } else { 365 }
}

fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has_clock = (self.hour, self.minute, self.second) != (0, 0, 0);
        f.write_str(&self.format(if has_clock { "%FT%T" } else { "%F" }))
    }
}

/// Why a text is not a [`Moment`].
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a date such as `2026-01-02` or `2026-01-02T03:04:05`")]
pub struct NotAMoment {
    text: String,
}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        parse(text).ok_or_else(|| NotAMoment { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Moment> {
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (date, clock),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, separator: char| -> Option<[u16; 3]> {
        let parts = text.split(separator).map(|part| {
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
        });
        parts.collect::<Option<Vec<u16>>>()?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let moment = Moment::date(year, u8::try_from(month).ok()?, u8::try_from(day).ok()?)?;
    (hour < 24 && minute < 60 && second < 60).then_some(Moment {
        hour: hour as u8,
        minute: minute as u8,
        second: second as u8,
        ..moment
    })
}

impl TryFrom<String> for Moment {
    type Error = NotAMoment;

    fn try_from(text: String) -> Result<Self, NotAMoment> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_the_c_locale_does() {
        // Values from Python's `datetime.strftime`.
        let moment: Moment = "2024-02-29T15:04:05".parse().unwrap();
        assert_eq!(moment.format("%d %b %Y"), "29 Feb 2024");
        assert_eq!(moment.format("%A, %B %-d, %Y"), "Thursday, February 29, 2024");
        assert_eq!(moment.format("%I:%M %p %j %y%%"), "03:04 PM 060 24%");
        assert_eq!(moment.to_string(), "2024-02-29T15:04:05");
        let new_year: Moment = "2026-01-01".parse().unwrap();
        assert_eq!(new_year.format("%a %e %u %w"), "Thu  1 4 4");
        assert_eq!(new_year.to_string(), "2026-01-01");
    }

    #[test]
    fn refuses_days_that_do_not_exist() {
        for text in ["2025-02-29", "2026-13-01", "2026-01-32", "today", "", "2026-1-2T25:00:00"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn counts_seconds_from_1970() {
        let moment = Moment::from_unix_seconds(1_709_219_045).unwrap();
        assert_eq!(moment.to_string(), "2024-02-29T15:04:05");
        assert_eq!(Moment::from_unix_seconds(0), Moment::date(1970, 1, 1));
        assert_eq!(Moment::from_unix_seconds(u64::MAX), None);
    }
}
