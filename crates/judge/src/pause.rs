//! Waiting: how long between two tries, how long where an endpoint says so, and an end to it where
//! nobody wants to wait any more.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How often somebody looks whether to wait on.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The longest wait between two tries, before it is spread.
const DELAY_MAX: Duration = Duration::from_mins(1);

/// The wait before a try: it doubles with each failure, and is spread from half to one and a half of
/// that, so that requests which failed together do not come back together.
///
/// `draw` tells the request's share of the spread apart: the same gives the same wait.
pub(crate) fn backoff(first: Duration, failures: u32, draw: &[u8]) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = first.saturating_mul(1 << doublings).min(DELAY_MAX);
    let bytes = blake3::hash(&[draw, &failures.to_le_bytes()].concat());
    let share =
        bytes.as_bytes().iter().take(4).fold(0.0, |sum, byte| (sum + f64::from(*byte)) / 256.0);
    whole.mul_f64(0.5 + share)
}

/// Sleeps until a moment; false as soon as `goes_on` says so.
pub(crate) fn sleep_until(end: Instant, goes_on: &dyn Fn() -> bool) -> bool {
    loop {
        if !goes_on() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(LOOK_EVERY));
    }
}

/// The pause that `retry-after-ms` or `retry-after` asks for: milliseconds, seconds or a date.
pub(crate) fn asked(millis: Option<&str>, after: Option<&str>) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|it| 0.0 <= *it);
    if let Some(millis) = millis.and_then(number) {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    let after = after?;
    if let Some(secs) = number(after) {
        return Duration::try_from_secs_f64(secs).ok();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(unix_seconds(after)?).saturating_sub(now))
}

/// Seconds since 1970 of a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn unix_seconds(date: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, date) = date.trim().split_once(", ")?;
    let mut words = date.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next().filter(|name| name.len() == 3)?;
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? as u64 / 3 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = words.next()?.split(':').map(str::parse::<u64>);
    let mut part = || clock.next()?.ok();
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    Some(days(year, month, day)? * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// Days since 1970-01-01; Hinnant's `days_from_civil` for years that are not negative.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let shifted = year - u64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let leaps = shifted / 4 + shifted / 400 - shifted / 100;
    (365 * shifted + leaps + day_of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_spread_alike_each_time() {
        let first = Duration::from_secs(1);
        for failures in 1..9 {
            let whole = first.saturating_mul(1 << (failures - 1)).min(DELAY_MAX);
            let waits: Vec<Duration> =
                (0..100_u8).map(|draw| backoff(first, failures, &[draw])).collect();
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(whole.mul_f64(0.5) <= *least && *most <= whole.mul_f64(1.5), "{least:?}");
            assert!(*least < whole.mul_f64(0.6) && whole.mul_f64(1.4) < *most, "{most:?}");
            assert_eq!(waits[7], backoff(first, failures, &[7]));
        }
    }

    #[test]
    fn pauses_are_milliseconds_seconds_or_dates() {
        let millis = Duration::from_millis;
        for (ms, after, want) in [
            (Some("1500"), Some("9"), Some(millis(1500))),
            (None, Some("2"), Some(millis(2000))),
            (None, Some(" 0.25 "), Some(millis(250))),
            (None, Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO)),
            (None, Some("soon"), None),
            (None, Some("-3"), None),
            (None, Some("NaN"), None),
            (None, Some("1e300"), None),
            (None, None, None),
        ] {
            assert_eq!(asked(ms, after), want, "{ms:?} {after:?}");
        }
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 00:00:01 GMT", 951_782_401),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
        ] {
            assert_eq!(unix_seconds(date), Some(seconds), "{date}");
        }
        for date in
            ["Sun, 06 Nov", "Sun, 06 ovD 1994 08:49:37 GMT", "Sun, 00 Jan 1970 00:00:00 GMT"]
        {
            assert_eq!(unix_seconds(date), None, "{date}");
        }
    }

    #[test]
    fn a_wait_ends_when_nobody_wants_it() {
        let began = Instant::now();
        let end = began + Duration::from_mins(1);
        assert!(!sleep_until(end, &|| began.elapsed() < Duration::from_millis(30)));
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(sleep_until(began, &|| true));
    }
}
