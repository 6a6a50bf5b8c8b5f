//! Tokenizers rebuilt from the tables of a GGUF file: building, encoding, decoding.
#![no_main]

use data::tokenizer::Tokenizer;
use formats::gguf::Gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    fuzz::within_memory(input, || {
        let Ok(gguf) = Gguf::from_bytes("input.gguf", input.to_vec()) else { return };
        let Ok(table) = gguf.tokenizer() else { return };
        let tokenizer = match Tokenizer::from_gguf(&table) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                let _ = (error.to_string(), error.hint());
                return;
            }
        };
        for text in ["", "Once upon a time", " 12  é日😀\n\t", "<s></s><0x41>\u{2581}"] {
            let ids = tokenizer.encode(text, true).unwrap_or_default();
            let mut stream = tokenizer.stream(&[]);
            for id in &ids {
                let _ = stream.push(*id);
            }
            let _ =
                (stream.finish(), tokenizer.decode(&ids, false), tokenizer.loses_text(text, &ids));
        }
        let _ = tokenizer.decode(&[0, 1, 7, u32::MAX], false);
        let _ = tokenizer.to_json();
    });
});
