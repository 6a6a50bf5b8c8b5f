//! What the steps of a run consist of.

use fs_err as fs;
use serde_json::{Value, json};

use crate::home::Home;

/// Ends of names, each a number of seconds within the step.
const PARTS: &str = "_secs";

#[test]
fn timings_tell_the_parts_of_a_step_where_they_are_asked_for() {
    let pairs: Vec<String> = (0..6)
        .map(|n| {
            json!({"prompt": format!("Say {n}"), "chosen": "it is", "rejected": "no"}).to_string()
        })
        .collect();
    let model = testkit::golden("trl/chat");
    let recipe = format!(
        "model: {{path: \"{}\"}}\ndataset: {{path: pairs.jsonl}}\n\
         alignment: {{num_epochs: 1, batch_size: 2, gradient_accumulation_steps: 1, lora_r: 2}}\n",
        model.display()
    );
    let home = Home::new(&pairs, &recipe);
    let timings = |root: &str, more: &[&str]| -> Vec<Value> {
        assert!(home.output(root, more).status.success());
        let text = fs::read_to_string(home.path(root).join("timings.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for step in timings("plain", &[]) {
        let names: Vec<&String> = step.as_object().unwrap().keys().collect();
        assert_eq!(names, ["step", "step_secs", "tokens_per_sec"]);
    }
    let steps = timings("profiled", &["--profile"]);
    assert_eq!(steps.len(), 3);
    for step in steps {
        let step = step.as_object().unwrap();
        let parts = step.iter().filter(|(name, _)| name.ends_with(PARTS) && *name != "step_secs");
        let sum: f64 = parts.map(|(_, secs)| secs.as_f64().unwrap()).sum();
        assert!(0.0 < sum && sum <= step["step_secs"].as_f64().unwrap(), "{step:?}");
        for name in ["forward/gate_up_flops", "backward/down_flops", "forward/head_flops"] {
            assert!(0 < step[name].as_u64().unwrap(), "{name}");
        }
    }
    let read = |root: &str| fs::read(home.path(root).join("events.jsonl")).unwrap();
    assert!(read("plain") == read("profiled"), "looking changes nothing");
}
