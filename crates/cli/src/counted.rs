//! The progress of something that is counted, as a line that is rewritten on a terminal, else as a
//! line now and then.

use std::time::{Duration, Instant};

use crate::{progress::eta, terminal::Terminal};

/// How often progress is told where no line can be rewritten.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Something of which there are so many.
#[derive(Debug)]
pub struct Counted<'a> {
    terminal: &'a mut Terminal,
    name: String,
    total: usize,
    began: Instant,
    told: Instant,
}

impl<'a> Counted<'a> {
    /// Begins to count; nothing is told yet.
    pub fn new(terminal: &'a mut Terminal, name: &str, total: usize) -> Self {
        let now = Instant::now();
        Self { terminal, name: name.to_owned(), total, began: now, told: now }
    }

    /// Tells that so many are done, `fresh` of them since the beginning.
    pub fn tell(&mut self, done: usize, fresh: usize) {
        let left = (0 < fresh).then(|| {
            let share = self.total.saturating_sub(done) as f64 / fresh as f64;
            self.began.elapsed().mul_f64(share)
        });
        let line = format!("{}: {done}/{} | ETA: {}", self.name, self.total, eta(left));
        if self.terminal.is_terminal() {
            self.terminal.progress_line(&line);
        } else if PLAIN_EVERY <= self.told.elapsed() {
            self.told = Instant::now();
            self.terminal.print(&format!("{line}\n"));
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.terminal.end_progress();
    }
}
