//! Threads that stay awake between the many short loops of one token.
//!
//! A token's forward pass is some hundred loops of a few microseconds each. Threads that a pool puts
//! to sleep, or that give their processor away while they look for work, cost more than such a loop.
//! Here they wait in a loop of their own for as long as one pass takes, and a moment longer. They
//! are no threads of the pool: one of those that waits for a loop takes up whatever else is to be
//! done, and could come to wait for itself.

use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread::Thread;

use rayon::prelude::*;

/// The one team of the process; whoever finds it led by another thread does without.
static TEAM: Team = Team {
    is_led: AtomicBool::new(false),
    helpers: Mutex::new(Vec::new()),
    wanted: AtomicUsize::new(0),
    state: AtomicUsize::new(0),
    next: AtomicUsize::new(0),
    inside: AtomicUsize::new(0),
    has_failed: AtomicBool::new(false),
    job: UnsafeCell::new(None),
};

thread_local! {
    /// Whether this thread leads the team, and is in none of its loops.
    static LEADS: Cell<bool> = const { Cell::new(false) };
}

/// How often a thread looks for work before it lets others run.
const LOOKS: usize = 4096;
/// How often a helper looks for the next pass before it sleeps.
const LOOKS_BETWEEN: usize = 16 * LOOKS;

/// Runs `body` in rayon's current pool with as many threads at hand for its loops as the pool has.
///
/// For passes over a few rows, whose loops are short; the result is the same as without.
pub fn together<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| {
        let _leading = Leading::begin();
        body()
    })
}

/// Calls `body` with every index below `count`, once each, on several threads.
pub(crate) fn for_each(count: usize, body: impl Fn(usize) + Sync) {
    if 1 < count && LEADS.get() {
        TEAM.run(count, &body);
    } else {
        (0..count).into_par_iter().for_each(&body);
    }
}

/// A loop that is under way.
#[derive(Clone, Copy)]
struct Job {
    body: *const (dyn Fn(usize) + Sync),
    count: usize,
}

/// A leader's loop and those who help with it.
struct Team {
    is_led: AtomicBool,
    helpers: Mutex<Vec<Thread>>,
    /// How many helpers the pass that is under way has; none between passes.
    wanted: AtomicUsize,
    /// Odd while a loop is under way; one more at each start and each end.
    state: AtomicUsize,
    /// The next index of the loop.
    next: AtomicUsize,
    /// How many helpers may be looking at the loop.
    inside: AtomicUsize,
    /// Whether a helper's part of the loop panicked.
    has_failed: AtomicBool,
    /// Written by the leader while no loop is under way and nobody is inside.
    job: UnsafeCell<Option<Job>>,
}

// SAFETY: the cell is read only by helpers that are inside while its loop is under way, and written
// only when neither holds; see `run` and `help`.
unsafe impl Sync for Team {}

impl Team {
    /// Runs a loop; the leader alone calls this.
    fn run(&self, count: usize, body: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes; nobody looks at the body after `Closing` is dropped.
        let body = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(body)
        };
        // SAFETY: no loop is under way and nobody is inside: `Closing` has waited for that.
        unsafe { *self.job.get() = Some(Job { body, count }) };
        self.next.store(0, SeqCst);
        self.state.fetch_add(1, SeqCst);
        {
            // Also when the body panics, helpers must be out before it goes away.
            let _closing = Closing(self);
            // A loop in this loop is not the team's.
            LEADS.set(false);
            let _restoring = Restoring;
            self.work(Job { body, count });
        }
        assert!(!self.has_failed.swap(false, SeqCst), "a helper's part of a loop panicked");
    }

    /// Takes indices until there are none.
    fn work(&self, job: Job) {
        loop {
            let index = self.next.fetch_add(1, SeqCst);
            if job.count <= index {
                return;
            }
            // SAFETY: the leader keeps the body alive until nobody is inside.
            unsafe { (*job.body)(index) };
        }
    }

    /// Helps with one loop after the other, as helper `index`.
    fn help(&self, index: usize) {
        let mut seen = 0;
        loop {
            let state = self.wait(seen);
            seen = state;
            if state.is_multiple_of(2) || self.wanted.load(SeqCst) <= index {
                continue;
            }
            self.inside.fetch_add(1, SeqCst);
            // Either this sees that the loop has ended, or the leader sees somebody inside.
            if self.state.load(SeqCst) == state {
                // SAFETY: the leader waits until nobody is inside before it writes.
                if let Some(job) = unsafe { *self.job.get() }
                    && catch_unwind(AssertUnwindSafe(|| self.work(job))).is_err()
                {
                    self.has_failed.store(true, SeqCst);
                }
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }

    /// Waits for another state than `seen`; sleeps where no pass is under way for long.
    fn wait(&self, seen: usize) -> usize {
        let mut looks = 0;
        loop {
            let state = self.state.load(SeqCst);
            if state != seen {
                return state;
            }
            looks += 1;
            if self.wanted.load(SeqCst) == 0 {
                // The next leader wakes everybody, also those who are only about to sleep.
                if LOOKS_BETWEEN < looks {
                    std::thread::park();
                    looks = 0;
                }
                std::hint::spin_loop();
            } else if looks < LOOKS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// Ends a loop when it is dropped.
struct Closing<'a>(&'a Team);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_add(1, SeqCst);
        let mut looks = 0;
        while self.0.inside.load(SeqCst) != 0 {
            looks += 1;
            if looks < LOOKS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// Lets the leader lead again when it is dropped.
struct Restoring;

impl Drop for Restoring {
    fn drop(&mut self) {
        LEADS.set(true);
    }
}

/// Makes this thread the leader until it is dropped, unless there is one.
struct Leading {
    /// Whether it does: else the team is led by another thread, or by a caller of this one.
    leads: bool,
}

impl Leading {
    fn begin() -> Self {
        let wanted = rayon::current_num_threads() - 1;
        if wanted == 0 || TEAM.is_led.swap(true, SeqCst) {
            return Self { leads: false };
        }
        let mut helpers = TEAM.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        while helpers.len() < wanted {
            let index = helpers.len();
            let helper = std::thread::Builder::new().name(format!("helper {index}"));
            // A thread less makes the loops slower and changes nothing else.
            let Ok(helper) = helper.spawn(move || TEAM.help(index)) else { break };
            helpers.push(helper.thread().clone());
        }
        TEAM.wanted.store(wanted, SeqCst);
        helpers.iter().take(wanted).for_each(Thread::unpark);
        LEADS.set(true);
        Self { leads: true }
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        if self.leads {
            LEADS.set(false);
            TEAM.wanted.store(0, SeqCst);
            TEAM.is_led.store(false, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::{for_each, together};
    use crate::check::on_threads;

    #[test]
    fn every_index_comes_once_in_every_loop() {
        for threads in [1, 2, 5] {
            on_threads(threads, || {
                let sums = together(|| {
                    (0..500)
                        .inspect(|&count: &usize| {
                            let seen: Vec<AtomicUsize> =
                                (0..count).map(|_| AtomicUsize::new(0)).collect();
                            for_each(count, |index| {
                                seen[index].fetch_add(1, SeqCst);
                                // A loop in a loop.
                                for_each(2, |_| {});
                            });
                            assert!(seen.iter().all(|seen| seen.load(SeqCst) == 1), "{count}");
                        })
                        .sum::<usize>()
                });
                assert_eq!(sums, 499 * 500 / 2);
            });
        }
    }

    #[test]
    fn teams_in_teams_and_without_a_team() {
        on_threads(3, || {
            let count = AtomicUsize::new(0);
            for_each(10, |_| {
                count.fetch_add(1, SeqCst);
            });
            together(|| {
                together(|| {
                    for_each(10, |_| {
                        count.fetch_add(1, SeqCst);
                    });
                });
                for_each(10, |_| {
                    count.fetch_add(1, SeqCst);
                });
            });
            assert_eq!(count.load(SeqCst), 30);
        });
    }

    #[test]
    fn a_panic_in_a_loop_comes_out() {
        for bad in [0, 63] {
            let result = std::panic::catch_unwind(|| {
                on_threads(2, || {
                    together(|| {
                        for_each(64, |index| {
                            std::thread::sleep(std::time::Duration::from_micros(50));
                            assert!(index != bad, "as it must");
                        });
                    });
                });
            });
            assert!(result.is_err());
        }
    }
}
