//! Datasets: what is read from hostile bytes is counted to the last row.

use std::sync::Once;

use data::dataset::{Options, load};
use data::layout::Shape;
use data::read::{Format, Source};
use data::report::Action;

/// Every shape that a layout can have, so that no row is refused before it is converted.
const SHAPES: [Shape; 7] = [
    Shape::Pairs,
    Shape::Groups,
    Shape::Unpaired,
    Shape::Completions,
    Shape::Texts,
    Shape::Prompts,
    Shape::Steps,
];

/// Reads an input as a file of a format.
pub fn read(input: &[u8], format: Format) {
    let path = crate::place("rows");
    std::fs::write(&path, input).expect("the folder of temporary files can be written");
    let mut source = Source::new(path);
    source.format = format;
    let mut options = Options::new(Shape::Pairs);
    options.shapes = SHAPES.to_vec();
    crate::within_memory(input, || match load(&[source], &options) {
        Ok(data) => {
            let report = &data.report;
            let dropped = report.problems.values().filter_map(|by| by.get(&Action::Dropped));
            let dropped: u64 = dropped.map(|finding| finding.count).sum();
            assert_eq!(report.kept + dropped, report.rows, "every row is kept or dropped");
            assert_eq!(report.kept, data.records.len() as u64);
            let _ = report.render();
        }
        Err(error) => {
            let _ = (error.to_string(), error.hint());
        }
    });
}

/// Lets the Parquet decoder assert: reading turns that into an error, while the fuzzer's own hook
/// would end the process before it can. A panic anywhere else still ends it.
pub fn pardon_decoder() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map_or("", |place| place.file());
            if !DECODER.iter().any(|part| place.contains(part)) {
                end(panic);
            }
        }));
    });
}

/// Where the decoder's code lies, and the standard library's that it calls.
const DECODER: [&str; 5] = ["/parquet-", "/snap-", "/zstd-", "/bytes-", "/rustc/"];
