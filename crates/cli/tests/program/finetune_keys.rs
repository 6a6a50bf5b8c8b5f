//! Every key of fine-tuning changes what it says it changes, or is refused.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use train::recipe::{KEYS, Key};

use crate::{
    home::Home,
    recipe_keys::{
        Effect::{Noted, Refused, Seen},
        Probe, assert_all, has_the_last_block, lines, near, probe,
    },
};

/// Steps that see evaluation data.
const EVAL: &[&str] = &["dataset.eval_path=eval.jsonl", "training.eval_steps=2"];
/// Evaluation data that is all noise, so that the last step is not the best.
const AGAINST: &[&str] = &[
    "dataset.eval_path=against.jsonl",
    "training.eval_steps=1",
    "training.max_steps=8",
    "training.learning_rate=0.5",
];

const WHAT: &[Probe] = &[
    probe(
        "training.method",
        "full",
        &[],
        Seen(|a, b| {
            let whole = "model.safetensors";
            !a.root.join(whole).is_file() && b.root.join(whole).is_file()
        }),
    ),
    probe(
        "training.method",
        "qlora",
        &["model.precision=f32"],
        Seen(|a, b| a.first("loss") != b.first("loss")),
    ),
    probe("training.quantization_bits", "4", &[], Noted("belongs to `method: qlora`")),
    probe(
        "training.quantization_bits",
        "8",
        &["training.method=qlora"],
        Refused("quantization_bits must be 4 (got: 8)"),
    ),
    probe(
        "training.output_dir",
        "elsewhere",
        &[],
        Seen(|a, b| b.root.ends_with("elsewhere") && a.adapter() == b.adapter()),
    ),
    probe("training.run_name", "first try", &[], Seen(|_, b| b.compared() == "first try")),
    probe(
        "training.completion_only_loss",
        "false",
        &[],
        Seen(|a, b| {
            a.first("loss") != b.first("loss") && a.first("num_tokens") == b.first("num_tokens")
        }),
    ),
    probe(
        "training.completion_only_loss",
        "true",
        &["dataset.path=talks.jsonl"],
        Seen(|a, b| {
            a.first("loss") != b.first("loss") && a.first("num_tokens") == b.first("num_tokens")
        }),
    ),
    probe(
        "training.assistant_only_loss",
        "true",
        &["dataset.path=talks.jsonl"],
        Seen(|a, b| {
            a.first("loss") != b.first("loss") && a.first("num_tokens") == b.first("num_tokens")
        }),
    ),
    probe(
        "training.max_seq_length",
        "16",
        &[],
        Seen(|a, b| b.first("num_tokens") < a.first("num_tokens")),
    ),
    probe(
        "training.packing",
        "true",
        &["training.max_seq_length=100"],
        Seen(|a, b| a.first("num_tokens") < b.first("num_tokens")),
    ),
    probe("training.lora_r", "3", &[], Seen(|_, b| b.json("adapter_config.json")["r"] == 3)),
    probe(
        "training.lora_alpha",
        "5",
        &[],
        Seen(|a, b| {
            b.json("adapter_config.json")["lora_alpha"] == 5.0 && a.adapter() != b.adapter()
        }),
    ),
    probe(
        "training.lora_dropout",
        "0.5",
        &["training.lora_dropout=0"],
        Seen(|a, b| {
            // At the start B is 0, so that nothing is lost yet.
            b.json("adapter_config.json")["lora_dropout"] == 0.5
                && a.first("loss") == b.first("loss")
                && a.series("loss")[3] != b.series("loss")[3]
        }),
    ),
    probe(
        "training.use_rslora",
        "true",
        &[],
        Seen(|a, b| {
            b.json("adapter_config.json")["use_rslora"] == true && a.adapter() != b.adapter()
        }),
    ),
    probe(
        "training.target_modules",
        "[q_proj]",
        &[],
        Seen(|_, b| b.adapted().iter().all(|name| name.contains("q_proj"))),
    ),
    probe(
        "training.layers_to_transform",
        "[1]",
        &[],
        Seen(|_, b| b.adapted().iter().all(|name| name.contains("layers.1."))),
    ),
    probe("training.num_layers", "1", &[], Seen(has_the_last_block)),
    probe(
        "dataset.text_field",
        "body",
        &["dataset.path=texts.jsonl"],
        Seen(|a, b| a.first("loss") != b.first("loss")),
    ),
    probe(
        "dataset.completion_field",
        "answer",
        &[],
        Seen(|a, b| a.first("loss") != b.first("loss")),
    ),
    probe("dataset.chosen_field", "answer", &[], Refused("has no effect in fine-tuning")),
    probe("dataset.max_length", "64", &[], Refused("has no effect in fine-tuning")),
    probe("model.reference", "base", &[], Refused("has no effect in fine-tuning")),
    probe("training.beta", "0.1", &[], Refused("unknown key `training.beta`")),
];

const HOW: &[Probe] = &[
    probe(
        "training.learning_rate",
        "2e-3",
        &[],
        Seen(|a, b| near(b.series("learning_rate")[1], 2.0 * a.series("learning_rate")[1])),
    ),
    probe(
        "training.lr_scheduler_type",
        "cosine",
        &[],
        Seen(|a, b| a.series("learning_rate")[2] != b.series("learning_rate")[2]),
    ),
    probe("training.warmup_steps", "3", &[], Seen(|_, b| b.first("learning_rate") == 0.0)),
    probe(
        "training.warmup_ratio",
        "0.5",
        &[],
        Refused("`warmup_steps` and `warmup_ratio` contradict"),
    ),
    probe(
        "training.batch_size",
        "4",
        &[],
        Seen(|a, b| near(b.first("epoch"), 2.0 * a.first("epoch"))),
    ),
    probe(
        "training.gradient_accumulation_steps",
        "4",
        &[],
        Seen(|a, b| near(b.first("epoch"), 2.0 * a.first("epoch"))),
    ),
    probe(
        "training.num_epochs",
        "2",
        &["training.max_steps=null", "training.num_epochs=1"],
        Seen(|a, b| 2 * a.series("loss").len() == b.series("loss").len()),
    ),
    probe("training.max_steps", "2", &[], Seen(|_, b| b.series("loss").len() == 2)),
    probe("training.weight_decay", "0.5", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe("training.adam_beta1", "0.5", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe("training.adam_beta2", "0.5", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe("training.adam_epsilon", "0.1", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe(
        "training.max_grad_norm",
        "0.01",
        &[],
        Seen(|a, b| a.first("grad_norm") == b.first("grad_norm") && a.adapter() != b.adapter()),
    ),
    probe(
        "training.shuffle_dataset",
        "false",
        &[],
        Seen(|a, b| a.first("loss") != b.first("loss")),
    ),
    probe("training.seed", "7", &[], Seen(|a, b| a.first("loss") != b.first("loss"))),
    probe(
        "training.save_steps",
        "1",
        &[],
        Seen(|a, b| (a.checkpoints().len(), b.checkpoints().len()) == (2, 4)),
    ),
    probe(
        "training.save_total_limit",
        "1",
        &[],
        Seen(|_, b| b.checkpoints() == ["checkpoint-4".to_owned()].into()),
    ),
    probe(
        "training.eval_steps",
        "1",
        EVAL,
        Seen(|a, b| (a.series("eval_loss").len(), b.series("eval_loss").len()) == (2, 4)),
    ),
    probe(
        "training.logging_steps",
        "2",
        &[],
        Seen(|a, b| {
            let entries = |state: Value| state["log_history"].as_array().map(Vec::len).unwrap();
            let state = "trainer_state.json";
            (entries(a.json(state)), entries(b.json(state))) == (4, 2)
        }),
    ),
    probe(
        "training.load_best_model_at_end",
        "true",
        AGAINST,
        Seen(|a, b| {
            let best = b.json("trainer_state.json")["best_global_step"].as_u64().unwrap();
            best < 8 && a.adapter() != b.adapter()
        }),
    ),
    probe(
        "training.metric_for_best_model",
        "eval_mean_token_accuracy",
        AGAINST,
        Seen(|_, b| {
            let shares = b.series("eval_mean_token_accuracy");
            let best = shares.into_iter().fold(f64::NEG_INFINITY, f64::max);
            near(b.json("trainer_state.json")["best_metric"].as_f64().unwrap(), best)
        }),
    ),
    probe(
        "training.early_stopping_patience",
        "1",
        AGAINST,
        Seen(|a, b| a.series("loss").len() == 8 && b.series("loss").len() < 8),
    ),
    probe(
        "training.tokens_per_micro_batch",
        "1",
        &["training.gradient_checkpointing=false"],
        Seen(|a, b| a.memory() != b.memory()),
    ),
    probe(
        "training.gradient_checkpointing",
        "true",
        &["training.gradient_checkpointing=false"],
        Seen(|a, b| a.memory() != b.memory() && a.adapter() == b.adapter()),
    ),
];

fn row(number: u32) -> Value {
    let more = " and so on".repeat(number as usize % 3);
    json!({
        "prompt": format!("Say the number {number}"),
        "completion": format!("it is {number}{more}"),
        "answer": format!("certainly {number}"),
    })
}

/// Rows of every kind, and a recipe for a tiny model.
pub(crate) fn home() -> Home {
    let rows: Vec<Value> = (0..16).map(row).collect();
    let recipe = format!(
        "model: {{path: \"{}\"}}\n\
         dataset: {{path: pairs.jsonl}}\n\
         training: {{max_steps: 4, batch_size: 2, gradient_accumulation_steps: 2, save_steps: 2,\n\
         learning_rate: 1e-3, warmup_steps: 1, lr_scheduler_type: linear, logging_steps: 1}}\n",
        testkit::golden("trl/chat").display()
    );
    let home = Home::finetuning(&rows.iter().map(Value::to_string).collect::<Vec<_>>(), &recipe);
    home.write("eval.jsonl", &lines(&(20..23).map(row).collect::<Vec<_>>()));
    let noise = (0..4).map(|at| json!({"prompt": "?", "completion": "zqxj".repeat(at + 1)}));
    home.write("against.jsonl", &lines(&noise.collect::<Vec<_>>()));
    let texts = (0..16).map(|at| json!({"text": format!("one {at}"), "body": format!("two {at}")}));
    home.write("texts.jsonl", &lines(&texts.collect::<Vec<_>>()));
    let talks = rows.iter().map(|row| {
        let user = json!({"role": "user", "content": row["prompt"]});
        let assistant = json!({"role": "assistant", "content": row["completion"]});
        json!({"messages": [user, assistant]})
    });
    home.write("talks.jsonl", &lines(&talks.collect::<Vec<_>>()));
    home
}

#[test]
fn every_key_of_fine_tuning_changes_what_it_says_or_is_refused() {
    let probes: Vec<&Probe> = [WHAT, HOW].into_iter().flatten().collect();
    let in_training = |key: &&str| key.starts_with("training.") && *key != "training.beta";
    let probed: BTreeSet<String> =
        probes.iter().map(|probe| probe.key).filter(in_training).map(str::to_owned).collect();
    let keys = KEYS.iter().filter(|key| key.section == "training");
    assert_eq!(probed, keys.map(Key::path).collect(), "every key has a probe");
    assert_all(&home(), &probes);
}

/// A run that is stopped and resumed ends with the bytes of one that was not; so does one that
/// drops at random.
#[test]
fn fine_tuning_goes_on_where_it_stopped() {
    let home = home();
    let settings = ["--set", "training.lora_dropout=0.3", "--set", "training.max_steps=6"];
    assert!(home.finish("whole", &settings).success());
    let half = [&settings[..], &["--set", "training.save_steps=1"]].concat();
    let mut child = home.start("half", &half);
    let is_there = |home: &Home| home.path("half/checkpoint-2").is_dir();
    assert!(home.wait_until(&mut child, is_there), "it ended first");
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = home.output("half", &[&half[..], &["--resume", "auto"]].concat());
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    home.assert_same("whole", "half");
}

/// The road of a model: fine-tuned as the recipe in `recipes` says, fused, aligned.
#[test]
fn a_model_is_fine_tuned_fused_and_aligned() {
    let home = home();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/finetune.yaml");
    home.write("recipe.yaml", &fs_err::read_to_string(recipe).unwrap());
    home.write("rows.jsonl", &fs_err::read_to_string(home.path("pairs.jsonl")).unwrap());
    let model = format!("model.path={}", testkit::golden("trl/chat").display());
    let output = home.output("tuned", &["--set", &model]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let losses: Vec<f64> =
        home.events("tuned").iter().filter_map(|event| event["eval_loss"].as_f64()).collect();
    assert_eq!(losses.len(), 1, "evaluated at the end");

    let fused = home.program(&["fuse", "--adapter", "tuned", "--output", "fused"]);
    assert!(fused.status.success(), "{}", String::from_utf8_lossy(&fused.stderr));
    let pair = json!({"prompt": "Say 1", "chosen": "it is 1", "rejected": "ask somebody"});
    home.write("preferences.jsonl", &lines(&[pair]));
    home.write(
        "align.yaml",
        "model: {path: fused}\ndataset: {path: preferences.jsonl}\n\
         alignment: {output_dir: aligned, max_steps: 1}\n",
    );
    let aligned = home.program(&["align", "--config", "align.yaml"]);
    assert!(aligned.status.success(), "{}", String::from_utf8_lossy(&aligned.stderr));

    // An adapter is no model: the way on is told.
    home.write("align.yaml", "model: {path: tuned}\ndataset: {path: preferences.jsonl}\n");
    let refused = home.program(&["align", "--config", "align.yaml"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(4) && told.contains("trueup fuse"), "{told}");
}
