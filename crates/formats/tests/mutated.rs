//! Valid files with a few bytes changed or cut off: they are read or refused, never a panic.

use formats::Error;
use formats::gguf::Gguf;
use formats::peft::AdapterConfig;
use formats::safetensors::Checkpoint;
use proptest::prelude::*;

/// A change to a file.
#[derive(Clone, Debug)]
enum Change {
    /// Puts a byte somewhere, counted from the start and taken modulo the size.
    Put(usize, u8),
    /// Puts eight bytes somewhere: small and huge lengths hide there.
    PutLong(usize, u64),
    /// Cuts the end off.
    Cut(usize),
    /// Takes bytes out.
    Remove(usize, usize),
    /// Repeats bytes.
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let long = prop_oneof![
        Just(u64::MAX),
        Just(1 << 63),
        Just(1 << 32),
        Just(u64::from(u32::MAX)),
        0..300u64
    ];
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Put(at, byte)),
        4 => (any::<usize>(), long).prop_map(|(at, long)| Change::PutLong(at, long)),
        1 => any::<usize>().prop_map(Change::Cut),
        1 => (any::<usize>(), 1..64usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (any::<usize>(), 1..64usize).prop_map(|(at, count)| Change::Repeat(at, count)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let size = bytes.len().max(1);
    let range = |at: usize, count: usize, size: usize| {
        let start = at % (size + 1);
        start..(start + count).min(size)
    };
    match *change {
        Change::Put(at, byte) => {
            if let Some(place) = bytes.get_mut(at % size) {
                *place = byte;
            }
        }
        Change::PutLong(at, long) => {
            let range = range(at, 8, bytes.len());
            let count = range.len();
            bytes[range].copy_from_slice(&long.to_le_bytes()[..count]);
        }
        Change::Cut(at) => bytes.truncate(at % (size + 1)),
        Change::Remove(at, count) => {
            bytes.drain(range(at, count, bytes.len()));
        }
        Change::Repeat(at, count) => {
            let range = range(at, count, bytes.len());
            let piece = bytes[range.clone()].to_vec();
            bytes.splice(range.start..range.start, piece);
        }
    }
}

fn changed(name: &str, changes: &[Change]) -> Vec<u8> {
    let Ok(mut bytes) = fs_err::read(testkit::golden("formats").join(name)) else {
        panic!("there is no golden {name}");
    };
    for change in changes {
        apply(&mut bytes, change);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gguf(changes in prop::collection::vec(change(), 0..4)) {
        if let Ok(gguf) = Gguf::from_bytes("a.gguf", changed("sample.gguf", &changes)) {
            for name in gguf.names() {
                if let Ok(view) = gguf.tensor(name) {
                    prop_assert!(view.to_f32().is_ok());
                }
            }
            let _ = gguf.tokenizer();
        }
    }

    #[test]
    fn safetensors(changes in prop::collection::vec(change(), 0..4)) {
        let bytes = changed("sample.safetensors", &changes);
        let library = safetensors::SafeTensors::deserialize(&bytes).is_ok();
        let ours = Checkpoint::from_bytes("a.safetensors", bytes);
        // What is accepted here is accepted by the library; only some names and types that it does
        // not know are read more gently.
        if let Ok(checkpoint) = ours {
            let mut known = true;
            for name in checkpoint.names() {
                match checkpoint.tensor(name) {
                    Ok(view) => prop_assert!(view.to_f32().is_ok()),
                    Err(Error::Read { source, .. }) => {
                        // The one type of the sample that only the library knows.
                        known = known
                            && matches!(*source, Error::UnknownDtype { dtype, .. } if dtype == "I64");
                    }
                    Err(error) => prop_assert!(false, "no file is named: {error}"),
                }
            }
            prop_assert!(library || !known);
        }
    }

    #[test]
    fn adapter_configuration(changes in prop::collection::vec(change(), 0..4)) {
        let text = changed("adapter/adapter_config.json", &changes);
        if let Ok((config, _)) = AdapterConfig::from_json(&text) {
            let _ = config.scale("model.layers.0.q_proj");
            prop_assert!(config.to_json().is_ok());
        }
    }
}
