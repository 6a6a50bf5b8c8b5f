//! Runs that go wrong say so, and guards end them.

use std::collections::BTreeSet;

use fs_err as fs;
use serde_json::Value;

use crate::home::Home;

/// Pairs whose sides have nothing that tells them apart but what they say.
fn home() -> Home {
    let pair = |n: u32| {
        let (one, other) = (format!("it is {n} I think"), format!("it was {n} or not"));
        let (chosen, rejected) = if n.is_multiple_of(3) { (other, one) } else { (one, other) };
        serde_json::json!({"prompt": format!("{n}?"), "chosen": chosen, "rejected": rejected})
            .to_string()
    };
    let pairs: Vec<String> = (0..48).map(pair).collect();
    let model = testkit::golden("trl/chat");
    let recipe = format!(
        "model: {{path: \"{}\", precision: f32}}\n\
         dataset: {{path: pairs.jsonl}}\n\
         alignment: {{max_steps: 40, batch_size: 4, gradient_accumulation_steps: 1, lora_r: 4,\n\
         lr_scheduler_type: constant, save_steps: 15}}\n",
        model.display()
    );
    Home::new(&pairs, &recipe)
}

/// Runs to the end; what was printed.
fn told(home: &Home, root: &str, more: &[&str]) -> String {
    let output = home.output(root, more);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{root}: {told}");
    told
}

/// The first lines of the warnings.
fn warnings(told: &str) -> Vec<&str> {
    told.lines().filter(|line| line.starts_with("warning: step ")).collect()
}

/// Steps far too large: the loss rises first, then the margin explodes.
const ABSURD: &[&str] = &["--set", "alignment.learning_rate=3e-3", "--set", "alignment.beta=1"];

#[test]
fn an_absurd_rate_is_warned_of_and_a_sound_one_is_not() {
    let home = home();
    let sound = told(&home, "sound", &["--set", "alignment.learning_rate=1e-3"]);
    assert_eq!(warnings(&sound), [""; 0], "{sound}");
    let low = told(&home, "low", &["--set", "alignment.learning_rate=1e-9"]);
    let [warning] = warnings(&low)[..] else { panic!("{low}") };
    assert!(warning.starts_with("warning: step 10: nothing is learnt: the margin is"), "{low}");
    assert!(low.contains("\nhint: raise `learning_rate` (it is 1e-9;"), "{low}");
    let high = told(&home, "high", ABSURD);
    for words in ["the margin exploded", "the loss is"] {
        assert!(warnings(&high).iter().any(|line| line.contains(words)), "{words}: {high}");
    }

    // A run that is resumed warns of what the whole run warns of after that step.
    for step in [15, 30] {
        let root = format!("resumed-{step}");
        told(&home, &root, ABSURD);
        let checkpoint = home.path(&root).join(format!("checkpoint-{step}"));
        let resume = ["--resume", checkpoint.to_str().unwrap()];
        let again = told(&home, &root, &[ABSURD, &resume].concat());
        let at = |line: &str| -> u64 {
            line.split(' ').nth(2).unwrap().trim_end_matches(':').parse().unwrap()
        };
        let later: BTreeSet<&str> =
            warnings(&high).into_iter().filter(|line| step < at(line)).collect();
        assert_eq!(warnings(&again).into_iter().collect::<BTreeSet<_>>(), later);
        home.assert_same("high", &root);
    }
}

#[test]
fn pairs_that_length_tells_apart_are_warned_of() {
    let home = home();
    let row = |n: u32| {
        let (chosen, rejected) = (format!("it is {n} I think, and so on"), format!("it is {n}"));
        serde_json::json!({"prompt": format!("{n}?"), "chosen": chosen, "rejected": rejected})
            .to_string()
    };
    let rows: Vec<String> = (0..160).map(row).collect();
    home.write("easy.jsonl", &rows.join("\n"));
    let easy = ["--set", "dataset.path=easy.jsonl", "--set", "alignment.learning_rate=1e-2"];
    let easy = told(&home, "easy", &easy);
    let words = "pairs were right when they were first seen";
    assert!(warnings(&easy).iter().any(|line| line.contains(words)), "{easy}");
    let because = "  because: the chosen completion is the longer one in 100 % of the pairs";
    assert!(easy.contains(because), "{easy}");
}

#[test]
fn a_guard_ends_the_run_for_good() {
    let home = home();
    let guard = ["--set", "alignment.stop_when={reward_margin_above: 4}"];
    let flags = [ABSURD, &guard[..]].concat();
    let first = told(&home, "guarded", &flags);
    let steps = home.events("guarded").len();
    assert!((5..40).contains(&steps), "{steps}: {first}");
    let note = format!("note: stopped after step {steps} by `stop_when.reward_margin_above: 4`: ");
    assert!(first.contains(&note) && first.contains("done: "), "{first}");
    let read = |name: &str| fs::read(home.path("guarded").join(name)).unwrap();
    let state: Value = serde_json::from_slice(&read("trainer_state.json")).unwrap();
    let by = state["stateful_callbacks"]["StopWhen"]["attributes"]["stopped_by"].as_str().unwrap();
    assert!(note.contains(&by[..30]), "{by}");
    assert_eq!(state["global_step"], steps);
    let saved = format!("checkpoint-{steps}");
    assert!(
        read("adapter_model.safetensors") == read(&format!("{saved}/adapter_model.safetensors"))
    );

    // It is finished: by itself, and from any of its checkpoints.
    let again = told(&home, "guarded", &[&flags[..], &["--resume", "auto"]].concat());
    assert!(again.contains("is finished already"), "{again}");
    fs::rename(home.path("guarded"), home.path("kept")).unwrap();
    told(&home, "guarded", &flags);
    let last = home.path("guarded").join(&saved);
    let last = last.to_str().unwrap();
    let again = told(&home, "guarded", &[&flags[..], &["--resume", last]].concat());
    assert!(again.contains(&note), "{again}");
    home.assert_same("kept", "guarded");

    // Without the guard it goes on from there, to where a run ends that had none.
    told(&home, "free", ABSURD);
    let without = ["--set", "alignment.stop_when=null", "--resume", last];
    let on = told(&home, "guarded", &[ABSURD, &without].concat());
    assert!(on.contains("`alignment.stop_when` was"), "{on}");
    home.assert_same("free", "guarded");
    let state = fs::read_to_string(home.path("guarded/trainer_state.json")).unwrap();
    assert!(!state.contains("StopWhen"));
}

#[test]
fn a_guard_is_judged_on_evaluations_where_there_are_any() {
    let home = home();
    let settings = [
        "alignment.stop_when={chosen_reward_below: 1000, loss_above: 1000}",
        "alignment.eval_steps=7",
        "dataset.eval_fraction=0.25",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", *set]).collect();
    let told = told(&home, "evaluated", &settings);
    let wanted = "note: stopped after step 7 by `stop_when.chosen_reward_below: 1000`: `eval_rewards/chosen` is";
    assert!(told.contains(wanted), "{told}");
    assert_eq!(home.events("evaluated").len(), 8, "seven steps and their evaluation");
}
