//! AIXpert's way from plain pairs to what Factual-DPO learns from: judged, corrupted, balanced.

use std::{collections::BTreeMap, process::Output};

use fs_err as fs;
use serde_json::{Value, json};
use testkit::chat_server::{ChatServer, Turn};

use crate::home::Home;

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn rows(home: &Home, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(home.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Pairs of all four kinds, three of each; a side is factual if it says so.
fn home() -> Home {
    let side = |is_wrong: bool, n: usize| {
        format!("{} number {n}", if is_wrong { "Made up" } else { "True" })
    };
    let pairs: Vec<String> = (0..12)
        .map(|n| {
            json!({"id": format!("q{n}"), "prompt": format!("Question {n}?"), "topic": n % 3,
                   "chosen": side(n % 4 >= 2, n), "rejected": side(n % 2 == 1, n + 100)})
            .to_string()
        })
        .collect();
    Home::new(&pairs, "")
}

/// A judge that believes what is said, and a writer that makes things up.
fn server() -> ChatServer {
    ChatServer::start(|seen| {
        let system = seen.body["messages"][0]["content"].as_str().unwrap();
        let user = seen.body["messages"][1]["content"].as_str().unwrap();
        if system.contains("write the answer") || system.contains("Write the answer") {
            let number = user.split("True number ").nth(1).unwrap().split('\n').next().unwrap();
            return Turn::Say(format!(" Nearly true number {number} \n"));
        }
        match (seen.before, user.contains("Made up")) {
            _ if user.contains("Question 11?") => Turn::Say("I cannot say.".into()),
            (0, true) if user.contains("Question 2?") => {
                Turn::Status(429, "retry-after-ms: 5", String::new())
            }
            (_, true) => Turn::Say("Not so.\n[[1]]".into()),
            (_, false) => Turn::Say("So it is.\n[[0]]".into()),
        }
    })
}

fn labels(row: &Value) -> (u64, u64) {
    (row["h_w"].as_u64().unwrap(), row["h_l"].as_u64().unwrap())
}

fn kinds(rows: &[Value]) -> BTreeMap<(u64, u64), usize> {
    let mut kinds = BTreeMap::new();
    for row in rows {
        *kinds.entry(labels(row)).or_default() += 1;
    }
    kinds
}

/// Runs `data judge`.
fn judge(home: &Home, server: &ChatServer) -> Output {
    home.program(&[
        "data",
        "judge",
        "pairs.jsonl",
        "--judge",
        "judge-1",
        "--base-url",
        server.base_url(),
        "--concurrency",
        "3",
        "--output",
        "labelled.jsonl",
    ])
}

#[test]
fn pairs_are_judged_side_by_side() {
    let (home, server) = (home(), server());
    let done = judge(&home, &server);
    assert!(done.status.success(), "{}", told(&done));
    for words in [
        "pairs: 11 labelled, 0 kept from before",
        "labels (h_w, h_l) = (0, 1): 3 pairs",
        "labels (h_w, h_l) = (1, 1): 2 pairs",
        "left out 1: an answer could not be read",
    ] {
        assert!(told(&done).contains(words), "{words}\n{}", told(&done));
    }
    let labelled = rows(&home, "labelled.jsonl");
    for (n, row) in labelled.iter().enumerate() {
        assert_eq!(row["id"], format!("q{n}"));
        assert_eq!(labels(row), (u64::from(n % 4 >= 2), u64::from(n % 2 == 1)));
        assert_eq!((&row["topic"], &row["source"]["judge"]), (&json!(n % 3), &json!("judge-1")));
        assert!(row["chosen"].as_str().unwrap().ends_with(&format!("number {n}")));
    }
    // Both sides once, and the one that says nothing twice more each.
    let paid = server.paid();
    assert_eq!(paid, (11 * 2 + 2 * 3, 1));
    // Rows that are lost come back for nothing.
    let whole = fs::read(home.path("labelled.jsonl")).unwrap();
    fs::write(home.path("labelled.jsonl"), &whole[..whole.len() / 2]).unwrap();
    assert!(judge(&home, &server).status.success());
    assert!(fs::read(home.path("labelled.jsonl")).unwrap() == whole);
    assert_eq!(server.paid(), paid);
}

#[test]
fn pairs_are_corrupted_and_balanced() {
    let (home, server) = (home(), server());
    let url = server.base_url();
    assert!(judge(&home, &server).status.success());
    let paid = server.paid();
    let corrupt = [
        "data",
        "corrupt",
        "labelled.jsonl",
        "--api-model",
        "writer-1",
        "--base-url",
        url,
        "--output",
        "made.jsonl",
    ];
    let two = home.program(&[&corrupt[..], &["--count", "2"]].concat());
    assert!(told(&two).contains("pairs: 2 written, 0 kept"), "{}", told(&two));
    let all = home.program(&corrupt);
    assert!(told(&all).contains("pairs: 1 written, 2 kept"), "{}", told(&all));
    let made = rows(&home, "made.jsonl");
    for row in &made {
        let n = row["id"].as_str().unwrap().strip_prefix('q').unwrap();
        let n = n.strip_suffix("#corrupted").unwrap();
        assert_eq!(row["chosen"], format!("Nearly true number {n}"));
        assert_eq!(row["rejected"], format!("True number {n}"));
        assert_eq!((labels(row), &row["source"]["kind"]), ((1, 0), &json!("synthetic_inversion")));
    }
    assert_eq!((server.paid().0, server.paid().1), (paid.0 + 3, 1));
    let last = server.seen().pop().unwrap();
    assert!(last.body["temperature"] == 0.8 && last.body["seed"].is_u64());

    let balance = ["data", "balance", "labelled.jsonl", "made.jsonl", "--output", "final.jsonl"];
    let targets = ["--target", "0,1=2", "--target", "1,0=5", "--target", "0,0=7", "--flip"];
    let done = home.program(&[&balance[..], &targets].concat());
    assert!(done.status.success(), "{}", told(&done));
    assert!(told(&done).contains("note: (0, 0): 3 pairs are repeated to 7"), "{}", told(&done));
    let rows = rows(&home, "final.jsonl");
    // All pairs that were the wrong way are turned around.
    assert_eq!(kinds(&rows), BTreeMap::from([((0, 0), 7), ((0, 1), 2 + 5), ((1, 1), 2)]));
    assert_eq!(rows.iter().filter(|row| row["flipped"] == true).count(), 5);
    for row in rows.iter().filter(|row| row["flipped"] == true) {
        assert!(row["chosen"].as_str().unwrap().starts_with("True"), "{row}");
        assert!(!row["rejected"].as_str().unwrap().starts_with("True"), "{row}");
    }
    let ids: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rows.len());
    let first = fs::read(home.path("final.jsonl")).unwrap();
    assert!(home.program(&[&balance[..], &targets].concat()).status.success());
    assert!(fs::read(home.path("final.jsonl")).unwrap() == first, "the same seed, the same file");
    assert!(home.program(&[&balance[..], &targets, &["--seed", "1"]].concat()).status.success());
    assert!(fs::read(home.path("final.jsonl")).unwrap() != first);
}

#[test]
fn what_cannot_be_is_refused() {
    let home = home();
    home.write(
        "none.jsonl",
        "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\", \"h_w\": 0, \"h_l\": 0}\n",
    );
    let balance = ["data", "balance", "--output", "x.jsonl"];
    for (flags, code, words) in [
        (&["pairs.jsonl"][..], 3, "`pairs.jsonl` line 1 has no labels `h_w` and `h_l`"),
        (&["none.jsonl", "--target", "1,0=5"], 3, "no pair has the labels (h_w, h_l) = (1, 0)"),
        (&["none.jsonl", "--target", "0,0=5", "--target", "0,0=6"], 2, "twice for the same labels"),
        (&["none.jsonl", "--target", "0,2=5"], 2, "two labels and a number"),
    ] {
        let refused = home.program(&[&balance[..], flags].concat());
        let text = told(&refused);
        assert!(refused.status.code() == Some(code) && text.contains(words), "{flags:?}: {text}");
    }
    let judge = ["data", "judge", "pairs.jsonl", "--judge", "j", "--output", "x.jsonl"];
    assert!(told(&home.program(&judge)).contains("`OPENAI_API_KEY` is not set"));
    assert!(!home.path("x.jsonl").exists());
}
