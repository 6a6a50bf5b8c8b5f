//! Pairs made of questions, the other side written by a model.

use fs_err as fs;
use serde_json::{Value, json};

use crate::home::Home;

fn home() -> Home {
    let home = Home::new(&[], "");
    let rows: Vec<String> = (0..10)
        .map(|n| json!({"question": format!("What is {n}+1?"), "answer": (n + 1).to_string()}))
        .map(|row| row.to_string())
        .collect();
    home.write("questions.jsonl", &(rows.join("\n") + "\n"));
    home
}

/// Runs `data pairs`; its exit code, the rows, and what was told.
fn pairs(home: &Home, output: &str, flags: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let model = testkit::golden("trl/chat").display().to_string();
    let base = ["data", "pairs", "questions.jsonl", "--model", &model, "--output", output];
    let done = home.program(&[&base[..], &["--max-new-tokens", "8"], flags].concat());
    let text = fs::read_to_string(home.path(output)).unwrap_or_default();
    let rows = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    (done.status.code(), rows, String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn rows_are_pairs_that_train_and_a_stopped_run_goes_on() {
    let home = home();
    let (code, rows, told) = pairs(&home, "made.jsonl", &[]);
    assert_eq!((code, rows.len()), (Some(0), 10), "{told}");
    let prompt = json!([{"role": "user", "content": "What is 3+1?"}]);
    assert_eq!(rows[3]["prompt"], prompt);
    assert_eq!(rows[3]["chosen"], json!([{"role": "assistant", "content": "4"}]));
    assert_ne!(rows[3]["rejected"][0]["content"].as_str().unwrap(), "");
    assert_eq!(rows[3]["id"], "questions.jsonl:4");
    assert_eq!(rows[3]["source"]["side"], "rejected");
    assert!(told.contains("over 10 pairs, before training:"), "{told}");
    assert!(told.contains("answers were cut by `--max-new-tokens`"), "{told}");

    // A row is what the model says to the question alone.
    let model = testkit::golden("trl/chat").display().to_string();
    let flags =
        ["generate", "--model", &model, "--max-new-tokens", "8", "--prompt", "What is 3+1?"];
    let alone = String::from_utf8_lossy(&home.program(&flags).stdout).trim().to_owned();
    assert_eq!(rows[3]["rejected"][0]["content"].as_str().unwrap(), alone);

    // Cut in the middle of a row, the file is completed to the same bytes.
    let whole = fs::read(home.path("made.jsonl")).unwrap();
    fs::write(home.path("made.jsonl"), &whole[..whole.len() * 2 / 5]).unwrap();
    let (code, _, told) = pairs(&home, "made.jsonl", &[]);
    assert!(code == Some(0) && told.contains("kept from before"), "{told}");
    assert!(fs::read(home.path("made.jsonl")).unwrap() == whole);
    let (code, _, told) = pairs(&home, "made.jsonl", &["--seed", "1", "--temperature", "1"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("was written with `temperature: 0.0`, and here it is `1.0`"), "{told}");

    let recipe = format!(
        "model: {{path: \"{model}\"}}\ndataset: {{path: made.jsonl}}\n\
         alignment: {{max_steps: 2, batch_size: 2, lora_r: 2}}\n"
    );
    home.write("recipe.yaml", &recipe);
    assert!(home.finish("run", &[]).success());
}

#[test]
fn samples_make_lists_and_plain_text_keeps_its_space() {
    let home = home();
    let flags =
        ["--samples", "3", "--temperature", "1.5", "--form", "question-answer", "--limit", "4"];
    let (code, rows, told) = pairs(&home, "lists.jsonl", &flags);
    assert_eq!((code, rows.len()), (Some(0), 4), "{told}");
    assert_eq!(rows[0]["prompt"], "Question: What is 0+1?\nAnswer:");
    assert_eq!(rows[0]["chosen"], " 1");
    let lists: Vec<usize> =
        rows.iter().filter_map(|row| Some(row["rejected"].as_array()?.len())).collect();
    assert!(lists.contains(&3), "{rows:?}");
    let (_, again, _) = pairs(&home, "again.jsonl", &flags);
    assert_eq!(rows, again, "the same seed gives the same rows");

    let (code, rows, _) = pairs(&home, "chosen.jsonl", &["--write", "chosen", "--limit", "1"]);
    assert_eq!(code, Some(0));
    assert_eq!(rows[0]["rejected"], json!([{"role": "assistant", "content": "1"}]));
    for useless in [
        &["--samples", "2"][..],
        &["--samples", "2", "--temperature", "1", "--write", "chosen"],
        &["--system", "s", "--form", "plain"],
    ] {
        assert_eq!(pairs(&home, "no.jsonl", useless).0, Some(2), "{useless:?}");
    }
    assert!(!home.path("no.jsonl").exists());
}
