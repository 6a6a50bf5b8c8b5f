//! Every way of writing rows down, by hand and by other programs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use data::dataset::{Options, load};
use data::layout::Shape;
use data::read::{Format, Item, Rows, Source, files_of};
use data::record::Content;
use serde_json::{Value, json};

/// A name, the text of a file, and what it reads as.
type Case<'a, T> = (&'a str, &'a str, T);

const ROW: &str = r#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#;

/// What a file reads as: line or row numbers with columns, or with why a row is unreadable.
fn read_at(path: &Path, split: &str) -> Result<Vec<(u64, Value)>, data::Error> {
    Rows::open(path, Format::Auto, split)?
        .map(|item| {
            Ok(match item? {
                Item::Row(row) => (row.origin.number, Value::Object(row.fields)),
                Item::Unreadable { origin, detail } => (origin.number, Value::String(detail)),
            })
        })
        .collect()
}

fn read(name: &str, bytes: &[u8]) -> Result<Vec<(u64, Value)>, data::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, bytes).unwrap();
    read_at(&path, "train")
}

fn numbers(values: &[(u64, i32)]) -> Vec<(u64, Value)> {
    values.iter().map(|&(line, value)| (line, json!({"a": value}))).collect()
}

#[test]
fn json_in_every_form() {
    let cases: [Case<'_, &[(u64, i32)]>; 13] = [
        ("lines", "{\"a\": 1}\n{\"a\": 2}\n", &[(1, 1), (2, 2)]),
        ("blank lines, no end", "\n{\"a\": 1}\n\n \n{\"a\": 2}", &[(2, 1), (5, 2)]),
        ("byte order mark", "\u{feff}{\"a\": 1}\n{\"a\": 2}", &[(1, 1), (2, 2)]),
        ("windows", "{\"a\": 1}\r\n{\"a\": 2}\r\n", &[(1, 1), (2, 2)]),
        ("old mac", "{\"a\": 1}\r{\"a\": 2}\r", &[(1, 1), (1, 2)]),
        ("two on a line", "{\"a\": 1}{\"a\": 2}\n{\"a\": 3}", &[(1, 1), (1, 2), (2, 3)]),
        ("over several lines", "{\n \"a\": 1\n}\n{\n \"a\": 2\n}\n", &[(1, 1), (4, 2)]),
        ("a list", "\n[{\"a\": 1},\n {\"a\": 2}\n]\n", &[(2, 1), (3, 2)]),
        ("a list with a mark", "\u{feff}[{\"a\": 1}, {\"a\": 2}, ]", &[(1, 1), (1, 2)]),
        (
            "an object with rows",
            "{\"version\": 2, \"data\": [\n{\"a\": 1},\n{\"a\": 2}], \"x\": [1]}",
            &[(2, 1), (3, 2)],
        ),
        ("an object with splits", "{\"test\": [{\"a\": 9}], \"train\": [{\"a\": 1}]}", &[(1, 1)]),
        ("an object with one list", "{\"preferences\": [{\"a\": 1}]}", &[(1, 1)]),
        ("one row", "{\n\"a\": 1}", &[(1, 1)]),
    ];
    for (name, text, wanted) in cases {
        for file in ["x.json", "x.jsonl", "x"] {
            assert_eq!(read(file, text.as_bytes()).unwrap(), numbers(wanted), "{name} as {file}");
        }
    }
    let rows =
        read("x.json", b"{\"rows\": [{\"row_idx\": 0, \"row\": {\"prompt\": \"p\"}}]}").unwrap();
    assert_eq!(rows, [(1, json!({"prompt": "p"}))]);
    // A row whose columns are lists of objects is a row, not a holder of rows.
    let row = json!({"chosen": [{"role": "user"}], "rejected": [{"role": "user"}]});
    assert_eq!(read("x.json", row.to_string().as_bytes()).unwrap(), [(1, row)]);
}

#[test]
fn a_broken_line_is_one_row_and_the_next_is_read() {
    let text = "{\"a\": 1}\n{\"a\": \n{\"a\": \"\\ud800x\"}\n{\"a\": NaN}\n17\n{\"a\": \"\u{1}\"}\n{\"a\": 2}\n";
    let found = read("x.jsonl", text.as_bytes()).unwrap();
    let lines: Vec<u64> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7]);
    let words = |index: usize| found[index].1.as_str().unwrap().to_owned();
    assert!(words(1).ends_with("(the line is cut off)"), "{}", words(1));
    assert!(words(2).contains("half an emoji"), "{}", words(2));
    assert!(words(3).contains("`NaN` and `Infinity` are not JSON"), "{}", words(3));
    assert_eq!(words(4), "a number where an object is needed");
    assert!(words(5).contains("control character"), "{}", words(5));
    // Also where the first line is the broken one.
    let found = read("x.jsonl", b"{\"a\": \n{\"a\": 2}\n{\"a\": 3}").unwrap();
    assert_eq!(found[1..], numbers(&[(2, 2), (3, 3)]));
    let found = read("x.jsonl", b"{\"a\": 1}\n{\"a\": \"\xff\"}\n").unwrap();
    assert!(found[1].1.as_str().unwrap().ends_with("(not UTF-8)"), "{found:?}");
}

#[test]
fn broken_files_say_where() {
    let cases: [(&str, &[u8], &str); 9] = [
        (
            "x.json",
            b"[{\"a\": 1},\n{\"a\": 2}",
            "line 2 is not readable as JSON: the file ends in the middle",
        ),
        (
            "x.json",
            b"[{\"a\": 1},\n{\"a\": 2",
            "line 2 is not readable as JSON: the value that starts here has no end",
        ),
        ("x.json", b"[{\"a\": 1}\n{\"a\": 2}]", "line 2 is not readable as JSON: unexpected `{`"),
        (
            "x.json",
            b"[{\"a\": 1}]\n x",
            "line 2 is not readable as JSON: text after the end of the list",
        ),
        (
            "x.json",
            b"{\"prompt\": {\"0\": \"a\"}, \"chosen\": {\"0\": \"b\"}}",
            "columns instead of rows",
        ),
        ("x.csv", b"a,b,a\n1,2,3\n", "line 1 is not readable as CSV: two columns are named `a`"),
        ("x.csv", b"\xff\xfea\0", "unsupported dataset format \"UTF-16 text\""),
        ("x.parquet", b"PAR1", "row 1 is not readable as Parquet"),
        ("x.jsonl", b"\x1f\x8b\x08\x00", "unsupported dataset format \"gz\""),
    ];
    for (name, bytes, wanted) in cases {
        let error = read(name, bytes).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn an_unknown_format_is_named_with_those_that_are_read() {
    let error = "txt".parse::<Format>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unsupported dataset format \"txt\"\nsupported formats: auto, json, jsonl, csv, parquet"
    );
    assert!(error.hint().unwrap().starts_with("write one JSON object a line"));
    let error = read("x.txt", b"hello\n").unwrap_err().to_string();
    assert!(error.starts_with("unsupported dataset format \"txt\" (`"), "{error}");
    let error = read_at(Path::new("/nowhere/at/all.json"), "train").unwrap_err();
    assert!(matches!(error, data::Error::Io(_)), "{error}");
    let error =
        load(&[Source::new("/nowhere/at/all.json")], &Options::new(Shape::Pairs)).unwrap_err();
    assert_eq!(error.to_string(), "dataset not found at \"/nowhere/at/all.json\"");
}

#[test]
fn csv_as_people_export_it() {
    let row = |line: u64, a: &str, b: &str| (line, json!({"a": a, "b": b}));
    let cases: [Case<'_, Vec<(u64, Value)>>; 10] = [
        ("plain", "a,b\n1,2\n3,4", vec![row(2, "1", "2"), row(3, "3", "4")]),
        (
            "quoted lines",
            "a,b\n\"x\n\"\"y\"\"\",2\n3,4\n",
            vec![row(2, "x\n\"y\"", "2"), row(4, "3", "4")],
        ),
        ("windows and mark", "\u{feff}a,b\r\n1,2\r\n", vec![row(2, "1", "2")]),
        ("old mac", "a,b\r1,2\r", vec![row(2, "1", "2")]),
        ("stray return", "a,b\nx\ry,2\n", vec![row(2, "x\ry", "2")]),
        ("blank lines", "a,b\r\n\r\n1,2\r\n \r\n", vec![row(3, "1", "2")]),
        ("mixed ends", "a,b\n1,2\r\n", vec![row(2, "1", "2")]),
        ("semicolons", "a;b\n1,5;2\n", vec![row(2, "1,5", "2")]),
        ("tabs", "a\tb\n1\t2\n", vec![row(2, "1", "2")]),
        ("index column", ",a,b\n0,1,2\n", vec![row(2, "1", "2")]),
    ];
    for (name, text, wanted) in cases {
        assert_eq!(read("x.csv", text.as_bytes()).unwrap(), wanted, "{name}");
    }
    let found = read("x.csv", b"a,b\n1\n2,3\n\xff,1\n").unwrap();
    assert_eq!(found[0].1, json!("1 cells under 2 columns (a quote or comma may be missing)"));
    assert_eq!(found[1], row(3, "2", "3"));
    assert_eq!(found[2].1, json!("column `a` is not UTF-8; save the file as UTF-8"));
}

#[test]
fn csv_cells_hold_messages_as_json_and_numbers_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    let text = "prompt,chosen,rejected,h_w,tools\n\
        \"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"Q\"\"}]\",\"{\"\"x\"\": 1}\",B,1,\n\
        \"[{'role': 'user', 'content': 'Q'}]\",A,B,1,\n";
    fs_err::write(&path, text).unwrap();
    let data = load(&[Source::new(path)], &Options::new(Shape::Pairs)).unwrap();
    assert_eq!(data.records.len(), 1);
    let record = &data.records[0];
    let message =
        |role: &str, text: &str| Content::Messages(vec![json!({"role": role, "content": text})]);
    assert_eq!(record.prompt, message("user", "Q"));
    // An answer that is JSON is an answer.
    assert_eq!(record.completions[0], message("assistant", "{\"x\": 1}"));
    assert_eq!(record.extras["h_w"], json!(1));
    assert!(
        data.report.render().contains("Python's notation of a list"),
        "{}",
        data.report.render()
    );
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn parquet_texts_over_several_row_groups() {
    let found = read_at(&fixture("texts.parquet"), "train").unwrap();
    assert_eq!(found.len(), 7);
    let wanted = json!({"prompt": "What is 3+3? 多少 🦀", "chosen": "6", "rejected": "7", "h_w": 1, "score": 1.0, "tags": ["b", null, "c"]});
    assert_eq!(found[3], (4, wanted));
    assert_eq!(
        (&found[1].1["score"], &found[2].1["score"], &found[2].1["tags"]),
        (&json!(null), &json!(null), &json!(null))
    );
    let data = load(&[Source::new(fixture("texts.parquet"))], &Options::new(Shape::Pairs)).unwrap();
    assert_eq!((data.report.rows, data.report.kept), (7, 6));
    assert!(
        data.report.render().contains("texts.parquet` row 7: `rejected`"),
        "{}",
        data.report.render()
    );
}

#[test]
fn parquet_lists_of_structs_are_messages_without_nulls() {
    let data =
        load(&[Source::new(fixture("messages.parquet"))], &Options::new(Shape::Pairs)).unwrap();
    assert_eq!(data.records.len(), 5);
    let record = &data.records[2];
    let message =
        |role: &str, text: &str| Content::Messages(vec![json!({"role": role, "content": text})]);
    assert_eq!(record.prompt, message("user", "Q2"));
    assert_eq!(record.completions, [message("assistant", "A2"), message("assistant", "B2")]);
    assert_eq!(record.extras["score_chosen"], json!(1.0));
    assert_eq!(Value::Object(record.template_kwargs.clone()), json!({"enable_thinking": false}));
    let error = read_at(&fixture("gzip.parquet"), "train").unwrap_err().to_string();
    assert!(error.contains("only snappy, zstd and no compression are read"), "{error}");
}

#[test]
fn parquet_texts_in_every_encoding_are_the_same_rows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/rows_parquet");
    let mut count = 0;
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = read_at(&path, "train").unwrap();
        let turns = |side: &str, index: u32| {
            json!([
                {"role": "user", "content": format!("user says {index}")},
                {"role": "assistant", "content": format!("assistant says {side} {index}")},
            ])
        };
        let wanted: Vec<Value> = if path.to_string_lossy().contains("flat-") {
            let text = |name: &str, index: u32| format!("{name} {index}");
            (0..6)
                .map(|it| json!({"prompt": text("prompt", it), "chosen": text("chosen", it), "rejected": text("rejected", it)}))
                .collect()
        } else {
            (0..4)
                .map(|it| json!({"chosen": turns("chosen", it), "rejected": turns("rejected", it)}))
                .collect()
        };
        let found: Vec<Value> = found.into_iter().map(|(_, row)| row).collect();
        assert_eq!(found, wanted, "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn parquet_that_asks_for_more_memory_than_it_is_worth_is_refused() {
    for (name, why) in [
        ("false-count.parquet", "the lengths of its texts are damaged"),
        ("long-rows.parquet", "its rows unpack to 24 MiB and more, from a file of"),
        ("long-list.parquet", "one row has lists of 250000 elements, more than the file can hold"),
    ] {
        let error = read_at(&fixture(name), "train").unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in files {
        let path = folder.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, ROW.replace("\"p\"", &format!("\"{name}\""))).unwrap();
    }
    folder
}

#[test]
fn folders_of_shards_by_split() {
    let cases: [(&[&str], &str, &[&str]); 7] = [
        (
            &[
                "train-00001-of-00002.jsonl",
                "train-00000-of-00002.jsonl",
                "test-00000-of-00001.jsonl",
                "README.md",
            ],
            "train",
            &["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"],
        ),
        (&["train.jsonl", "valid.jsonl"], "validation", &["valid.jsonl"]),
        (&["train.jsonl", "valid.jsonl"], "eval", &["valid.jsonl"]),
        (
            &["a.jsonl", "b.json", ".hidden.json", "dataset_info.json"],
            "train",
            &["a.jsonl", "b.json"],
        ),
        (
            &["data/train_prefs-00000-of-00001.jsonl", "data/train_sft-00000-of-00001.jsonl"],
            "train_prefs",
            &["data/train_prefs-00000-of-00001.jsonl"],
        ),
        (
            &["default/train/0000.jsonl", "default/test/0000.jsonl"],
            "test",
            &["default/test/0000.jsonl"],
        ),
        (&["a.jsonl", "my_test.jsonl"], "train", &["a.jsonl"]),
    ];
    for (files, split, wanted) in cases {
        let folder = tree(files);
        let mut source = Source::new(folder.path());
        source.split = split.into();
        let found: Vec<String> = files_of(&source)
            .unwrap()
            .iter()
            .map(|file| file.path.strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(found, wanted, "{files:?} {split}");
    }
}

#[test]
fn a_split_that_is_not_there_lists_those_that_are() {
    let folder = tree(&["train.jsonl", "test.jsonl"]);
    let mut source = Source::new(folder.path());
    source.split = "validation".into();
    let error =
        load(std::slice::from_ref(&source), &Options::new(Shape::Pairs)).unwrap_err().to_string();
    assert!(error.ends_with("available splits: test, train"), "{error}");
    let inside = folder.path().join("splits.json");
    fs_err::write(&inside, "{\"train\": [{\"a\": 1}], \"test\": []}").unwrap();
    assert_eq!(read_at(&inside, "test").unwrap(), []);
    let error = read_at(&inside, "validation").unwrap_err().to_string();
    assert!(error.contains("no split \"validation\"") && error.ends_with("train, test"), "{error}");
    let folder = tree(&["data.arrow"]);
    let error = load(&[Source::new(folder.path())], &Options::new(Shape::Pairs)).unwrap_err();
    assert!(error.to_string().starts_with("unsupported dataset format \"arrow\""), "{error}");
    assert!(error.hint().unwrap().contains("to_parquet"));
}

#[test]
fn a_list_of_sources_is_read_in_order() {
    let folder = tree(&["b.jsonl", "a/train.json"]);
    let sources =
        [Source::new(folder.path().join("b.jsonl")), Source::new(folder.path().join("a"))];
    let data = load(&sources, &Options::new(Shape::Pairs)).unwrap();
    let prompts: Vec<&Content> = data.records.iter().map(|it| &it.prompt).collect();
    assert_eq!(prompts, [&Content::Text("b.jsonl".into()), &Content::Text("a/train.json".into())]);
    assert_eq!(data.report.files.len(), 2);
}

/// A line with every character outside ASCII as an escape, as Python writes it.
fn escaped(line: &str) -> String {
    let mut out = String::new();
    for character in line.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").unwrap();
            }
        }
    }
    out
}

#[test]
fn unicode_of_every_kind_arrives_as_it_is() {
    let texts = [
        "\0nul",
        "日本語",
        "שלום עולם \u{202e}rtl",
        "👩‍👩‍👧‍👦 \u{1f980}",
        "e\u{301}",
        "\u{feff}mark",
        "\u{2028}\u{2029}",
        "Ã©mojibake\r",
    ];
    let rows: Vec<Value> =
        texts.iter().map(|text| json!({"prompt": text, "chosen": text, "rejected": "b"})).collect();
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    let escaped: Vec<String> = lines.iter().map(|line| escaped(line)).collect();
    let plain = read("x.jsonl", lines.join("\n").as_bytes()).unwrap();
    let list = read("x.json", serde_json::to_string_pretty(&rows).unwrap().as_bytes()).unwrap();
    let escaped = read("x.jsonl", escaped.join("\n").as_bytes()).unwrap();
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(&plain[index].1, row);
        assert_eq!(&list[index].1, row);
        assert_eq!(&escaped[index].1, row);
    }
}
