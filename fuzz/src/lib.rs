//! The memory rule that every target keeps: what is allocated stays below 64 times the input plus
//! 64 MiB, whatever the input says of itself.

pub mod checkpoints;
pub mod rows;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that an input may cost beside its share.
const BASE_BYTES: usize = 64 << 20;

/// Bytes that each byte of an input may cost.
const BYTES_A_BYTE: usize = 64;

static PEAK: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The system's allocator, which ends the process where more lives than may.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Adds to what lives, and ends the process beyond the limit.
fn count(size: usize) {
    let live = LIVE.fetch_add(size, Relaxed).saturating_add(size);
    PEAK.fetch_max(live, Relaxed);
    let limit = LIMIT.load(Relaxed);
    if live > limit {
        LIMIT.store(usize::MAX, Relaxed);
        eprintln!("error: {live} bytes are allocated, {size} at once, where {limit} are allowed");
        std::process::abort();
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches atomics only, and
// the message, which allocates, comes after the limit was lifted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work` on an input, and ends the process if it takes more memory than the rule allows.
///
/// With `FUZZ_PEAK` set, the largest part of the allowance that any input took is told whenever it
/// grows by a hundredth.
pub fn within_memory(input: &[u8], work: impl FnOnce()) {
    let allowed = input.len().saturating_mul(BYTES_A_BYTE).saturating_add(BASE_BYTES);
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    LIMIT.store(before.saturating_add(allowed), Relaxed);
    work();
    LIMIT.store(usize::MAX, Relaxed);
    tell_peak(PEAK.load(Relaxed).saturating_sub(before), allowed, input.len());
}

/// Tells a new largest part of the allowance.
fn tell_peak(peak: usize, allowed: usize, input_bytes: usize) {
    static LARGEST: AtomicUsize = AtomicUsize::new(0);
    let percent = peak.saturating_mul(100) / allowed;
    if LARGEST.fetch_max(percent, Relaxed) < percent && std::env::var_os("FUZZ_PEAK").is_some() {
        eprintln!("peak: {peak} bytes, {percent} % of what {input_bytes} bytes of input may take");
    }
}

/// A path for this process's files, in memory where the system has such a folder.
pub(crate) fn place(name: &str) -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    let folder = if shared.is_dir() { shared } else { std::env::temp_dir() };
    folder.join(format!("fuzz-{name}-{}", std::process::id()))
}
