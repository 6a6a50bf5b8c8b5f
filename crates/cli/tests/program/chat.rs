//! Conversations: turns, the adapter's switch, stop strings.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::home::Home;

fn home() -> Home {
    let pair = |n: usize| {
        json!({"prompt": format!("{n}+1?"), "chosen": format!("it is {}", n + 1),
               "rejected": "no idea"})
        .to_string()
    };
    let pairs: Vec<String> = (0..24).map(pair).collect();
    let recipe = format!(
        "model: {{path: \"{}\"}}\ndataset: {{path: pairs.jsonl}}\n\
         alignment: {{max_steps: 10, batch_size: 4, lora_r: 4, learning_rate: 1e-2}}\n",
        testkit::golden("trl/chat").display()
    );
    let home = Home::new(&pairs, &recipe);
    assert!(home.finish("run", &[]).success());
    home
}

/// Says lines; the answers, and what people are told.
fn chat(home: &Home, flags: &[&str], lines: &[&str]) -> (Vec<String>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trueup"))
        .args(["chat", "--max-new-tokens", "12"])
        .args(flags)
        .current_dir(home.path("."))
        .env("TRUEUP_HOME", home.path("caches"))
        .env("HF_HOME", home.path("caches"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = lines.join("\n") + "\n";
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text.lines().map(str::to_owned).collect(), told)
}

fn generate(home: &Home, flags: &[&str], prompt: &str) -> String {
    let base = ["generate", "--max-new-tokens", "12", "--prompt", prompt];
    let output = home.program(&[&base, flags].concat());
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
}

#[test]
fn turns_are_what_the_model_would_say_to_all_that_was_said() {
    let home = home();
    let adapter = ["--adapter", "run"];
    let model = testkit::golden("trl/chat").display().to_string();
    let with = generate(&home, &adapter, "2+1?");
    let without = generate(&home, &["--model", &model], "2+1?");
    assert_ne!(with, without, "the adapter learned something");

    let (answers, told) = chat(&home, &adapter, &["2+1?", "/adapter off", "/again", "/nonsense"]);
    assert_eq!(answers.concat(), with.replace('\n', "") + &without.replace('\n', ""), "{told}");
    assert!(told.contains("note: `/nonsense` is no command; see /help"), "{told}");

    // The second turn is the same with the first one in the cache as read anew.
    let (kept, _) = chat(&home, &adapter, &["2+1?", "and 3+1?"]);
    let anew = ["2+1?", "/adapter off", "/adapter on", "and 3+1?"];
    assert_eq!(chat(&home, &adapter, &anew).0, kept);
    let (reset, _) = chat(&home, &adapter, &["5+1?", "/reset", "2+1?", "and 3+1?"]);
    assert!(reset.ends_with(&kept), "{reset:?} {kept:?}");
    let (system, _) = chat(&home, &adapter, &["/system Be brief.", "2+1?"]);
    let flags = ["--adapter", "run", "--system", "Be brief."];
    assert_eq!(system, chat(&home, &flags, &["2+1?"]).0);

    let (_, told) = chat(&home, &["--model", &model], &["/adapter off", "/again", "/help"]);
    for words in ["there is no adapter", "nothing was asked yet", "/adapter on|off"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_long_conversation_leaves_its_oldest_turns_out() {
    let home = home();
    let lines: Vec<String> = (0..12).map(|n| format!("What is the number after {n}?")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (_, told) = chat(&home, &["--adapter", "run"], &lines);
    assert!(told.contains("its oldest turn is left out from here on"), "{told}");
}

#[test]
fn answers_end_before_a_stop_string_and_can_be_kept_from_repeating() {
    let home = home();
    let adapter = ["--adapter", "run"];
    let whole = generate(&home, &adapter, "2+1?");
    let stop: String = whole.chars().skip(3).take(2).collect();
    let cut = generate(&home, &["--adapter", "run", "--stop", &stop], "2+1?");
    assert_eq!(cut, whole[..whole.find(&stop).unwrap()]);
    let other = generate(&home, &["--adapter", "run", "--repetition-penalty", "5"], "2+1?");
    assert_ne!(other, whole);
    let output = home.program(&["generate", "--prompt", "a", "--model", "m", "--top-p", "2"]);
    assert_eq!(output.status.code(), Some(2));
}
