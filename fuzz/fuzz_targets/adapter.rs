//! Adapter configurations: JSON, patterns, and what is written of them.
#![no_main]

use formats::Error;
use formats::peft::AdapterConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    fuzz::within_memory(input, || {
        let Ok((config, _)) = AdapterConfig::from_json(input) else { return };
        let _ = config.scale("model.layers.0.self_attn.q_proj");
        let text = match config.to_json() {
            Ok(text) => text,
            // Indenting can make it longer than may be read.
            Err(Error::TooLong { .. }) => return,
            Err(error) => panic!("what was read cannot be written: {error}"),
        };
        let (again, unknown) = AdapterConfig::from_json(text.as_bytes()).expect("and read again");
        assert!(unknown.is_empty());
        assert_eq!(again.r, config.r);
        assert_eq!(again.lora_alpha.to_bits(), config.lora_alpha.to_bits());
        assert_eq!(again.target_modules, config.target_modules);
    });
});
