//! What `trueup plan` says of a recipe: parts that add up, and settings that take what is said.

use serde_json::Value;

use crate::{home::Home, recipe_keys};

fn planned(home: &Home, arguments: &[&str]) -> Value {
    let output = home.program(&[&["plan", "--json", "recipe.yaml"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn parts_add_up_and_settings_take_less() {
    let home = recipe_keys::home();
    let plan = planned(&home, &["--set", "alignment.gradient_checkpointing=false"]);
    let choices = plan["memory"].as_array().unwrap();
    assert!(1 < choices.len(), "{plan}");
    let mut last = u64::MAX;
    for choice in choices {
        let total = choice["bytes"].as_u64().unwrap();
        let parts = choice["parts"].as_object().unwrap();
        assert_eq!(parts.values().map(|part| part.as_u64().unwrap()).sum::<u64>(), total);
        assert!(total < last, "each takes less: {plan}");
        last = total;
    }
    assert_eq!(choices[0]["settings"], "");
    // What is proposed takes what it was said to take.
    for choice in &choices[1..] {
        let settings = choice["settings"].as_str().unwrap().split(", ");
        let settings: Vec<String> = settings.map(|setting| setting.replace(": ", "=")).collect();
        let sets = settings.iter().flat_map(|setting| ["--set", setting]);
        let keep = ["--set", "alignment.gradient_checkpointing=false"];
        let again = planned(&home, &keep.into_iter().chain(sets).collect::<Vec<_>>());
        assert_eq!(again["memory"][0]["bytes"], choice["bytes"]);
    }
    assert!(0.0 < plan["seconds_per_step"].as_f64().unwrap());
    assert_eq!(plan["steps"], 4);
    assert!(!home.path("caches/shared/tokens").exists(), "a plan keeps nothing");
}

#[test]
fn people_get_a_table_and_a_verdict() {
    let home = recipe_keys::home();
    let output = home.program(&["plan", "recipe.yaml"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("the recipe as it is"), "{text}");
    assert!(text.contains("fits into the"), "{text}");
    let output = home.program(&["plan", "none.yaml"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error:"), "{output:?}");
}
