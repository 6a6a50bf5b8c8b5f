//! Threads that stay awake between the many short loops of one token.
//!
//! A token's forward pass is some hundred loops of a few microseconds each. Threads that a pool puts
//! to sleep, or that give their processor away while they look for work, cost more than such a loop.
//! Here they wait in a loop of their own for as long as one pass takes. They are no threads of the
//! pool: one of those that waits for a loop takes up whatever else is to be done, and could come to
//! wait for itself.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use rayon::prelude::*;

thread_local! {
    /// The team that this thread leads, if it leads one.
    static LED: Cell<Option<*const Team>> = const { Cell::new(None) };
}

/// How often a thread looks for work before it lets others run.
const LOOKS: usize = 4096;

/// Runs `body` in rayon's current pool with as many threads at hand for its loops as the pool has.
///
/// For passes over a few rows, whose loops are short; the result is the same as without.
pub fn together<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| {
        let team = Team::new();
        std::thread::scope(|scope| {
            for _ in 1..rayon::current_num_threads() {
                // A thread less makes the loops slower and changes nothing else.
                let helper = std::thread::Builder::new().name("helper".into());
                let _ = helper.spawn_scoped(scope, || team.help());
            }
            let _led = Led::new(&team);
            body()
        })
    })
}

/// Calls `body` with every index below `count`, once each, on several threads.
pub(crate) fn for_each(count: usize, body: impl Fn(usize) + Sync) {
    match LED.get() {
        // SAFETY: a thread's team lives until `Led` is dropped, which takes it away first.
        Some(team) if 1 < count => unsafe { &*team }.run(count, &body),
        _ => (0..count).into_par_iter().for_each(|index| body(index)),
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
    /// Odd while a loop is under way; one more at each start and each end.
    state: AtomicUsize,
    /// The next index of the loop.
    next: AtomicUsize,
    /// How many helpers may be looking at the loop.
    inside: AtomicUsize,
    is_over: AtomicBool,
    /// Written by the leader while no loop is under way and nobody is inside.
    job: UnsafeCell<Option<Job>>,
}

// SAFETY: the cell is read only by helpers that are inside while its loop is under way, and written
// only when neither holds; see `run` and `help`.
unsafe impl Sync for Team {}

impl Team {
    fn new() -> Self {
        Self {
            state: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            job: UnsafeCell::new(None),
        }
    }

    /// Runs a loop; the leader alone calls this.
    fn run(&self, count: usize, body: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes; nobody looks at the body after `close` returns.
        let body = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(body)
        };
        // SAFETY: no loop is under way and nobody is inside: `close` has waited for that.
        unsafe { *self.job.get() = Some(Job { body, count }) };
        self.next.store(0, SeqCst);
        self.state.fetch_add(1, SeqCst);
        // Also when the body panics, helpers must be out before it goes away.
        let closing = Closing(self);
        // A loop in this loop is not the team's.
        let led = LED.take();
        let restoring = Restoring(led);
        self.work(Job { body, count });
        drop(restoring);
        drop(closing);
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

    /// Helps with one loop after the other until the leader is through.
    fn help(&self) {
        let mut seen = 0;
        loop {
            let state = self.wait(seen);
            if self.is_over.load(SeqCst) {
                return;
            }
            seen = state;
            if state % 2 == 1 {
                self.inside.fetch_add(1, SeqCst);
                let _leaving = Leaving(self);
                // Either this sees that the loop has ended, or the leader sees somebody inside.
                if self.state.load(SeqCst) == state {
                    // SAFETY: the leader waits until nobody is inside before it writes.
                    if let Some(job) = unsafe { *self.job.get() } {
                        self.work(job);
                    }
                }
            }
        }
    }

    /// Waits for another state than `seen`, or the end.
    fn wait(&self, seen: usize) -> usize {
        let mut looks = 0;
        loop {
            let state = self.state.load(SeqCst);
            if state != seen || self.is_over.load(SeqCst) {
                return state;
            }
            pause(&mut looks);
        }
    }
}

/// A moment of waiting.
fn pause(looks: &mut usize) {
    *looks += 1;
    if *looks < LOOKS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// Ends a loop when it is dropped.
struct Closing<'a>(&'a Team);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_add(1, SeqCst);
        let mut looks = 0;
        while self.0.inside.load(SeqCst) != 0 {
            pause(&mut looks);
        }
    }
}

/// Goes out when it is dropped.
struct Leaving<'a>(&'a Team);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, SeqCst);
    }
}

/// Gives the leader its team back when it is dropped.
struct Restoring(Option<*const Team>);

impl Drop for Restoring {
    fn drop(&mut self) {
        LED.set(self.0);
    }
}

/// Makes this thread the leader until it is dropped.
struct Led<'a> {
    team: &'a Team,
    before: Option<*const Team>,
}

impl<'a> Led<'a> {
    fn new(team: &'a Team) -> Self {
        Self { team, before: LED.replace(Some(team)) }
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        LED.set(self.before);
        self.team.is_over.store(true, SeqCst);
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
                        .map(|count: usize| {
                            let seen: Vec<AtomicUsize> =
                                (0..count).map(|_| AtomicUsize::new(0)).collect();
                            for_each(count, |index| {
                                seen[index].fetch_add(1, SeqCst);
                                // A loop in a loop.
                                for_each(2, |_| {});
                            });
                            assert!(seen.iter().all(|seen| seen.load(SeqCst) == 1), "{count}");
                            count
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
