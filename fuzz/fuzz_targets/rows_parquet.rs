//! Parquet rows, recognised and checked.
#![no_main]

use data::read::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    fuzz::rows::pardon_decoder();
    fuzz::rows::read(input, Format::Parquet);
});
