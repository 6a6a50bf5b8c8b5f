//! Safetensors files: header and tensors, and agreement with the library on what is a file.
#![no_main]

use formats::Error;
use formats::safetensors::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    fuzz::within_memory(input, || {
        let library = safetensors::SafeTensors::deserialize(input).is_ok();
        match Checkpoint::from_bytes("input.safetensors", input.to_vec()) {
            Ok(checkpoint) => {
                let mut known = true;
                for name in checkpoint.names() {
                    match checkpoint.tensor(name) {
                        Ok(view) => {
                            view.to_f32().expect("a tensor of a checked file can be read");
                        }
                        Err(_) => known = false,
                    }
                }
                assert!(library || !known, "the library refuses this file");
            }
            Err(error) => {
                let _ = (error.to_string(), error.hint());
                let Error::Read { source, .. } = error else { panic!("no file is named") };
                // The library takes the last of two equal names, and a zero that hides an overflow.
                let stricter = matches!(
                    *source,
                    Error::Duplicate { .. } | Error::ShapeOverflow { .. } | Error::Json { .. }
                );
                assert!(stricter || !library, "the library accepts this file: {source}");
            }
        }
    });
});
