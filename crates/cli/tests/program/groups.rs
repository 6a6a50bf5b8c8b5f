//! Groups of ranked completions, however the data says them.

use fs_err as fs;
use serde_json::{Value, json};

use crate::home::Home;

/// Prompts with three answers each, from best to worst.
fn prompts() -> Vec<(String, [String; 3])> {
    let answers = |n: usize| {
        let more = " and more".repeat(n % 3);
        [format!("it is {n}{more}"), format!("about {n}"), format!("no idea, ask{more}")]
    };
    (0..12).map(|n| (format!("Say the number {n}"), answers(n))).collect()
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| row.to_string() + "\n").collect()
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
}

fn home() -> Home {
    let model = testkit::golden("trl/chat");
    let recipe = format!(
        "model: {{path: \"{}\"}}\n\
         dataset: {{path: pairs.jsonl}}\n\
         alignment: {{max_steps: 6, batch_size: 2, gradient_accumulation_steps: 2, lora_r: 4,\n\
         learning_rate: 1e-2, warmup_ratio: 0}}\n",
        model.display()
    );
    let home = Home::new(&[], &recipe);
    let all = prompts();
    let ranked = all.iter().map(|(prompt, [best, between, worst])| {
        let responses = [worst, best, between];
        json!({"prompt": prompt, "responses": responses, "ranks": [3, 1, 2]})
    });
    home.write("ranked.jsonl", &lines(ranked));
    // First the upper pair of every prompt, then the lower one: they lie apart.
    let upper = all.iter().map(|(prompt, [best, between, _])| pair(prompt, best, between));
    let lower = all.iter().map(|(prompt, [_, between, worst])| pair(prompt, between, worst));
    home.write("chains.jsonl", &lines(upper.chain(lower)));
    let tied = all.iter().map(|(prompt, [best, between, worst])| {
        json!({"prompt": prompt, "responses": [best, between, worst], "scores": [1, 0, 0]})
    });
    home.write("tied.jsonl", &lines(tied));
    let listed = all.iter().map(|(prompt, [best, between, worst])| {
        json!({"prompt": prompt, "chosen": best, "rejected": [between, worst]})
    });
    home.write("listed.jsonl", &lines(listed));
    let apart = all.iter().flat_map(|(prompt, [best, between, worst])| {
        [pair(prompt, best, between), pair(prompt, best, worst)]
    });
    home.write("apart.jsonl", &lines(apart));
    home
}

fn finish(home: &Home, root: &str, data: &str, more: &[&str]) -> String {
    let path = format!("dataset.path={data}.jsonl");
    let mut settings = vec!["--set", &path];
    settings.extend(more.iter().flat_map(|set| ["--set", *set]));
    let output = home.output(root, &settings);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{root}: {told}");
    told
}

#[test]
fn pairs_of_a_prompt_train_as_the_group_that_they_make() {
    let home = home();
    let gdpo = "alignment.method=gdpo";
    finish(&home, "ranked", "ranked", &[gdpo]);
    let told = finish(&home, "chains", "chains", &[gdpo, "dataset.group_by_prompt=true"]);
    home.assert_same("ranked", "chains");
    assert!(told.contains("made 12: groups of pairs with the same prompt"), "{told}");
    assert!(told.contains("rows: 12 groups of 3"), "{told}");
    // The group's term is there and sees the answer in the middle.
    let losses = |root: &str| -> Vec<f64> {
        home.events(root).iter().filter_map(|event| event["group_loss"].as_f64()).collect()
    };
    let ranked = losses("ranked");
    assert!(ranked.len() == 6 && ranked[5] < ranked[0], "{ranked:?}");
    finish(&home, "pairs", "chains", &[gdpo]);
    assert!(losses("pairs")[5].to_bits() != ranked[5].to_bits());
}

#[test]
fn a_list_of_rejected_completions_is_a_group_or_pairs() {
    let home = home();
    let gdpo = &["alignment.method=gdpo"][..];
    finish(&home, "tied", "tied", gdpo);
    let told = finish(&home, "listed", "listed", gdpo);
    home.assert_same("tied", "listed");
    assert!(told.contains("made 12: groups of rows that reject several completions"), "{told}");
    // A list alone is the same group when pairs are grouped.
    finish(&home, "regrouped", "listed", &[gdpo[0], "dataset.group_by_prompt=true"]);
    home.assert_same("tied", "regrouped");

    finish(&home, "apart", "apart", &[]);
    let told = finish(&home, "dpo", "listed", &[]);
    home.assert_same("apart", "dpo");
    assert!(told.contains("made 24: pairs of rows that reject several completions"), "{told}");
    let report: Value =
        serde_json::from_slice(&fs::read(home.path("dpo/data.json")).unwrap()).unwrap();
    assert_eq!(report["train"]["made"], json!({"pair_of_list": 24}));
    assert_eq!((&report["train"]["kept"], &report["train_pairs"]), (&json!(12), &json!(24)));
}

#[test]
fn a_list_that_holds_no_text_ends_a_strict_run_with_its_line() {
    let home = home();
    let good = pair("p", "a", "b").to_string();
    home.write(
        "bad.jsonl",
        &format!("{good}\n{}\n", r#"{"prompt": "q", "chosen": "a", "rejected": ["b", 3]}"#),
    );
    let strict = ["--set", "dataset.path=bad.jsonl", "--set", "dataset.on_invalid=error"];
    let output = home.output("bad", &strict);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    let wanted = "`bad.jsonl` line 2: wrong type: `rejected` item 2 is a number";
    assert!(told.contains(wanted), "{told}");
}
