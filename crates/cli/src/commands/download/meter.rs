//! How far a download is: how much, how fast, how long still.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hub::Wait;

use super::{super::size, supervise::News};
use crate::{
    progress::{PLAIN_EVERY, bar, eta},
    terminal::Terminal,
};

/// The rate is that of so much time.
const WINDOW: Duration = Duration::from_secs(10);

/// Shorter times tell no rate.
const RATE_AFTER: Duration = Duration::from_millis(500);

/// What came, and in what time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

/// Shows the progress of one repository.
pub(super) struct Meter<'a> {
    terminal: &'a mut Terminal,
    name: String,
    count: Count,
    is_verbose: bool,
    began: Instant,
    last_plain: Instant,
}

impl<'a> Meter<'a> {
    /// A meter for a repository of which `total` bytes are not on this machine as whole files.
    pub(super) fn new(
        terminal: &'a mut Terminal,
        name: &str,
        total: Option<u64>,
        is_verbose: bool,
    ) -> Self {
        let now = Instant::now();
        let count = Count::new(total);
        Self { terminal, name: name.into(), count, is_verbose, began: now, last_plain: now }
    }

    /// Shows news; a line now and then where nothing can be rewritten.
    pub(super) fn show(&mut self, news: &News) {
        let is_new = self.count.take(news, Instant::now());
        if self.is_verbose && is_new && !news.file.is_empty() {
            self.terminal.print(&format!("  {}\n", news.file));
        }
        if self.terminal.is_terminal() {
            self.terminal.progress_line(&self.count.line(&self.name, true));
        } else if PLAIN_EVERY <= self.last_plain.elapsed() {
            self.last_plain = Instant::now();
            self.terminal.print(&format!("{}\n", self.count.line(&self.name, false)));
        }
    }

    /// Ends the progress line and says what came; with `is_whole` also the untold rest.
    pub(super) fn end(&mut self, is_whole: bool) -> Received {
        self.terminal.end_progress();
        if is_whole {
            self.count.finish();
        }
        Received { bytes: self.count.received, elapsed: self.began.elapsed() }
    }
}

/// The bytes of several files, one after the other.
struct Count {
    total: Option<u64>,
    /// Those of files before the current one.
    before: u64,
    current: Option<News>,
    /// Those that came over the network.
    received: u64,
    /// What had come at some moments of the window.
    samples: VecDeque<(Instant, u64)>,
}

impl Count {
    fn new(total: Option<u64>) -> Self {
        Self { total, before: 0, current: None, received: 0, samples: VecDeque::new() }
    }

    /// Takes news in, and says whether they are of a new file.
    fn take(&mut self, news: &News, now: Instant) -> bool {
        let known = self.current.take_if(|current| current.file == news.file);
        if let Some(known) = &known {
            self.received += news.done_bytes.saturating_sub(known.done_bytes);
        } else {
            self.finish();
        }
        self.current = Some(news.clone());
        self.samples.push_back((now, self.received));
        while self.samples.front().is_some_and(|(at, _)| WINDOW < now.duration_since(*at)) {
            self.samples.pop_front();
        }
        known.is_none()
    }

    /// Counts the rest of the current file, whose end may have gone untold.
    fn finish(&mut self) {
        if let Some(last) = self.current.take() {
            let rest = last.total_bytes.map_or(0, |total| total.saturating_sub(last.done_bytes));
            self.received += rest;
            self.before += last.done_bytes + rest;
        }
    }

    /// Bytes a second over the window.
    fn rate(&self) -> Option<f64> {
        let ((first, before), (last, after)) = (self.samples.front()?, self.samples.back()?);
        let elapsed = last.duration_since(*first);
        (RATE_AFTER <= elapsed).then(|| (after - before) as f64 / elapsed.as_secs_f64())
    }

    fn line(&self, name: &str, with_bar: bool) -> String {
        let Some(current) = &self.current else { return name.to_owned() };
        let done = self.before + current.done_bytes;
        let mut parts = Vec::new();
        match self.total.filter(|total| 0 < *total) {
            Some(total) => {
                let fraction = done as f64 / total as f64;
                let bar = if with_bar { bar(fraction) + " " } else { String::new() };
                parts.push(format!("{bar}{}%", done.min(total) * 100 / total));
                parts.push(format!("{} of {}", size(done), size(total)));
            }
            None => parts.push(size(done)),
        }
        match (current.wait, self.rate()) {
            (Some(Wait::Retry { left_secs }), _) => {
                parts.push(format!("trying again in {left_secs}s"));
            }
            (Some(Wait::Lock), _) => parts.push("another process fetches this file".into()),
            (None, Some(rate)) => {
                parts.push(format!("{}/s", size(whole(rate))));
                let left = self.total.map(|total| total.saturating_sub(done) as f64);
                let left = left.filter(|_| 0.0 < rate).map(|left| left / rate);
                let left = left.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
                parts.push(format!("ETA: {}", eta(left)));
            }
            (None, None) => {}
        }
        if !current.file.is_empty() {
            parts.push(current.file.clone());
        }
        format!("{name}: {}", parts.join(" | "))
    }
}

/// The whole part of a number that is not negative.
fn whole(number: f64) -> u64 {
    Duration::try_from_secs_f64(number).map_or(u64::MAX, |whole| whole.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(file: &str, done_bytes: u64, total: u64) -> News {
        News { file: file.into(), done_bytes, total_bytes: Some(total), wait: None }
    }

    #[test]
    fn rate_and_time_left_are_of_what_came_and_not_of_what_was_there() {
        const MIB: u64 = 1 << 20;
        let mut count = Count::new(Some(100 * MIB));
        let began = Instant::now();
        let after = |secs| began + Duration::from_secs(secs);
        assert!(count.take(&news("a", 20 * MIB, 40 * MIB), began));
        assert_eq!(count.line("org/name", false), "org/name: 20% | 20.0 MiB of 100.0 MiB | a");
        assert!(!count.take(&news("a", 30 * MIB, 40 * MIB), after(5)));
        assert_eq!(
            count.line("org/name", true),
            "org/name: [█████░░░░░░░░░░░░] 30% | 30.0 MiB of 100.0 MiB | 2.0 MiB/s | ETA: 35s | a"
        );
        // The end of a file may go untold.
        assert!(count.take(&news("b", 0, 60 * MIB), after(10)));
        assert_eq!(
            count.line("org/name", false),
            "org/name: 40% | 40.0 MiB of 100.0 MiB | 2.0 MiB/s | ETA: 30s | b"
        );
        // A transfer that starts over takes nothing back of what came.
        count.take(&news("b", 10 * MIB, 60 * MIB), after(11));
        count.take(&news("b", 0, 60 * MIB), after(12));
        assert_eq!(count.received, 30 * MIB);
        let waiting = Some(Wait::Retry { left_secs: 8 });
        count.take(&News { wait: waiting, ..news("b", 0, 60 * MIB) }, after(13));
        assert_eq!(
            count.line("org/name", false),
            "org/name: 40% | 40.0 MiB of 100.0 MiB | trying again in 8s | b"
        );
    }
}
