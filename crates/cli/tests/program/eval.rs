//! What `trueup eval` says is what a run says of its held-out rows.

use fs_err as fs;
use serde_json::Value;

use crate::{home::Home, recipe_keys};

fn evaluated(home: &Home, arguments: &[&str]) -> Value {
    let output = home.program(&[&["eval", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_evaluation_is_that_of_the_run() {
    let home = recipe_keys::home();
    let eval = ["--set", "dataset.eval_path=eval.jsonl"];
    assert!(home.finish("run", &eval).success());
    let events = home.events("run");
    let last = events.iter().rfind(|event| !event["eval_loss"].is_null()).unwrap();
    let found = evaluated(&home, &["--adapter", "run", "eval.jsonl"]);
    let mut compared = 0;
    for (name, value) in last.as_object().unwrap() {
        if let Some(name) = name.strip_prefix("eval_") {
            assert_eq!(&found[name], value, "{name}");
            compared += 1;
        }
    }
    assert!(10 < compared && found["rows"] == 3, "{found}");

    // Row by row, and with other settings.
    let with = ["--adapter", "run", "--rows", "rows.jsonl", "--set", "alignment.beta=0.2"];
    let doubled = evaluated(&home, &[&with[..], &["eval.jsonl"]].concat());
    let number = |value: &Value, name: &str| value[name].as_f64().unwrap();
    let (once, twice) = (number(&found, "rewards/margins"), number(&doubled, "rewards/margins"));
    assert!((twice - 2.0 * once).abs() <= 1e-12 * twice.abs(), "{once} {twice}");
    let rows = fs::read_to_string(home.path("rows.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let mean = rows.iter().map(|row| row["logps"][0].as_f64().unwrap()).sum::<f64>() / 3.0;
    assert!((mean - number(&found, "logps/chosen")).abs() < 1e-9, "{mean}");
    assert!(rows.iter().all(|row| row["rewards"].as_array().unwrap().len() == 2));
}

#[test]
fn a_model_alone_has_no_rewards_and_a_reference_gives_some() {
    let home = recipe_keys::home();
    let model = testkit::golden("trl/chat").display().to_string();
    let alone = evaluated(&home, &["--model", &model, "eval.jsonl"]);
    assert_eq!(
        (&alone["rewards/margins"], &alone["rewards/accuracies"]),
        (&0.0.into(), &0.0.into())
    );
    let held = evaluated(&home, &["--model", &model, "--reference", "first", "eval.jsonl"]);
    assert_ne!(held["rewards/margins"], 0.0);
    assert_eq!(alone["logps/chosen"], held["logps/chosen"]);
    // Texts have a likelihood.
    home.write("texts.jsonl", "{\"text\": \"one, two, three\"}\n{\"text\": \"four\"}\n");
    let set = ["--set", "training.method=lora", "texts.jsonl"];
    let texts = evaluated(&home, &[&["--model", &model][..], &set].concat());
    assert!(texts["rows"] == 2 && 0.0 < texts["loss"].as_f64().unwrap(), "{texts}");
    assert!(texts["rewards/margins"].is_null());

    // What only training asks for is refused, all of it at once.
    let void = [
        "dataset.eval_fraction=0.5",
        "alignment.max_steps=1",
        "alignment.sync_ref_model=true",
        "alignment.learning_rate=1e-3",
        "alignment.adam_beta1=0.5",
        "alignment.lora_r=4",
        "alignment.batch_size=1",
    ];
    let sets = void.iter().flat_map(|set| ["--set", *set]);
    let words: Vec<&str> =
        ["eval", "--model", &model, "eval.jsonl"].into_iter().chain(sets).collect();
    let refused = home.program(&words);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    for set in void {
        let key = set.split('=').next().unwrap();
        let told_so = format!("`--set {set}`: `{key}` has no effect without training");
        assert!(told.contains(&told_so), "{set}: {told}");
    }
    let refused = home.program(&["eval", "eval.jsonl"]);
    assert_eq!(refused.status.code(), Some(2));
    let refused =
        home.program(&["eval", "--model", &model, "--set", "alignment.bet=1", "eval.jsonl"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2) && told.contains("the nearest key is `beta`"),
        "{told}"
    );
}
