//! `timings.jsonl`: what the clock said of every step, apart from the events because no two runs
//! agree on it. A resumed run appends, so the file tells what every process did.

use std::path::Path;

use crate::{Result, events::Event, lines::Lines};

/// The timings of a run, open for appending.
#[derive(Debug)]
pub struct Timings {
    lines: Lines,
}

impl Timings {
    /// Opens the timings of a run, keeping what is there but a last line that a kill cut off.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`], [`crate::Error::BadLine`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { lines: Lines::cut(path, |_| true)?.0 })
    }

    /// Appends what was measured of a step; seconds have names that end in `_secs`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`].
    pub fn append(&mut self, timing: &Event) -> Result<()> {
        self.lines.append(&timing.to_json())
    }
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn a_resumed_run_appends_after_the_last_whole_line() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("timings.jsonl");
        Timings::open(&path).unwrap().append(&Event::new(1).with("step_secs", 0.5)).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        crate::atomic::write(&path, format!("{whole}{{\"st").as_bytes()).unwrap();
        Timings::open(&path).unwrap().append(&Event::new(1).with("step_secs", 0.25)).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"step\":1,\"step_secs\":0.5}\n{\"step\":1,\"step_secs\":0.25}\n"
        );
    }
}
