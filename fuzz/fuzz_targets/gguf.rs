//! GGUF files: header, metadata, tokenizer tables, and every tensor widened.
#![no_main]

use formats::gguf::Gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    fuzz::within_memory(input, || {
        let gguf = match Gguf::from_bytes("input.gguf", input.to_vec()) {
            Ok(gguf) => gguf,
            Err(error) => {
                let _ = (error.to_string(), error.hint());
                return;
            }
        };
        for value in gguf.metadata().values() {
            let _ = value.to_json();
        }
        let _ = gguf.tokenizer();
        let _ = gguf.get_u32("llama.block_count");
        for name in gguf.names() {
            if let Ok(view) = gguf.tensor(name) {
                let values = view.to_f32().expect("a tensor of a checked file can be read");
                assert_eq!(values.len(), view.value_count());
            }
        }
    });
});
