//! AIXpert's file of models and margins runs as it stands, and each of its runs is a run of ours.

use fs_err as fs;
use serde_json::json;

use crate::home::Home;

/// The blocks of AIXpert's README with other paths, two models and three margins.
fn config() -> String {
    let model = |name: &str| testkit::golden(name).display().to_string();
    format!(
        r#"
models:
  - id: "{}"
    short: "first"
  - id: "./second"
    short: "second"

original_dpo:
  paths:
    train: "pairs.jsonl"
    eval:  "eval.jsonl"
    output_root: "original/Models"
  hyperparams:
    max_seq_length: 2048
    load_in_4bit: true
    lora_r: 32
    lora_alpha: 64
    lora_dropout: 0.05
    batch_size: 2
    grad_accumulation: 16
    num_epochs: 3
    learning_rate: 1.8e-6
    warmup_ratio: 0.25
    beta: 0.1
    save_steps: 100
    logging_steps: 20
    seed: 3407

modified_dpo:
  deltas: [0, 10, 50]
  paths:
    train_file: "pairs.jsonl"
    eval_file:  "eval.jsonl"
    output_root: "modified/Models"
  hyperparams:
    per_device_train_batch_size: 2
    gradient_accumulation_steps: 16
    num_train_epochs: 3
    learning_rate: 1.8e-6
    warmup_ratio: 0.25
    save_steps: 100
    logging_steps: 20
    max_seq_length: 2048
    lora_r: 32
    lora_alpha: 64
    lora_dropout: 0.05
  wandb:
    project: "aixpert"
    entity: "vector-institute-aieng"
    run_prefix: "FactualDPO"
"#,
        model("trl/chat")
    )
}

/// Forty pairs with labels of all four kinds.
fn pairs(from: usize) -> Vec<String> {
    let pair = |n: usize| {
        let (h_w, h_l) = [(0, 1), (1, 0), (0, 0), (1, 1)][n % 4];
        json!({"prompt": format!("Question {n}?"), "chosen": format!("Yes, {n}."),
               "rejected": format!("No, not {n} at all."), "h_w": h_w, "h_l": h_l})
        .to_string()
    };
    (from..from + 40).map(pair).collect()
}

/// A second model: the first one's files with other norms.
fn second_model(home: &Home) {
    for entry in fs::read_dir(testkit::golden("trl/chat")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read(&path).unwrap();
        fs::create_dir_all(home.path("second")).unwrap();
        fs::write(home.path("second").join(path.file_name().unwrap()), text).unwrap();
    }
    let path = home.path("second/config.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["rms_norm_eps"] = json!(0.01);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn the_file_runs_as_it_stands_and_its_runs_are_runs_of_ours() {
    let home = Home::new(&pairs(0), "");
    home.write("eval.jsonl", &pairs(100).join("\n"));
    home.write("config.yaml", &config());
    second_model(&home);
    let sweep = |more: &[&str]| {
        let output = home.program(&[&["sweep", "--config", "config.yaml"], more].concat());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, plan, told) = sweep(&["--dry-run"]);
    assert_eq!(code, Some(0), "{told}");
    let row = |name: &str| plan.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("second_delta50").contains("new"), "{plan}");
    assert!(told.contains("in all without evaluation"), "{told}");
    assert!(!row("first_OriginalDPO").contains('?'), "{plan}");

    let (code, table, told) = sweep(&[]);
    assert_eq!(code, Some(0), "{told}");
    for name in ["first_delta10", "second_delta0"] {
        assert!(table.contains(&format!("FactualDPO_{name}")), "{table}");
        assert!(home.path("modified/Models").join(name).join("adapter_config.json").is_file());
    }
    assert!(home.path("original/Models/second_OriginalDPO/adapter_config.json").is_file());
    assert!(told.contains("nothing is sent to Weights & Biases"), "{told}");
    assert!(told.contains("`alignment.lora_dropout` is not used"), "{told}");

    // A run's own recipe gives the run's bytes, in a process of its own.
    for name in ["modified/Models/second_delta10", "original/Models/first_OriginalDPO"] {
        home.write(
            "recipe.yaml",
            &fs::read_to_string(home.path(name).join("recipe.yaml")).unwrap(),
        );
        assert!(home.finish("alone", &[]).success());
        home.assert_same(name, "alone");
        fs::remove_dir_all(home.path("alone")).unwrap();
    }
    // A run that was stopped goes on, and ends as it would have.
    let name = "modified/Models/second_delta50";
    let before = fs::read(home.path(name).join("adapter_model.safetensors")).unwrap();
    for file in ["trainer_state.json", "adapter_model.safetensors"] {
        fs::remove_file(home.path(name).join(file)).unwrap();
    }
    let (code, _, told) = sweep(&["--only", "second_delta50"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(before == fs::read(home.path(name).join("adapter_model.safetensors")).unwrap());

    // Margins change what is learned, and models are not mixed up.
    let events =
        |name: &str| fs::read(home.path("modified/Models").join(name).join("events.jsonl"));
    assert!(events("first_delta0").unwrap() != events("first_delta50").unwrap());
    assert!(events("first_delta0").unwrap() != events("second_delta0").unwrap());

    let output = home.program(&["align", "--config", "config.yaml"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("trueup sweep --config"), "{told}");
}

#[test]
fn a_model_that_is_missing_stops_its_runs_alone() {
    let home = Home::new(&pairs(0), "");
    let config = config().replace("./second", "nobody/no-such-model");
    home.write("config.yaml", &config.replace("deltas: [0, 10, 50]", "deltas: [0]"));
    home.write("eval.jsonl", &pairs(100).join("\n"));
    let output = home.program(&["sweep", "--config", "config.yaml"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("second_delta0"), "{told}");
    for name in ["original/Models/first_OriginalDPO", "modified/Models/first_delta0"] {
        assert!(home.path(name).join("adapter_config.json").is_file(), "{told}");
    }
}
