//! Every key of a recipe changes what it says it changes, or is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::read_dir,
    path::{Path, PathBuf},
    process::Command,
};

use fs_err as fs;
use serde_json::{Value, json};
use testkit::tolerance;
use train::recipe::KEYS;

use crate::home::Home;

/// What a changed key must do.
pub(crate) enum Effect {
    /// The recipe is refused with these words.
    Refused(&'static str),
    /// The recipe is accepted, and these words say that the key does nothing.
    Noted(&'static str),
    /// What the runs leave behind, without and with the value, shows this.
    Seen(fn(&Run, &Run) -> bool),
}
use Effect::{Noted, Refused, Seen};

/// A key with another value than it has without it.
pub(crate) struct Probe {
    pub(crate) key: &'static str,
    value: &'static str,
    /// What both runs are told beside it.
    with: &'static [&'static str],
    effect: Effect,
}

pub(crate) const fn probe(
    key: &'static str,
    value: &'static str,
    with: &'static [&'static str],
    effect: Effect,
) -> Probe {
    Probe { key, value, with, effect }
}

/// A finished run.
pub(crate) struct Run {
    pub(crate) root: PathBuf,
    pub(crate) told: String,
    pub(crate) code: Option<i32>,
    home: String,
}

impl Run {
    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.root.join(name)).unwrap()).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.root.join("events.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A value of every optimizer step.
    pub(crate) fn series(&self, name: &str) -> Vec<f64> {
        self.events().iter().filter_map(|event| event[name].as_f64()).collect()
    }

    pub(crate) fn first(&self, name: &str) -> f64 {
        self.series(name)[0]
    }

    pub(crate) fn pairs(&self, name: &str) -> u64 {
        self.json("data.json")[name].as_u64().unwrap()
    }

    pub(crate) fn adapter(&self) -> Vec<u8> {
        fs::read(self.root.join("adapter_model.safetensors")).unwrap()
    }

    pub(crate) fn adapted(&self) -> Vec<String> {
        formats::peft::read(&self.root).unwrap().tensors.into_keys().collect()
    }

    pub(crate) fn checkpoints(&self) -> BTreeSet<String> {
        let names = read_dir(&self.root).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("checkpoint-")).collect()
    }

    /// What `trueup compare` calls the run.
    pub(crate) fn compared(&self) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_trueup"))
            .arg("compare")
            .arg(&self.root)
            .current_dir(self.root.parent().unwrap())
            .output()
            .unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        table.lines().nth(1).unwrap().split("  ").next().unwrap().to_owned()
    }

    pub(crate) fn memory(&self) -> &str {
        let (_, rest) = self.told.split_once("memory: ").unwrap();
        rest.split(';').next().unwrap()
    }
}

pub(crate) fn near(left: f64, right: f64) -> bool {
    (left - right).abs() <= tolerance::RECIPE_RATIO * right.abs()
}

/// Of two blocks the last one alone has an adapter, and the files say so as PEFT would.
pub(crate) fn has_the_last_block(both: &Run, last: &Run) -> bool {
    let of = |run: &Run, block: &str| run.adapted().iter().any(|name| name.contains(block));
    of(both, ".layers.0.")
        && of(last, ".layers.1.")
        && !of(last, ".layers.0.")
        && both.json("adapter_config.json")["layers_to_transform"].is_null()
        && last.json("adapter_config.json")["layers_to_transform"] == json!([1])
}

/// Steps that see evaluation data.
const EVAL: &[&str] = &["dataset.eval_path=eval.jsonl", "alignment.eval_steps=2"];
/// Evaluation data that wants the opposite, so that the last step is not the best.
const AGAINST: &[&str] = &[
    "dataset.eval_path=against.jsonl",
    "alignment.eval_steps=1",
    "alignment.max_steps=8",
    "alignment.warmup_ratio=0",
];
/// An adapter that makes the policy differ from its reference from the first step on.
const AWAY: &[&str] = &["model.adapter=first", "model.reference=base"];

const MODEL: &[Probe] = &[
    probe(
        "model.path",
        "other",
        &[],
        Seen(|a, b| a.first("logps/chosen") != b.first("logps/chosen")),
    ),
    probe(
        "model.base_model",
        "org/base",
        &[],
        Seen(|_, b| b.json("adapter_config.json")["base_model_name_or_path"] == "org/base"),
    ),
    probe(
        "model.adapter",
        "first",
        &[],
        Seen(|a, b| {
            a.json("adapter_config.json")["r"] == 16 && b.json("adapter_config.json")["r"] == 2
        }),
    ),
    probe(
        "model.reference",
        "base",
        &["model.adapter=first"],
        Seen(|a, b| a.first("rewards/margins") == 0.0 && b.first("rewards/margins") != 0.0),
    ),
    probe(
        "model.precision",
        "bf16",
        &["model.precision=f32"],
        Seen(|a, b| {
            let (a, b) = (a.first("logps/chosen"), b.first("logps/chosen"));
            a != b && (a - b).abs() < tolerance::RECIPE_BF16 * a.abs()
        }),
    ),
    probe(
        "model.load_in_4bit",
        "true",
        &[],
        Seen(|a, b| {
            let (a, b) = (a.first("logps/chosen"), b.first("logps/chosen"));
            a != b && (a - b).abs() < tolerance::RECIPE_4BIT * a.abs()
        }),
    ),
    probe(
        "model.dequantize",
        "never",
        &["model.path=few.gguf"],
        Seen(|a, b| {
            let told = "weights of few bits stay so";
            !a.told.contains(told) && b.told.contains(told) && a.adapter() == b.adapter()
        }),
    ),
];

const DATASET: &[Probe] = &[
    probe(
        "dataset.path",
        "[{path: pairs.jsonl, weight: 2}]",
        &[],
        Seen(|a, b| 2 * a.pairs("train_pairs") == b.pairs("train_pairs")),
    ),
    probe(
        "dataset.format",
        "jsonl",
        &["dataset.path=lines.csv"],
        Seen(|a, b| a.code != Some(0) && b.pairs("train_pairs") == 16),
    ),
    probe(
        "dataset.layout",
        "orca",
        &[],
        Seen(|a, b| {
            let layout = |run: &Run| run.json("data.json")["train"]["files"][0]["layout"].clone();
            layout(a) == "preference" && layout(b) == "orca"
        }),
    ),
    probe(
        "dataset.prompt_field",
        "question",
        &[],
        Seen(|a, b| a.first("logps/chosen") != b.first("logps/chosen")),
    ),
    probe(
        "dataset.chosen_field",
        "good",
        &[],
        Seen(|a, b| {
            a.first("logps/chosen") != b.first("logps/chosen")
                && a.first("logps/rejected") == b.first("logps/rejected")
        }),
    ),
    probe(
        "dataset.rejected_field",
        "bad",
        &[],
        Seen(|a, b| {
            a.first("logps/chosen") == b.first("logps/chosen")
                && a.first("logps/rejected") != b.first("logps/rejected")
        }),
    ),
    probe(
        "dataset.completion_field",
        "good",
        &["dataset.path=labelled.jsonl", "alignment.loss_type=kto"],
        Seen(|a, b| a.first("logps/chosen") != b.first("logps/chosen")),
    ),
    probe(
        "dataset.completion_field",
        "good",
        &[],
        Refused("`dataset.completion_field` has no effect with a loss over pairs"),
    ),
    probe(
        "dataset.text_field",
        "good",
        &[],
        Refused("`dataset.text_field` has no effect in alignment"),
    ),
    probe(
        "dataset.train_split",
        "other",
        &["dataset.path=splits"],
        Seen(|a, b| (a.pairs("train_pairs"), b.pairs("train_pairs")) == (16, 3)),
    ),
    probe(
        "dataset.eval_path",
        "eval.jsonl",
        &[],
        Seen(|a, b| (a.pairs("eval_pairs"), b.pairs("eval_pairs")) == (0, 3)),
    ),
    probe(
        "dataset.eval_split",
        "other",
        &["dataset.path=splits"],
        Seen(|a, b| (a.pairs("eval_pairs"), b.pairs("eval_pairs")) == (0, 3)),
    ),
    probe(
        "dataset.eval_fraction",
        "0.25",
        &[],
        Seen(|a, b| {
            // Each prompt falls on a side by itself, so the share is met on average.
            a.pairs("eval_pairs") == 0
                && (1..8).contains(&b.pairs("eval_pairs"))
                && b.pairs("train_pairs") + b.pairs("eval_pairs") == 16
        }),
    ),
    probe(
        "dataset.on_invalid",
        "error",
        &["dataset.path=rough.jsonl"],
        Seen(|a, b| a.pairs("train_pairs") == 16 && b.code == Some(3)),
    ),
    probe(
        "dataset.on_duplicate",
        "keep",
        &["dataset.path=rough.jsonl"],
        Seen(|a, b| a.pairs("train_pairs") + 1 == b.pairs("train_pairs")),
    ),
    probe(
        "dataset.on_contradiction",
        "drop",
        &["dataset.path=contradictory.jsonl"],
        Seen(|a, b| a.pairs("train_pairs") == b.pairs("train_pairs") + 2),
    ),
    probe(
        "dataset.group_by_prompt",
        "true",
        &["alignment.method=gdpo", "dataset.path=chains.jsonl"],
        Seen(|a, b| (a.pairs("train_pairs"), b.pairs("train_pairs")) == (32, 16)),
    ),
    probe(
        "dataset.group_by_prompt",
        "true",
        &[],
        Refused("`dataset.group_by_prompt` has no effect with `method: dpo`"),
    ),
    probe(
        "dataset.max_length",
        "16",
        &[],
        Seen(|a, b| b.first("num_tokens") < a.first("num_tokens")),
    ),
    probe(
        "dataset.max_prompt_length",
        "3",
        &[],
        Seen(|a, b| b.first("num_tokens") < a.first("num_tokens")),
    ),
    probe(
        "dataset.truncation_side",
        "left",
        &["dataset.max_length=16"],
        Seen(|a, b| a.first("logps/chosen") != b.first("logps/chosen")),
    ),
    probe(
        "dataset.chat_template",
        "always",
        &[],
        Seen(|a, b| a.first("num_tokens") < b.first("num_tokens")),
    ),
];

/// A template that asks for the date; a date without such a template is refused.
const DATED: &[Probe] = &[
    probe(
        "dataset.template_date",
        "2026-01-31",
        &["model.path=dated", "dataset.chat_template=always"],
        Seen(|a, b| {
            let recipe = fs::read_to_string(b.root.join("recipe.yaml")).unwrap();
            a.first("logps/chosen") != b.first("logps/chosen")
                && recipe.contains("template_date: 2026-01-31")
        }),
    ),
    probe(
        "dataset.template_date",
        "2026-01-31",
        &[],
        Refused("`dataset.template_date` has no effect"),
    ),
];

const OBJECTIVE: &[Probe] = &[
    probe(
        "alignment.method",
        "gdpo",
        &[],
        Seen(|a, b| a.series("group_loss").is_empty() && near(b.first("group_loss"), 2_f64.ln())),
    ),
    probe(
        "alignment.output_dir",
        "elsewhere",
        &[],
        Seen(|a, b| a.root != b.root && b.root.ends_with("elsewhere") && !b.events().is_empty()),
    ),
    probe(
        "alignment.run_name",
        "other",
        &[],
        Seen(|a, b| a.compared() != "other" && b.compared() == "other"),
    ),
    probe(
        "alignment.beta",
        "0.5",
        AWAY,
        Seen(|a, b| near(b.first("rewards/margins"), 5.0 * a.first("rewards/margins"))),
    ),
    // Policy and reference are equal: ln 2 in one, (1 / (2 * 0.1))^2 in the other.
    probe(
        "alignment.loss_type",
        "ipo",
        &[],
        Seen(|a, b| near(a.first("loss"), 2_f64.ln()) && near(b.first("loss"), 25.0)),
    ),
    probe(
        "alignment.label_smoothing",
        "0.25",
        AWAY,
        Seen(|a, b| a.first("loss") != b.first("loss")),
    ),
    probe("alignment.group_delay_size", "4", &[], Noted("group_delay_size")),
    probe("alignment.group_delay_weight", "0.5", &[], Noted("group_delay_weight")),
];

/// Another first loss.
const OTHER_LOSS: Effect = Seen(|a, b| a.first("loss") != b.first("loss"));

/// Groups of four in place of pairs.
const GROUPS: &[&str] = &["alignment.method=gdpo", "dataset.path=groups.jsonl"];

/// Settings of losses; the policy differs from its reference, so that what scales differences shows.
const LOSSES: &[Probe] = &[
    probe(
        "alignment.loss_weights",
        "[0.5, 1]",
        &["model.adapter=first", "model.reference=base", "alignment.loss_type=[sigmoid, hinge]"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.reward_shift",
        "true",
        &["model.adapter=first", "model.reference=base", "alignment.loss_type=bco_pair"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.discopop_tau",
        "0.5",
        &["model.adapter=first", "model.reference=base", "alignment.loss_type=discopop"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.dpop_lambda",
        "5",
        &[
            "model.adapter=first",
            "model.reference=base",
            "alignment.loss_type=dpop",
            "dataset.path=against.jsonl",
        ],
        OTHER_LOSS,
    ),
    probe(
        "alignment.simpo_gamma",
        "1.5",
        &["model.adapter=first", "alignment.loss_type=simpo"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.cpo_alpha",
        "0",
        &["model.adapter=first", "alignment.loss_type=simpo"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.alpha",
        "0.5",
        &["model.adapter=first", "alignment.loss_type=cpo"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.gamma_beta_ratio",
        "0.4",
        &["model.adapter=first", "alignment.loss_type=lmpo"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.repo_gamma",
        "3",
        &["model.adapter=first", "alignment.loss_type=repo"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.rpo_distance",
        "sq",
        &["model.adapter=first", "model.reference=base", "alignment.loss_type=rpo"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.gt_reward_scale",
        "0.1",
        &["model.adapter=first", "model.reference=base", "alignment.loss_type=rpo"],
        OTHER_LOSS,
    ),
    probe("alignment.desirable_weight", "2", &["alignment.loss_type=kto"], OTHER_LOSS),
    probe(
        "alignment.undesirable_weight",
        "2",
        &["alignment.loss_type=apo_zero_unpaired"],
        OTHER_LOSS,
    ),
    probe("alignment.delta", "10", &["model.adapter=first", "model.reference=base"], OTHER_LOSS),
    probe(
        "alignment.f_divergence_type",
        "js_divergence",
        &["model.adapter=first", "model.reference=base"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.f_alpha_divergence_coef",
        "0.25",
        &[
            "model.adapter=first",
            "model.reference=base",
            "alignment.f_divergence_type=alpha_divergence",
        ],
        OTHER_LOSS,
    ),
    probe(
        "alignment.ld_alpha",
        "0.25",
        &["model.adapter=first", "model.reference=base"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.use_weighting",
        "true",
        &["model.adapter=first", "model.reference=base"],
        OTHER_LOSS,
    ),
    probe("alignment.rpo_alpha", "1", &["model.adapter=first", "model.reference=base"], OTHER_LOSS),
    probe(
        "alignment.confidence_weighting",
        "true",
        &["model.adapter=first", "model.reference=base"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.confidence_floor",
        "0.9",
        &["model.adapter=first", "model.reference=base", "alignment.confidence_weighting=true"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.preference_warmup_epochs",
        "1",
        &["model.adapter=first", "model.reference=base"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.reliability",
        "0.7",
        &["model.adapter=first", "model.reference=base"],
        OTHER_LOSS,
    ),
    probe(
        "alignment.reliability_rate",
        "1",
        &["model.adapter=first", "model.reference=base", "alignment.reliability=0.9"],
        Seen(|a, b| {
            a.first("loss") == b.first("loss") && a.series("loss")[1] != b.series("loss")[1]
        }),
    ),
    probe(
        "alignment.flip",
        "true",
        &["alignment.delta=10", "dataset.path=unflipped.jsonl"],
        Seen(|a, b| {
            let tally = b.json("data.json")["objective"].clone();
            a.code == Some(3) && tally["flipped: the rejected completion alone was factual"] == 16
        }),
    ),
    probe(
        "alignment.group_delay_size",
        "2",
        GROUPS,
        Seen(|a, b| b.first("num_tokens") < a.first("num_tokens")),
    ),
    probe("alignment.group_delay_weight", "2", GROUPS, OTHER_LOSS),
    probe(
        "alignment.group_term",
        "pairs",
        GROUPS,
        Seen(|a, b| a.first("group_loss") != b.first("group_loss")),
    ),
    probe("alignment.group_term", "pairs", &[], Refused("`alignment.group_term` has no effect")),
    probe("alignment.simpo_gamma", "1", &[], Refused("`alignment.simpo_gamma` has no effect")),
];

const TUNING: &[Probe] = &[
    probe(
        "alignment.sync_ref_model",
        "true",
        &[],
        Seen(|a, b| {
            let moves = "it becomes the policy every 512 steps";
            !a.told.contains(moves) && b.told.contains(moves)
        }),
    ),
    probe(
        "alignment.ref_model_mixup_alpha",
        "0.5",
        &[
            "alignment.sync_ref_model=true",
            "alignment.ref_model_sync_steps=2",
            "alignment.use_lora=false",
        ],
        Seen(|a, b| {
            let margins = |run: &Run| run.series("rewards/margins");
            margins(a)[..2] == margins(b)[..2] && margins(a)[2] < margins(b)[2]
        }),
    ),
    probe(
        "alignment.ref_model_sync_steps",
        "1",
        &["alignment.sync_ref_model=true"],
        Seen(|a, b| {
            let margins = |run: &Run| run.series("rewards/margins");
            // A reference that is the policy itself leaves no margin.
            margins(a)[3] != 0.0 && margins(b).iter().all(|margin| *margin == 0.0)
        }),
    ),
    probe(
        "alignment.use_lora",
        "false",
        &[],
        Seen(|a, b| {
            let has = |run: &Run, name: &str| run.root.join(name).is_file();
            has(a, "adapter_model.safetensors")
                && has(b, "model.safetensors")
                && !has(b, "adapter_model.safetensors")
        }),
    ),
    probe("alignment.lora_r", "4", &[], Seen(|_, b| b.json("adapter_config.json")["r"] == 4)),
    // With B at zero only B has a gradient, and it is proportional to the scale.
    probe(
        "alignment.lora_alpha",
        "64",
        &[],
        Seen(|a, b| near(b.first("grad_norm"), 2.0 * a.first("grad_norm"))),
    ),
    probe("alignment.lora_dropout", "0.1", &[], Noted("lora_dropout")),
    probe("alignment.disable_dropout", "false", &[], Refused("disable_dropout")),
    probe(
        "alignment.use_rslora",
        "true",
        &[],
        Seen(|a, b| near(b.first("grad_norm"), 4.0 * a.first("grad_norm"))),
    ),
    probe(
        "alignment.target_modules",
        "[q_proj]",
        &[],
        Seen(|_, b| b.adapted().iter().all(|name| name.contains(".q_proj."))),
    ),
    probe(
        "alignment.layers_to_transform",
        "[1]",
        &[],
        Seen(|_, b| b.adapted().iter().all(|name| name.contains(".layers.1."))),
    ),
    probe("alignment.num_layers", "1", &[], Seen(has_the_last_block)),
    probe(
        "alignment.num_layers",
        "1",
        &["alignment.layers_to_transform=[1]"],
        Refused("`layers_to_transform` and `num_layers` contradict each other"),
    ),
];

const RATES: &[Probe] = &[
    probe(
        "alignment.learning_rate",
        "2e-3",
        &[],
        Seen(|a, b| near(b.series("learning_rate")[1], 2.0 * a.series("learning_rate")[1])),
    ),
    probe(
        "alignment.lr_scheduler_type",
        "constant",
        &[],
        Seen(|a, b| {
            a.series("learning_rate")[3] < 1e-3
                && b.series("learning_rate").iter().all(|rate| near(*rate, 1e-3))
        }),
    ),
    probe(
        "alignment.warmup_steps",
        "2",
        &[],
        Seen(|_, b| b.series("learning_rate")[..3] == [0.0, 5e-4, 1e-3]),
    ),
    probe(
        "alignment.warmup_ratio",
        "0.5",
        &[],
        Seen(|_, b| b.series("learning_rate")[..3] == [0.0, 5e-4, 1e-3]),
    ),
    probe(
        "alignment.batch_size",
        "1",
        &[],
        Seen(|a, b| (a.first("epoch"), b.first("epoch")) == (0.25, 0.125)),
    ),
    probe(
        "alignment.gradient_accumulation_steps",
        "1",
        &[],
        Seen(|a, b| (a.first("epoch"), b.first("epoch")) == (0.25, 0.125)),
    ),
    probe(
        "alignment.num_epochs",
        "2",
        &["alignment.max_steps=null"],
        Seen(|a, b| (a.series("loss").len(), b.series("loss").len()) == (12, 8)),
    ),
    probe("alignment.max_steps", "2", &[], Seen(|_, b| b.series("loss").len() == 2)),
    probe(
        "alignment.max_epochs",
        "1",
        &["alignment.max_steps=7"],
        Seen(|a, b| (a.series("loss").len(), b.series("loss").len()) == (7, 4)),
    ),
    probe(
        "alignment.max_epochs",
        "1",
        &["alignment.max_steps=null"],
        Refused("`alignment.max_epochs` has no effect without `max_steps`"),
    ),
];

const OPTIMIZER: &[Probe] = &[
    probe("alignment.weight_decay", "0.5", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe("alignment.adam_beta1", "0.5", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe("alignment.adam_beta2", "0.9", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe("alignment.adam_epsilon", "1e-2", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe("alignment.max_grad_norm", "1e-6", &[], Seen(|a, b| a.adapter() != b.adapter())),
    probe(
        "alignment.shuffle_dataset",
        "false",
        &[],
        Seen(|a, b| a.first("logps/chosen") != b.first("logps/chosen")),
    ),
    probe(
        "alignment.seed",
        "7",
        &[],
        Seen(|a, b| a.first("logps/chosen") != b.first("logps/chosen")),
    ),
];

const SAVING: &[Probe] = &[
    probe(
        "alignment.save_steps",
        "1",
        &[],
        Seen(|a, b| (a.checkpoints().len(), b.checkpoints().len()) == (2, 4)),
    ),
    probe(
        "alignment.save_total_limit",
        "1",
        &[],
        Seen(|_, b| b.checkpoints() == ["checkpoint-4".to_owned()].into()),
    ),
    probe(
        "alignment.eval_steps",
        "1",
        EVAL,
        Seen(|a, b| (a.series("eval_loss").len(), b.series("eval_loss").len()) == (2, 4)),
    ),
    probe(
        "alignment.logging_steps",
        "2",
        &[],
        Seen(|a, b| {
            let entries = |run: &Run| {
                run.json("trainer_state.json")["log_history"].as_array().map(Vec::len).unwrap()
            };
            (entries(a), entries(b)) == (4, 2)
        }),
    ),
    probe(
        "alignment.load_best_model_at_end",
        "true",
        AGAINST,
        Seen(|a, b| {
            let best = b.json("trainer_state.json")["best_global_step"].as_u64().unwrap();
            let saved = b.root.join(format!("checkpoint-{best}/adapter_model.safetensors"));
            best < 8 && b.adapter() == fs::read(saved).unwrap() && a.adapter() != b.adapter()
        }),
    ),
    probe(
        "alignment.metric_for_best_model",
        "eval_rewards/margins",
        AGAINST,
        Seen(|_, b| {
            let state = b.json("trainer_state.json");
            let margins = b.series("eval_rewards/margins");
            let best = margins.into_iter().fold(f64::NEG_INFINITY, f64::max);
            near(state["best_metric"].as_f64().unwrap(), best)
        }),
    ),
    probe(
        "alignment.early_stopping_patience",
        "1",
        AGAINST,
        Seen(|a, b| a.series("loss").len() == 8 && b.series("loss").len() < 8),
    ),
    probe(
        "alignment.stop_when",
        "{loss_above: 0.1, chosen_reward_below: -1000}",
        EVAL,
        Seen(|a, b| {
            (a.series("loss").len(), b.series("loss").len()) == (4, 2)
                && b.told.contains("stopped after step 2 by `stop_when.loss_above: 0.1`")
                && b.adapter() != a.adapter()
        }),
    ),
    probe(
        "alignment.stop_when",
        "{loss: 1}",
        &[],
        Refused("unknown key `alignment.stop_when.loss`"),
    ),
    probe(
        "alignment.tokens_per_micro_batch",
        "1",
        &["alignment.gradient_checkpointing=false"],
        Seen(|a, b| a.memory() != b.memory()),
    ),
    probe(
        "alignment.gradient_checkpointing",
        "true",
        &["alignment.gradient_checkpointing=false"],
        Seen(|a, b| a.memory() != b.memory() && a.adapter() == b.adapter()),
    ),
    probe("device", "cuda", &[], Noted("CUDA requested but unavailable")),
    probe(
        "threads",
        "1",
        &["threads=2"],
        Seen(|a, b| {
            a.told.contains("threads: 2")
                && b.told.contains("threads: 1")
                && a.adapter() == b.adapter()
        }),
    ),
];

/// Rows with more columns than a layout needs, so that each of them can be named.
fn row(number: u32) -> Value {
    let more = " and so on".repeat(number as usize % 3);
    json!({
        "prompt": format!("Say the number {number}"),
        "question": format!("Which number comes after {number}?"),
        "chosen": format!("it is {number}{more}"),
        "rejected": format!("no idea, ask somebody else{more}"),
        "good": format!("certainly {number}"),
        "bad": format!("hardly {number}"),
        "h_w": 0,
        "h_l": number % 2,
        "margin": f64::from(number % 3),
        "annotator": format!("a{}", number % 2),
    })
}

fn swapped(number: u32) -> Value {
    let mut row = row(number);
    let chosen = row["chosen"].take();
    row["chosen"] = row["rejected"].take();
    row["rejected"] = chosen;
    row
}

pub(crate) fn lines(rows: &[Value]) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "{row}");
        text
    })
}

/// Data of every kind, and an adapter, beside a recipe for a tiny model.
pub(crate) fn home() -> Home {
    let rows: Vec<Value> = (0..16).map(row).collect();
    let model = testkit::golden("trl/chat");
    let recipe = format!(
        "model: {{path: \"{}\"}}\n\
         dataset: {{path: pairs.jsonl}}\n\
         alignment: {{max_steps: 4, batch_size: 2, gradient_accumulation_steps: 2, save_steps: 2,\n\
         learning_rate: 1e-3, lr_scheduler_type: linear, logging_steps: 1}}\n",
        model.display()
    );
    let home = Home::new(&rows.iter().map(Value::to_string).collect::<Vec<_>>(), &recipe);
    home.write("lines.csv", &lines(&rows));
    let eval: Vec<Value> = (20..23).map(row).collect();
    home.write("eval.jsonl", &lines(&eval));
    home.write("against.jsonl", &lines(&(20..23).map(swapped).collect::<Vec<_>>()));
    home.write("splits/train.jsonl", &lines(&rows));
    home.write("splits/other.jsonl", &lines(&eval));
    let labelled = rows.iter().enumerate().map(|(number, row)| {
        let (completion, good) = (&row["chosen"], &row["good"]);
        json!({"prompt": row["prompt"], "completion": completion, "good": good, "label": number % 2 == 0})
    });
    home.write("labelled.jsonl", &lines(&labelled.collect::<Vec<_>>()));
    let groups = rows.iter().map(|row| {
        let responses = ["chosen", "good", "bad", "rejected"].map(|side| row[side].clone());
        json!({"prompt": row["prompt"], "responses": responses, "scores": [3, 2, 1, 0]})
    });
    home.write("groups.jsonl", &lines(&groups.collect::<Vec<_>>()));
    let chains = rows.iter().flat_map(|row| {
        let [best, between, worst] = ["chosen", "good", "rejected"].map(|side| row[side].clone());
        let pair = |chosen: &Value, rejected: &Value| json!({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected});
        [pair(&best, &between), pair(&between, &worst)]
    });
    home.write("chains.jsonl", &lines(&chains.collect::<Vec<_>>()));
    let mut unflipped = rows.clone();
    for row in &mut unflipped {
        (row["h_w"], row["h_l"]) = (json!(1), json!(0));
    }
    home.write("unflipped.jsonl", &lines(&unflipped));
    let mut rough = rows.clone();
    rough.push(row(3));
    rough.push(json!({"prompt": "no answers"}));
    home.write("rough.jsonl", &lines(&rough));
    let mut contradictory = rows;
    contradictory.push(swapped(3));
    home.write("contradictory.jsonl", &lines(&contradictory));
    copy_with_other_norms(&model, &home);
    copy(&model, &home, "dated");
    let template = fs::read_to_string(model.join("chat_template.jinja")).unwrap();
    let dated = format!("{{{{ strftime_now('%d %m %Y') }}}}\n{template}");
    home.write("dated/chat_template.jinja", &dated);
    write_in_few_bits(&model, &home);
    let adapter = ["alignment.lora_r=2", "alignment.max_steps=2", "alignment.warmup_ratio=0"];
    let status = home.finish("first", &adapter.map(|set| ["--set", set]).concat());
    assert!(status.success(), "the adapter to go on from");
    home
}

/// Another model: the same weights, normalized otherwise.
fn copy_with_other_norms(model: &Path, home: &Home) {
    copy(model, home, "other");
    let path = home.path("other/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["rms_norm_eps"] = json!(0.5);
    fs::write(path, config.to_string()).unwrap();
}

/// The same model as a quantized file.
fn write_in_few_bits(model: &Path, home: &Home) {
    let model = model.to_str().unwrap();
    let words = ["fuse", "--format", "gguf", "--dtype", "q8_0", "--output", "few", "--model"];
    let output = home.program(&[&words[..], &[model]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut files = read_dir(home.path("few")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|it| it == "gguf")).unwrap();
    fs::copy(file, home.path("few.gguf")).unwrap();
}

fn copy(model: &Path, home: &Home, name: &str) {
    fs::create_dir_all(home.path(name)).unwrap();
    for entry in read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, home.path(name).join(path.file_name().unwrap())).unwrap();
    }
}

pub(crate) fn run(home: &Home, root: &str, settings: &[&str]) -> Run {
    let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", *set]).collect();
    let output = home.output(root, &settings);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    Run { root: home.path(root), told, code: output.status.code(), home: root.to_owned() }
}

/// What is wrong with a probe, if anything is.
fn complaint(home: &Home, befores: &mut BTreeMap<String, Run>, probe: &Probe) -> Option<String> {
    let Probe { key, value, with, effect } = probe;
    let set = format!("{key}={value}");
    let root = match *key {
        "alignment.output_dir" | "training.output_dir" => (*value).to_owned(),
        _ => format!("{key}/{}", with.len()),
    };
    let after = run(home, &root, &[with, &[set.as_str()][..]].concat());
    let is_fine = match effect {
        Refused(words) => after.code == Some(2) && after.told.contains(words),
        Noted(words) => after.code == Some(0) && after.told.contains(words),
        Seen(holds) => {
            let name = format!("before-{}", with.join(",").replace('/', "-"));
            let before = befores.entry(name.clone()).or_insert_with(|| run(home, &name, with));
            // Only the probe of `on_invalid` ends with an error, and says so itself.
            if after.code != Some(0) && *key != "dataset.on_invalid" {
                return Some(format!("{set}: {:?} {}", after.code, after.told));
            }
            holds(before, &after)
        }
    };
    (!is_fine).then(|| format!("{set} does not do what it says ({}): {}", after.home, after.told))
}

/// Runs every probe and says which of them fail.
pub(crate) fn assert_all(home: &Home, probes: &[&Probe]) {
    let mut befores = BTreeMap::new();
    let complaints: Vec<String> =
        probes.iter().filter_map(|probe| complaint(home, &mut befores, probe)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_key_changes_what_it_says_or_is_refused() {
    let groups = [MODEL, DATASET, DATED, OBJECTIVE, LOSSES, TUNING, RATES, OPTIMIZER, SAVING];
    let probes: Vec<&Probe> = groups.into_iter().flatten().collect();
    let probed: BTreeSet<String> = probes.iter().map(|probe| probe.key.to_owned()).collect();
    let keys = KEYS.iter().filter(|key| key.section != "training");
    let keys: BTreeSet<String> = keys.map(train::recipe::Key::path).collect();
    assert_eq!(probed, keys, "every key has a probe");
    assert_all(&home(), &probes);
}
