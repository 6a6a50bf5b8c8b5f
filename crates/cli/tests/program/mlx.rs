//! The flat file of DPO with MLX runs as it stands, and each of its keys does what it says there.

use std::collections::BTreeSet;

use formats::safetensors::{Checkpoint, TensorData};
use fs_err as fs;
use serde_json::{Value, json};

use crate::{
    home::Home,
    recipe_keys::{self, Run, near},
};

/// The published file with other paths.
const FILE: [(&str, &str); 20] = [
    ("model", "deep"),
    ("data", "pairs.jsonl"),
    ("output_dir", "out"),
    ("beta", "0.5"),
    ("normalize_by_length", "true"),
    ("num_layers", "16"),
    ("lora_rank", "8"),
    ("lora_alpha", "16"),
    ("lora_dropout", "0.2"),
    ("lora_scale", "10.0"),
    ("learning_rate", "1e-6"),
    ("steps", "50"),
    ("epochs", "2"),
    ("batch_size", "1"),
    ("grad_accumulation_steps", "4"),
    ("max_seq_length", "1024"),
    ("optimizer", "adamw"),
    ("steps_per_report", "1"),
    ("save_every", "10"),
    ("seed", "42"),
];

/// The file with other values; without those that are empty.
fn file(changes: &[(&str, &str)]) -> String {
    let changed = |key: &str| changes.iter().rev().find(|(other, _)| *other == key);
    let known = FILE.iter().map(|(key, value)| (*key, changed(key).map_or(*value, |it| it.1)));
    let names: BTreeSet<&str> = changes.iter().map(|(key, _)| *key).collect();
    let more = names.into_iter().filter(|key| FILE.iter().all(|(known, _)| known != key));
    let more = more.filter_map(|key| Some((key, changed(key)?.1)));
    let lines = known.chain(more).filter(|(_, value)| !value.is_empty());
    lines.map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join("\n")
}

/// A model of more blocks than the file adapts: those of a tiny one, over and over.
fn deep_model(home: &Home, blocks: usize) {
    let tiny = testkit::golden("trl/chat");
    fs::create_dir_all(home.path("deep")).unwrap();
    for entry in fs::read_dir(&tiny).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, home.path("deep").join(path.file_name().unwrap())).unwrap();
    }
    let mut config: Value =
        serde_json::from_slice(&fs::read(tiny.join("config.json")).unwrap()).unwrap();
    config["num_hidden_layers"] = json!(blocks);
    home.write("deep/config.json", &config.to_string());
    let source = Checkpoint::open(tiny.join("model.safetensors")).unwrap();
    let mut names: Vec<(String, String)> = Vec::new();
    for name in source.names() {
        match name.strip_prefix("model.layers.0.") {
            Some(rest) => names.extend((0..blocks).map(|block| {
                (
                    format!("model.layers.{block}.{rest}"),
                    format!("model.layers.{}.{rest}", block % 2),
                )
            })),
            None if name.starts_with("model.layers.") => {}
            None => names.push((name.to_owned(), name.to_owned())),
        }
    }
    let tensors: Vec<TensorData<'_>> = names
        .iter()
        .map(|(name, from)| {
            let view = source.tensor(from).unwrap();
            TensorData {
                name,
                dtype: view.dtype,
                shape: source.shape(from).unwrap(),
                bytes: view.bytes.into(),
            }
        })
        .collect();
    let path = home.path("deep/model.safetensors");
    formats::safetensors::write(path, &tensors, &std::collections::BTreeMap::new()).unwrap();
}

#[test]
fn the_published_file_trains_the_last_sixteen_blocks() {
    let home = recipe_keys::home();
    deep_model(&home, 20);
    home.write("dpo.yaml", &file(&[]));
    let output = home.program(&["align", "--config", "dpo.yaml"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    for note in ["`lora_alpha` is not used", "`alignment.lora_dropout` is not used"] {
        assert!(told.contains(note), "{told}");
    }
    let out = home.path("out");
    let adapter = formats::peft::read(&out).unwrap();
    let config: Value =
        serde_json::from_slice(&fs::read(out.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["layers_to_transform"], json!((4..20).collect::<Vec<_>>()));
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(8), &json!(80)));
    let of = |block: usize| {
        let inside = format!(".layers.{block}.");
        adapter.tensors.keys().filter(|name| name.contains(&inside)).count()
    };
    // Two matrices for each of seven linears.
    assert!((0..4).all(|block| of(block) == 0) && (4..20).all(|block| of(block) == 14));
    // Every one of them has learned: B begins at 0.
    for (name, (_, numbers)) in &adapter.tensors {
        assert!(numbers.iter().any(|number| *number != 0.0), "{name}");
    }
    // 16 rows, 4 a step, twice: the epochs end before the steps do.
    let events = home.events("out");
    assert_eq!(events.len(), 8);
    assert!(events.iter().all(|event| event["learning_rate"] == 1e-6));
    assert!((events[0]["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-12);
    // What was written gives the same bytes.
    home.write("recipe.yaml", &fs::read_to_string(out.join("recipe.yaml")).unwrap());
    assert!(home.finish("again", &[]).success());
    home.assert_same("out", "again");
    // The adapter is one of ours, so that what comes after takes it.
    let fused = home.program(&["fuse", "--adapter", "out", "--output", "fused", "--dtype", "f32"]);
    assert!(fused.status.success(), "{}", String::from_utf8_lossy(&fused.stderr));
}

/// What a changed value must show, without and with it.
type Shows = fn(&Run, &Run) -> bool;

/// A key, its other value, what both runs have beside it, and what must be seen.
type Probe = (&'static str, &'static str, &'static [(&'static str, &'static str)], Shows);

const PROBES: &[Probe] = &[
    ("model", "other", &[], |a, b| a.first("logps/chosen") != b.first("logps/chosen")),
    ("data", "eval.jsonl", &[], |a, b| (a.pairs("train_pairs"), b.pairs("train_pairs")) == (16, 3)),
    ("beta", "0.25", &[], |a, b| near(a.first("grad_norm"), 2.0 * b.first("grad_norm"))),
    ("normalize_by_length", "false", &[], |a, b| b.first("grad_norm") > 2.0 * a.first("grad_norm")),
    ("num_layers", "1", &[], recipe_keys::has_the_last_block),
    ("num_layers", "-1", &[], |a, b| a.adapter() == b.adapter()),
    ("lora_rank", "4", &[], |a, b| {
        let scale = |run: &Run| {
            let config = run.json("adapter_config.json");
            config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap()
        };
        b.json("adapter_config.json")["r"] == 4 && scale(a) == 10.0 && scale(b) == 10.0
    }),
    // With B at 0 its gradient is proportional to the scale, and A has none.
    ("lora_scale", "20", &[], |a, b| near(b.first("grad_norm"), 2.0 * a.first("grad_norm"))),
    ("scale", "20", &[("lora_scale", "")], |a, b| {
        near(b.first("grad_norm"), 2.0 * a.first("grad_norm"))
    }),
    ("lora_alpha", "32", &[], |a, b| {
        b.told.contains("`lora_alpha` is not used") && a.adapter() == b.adapter()
    }),
    ("lora_dropout", "0", &[], |a, b| {
        let note = "`alignment.lora_dropout` is not used";
        a.told.contains(note) && !b.told.contains(note) && a.adapter() == b.adapter()
    }),
    ("learning_rate", "2e-3", &[], |_, b| b.series("learning_rate").iter().all(|it| *it == 2e-3)),
    ("steps", "2", &[], |a, b| (a.series("loss").len(), b.series("loss").len()) == (8, 2)),
    ("epochs", "1", &[], |a, b| (a.series("loss").len(), b.series("loss").len()) == (8, 4)),
    ("batch_size", "2", &[], |_, b| b.series("loss").len() == 4),
    ("grad_accumulation_steps", "8", &[], |_, b| b.series("loss").len() == 4),
    ("max_seq_length", "24", &[], |a, b| a.first("num_tokens") > b.first("num_tokens")),
    ("steps_per_report", "4", &[], |a, b| {
        let entries = |run: &Run| {
            run.json("trainer_state.json")["log_history"].as_array().map(Vec::len).unwrap()
        };
        entries(a) > 2 * entries(b)
    }),
    ("save_every", "4", &[], |a, b| (a.checkpoints().len(), b.checkpoints().len()) == (1, 2)),
    // Rows come in their order, so that the seed is the adapter's alone.
    ("seed", "7", &[], |a, b| {
        a.first("logps/chosen") == b.first("logps/chosen") && a.adapter() != b.adapter()
    }),
    ("optimizer", "adamw", &[("optimizer", "")], |a, b| a.adapter() == b.adapter()),
    ("threads", "1", &[("threads", "2")], |a, b| {
        b.told.contains("threads: 1") && a.adapter() == b.adapter()
    }),
    ("device", "cpu", &[], |a, b| a.adapter() == b.adapter()),
];

fn run(home: &Home, root: &str, changes: &[(&str, &str)]) -> Run {
    let model = testkit::golden("trl/chat").display().to_string();
    let mut all = vec![("model", &*model), ("learning_rate", "1e-3")];
    all.extend(changes);
    home.write("recipe.yaml", &file(&all));
    recipe_keys::run(home, root, &[])
}

#[test]
fn every_key_of_the_file_does_what_it_says() {
    let home = recipe_keys::home();
    let mut complaints = Vec::new();
    for (index, (key, value, beside, shows)) in PROBES.iter().enumerate() {
        let without = run(&home, &format!("without-{index}"), beside);
        let mut changes = beside.to_vec();
        changes.push((key, value));
        let with = run(&home, &format!("with-{index}"), &changes);
        if without.code != Some(0) || with.code != Some(0) {
            complaints.push(format!("{key}: {value}: {}{}", without.told, with.told));
        } else if !shows(&without, &with) {
            complaints.push(format!("{key}: {value} does not do what it says: {}", with.told));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));

    // What is listed as known is probed, and `output_dir` acts.
    home.write("dpo.yaml", &file(&[("colour", "blue")]));
    let refused = home.program(&["align", "--config", "dpo.yaml", "--dry-run"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    let (_, known) = told.split_once("known here: ").unwrap();
    let known: BTreeSet<&str> = known.lines().next().unwrap().split(", ").collect();
    let probed = PROBES.iter().map(|probe| probe.0).chain(["output_dir"]).collect();
    assert_eq!(known, probed);
    let model = testkit::golden("trl/chat").display().to_string();
    home.write("dpo.yaml", &file(&[("model", &model), ("output_dir", "here"), ("steps", "1")]));
    assert!(home.program(&["align", "--config", "dpo.yaml"]).status.success());
    assert!(home.path("here").join("adapter_config.json").is_file());

    for (key, value, words) in [
        ("optimizer", "sgd", "unsupported optimizer \"sgd\""),
        ("save_every", "0", "a run can always be resumed"),
        ("scale", "5", "`lora_scale` and `scale` contradict each other"),
        ("lora_scale", "0", "lora_scale must be > 0"),
    ] {
        home.write("dpo.yaml", &file(&[(key, value)]));
        let refused = home.program(&["align", "--config", "dpo.yaml"]);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && told.contains(words), "{key}: {told}");
    }
}
