//! Rows that nothing can be learnt from, repeated rows, weights and the evaluation split.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use data::check::{OnInvalid, OnRepeated, Problem};
use data::dataset::{Dataset, Options, load};
use data::layout::Shape;
use data::read::Source;
use data::record::{Content, Origin, Record};
use data::report::Action;
use data::split::by_prompt;
use serde_json::{Map, json};
use snapbox::{assert_data_eq, str};

fn written(folder: &Path, text: &str) -> Vec<Source> {
    let path = folder.join("rows.jsonl");
    fs_err::write(&path, text).unwrap();
    vec![Source::new(path)]
}

fn read(text: &str, options: &Options) -> Result<Dataset, data::Error> {
    let folder = tempfile::tempdir().unwrap();
    load(&written(folder.path(), text), options)
}

const BAD_ROWS: &str = r#"{"prompt": "p1", "chosen": "a", "rejected": "b"}
{"prompt": "p2", "chosen": "a"}
{"prompt": "p3", "chosen": "a", "rejected": null}
{"prompt": "p4", "chosen": true, "rejected": "b"}
{"prompt": "p5", "chosen": "a", "rejected": 5}
{"prompt": "p6", "chosen": " \n", "rejected": "b"}
{"prompt": "", "chosen": "a", "rejected": "b"}
{"prompt": "p8", "chosen": "same", "rejected": "same "}
{"prompt": "p1", "chosen": "a", "rejected": "b"}
{"prompt": "p1", "chosen": "b", "rejected": "a"}
{"prompt": null, "chosen": "a", "rejected": "b"}
{"prompt": "p12", "chosen": "a", "rejected": "b"
["not", "a", "row"]
{"prompt": "p14", "chosen": "\ud83d", "rejected": "b"}
{"prompt": "p15", "chosen": [{"role": "user", "content": "x"}], "rejected": [{"role": "assistant", "content": "x"}]}
{"prompt": "p16", "chosen": [{"role": "wizard", "content": "x"}], "rejected": [{"role": "assistant", "content": "x"}]}
"#;

#[test]
fn bad_rows_are_dropped_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let sources = written(folder.path(), BAD_ROWS);
    let data = load(&sources, &Options::new(Shape::Pairs)).unwrap();
    assert_eq!(data.records.len(), 2);
    let shown = data.report.render().replace(&format!("{}/", folder.path().display()), "");
    assert_data_eq!(
        shown,
        str![[r#"
rows.jsonl: 16 rows, jsonl, preference
rows: 16, used: 2, records: 2
dropped 3: unreadable
  `rows.jsonl` line 12: column 48: EOF while parsing an object (the line is cut off)
  `rows.jsonl` line 13: a list where an object is needed
  `rows.jsonl` line 14: column 36: unexpected end of hex escape (half an emoji: text was cut in the middle of a `/ud83d/ude00` pair)
dropped 1: missing field
  `rows.jsonl` line 2: `rejected`
dropped 2: null instead of a value
  `rows.jsonl` line 3: `rejected`
  `rows.jsonl` line 11: `prompt`
dropped 2: wrong type
  `rows.jsonl` line 4: `chosen` is the truth value `true` where text is needed
  `rows.jsonl` line 5: `rejected` is a number where text is needed
dropped 1: bad message
  `rows.jsonl` line 16: `chosen`: unknown role "wizard"
dropped 2: empty text
  `rows.jsonl` line 6: `chosen`
  `rows.jsonl` line 7: the prompt
dropped 1: chosen and rejected are the same
  `rows.jsonl` line 8
dropped 1: chosen and rejected answer different prompts
  `rows.jsonl` line 15: no message is the same on both sides
dropped 1: duplicate row
  `rows.jsonl` line 9: as `rows.jsonl` line 1
kept 1: contradicts another row (sides swapped, or the same answer judged otherwise)
  `rows.jsonl` line 10: as `rows.jsonl` line 1

"#]]
    );
}

#[test]
fn messages_that_say_nothing_are_empty_but_for_tools() {
    let row = |prompt: &str| {
        format!("{{\"prompt\": [{prompt}], \"chosen\": \"a\", \"rejected\": \"b\"}}")
    };
    let user = r#"{"role": "user", "content": "q"}"#;
    let system = r#"{"role": "system", "content": "s"}"#;
    let cases = [
        (user.to_owned(), true),
        (format!(r#"{{"role": "system", "content": ""}}, {user}"#), true),
        (
            format!(
                r#"{user}, {{"role": "assistant", "tool_calls": [{{}}]}}, {{"role": "tool", "content": ""}}"#
            ),
            true,
        ),
        (String::new(), false),
        (system.to_owned(), false),
        (r#"{"role": "user", "content": " "}"#.to_owned(), false),
        (format!(r#"{user}, {{"role": "assistant", "content": ""}}, {user}"#), false),
    ];
    for (prompt, usable) in cases {
        let found = read(&row(&prompt), &Options::new(Shape::Pairs));
        assert_eq!(found.is_ok(), usable, "{prompt}: {found:?}");
    }
}

#[test]
fn each_problem_can_stop_the_run() {
    let mut options = Options::new(Shape::Pairs);
    options.policy.on_invalid = OnInvalid::Error;
    let good = r#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#;
    let lines: Vec<&str> = BAD_ROWS.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let found = read(&format!("{good}\n\n{line}"), &options);
        // Repeated rows have policies of their own.
        let usable = [0, 8, 9].contains(&index);
        assert_eq!(found.is_ok(), usable, "line {}", index + 1);
        if let Err(error) = found {
            assert!(error.to_string().contains("rows.jsonl` line 3"), "{error}");
        }
    }
}

#[test]
fn a_dataset_without_a_usable_row_is_an_error() {
    let text = r#"{"prompt": "p", "chosen": "a", "rejected": "a"}"#;
    let error = read(text, &Options::new(Shape::Pairs)).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("none of the 1 rows of the dataset is usable\ndropped 1: chosen and rejected are the same\n"), "{text}");
    let error = read(" \n\n", &Options::new(Shape::Pairs)).unwrap_err();
    assert!(error.to_string().ends_with("has no rows"), "{error}");
}

#[test]
fn a_missing_field_lists_the_fields_that_are_there() {
    let text = "{\"prompt\": \"p\", \"chosen\": \"a\", \"meta\": 1}\n{\"prompt\": \"q\", \"chosen\": \"a\"}";
    for on_invalid in [OnInvalid::Drop, OnInvalid::Error] {
        let mut options = Options::new(Shape::Pairs);
        options.policy.on_invalid = on_invalid;
        let error = read(text, &options).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with("dataset missing required field \"rejected\" at "), "{shown}");
        assert!(
            shown.ends_with("rows.jsonl` line 1\navailable fields: prompt, chosen, meta"),
            "{shown}"
        );
        let hint = error.hint().unwrap();
        assert!(
            hint.starts_with("expected format: {prompt: str, chosen: str, rejected: str}"),
            "{hint}"
        );
    }
}

#[test]
fn repeated_rows_follow_their_policies() {
    let text = r#"{"prompt": "p", "chosen": "a", "rejected": "b", "id": 1}
{"prompt": "p", "chosen": "a", "rejected": "b", "id": 2}
{"prompt": "p", "chosen": "a", "rejected": "b", "annotator": "x"}
{"prompt": "p", "chosen": "b", "rejected": "a"}
{"prompt": "q", "chosen": "b", "rejected": "a"}"#;
    let mut options = Options::new(Shape::Pairs);
    let counts = |options: &Options| {
        let report = read(text, options).unwrap().report;
        let count = |problem, action| report.count(problem, action);
        assert_eq!(
            report.kept
                + count(Problem::Duplicate, Action::Dropped)
                + count(Problem::Contradiction, Action::Dropped),
            report.rows
        );
        (
            report.kept,
            count(Problem::Duplicate, Action::Dropped) + count(Problem::Duplicate, Action::Kept),
            count(Problem::Contradiction, Action::Dropped)
                + count(Problem::Contradiction, Action::Kept),
        )
    };
    // Another id is the same row; another annotator is another vote.
    assert_eq!(counts(&options), (4, 1, 1));
    options.policy.on_duplicate = OnRepeated::Keep;
    assert_eq!(counts(&options), (5, 1, 1));
    options.policy.on_duplicate = OnRepeated::Drop;
    options.policy.on_contradiction = OnRepeated::Drop;
    assert_eq!(counts(&options).0, 2);
    options.policy.on_contradiction = OnRepeated::Error;
    assert!(read(text, &options).is_err());
}

#[test]
fn weights_repeat_and_thin_rows() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..2000)
        .map(|index| {
            json!({"prompt": format!("p{index}"), "chosen": "a", "rejected": "b"}).to_string()
        })
        .collect();
    let mut sources = written(folder.path(), &lines.join("\n"));
    let mut count = |weight: f64, seed: u64| {
        sources[0].weight = weight;
        let mut options = Options::new(Shape::Pairs);
        options.seed = seed;
        load(&sources, &options).map(|data| data.records)
    };
    assert_eq!(count(1.0, 1).unwrap().len(), 2000);
    assert_eq!(count(3.0, 1).unwrap().len(), 6000);
    let half = count(0.5, 1).unwrap();
    // Five standard deviations of a fair coin over 2000 rows are 112.
    assert!((888..1112).contains(&half.len()), "{}", half.len());
    assert_eq!(half, count(0.5, 1).unwrap());
    assert_ne!(half, count(0.5, 2).unwrap());
    assert!((4888..5112).contains(&count(2.5, 1).unwrap().len()));
    for weight in [0.0, -1.0, f64::NAN, 1e9] {
        assert!(matches!(count(weight, 1), Err(data::Error::Weight { .. })), "{weight}");
    }
}

fn records(prompts: impl Iterator<Item = u32>) -> Vec<Record> {
    prompts
        .enumerate()
        .map(|(index, prompt)| Record {
            origin: Origin::line("rows.jsonl", index as u64 + 1),
            prompt: Content::Text(format!("p{prompt}")),
            completions: vec![Content::Text("a".into()), Content::Text(format!("b{index}"))],
            tools: None,
            template_kwargs: Map::new(),
            extras: Map::new(),
        })
        .collect()
}

#[test]
fn the_evaluation_split_keeps_prompts_together_and_forgets_order() {
    let all = records((0..1500).map(|index| index % 500));
    let split = by_prompt(all.clone(), 0.2, 7).unwrap();
    let prompts = |records: &[Record]| {
        let mut prompts: Vec<String> =
            records.iter().map(|it| format!("{:?}", it.prompt)).collect();
        prompts.sort();
        prompts.dedup();
        prompts
    };
    let (train, eval) = (prompts(&split.train), prompts(&split.eval));
    assert_eq!(train.len() + eval.len(), 500);
    assert_eq!(split.train.len() + split.eval.len(), 1500);
    // Five standard deviations of 500 draws with odds of one in five are 45.
    assert!((55..145).contains(&eval.len()), "{}", eval.len());
    let mut reversed = all.clone();
    reversed.reverse();
    reversed.truncate(1200);
    let again = prompts(&by_prompt(reversed, 0.2, 7).unwrap().eval);
    assert_eq!(again, eval);
    assert_ne!(prompts(&by_prompt(all, 0.2, 8).unwrap().eval), eval);
}

#[test]
fn each_side_of_the_split_gets_a_prompt() {
    for fraction in [0.0001, 0.5, 1.0] {
        let split = by_prompt(records(0..3), fraction, 1).unwrap();
        assert!(!split.train.is_empty() && !split.eval.is_empty(), "{fraction}");
    }
    assert!(by_prompt(records(0..3), 0.0, 1).unwrap().eval.is_empty());
    assert!(by_prompt(records(0..3), 1.5, 1).is_err());
    assert!(by_prompt(records(0..3), f64::NAN, 1).is_err());
}
