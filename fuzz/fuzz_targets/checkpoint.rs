//! The files of a run that is resumed: list of checksums, weights, moments, events, recipe.
#![no_main]

use std::cell::RefCell;

use fuzz::checkpoints::Run;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static RUN: RefCell<Run> = RefCell::new(Run::new());
}

fuzz_target!(|input: &[u8]| {
    RUN.with_borrow_mut(|run| {
        run.replace(input);
        fuzz::within_memory(input, || run.resume());
    });
});
