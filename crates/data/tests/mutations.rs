//! Damaged files give errors or fewer rows, never a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use data::dataset::{Options, load};
use data::layout::Shape;
use data::read::Source;
use proptest::collection::vec;
use proptest::prelude::*;

const SHAPES: [Shape; 6] = [
    Shape::Pairs,
    Shape::Groups,
    Shape::Unpaired,
    Shape::Completions,
    Shape::Texts,
    Shape::Prompts,
];

/// Reads bytes as a file; what is read is accounted for.
fn survives(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, bytes).unwrap();
    let mut options = Options::new(Shape::Pairs);
    options.shapes = SHAPES.to_vec();
    match load(&[Source::new(path)], &options) {
        Ok(data) => {
            assert!(data.report.kept <= data.report.rows);
            assert_eq!(data.records.len() as u64, data.report.kept);
            let dropped: u64 = data
                .report
                .problems
                .values()
                .filter_map(|by| by.get(&data::report::Action::Dropped))
                .map(|it| it.count)
                .sum();
            assert_eq!(data.report.kept + dropped, data.report.rows);
            data.report.render();
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error.hint();
        }
    }
}

/// One change to a file.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Insert(usize, u8),
    Cut(usize, usize),
    Repeat(usize, usize),
    End(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\\n\r\t 0e-.;'n\0\xff".to_vec())];
    prop_oneof![
        (any::<usize>(), byte.clone()).prop_map(|(at, to)| Change::Set(at, to)),
        (any::<usize>(), byte).prop_map(|(at, to)| Change::Insert(at, to)),
        (any::<usize>(), 1..40_usize).prop_map(|(at, len)| Change::Cut(at, len)),
        (any::<usize>(), 1..40_usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        any::<usize>().prop_map(Change::End),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let end = bytes.len();
        if end == 0 {
            break;
        }
        match *change {
            Change::Set(at, to) => bytes[at % end] = to,
            Change::Insert(at, to) => bytes.insert(at % end, to),
            Change::Cut(at, len) => drop(bytes.drain(at % end..end.min(at % end + len))),
            Change::Repeat(at, len) => {
                let piece = bytes[at % end..end.min(at % end + len)].to_vec();
                bytes.extend(piece);
            }
            Change::End(at) => bytes.truncate(at % end),
        }
    }
    bytes
}

const LINES: &str = r#"{"prompt": "p", "chosen": "a", "rejected": "b", "h_w": 0, "h_l": 1}
{"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}}
{"chosen": [{"role": "user", "content": [{"type": "text", "text": "\ud83e\udd80"}]}, {"role": "assistant", "content": "A"}], "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]}
{"prompt": "Q", "responses": ["A", "B"], "scores": [1, 0.5], "tools": "[]"}
{"chosen": "\n\nHuman: x\n\nAssistant: y", "rejected": "\n\nHuman: x\n\nAssistant: z"}
{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4]}
{"instruction": "I", "input": "", "history": [["a", "b"]], "chosen": "a", "rejected": "c"}
"#;

const CSV: &str = "prompt,chosen,rejected,h_w\n\"a, b\",\"x\n\"\"y\"\"\",z,1\np,\"[{\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"A\"\"}]\",q,0\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn json_lines(changes in vec(change(), 1..6)) {
        survives("x.jsonl", &changed(LINES.into(), &changes));
    }

    #[test]
    fn json_list(changes in vec(change(), 1..6), start in 0_usize..7) {
        let rows: Vec<&str> = LINES.lines().skip(start).collect();
        survives("x.json", &changed(format!("[{}]", rows.join(",\n")).into(), &changes));
        survives("x", &changed(format!("{{\"data\": [{}]}}", rows.join(",\n")).into(), &changes));
    }

    #[test]
    fn csv(changes in vec(change(), 1..6)) {
        survives("x.csv", &changed(CSV.into(), &changes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn parquet(changes in vec(change(), 1..4), messages in any::<bool>()) {
        let name = if messages { "messages.parquet" } else { "texts.parquet" };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        survives("x.parquet", &changed(fs_err::read(path).unwrap(), &changes));
    }
}
