//! Ctrl-C and the request to end: the run saves a checkpoint and stops; a second one stops at once.
//! A write beyond the limit on file sizes fails as on a full disk.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use signal_hook::{consts, flag};

/// Lets a write beyond the limit on file sizes (`ulimit -f`) fail, where the system would otherwise
/// end the process without a word.
///
/// # Errors
///
/// The system refuses a handler.
#[cfg(unix)]
pub fn survive_size_limit() -> io::Result<()> {
    flag::register(consts::SIGXFSZ, Arc::default())?;
    Ok(())
}

/// Other systems know no such limit.
///
/// # Errors
///
/// None.
#[cfg(not(unix))]
pub fn survive_size_limit() -> io::Result<()> {
    Ok(())
}

/// The number of SIGINT.
pub const INTERRUPT: usize = consts::SIGINT as usize;
/// The number of SIGTERM.
pub const TERMINATE: usize = consts::SIGTERM as usize;

/// Whether this process was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    number: Arc<AtomicUsize>,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// The system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let signals = Self::default();
        let is_second = Arc::new(AtomicBool::new(false));
        for (signal, number) in [(consts::SIGINT, INTERRUPT), (consts::SIGTERM, TERMINATE)] {
            // Handlers run in this order, so the first signal does not end the process itself.
            flag::register_conditional_shutdown(signal, 128 + signal, is_second.clone())?;
            flag::register(signal, is_second.clone())?;
            flag::register_usize(signal, signals.number.clone(), number)?;
        }
        Ok(signals)
    }

    /// The signal that came, if one did.
    pub fn received(&self) -> Option<usize> {
        Some(self.number.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }
}

/// Ctrl-C in a conversation: it stops an answer, and ends the program where none is written.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    is_waiting: Arc<AtomicBool>,
    is_cancelled: Arc<AtomicBool>,
}

impl Turns {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// The system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let turns = Self::default();
        let (signal, waiting) = (consts::SIGINT, turns.is_waiting.clone());
        flag::register_conditional_shutdown(signal, 128 + signal, waiting)?;
        flag::register(signal, turns.is_cancelled.clone())?;
        Ok(turns)
    }

    /// It is the user's turn.
    pub fn wait(&self) {
        self.is_waiting.store(true, Ordering::Relaxed);
    }

    /// It is the program's turn.
    pub fn begin(&self) {
        self.is_waiting.store(false, Ordering::Relaxed);
        self.is_cancelled.store(false, Ordering::Relaxed);
    }

    /// Whether the answer is to be stopped.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}
