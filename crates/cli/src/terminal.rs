//! Writing for people and for programs.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::ProgressBar;

use crate::failure::Failure;

/// The terminal, or what stands in its place.
#[derive(Debug)]
pub struct Terminal {
    is_terminal: bool,
    /// The line that is rewritten in place, while there is one.
    bar: Option<ProgressBar>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// The terminal of this process.
    pub fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), bar: None }
    }

    /// Whether people watch.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes a text for people, above the progress line if there is one.
    pub fn print(&self, text: &str) {
        let write = || {
            // Without stderr there is nobody to tell.
            let _ = io::stderr().lock().write_all(text.as_bytes());
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Says something that the user should know, once.
    pub fn note(&self, text: &str) {
        self.print(&format!("note: {text}\n"));
    }

    /// Warns: the result may not be what the user wants.
    pub fn warn(&self, text: &str) {
        self.print(&format!("warning: {text}\n"));
    }

    /// Rewrites the progress line; only on a terminal.
    pub fn progress_line(&mut self, line: &str) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = indicatif::ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_message(line.to_owned());
        bar.tick();
    }

    /// Leaves the progress line as it is and goes to the next one.
    pub fn end_progress(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }

    /// Writes data that could be piped to another program.
    ///
    /// # Errors
    ///
    /// [`Failure::Pipe`] if nobody reads it any more, else [`Failure::Io`].
    pub fn data(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|err| match err.kind() {
            io::ErrorKind::BrokenPipe => Failure::Pipe,
            _ => Failure::Io(err),
        })
    }
}
