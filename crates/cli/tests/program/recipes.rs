//! Every recipe of the folder `recipes` trains, and every objective has one.

use std::path::{Path, PathBuf};

use fs_err as fs;
use objectives::Objective;
use serde_json::{Value, json};

use crate::recipe_keys;

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")
}

/// What stands for the paths of a recipe, and makes it short.
fn settings() -> Vec<String> {
    let model = format!("model.path={}", testkit::golden("trl/chat").display());
    let short = ["alignment.lora_r=2", "alignment.batch_size=2"];
    let mut settings = vec![model];
    settings.extend(short.map(str::to_owned));
    settings.iter().flat_map(|set| ["--set".to_owned(), set.clone()]).collect()
}

#[test]
fn every_objective_has_a_recipe() {
    let all = Objective::NAMES.into_iter().chain(Objective::MODIFIERS);
    for name in all {
        assert!(recipes().join(name).with_extension("yaml").is_file(), "`{name}` has no recipe");
    }
}

#[test]
fn every_recipe_trains() {
    let home = recipe_keys::home();
    for entry in fs::read_dir(recipes()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // The one is many runs, the other of another command.
        if ["sweep", "finetune"].contains(&name.as_str()) {
            continue;
        }
        home.write("recipe.yaml", &fs::read_to_string(&path).unwrap());
        let mut settings = settings();
        settings.extend(["--set".into(), "alignment.max_steps=2".into()]);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let output = home.output(&name, &settings);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {told}");
        let losses: Vec<f64> =
            home.events(&name).iter().filter_map(|event| event["loss"].as_f64()).collect();
        assert!(losses.len() == 2 && losses.iter().all(|loss| loss.is_finite()), "{name}");
    }
}

/// DPO on groups is DPO on pairs of their best and worst completions.
#[test]
fn dpo_takes_the_ends_of_groups() {
    let home = recipe_keys::home();
    let run = |name: &str, data: &str| {
        let output = home.output(name, &["--set", &format!("dataset.path={data}")]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{name}: {told}");
        told
    };
    run("pairs", "pairs.jsonl");
    let told = run("groups", "groups.jsonl");
    assert!(told.contains("rows: 16 pairs of the best and the worst of 4\n"), "{told}");
    home.assert_same("pairs", "groups");

    // Whatever order they are listed in; groups without an order are left out and counted.
    let groups = fs::read_to_string(home.path("groups.jsonl")).unwrap();
    let mut rows: Vec<Value> =
        groups.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in &mut rows {
        for list in ["responses", "scores"] {
            row[list].as_array_mut().unwrap().rotate_left(1);
        }
    }
    let mut tied = rows[0].clone();
    (tied["prompt"], tied["scores"]) = ("tied?".into(), json!([1, 1, 1, 1]));
    let mut alike = rows[0].clone();
    (alike["prompt"], alike["responses"][3]) = ("alike?".into(), alike["responses"][2].clone());
    rows.extend([tied, alike]);
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    home.write("mixed.jsonl", &lines.join("\n"));
    let told = run("mixed", "mixed.jsonl");
    assert!(told.contains("dropped: no order between completions"), "{told}");
    assert!(told.contains("pairs: 16 to train on"), "{told}");
    home.assert_same("pairs", "mixed");
}

#[test]
fn the_sweep_runs_once_and_is_compared() {
    let home = recipe_keys::home();
    home.write("recipe.yaml", &fs::read_to_string(recipes().join("sweep.yaml")).unwrap());
    let settings = settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let sweep = |more: &[&str]| {
        let output =
            home.program(&[&["sweep", "--config", "recipe.yaml"], &settings[..], more].concat());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, table, told) = sweep(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(table.lines().count(), 7, "a heading and six runs: {table}");
    // A run of the sweep has the bytes of the same run alone.
    let events = |root: &str| fs::read(home.path(root).join("events.jsonl")).unwrap();
    let name = "methodgdpo-seed2";
    let recipe = fs::read_to_string(recipes().join("sweep.yaml")).unwrap();
    let (alone, _) = recipe.split_once("sweep:").unwrap();
    home.write("alone.yaml", alone);
    let mut flags = vec!["align", "--config", "alone.yaml"];
    flags.extend(&settings);
    for set in ["alignment.output_dir=alone", "alignment.seed=2", "alignment.method=gdpo"] {
        flags.extend(["--set", set]);
    }
    assert!(home.program(&flags).status.success());
    assert!(events("alone") == events(&format!("runs/sweep/{name}")), "the bytes differ");

    // What is finished is passed over; a run that was removed is made again, alone.
    fs::remove_dir_all(home.path("runs/sweep").join(name)).unwrap();
    let (code, again, told) = sweep(&[]);
    assert_eq!((code, &again), (Some(0), &table), "{told}");
    assert_eq!(told.matches("is finished already").count(), 5, "{told}");
    let (code, _, told) = sweep(&["--only", "seed9"]);
    assert_eq!(code, Some(2), "{told}");
}
