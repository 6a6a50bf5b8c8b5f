//! A transfer in a thread of its own, so that Ctrl-C is heard while a server keeps silent.

use std::{
    ops::ControlFlow,
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use hub::{Transfer, Wait};

use crate::{failure::Failure, signals::Signals};

/// How often signals are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often a transfer tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// How long a transfer may take to end in order; it appends to a file, so it may end at any point.
const GRACE: Duration = Duration::from_secs(2);

/// How far a transfer is.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) file: String,
    pub(super) done_bytes: u64,
    pub(super) total_bytes: Option<u64>,
    pub(super) wait: Option<Wait>,
}

enum Message<T> {
    News(News),
    End(hub::Result<T>),
}

/// Runs a job and passes on its news, until it ends or the user wants to stop.
///
/// # Errors
///
/// What the job fails with, and [`Failure::DownloadStopped`].
pub(super) fn supervised<T: Send + 'static>(
    signals: &Signals,
    tell: &mut dyn FnMut(&News),
    job: impl FnOnce(hub::Watch<'_>) -> hub::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let is_stopped = stop.clone();
    let worker = thread::spawn(move || {
        let mut last: Option<(Instant, String)> = None;
        let mut watch = |transfer: Transfer<'_>| {
            let is_due = last
                .as_ref()
                .is_none_or(|(told, file)| TELL_EVERY <= told.elapsed() || file != transfer.file);
            if is_due {
                last = Some((Instant::now(), transfer.file.to_owned()));
                // A receiver that has gone waits for nothing any more.
                let _ = sender.send(Message::News(news(transfer)));
            }
            if is_stopped.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let end = job(&mut watch);
        let _ = sender.send(Message::End(end));
    });
    loop {
        match receiver.recv_timeout(LOOK_EVERY) {
            Ok(Message::News(news)) => tell(&news),
            Ok(Message::End(end)) => return end.map_err(Failure::from),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(cause) = worker.join() {
                    panic::resume_unwind(cause);
                }
                return Err(hub::Error::Interrupted.into());
            }
        }
        if let Some(signal) = signals.received() {
            stop.store(true, Ordering::Relaxed);
            let end = Instant::now() + GRACE;
            while let Ok(Message::News(_)) =
                receiver.recv_timeout(end.saturating_duration_since(Instant::now()))
            {}
            return Err(Failure::DownloadStopped { signal });
        }
    }
}

fn news(transfer: Transfer<'_>) -> News {
    let Transfer { file, done_bytes, total_bytes, wait } = transfer;
    News { file: file.to_owned(), done_bytes, total_bytes, wait }
}
