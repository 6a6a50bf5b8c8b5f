//! Rows that reject several completions, and pairs that become the group of their prompt.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use data::check::{OnInvalid, OnRepeated, Problem};
use data::dataset::{Dataset, Options, load};
use data::layout::Shape;
use data::read::Source;
use data::record::{Content, Record};
use data::report::{Action, Made};
use serde_json::{Value, json};

fn read(rows: &[Value], options: &Options) -> Result<Dataset, data::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs_err::write(&path, lines.join("\n")).unwrap();
    load(&[Source::new(path)], options)
}

/// What `method: dpo` and `method: gdpo` take.
fn pairs() -> Options {
    Options { shapes: vec![Shape::Pairs, Shape::Groups], ..Options::new(Shape::Pairs) }
}

fn groups() -> Options {
    Options { shapes: vec![Shape::Groups, Shape::Pairs], ..pairs() }
}

fn grouped() -> Options {
    Options { group_by_prompt: true, ..groups() }
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
}

fn text(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Messages(all) => all[0]["content"].as_str().unwrap().to_owned(),
        Content::Tokens(_) => panic!("tokens"),
    }
}

fn texts(record: &Record) -> Vec<String> {
    record.completions.iter().map(text).collect()
}

fn scores(record: &Record) -> Vec<f64> {
    record.extras["scores"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
}

/// The texts and scores of all records.
fn shown(data: &Dataset) -> Vec<(Vec<String>, Vec<f64>)> {
    data.records.iter().map(|record| (texts(record), scores(record))).collect()
}

fn ranked(texts: &[&str], scores: &[f64]) -> (Vec<String>, Vec<f64>) {
    (texts.iter().map(|it| (*it).to_owned()).collect(), scores.to_vec())
}

#[test]
fn a_list_of_rejected_completions_is_a_group_of_one_best_and_ties() {
    let rows = [
        json!({"prompt": "p", "chosen": "a", "rejected": ["b", "c", "b ", "d"]}),
        json!({"prompt": "q", "chosen": "a", "rejected": ["b"]}),
        json!({"prompt": "r", "chosen": "a", "rejected": ["b", "c"], "scores": [0.5, 0.25]}),
        json!({"prompt": "s", "chosen": "a", "rejected": ["b", "c"], "scores": [5, 2, 3]}),
        json!({"prompt": "t", "chosen": "a", "rejected": ["b", "c"], "ranks": [2, 1]}),
        json!({"prompt": "u", "chosen": "a", "rejected": ["b", "c"], "scores": [7, 3], "score_chosen": 9}),
    ];
    let data = read(&rows, &groups()).unwrap();
    assert_eq!(
        shown(&data),
        [
            ranked(&["a", "b", "c", "d"], &[1.0, 0.0, 0.0, 0.0]),
            ranked(&["a", "b"], &[1.0, 0.0]),
            ranked(&["a", "b", "c"], &[1.0, 0.5, 0.25]),
            ranked(&["a", "b", "c"], &[5.0, 2.0, 3.0]),
            ranked(&["a", "b", "c"], &[0.0, -2.0, -1.0]),
            ranked(&["a", "b", "c"], &[9.0, 7.0, 3.0]),
        ]
    );
    assert_eq!(data.report.made[&Made::GroupOfList], 6);
    assert_eq!((data.report.rows, data.report.kept, data.report.records), (6, 6, 6));
    let told = data.report.render();
    assert!(told.contains("made 6: groups of rows that reject several completions\n"), "{told}");
}

#[test]
fn without_groups_each_rejected_completion_is_in_a_pair_of_its_own() {
    let rows = [
        json!({"prompt": "p", "chosen": "a", "rejected": ["b", "c"], "scores": [0.5, 0.25]}),
        pair("q", "a", "b"),
        json!({"id": "x7", "prompt": "r", "chosen": "a", "rejected": ["b", "a", "c"]}),
    ];
    let data = read(&rows, &pairs()).unwrap();
    let sides: Vec<Vec<String>> = data.records.iter().map(texts).collect();
    assert_eq!(sides, [["a", "b"], ["a", "c"], ["a", "b"], ["a", "b"], ["a", "c"]]);
    let id = |at: usize| data.records[at].extras.get("id").and_then(Value::as_str);
    let ids = [0, 1, 2, 3, 4].map(id);
    let wanted = ["rows.jsonl:1/1", "rows.jsonl:1/2", "", "x7/1", "x7/3"];
    assert_eq!(ids.map(Option::unwrap_or_default), wanted);
    let score = |at: usize| data.records[at].extras["score_rejected"].as_f64();
    assert_eq!([score(0), score(1)], [Some(0.5), Some(0.25)]);
    // The chosen one among the rejected ones is no pair.
    assert_eq!(data.report.count(Problem::Identical, Action::Dropped), 1);
    assert_eq!((data.report.rows, data.report.kept, data.report.records), (3, 3, 5));
    assert_eq!(data.report.made[&Made::PairOfList], 4);
}

#[test]
fn lists_of_messages_are_completions_and_a_list_of_one_dialogue_is_not() {
    let turn = |text: &str| json!([{"role": "assistant", "content": text}]);
    let asked = json!([{"role": "user", "content": "q"}]);
    let rows = [
        json!({"prompt": asked, "chosen": turn("a"), "rejected": [turn("b"), turn("c")]}),
        json!({"prompt": asked, "chosen": turn("d"), "rejected": turn("e")}),
    ];
    let data = read(&rows, &groups()).unwrap();
    let sides: Vec<Vec<String>> = data.records.iter().map(texts).collect();
    assert_eq!(sides, [vec!["a", "b", "c"], vec!["d", "e"]]);
}

#[test]
fn lists_that_hold_no_completions_are_told_with_their_line() {
    let bad = [
        (json!([]), Problem::Empty, "`rejected` is an empty list"),
        (json!(["b", 3]), Problem::WrongType, "item 2 is a number where text or messages"),
        (json!([null, "b"]), Problem::WrongType, "item 1 is null"),
        (json!(["b", {"role": "assistant", "content": "c"}]), Problem::WrongType, "item 2"),
        (json!([["b"], "c"]), Problem::WrongType, "item 1 is a list"),
        (json!(["b", " a"]), Problem::Identical, "`rejected` item 2"),
        (json!(["b", " "]), Problem::Empty, "response 3"),
    ];
    for (rejected, problem, words) in bad {
        let rows =
            [pair("p", "a", "b"), json!({"prompt": "q", "chosen": "a", "rejected": rejected})];
        let data = read(&rows, &groups()).unwrap();
        assert_eq!((data.records.len(), data.report.count(problem, Action::Dropped)), (1, 1));
        let mut strict = groups();
        strict.policy.on_invalid = OnInvalid::Error;
        let error = read(&rows, &strict).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl` line 2: ") && error.contains(words), "{error}");
    }
    for (name, numbers, words) in [
        ("scores", json!([1.0]), "1 scores for 2 rejected"),
        ("scores", json!([1, 2, 0]), "as high as the chosen"),
        ("ranks", json!([1, "x"]), "`ranks` holds"),
    ] {
        let mut row = json!({"prompt": "q", "chosen": "a", "rejected": ["b", "c"]});
        row[name] = numbers;
        let mut strict = groups();
        strict.policy.on_invalid = OnInvalid::Error;
        let error = read(&[row], &strict).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains(words), "{error}");
    }
}

#[test]
fn pairs_of_a_prompt_become_a_group_in_the_order_that_follows_from_them() {
    let rows = [
        pair("p", "b", "c"),
        pair("other", "x", "y"),
        pair("p", "a", "b "),
        pair("p", "d", "c"),
        pair("p", "c", "e"),
        json!({"prompt": "p", "chosen": "a", "rejected": ["e", "f"]}),
    ];
    let data = read(&rows, &grouped()).unwrap();
    assert_eq!(data.records.len(), 2);
    let group = &data.records[0];
    // a above b above c above e; d above c; f below a alone.
    assert_eq!(texts(group), ["a", "d", "b", "f", "c", "e"]);
    let third = 1.0 / 3.0;
    assert_eq!(scores(group), [1.0, 1.0, 1.0 - third, 1.0 - third, 1.0 - 2.0 * third, 0.0]);
    assert_eq!(texts(&data.records[1]), ["x", "y"]);
    assert_eq!((data.report.kept, data.report.made[&Made::GroupOfPairs]), (6, 1));
    // Without the setting all are as they come.
    assert_eq!(read(&rows, &groups()).unwrap().records.len(), 6);
}

#[test]
fn pairs_in_a_circle_are_dropped_and_counted() {
    let circle = [pair("p", "a", "b"), pair("p", "b", "c"), pair("p", "c", "a")];
    let rows = [&circle[..], &[pair("p", "c", "d"), pair("q", "a", "b"), pair("q", "b", "a")]];
    let rows = rows.concat();
    let data = read(&rows, &grouped()).unwrap();
    // All of `q` is a circle; of `p`, what is above `d` alone is known.
    assert_eq!(shown(&data), [ranked(&["c", "d"], &[1.0, 0.0])]);
    let dropped = data.report.count(Problem::Contradiction, Action::Dropped);
    assert_eq!((dropped, data.report.kept, data.report.records), (5, 1, 1));
    assert!(data.report.render().contains("line 1: in a circle of preferences"));
    let mut strict = grouped();
    strict.policy.on_contradiction = OnRepeated::Error;
    assert!(read(&rows, &strict).is_err());
    assert!(matches!(
        read(&circle, &grouped()).unwrap_err(),
        data::Error::AllDropped { rows: 3, .. }
    ));
}

#[test]
fn a_group_keeps_what_its_pairs_agree_on_and_rows_that_are_groups_stay() {
    let rows = [
        json!({"prompt": "p", "chosen": "a", "rejected": "b", "topic": "t", "annotator": "x"}),
        json!({"prompt": "p", "chosen": "a", "rejected": "b", "topic": "t", "annotator": "y"}),
        json!({"prompt": "p", "chosen": "a", "rejected": ["c", "d"], "scores": [2, 1], "topic": "t"}),
    ];
    let data = read(&rows, &grouped()).unwrap();
    assert_eq!(
        shown(&data),
        [ranked(&["a", "b"], &[1.0, 0.0]), ranked(&["a", "c", "d"], &[3.0, 2.0, 1.0])]
    );
    let extras = &data.records[0].extras;
    assert_eq!((extras.get("topic"), extras.get("annotator")), (Some(&json!("t")), None));
}
