//! Tests of whole recipes.

use std::fmt::Write as _;

use proptest::prelude::*;
use snapbox::{assert_data_eq, str};

use super::*;
use crate::schedule::{SchedulerType, Warmup};

const TIME: &str = "20260225-120000";

/// The recipe that `LexAlign`'s design prints, comments and all.
const LEXALIGN: &str = r#"# config/align.yaml
model:
  path: "./checkpoints/gpt2-finetuned"  # Path to fine-tuned model
  base_model: "gpt2"                     # Optional: HF repo ID for tokenizer

dataset:
  path: "./data/preference-dataset"      # Path to preference dataset
  format: "auto"                         # auto, json, csv, jsonl
  prompt_field: "prompt"                 # Field containing prompt
  chosen_field: "chosen"                 # Field containing chosen response
  rejected_field: "rejected"             # Field containing rejected response
  train_split: "train"                   # Dataset split to use

alignment:
  method: "dpo"                          # dpo or gdpo
  output_dir: "./checkpoints/gpt2-aligned"  # Optional, defaults to ./checkpoints/<model>-aligned-<timestamp>

  # DPO/GDPO parameters
  beta: 0.1                              # DPO beta parameter (temperature)
  loss_type: "sigmoid"                   # sigmoid, hinge, or ipo (for DPO)

  # GDPO specific (only used if method: gdpo)
  group_delay_size: 4                    # Number of responses to rank per prompt
  group_delay_weight: 0.5                # Weight for group delay loss

  # LoRA/QLoRA for alignment (optional, can also train full model)
  use_lora: true
  lora_r: 16
  lora_alpha: 32
  lora_dropout: 0.05
  target_modules:
    - "q_proj"
    - "v_proj"

  # Training hyperparameters
  learning_rate: 1e-5
  batch_size: 4
  gradient_accumulation_steps: 4
  num_epochs: 3
  warmup_steps: 100
  weight_decay: 0.01

  # Checkpointing
  save_steps: 500
  max_steps: null                        # Optional: override epoch-based training

# Hardware
device: "cuda"                           # cuda or cpu
"#;

const SHORTEST: &str = "model:\n  path: org/model-1B\ndataset:\n  path: pairs.jsonl\n";

fn good(text: &str) -> Checked {
    check(text, &[], TIME).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

/// The problems of a recipe as they are printed, each with its hint.
fn told(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<Override> = overrides.iter().map(|text| Override::set(text)).collect();
    let list = check(text, &overrides, TIME).unwrap_err();
    let problems = Problems { file: "align.yaml".into(), list };
    let mut text = String::new();
    for problem in &problems.list {
        let _ = writeln!(text, "{}", problems.render(problem));
        if let Some(hint) = problem.hint() {
            let _ = writeln!(text, "  -> {hint}");
        }
    }
    text
}

#[test]
fn the_recipe_that_lexalign_prints_runs_unchanged() {
    let Checked { recipe, notes } = good(LEXALIGN);
    assert_eq!(notes, [Note::GroupDelaySize, Note::GroupDelayWeight, Note::LoraDropout]);
    assert_eq!(recipe.model.base_model.as_deref(), Some("gpt2"));
    assert_eq!(recipe.alignment.rates.learning_rate.to_bits(), 1e-5_f64.to_bits());
    assert_eq!(recipe.alignment.rates.warmup, Warmup::Steps(100));
    assert_eq!(recipe.alignment.output_dir, Path::new("./checkpoints/gpt2-aligned"));
    assert_eq!(recipe.device, Device::Cuda);
    let Tuning::Lora(lora) = &recipe.alignment.tuning else { panic!("an adapter") };
    assert_eq!(lora.targets, ::model::Targets::Named(vec!["q_proj".into(), "v_proj".into()]));
}

#[test]
fn a_short_recipe_gets_these_defaults() {
    assert_data_eq!(
        good(SHORTEST).recipe.render(),
        str![[r#"
model:
  path: "org/model-1B"
  base_model: null
  adapter: null
  reference: base
  precision: auto
  load_in_4bit: false
  dequantize: auto
dataset:
  path: "pairs.jsonl"
  format: auto
  layout: null
  prompt_field: "prompt"
  chosen_field: "chosen"
  rejected_field: "rejected"
  train_split: "train"
  eval_path: null
  eval_split: null
  eval_fraction: null
  on_invalid: drop
  on_duplicate: drop
  on_contradiction: keep
  max_length: null
  max_prompt_length: null
  truncation_side: right
  chat_template: auto
  template_date: null
alignment:
  method: dpo
  output_dir: "./checkpoints/model-1B-aligned-20260225-120000"
  run_name: null
  beta: 0.1
  loss_type: sigmoid
  label_smoothing: 0.0
  sync_ref_model: false
  use_lora: true
  lora_r: 16
  lora_alpha: 32.0
  use_rslora: false
  target_modules: all-linear
  layers_to_transform: null
  learning_rate: 1.0e-5
  lr_scheduler_type: linear
  warmup_ratio: 0.1
  batch_size: 4
  gradient_accumulation_steps: 4
  num_epochs: 3
  max_steps: null
  weight_decay: 0.01
  adam_beta1: 0.9
  adam_beta2: 0.999
  adam_epsilon: 1.0e-8
  max_grad_norm: 1.0
  shuffle_dataset: true
  seed: 42
  save_steps: 500
  save_total_limit: null
  logging_steps: 10
  stop_when: null
  tokens_per_micro_batch: 1024
  gradient_checkpointing: auto
device: auto
threads: null

"#]]
    );
}

/// The recipe of `LexAlign`'s `finetune.yaml`.
const LEXALIGN_FINETUNE: &str = r#"
model:
  path: "./models/gpt2"
  base_model: "gpt2"

dataset:
  path: "./data/train.jsonl"
  format: "auto"
  text_field: "text"
  train_split: "train"

training:
  method: "lora"                 # lora or qlora
  output_dir: "./checkpoints/gpt2-finetuned"
  lora_r: 16
  lora_alpha: 32
  lora_dropout: 0.05
  target_modules: ["q_proj", "v_proj"]
  quantization_bits: 4           # qlora only
  learning_rate: 3e-4
  batch_size: 4
  gradient_accumulation_steps: 4
  num_epochs: 3
  warmup_steps: 100
  weight_decay: 0.01
  max_seq_length: 512
  packing: false
  save_steps: 500
  max_steps: null

device: "cuda"
"#;

#[test]
fn the_fine_tuning_recipe_of_lexalign_runs_unchanged() {
    let Checked { recipe, notes } = good(LEXALIGN_FINETUNE);
    assert_eq!(notes, [Note::QuantizationBits]);
    assert_eq!(
        (recipe.purpose(), recipe.dataset.lengths.max_length),
        (Purpose::Finetune, Some(512))
    );
    assert!(!recipe.model.load_in_4bit);
    // Where it is silent, the same holds.
    let silent = with("training.output_dir", "./checkpoints/gpt2-finetuned", &[]).unwrap().recipe;
    let mut alike = recipe.alignment.clone();
    alike.tuning = silent.alignment.tuning.clone();
    assert_eq!(alike, silent.alignment);

    let quantized = LEXALIGN_FINETUNE.replace("method: \"lora\"", "method: \"qlora\"");
    let Checked { recipe, notes } = good(&quantized);
    assert!(recipe.model.load_in_4bit && notes.is_empty());
    assert_eq!(good(&recipe.render()).recipe, recipe);
}

#[test]
fn a_recipe_belongs_to_one_command() {
    let as_align = check_for(Some(Purpose::Align), LEXALIGN_FINETUNE, &[], TIME).unwrap_err();
    assert_eq!(as_align[0].what.to_string(), "`training:` belongs to `trueup finetune`");
    let as_finetune = check_for(Some(Purpose::Finetune), LEXALIGN, &[], TIME).unwrap_err();
    assert_eq!(as_finetune[0].what.to_string(), "`alignment:` belongs to `trueup align`");
    // A recipe that leaves everything open is one of either.
    for purpose in [Purpose::Align, Purpose::Finetune] {
        let checked = check_for(Some(purpose), SHORTEST, &[], TIME).unwrap();
        assert_eq!(checked.recipe.purpose(), purpose);
    }
    let both = format!("{SHORTEST}alignment:\n  seed: 1\ntraining:\n  seed: 1\n");
    assert_data_eq!(
        told(&both, &[]),
        str![[r#"
align.yaml:7: `training:` and `alignment:` contradict each other
  -> write two recipes, one for `trueup finetune` and one for `trueup align`

"#]]
    );
}

#[test]
fn what_fine_tuning_cannot_use_is_refused() {
    let text = "\
model:
  path: 7B
  reference: base
dataset:
  path: rows.jsonl
  chosen_field: good
  max_length: 100
training:
  method: full
  lora_r: 8
  lora_dropout: 0
  quantization_bits: 8
  beta: 0.1
  per_device_train_batch_size: 2
  metric_for_best_model: eval_rewards/margins
";
    assert_data_eq!(
        told(text, &["dataset.eval_fraction=0.5"]),
        str![[r#"
align.yaml:3: `model.reference` has no effect in fine-tuning
  -> remove it: nothing is held to a reference
align.yaml:6: `dataset.chosen_field` has no effect in fine-tuning
  -> name the completion's field with `completion_field`
align.yaml:7: `dataset.max_length` has no effect in fine-tuning
  -> write `training.max_seq_length`
align.yaml:10: `training.lora_r` has no effect with `method: full`
  -> remove it, or use `method: lora`
align.yaml:11: `training.lora_dropout` has no effect with `method: full`
  -> remove it, or use `method: lora`
align.yaml:13: unknown key `training.beta`
  -> it belongs at `alignment.beta`
align.yaml:14: unknown key `training.per_device_train_batch_size`
  -> `per_device_train_batch_size` is TRL's name; here it is `training.batch_size`
align.yaml:15: `metric_for_best_model: eval_rewards/margins` and fine-tuning contradict each other
  -> use `eval_loss` or `eval_mean_token_accuracy`

"#]]
    );
    assert_data_eq!(
        told(SHORTEST, &["training.method=qlora", "training.quantization_bits=8"]),
        str![[r#"
`--set training.quantization_bits=8`: quantization_bits must be 4 (got: 8)
  -> write 4, or use `method: lora`

"#]]
    );
}

/// What a recipe needs before the keys of evaluation mean anything.
const EVAL: &[&str] = &["dataset.eval_fraction=0.1"];

/// What makes a recipe one of fine-tuning, without changing anything else.
const FINETUNING: &[&str] = &["training.seed=42"];
const FINETUNING_EVAL: &[&str] = &["training.seed=42", "dataset.eval_fraction=0.1"];

/// A value for each key that is not its default, with what must stand beside it.
const SAMPLES: &[(&str, &str, &[&str])] = &[
    ("model.path", "other", &[]),
    ("model.base_model", "gpt2", &[]),
    ("model.adapter", "./sft", &[]),
    ("model.reference", "./other-adapter", &[]),
    ("model.precision", "bf16", &[]),
    ("model.load_in_4bit", "true", &[]),
    ("model.dequantize", "never", &[]),
    ("dataset.path", "[a.jsonl, {path: b.csv, weight: 0.5}]", &[]),
    ("dataset.format", "csv", &[]),
    ("dataset.prompt_field", "question", &[]),
    ("dataset.chosen_field", "good", &[]),
    ("dataset.rejected_field", "bad", &[]),
    ("dataset.completion_field", "answer", &["alignment.loss_type=kto"]),
    ("dataset.text_field", "body", FINETUNING),
    ("dataset.train_split", "train_prefs", &[]),
    ("dataset.eval_path", "eval.jsonl", &[]),
    ("dataset.eval_split", "test", &[]),
    ("dataset.eval_fraction", "0.05", &[]),
    ("dataset.layout", "preference", &[]),
    ("dataset.on_invalid", "error", &[]),
    ("dataset.on_duplicate", "keep", &[]),
    ("dataset.on_contradiction", "drop", &[]),
    ("dataset.group_by_prompt", "true", &["alignment.method=gdpo"]),
    ("dataset.max_length", "512", &[]),
    ("dataset.max_prompt_length", "256", &[]),
    ("dataset.truncation_side", "left", &[]),
    ("dataset.chat_template", "never", &[]),
    ("dataset.template_date", "2026-01-31", &[]),
    ("alignment.method", "gdpo", &[]),
    ("alignment.output_dir", "./runs/1", &[]),
    ("alignment.run_name", "first try", &[]),
    ("alignment.beta", "0.5", &[]),
    ("alignment.loss_type", "ipo", &[]),
    ("alignment.label_smoothing", "0.25", &[]),
    ("alignment.group_delay_size", "4", &[]),
    ("alignment.group_delay_weight", "0.5", &[]),
    ("alignment.loss_weights", "[0.5, 2]", &["alignment.loss_type=[sigmoid, sft]"]),
    ("alignment.reward_shift", "true", &["alignment.loss_type=bco_pair"]),
    ("alignment.discopop_tau", "0.1", &["alignment.loss_type=discopop"]),
    ("alignment.dpop_lambda", "5", &["alignment.loss_type=dpop"]),
    ("alignment.simpo_gamma", "1.5", &["alignment.loss_type=simpo"]),
    ("alignment.cpo_alpha", "0", &["alignment.loss_type=simpo"]),
    ("alignment.alpha", "0.5", &["alignment.loss_type=cpo"]),
    ("alignment.gamma_beta_ratio", "0.6", &["alignment.loss_type=lmpo"]),
    ("alignment.repo_gamma", "0.4", &["alignment.loss_type=repo"]),
    ("alignment.rpo_distance", "sq", &["alignment.loss_type=rpo"]),
    ("alignment.gt_reward_scale", "0.1", &["alignment.loss_type=rpo"]),
    ("alignment.desirable_weight", "1.5", &["alignment.loss_type=kto"]),
    ("alignment.undesirable_weight", "0.5", &["alignment.loss_type=apo_zero_unpaired"]),
    ("alignment.delta", "10", &[]),
    ("alignment.flip", "true", &["alignment.delta=10"]),
    ("alignment.f_divergence_type", "js_divergence", &[]),
    (
        "alignment.f_alpha_divergence_coef",
        "0.25",
        &["alignment.f_divergence_type=alpha_divergence"],
    ),
    ("alignment.ld_alpha", "0.5", &[]),
    ("alignment.use_weighting", "true", &[]),
    ("alignment.rpo_alpha", "1", &[]),
    ("alignment.confidence_weighting", "true", &[]),
    ("alignment.confidence_floor", "0.5", &["alignment.confidence_weighting=true"]),
    ("alignment.preference_warmup_epochs", "1", &[]),
    ("alignment.reliability", "0.8", &[]),
    ("alignment.reliability_rate", "0.2", &["alignment.reliability=0.9"]),
    ("alignment.group_term", "pairs", &["alignment.method=gdpo"]),
    ("alignment.sync_ref_model", "true", &[]),
    (
        "alignment.ref_model_mixup_alpha",
        "0.5",
        &["alignment.sync_ref_model=true", "alignment.use_lora=false"],
    ),
    ("alignment.ref_model_sync_steps", "7", &["alignment.sync_ref_model=true"]),
    ("alignment.use_lora", "false", &[]),
    ("alignment.lora_r", "8", &[]),
    ("alignment.lora_alpha", "16.5", &[]),
    ("alignment.lora_dropout", "0.05", &[]),
    ("alignment.disable_dropout", "false", &[]),
    ("alignment.use_rslora", "true", &[]),
    ("alignment.target_modules", "[q_proj, \"v_proj\"]", &[]),
    ("alignment.layers_to_transform", "[0, 3]", &[]),
    ("alignment.num_layers", "3", &[]),
    ("alignment.learning_rate", "3e-6", &[]),
    ("alignment.lr_scheduler_type", "constant_with_warmup", &[]),
    ("alignment.warmup_steps", "30", &[]),
    ("alignment.warmup_ratio", "0.25", &[]),
    ("alignment.batch_size", "2", &[]),
    ("alignment.gradient_accumulation_steps", "16", &[]),
    ("alignment.num_epochs", "1", &[]),
    ("alignment.max_steps", "7", &[]),
    ("alignment.max_epochs", "2", &["alignment.max_steps=7"]),
    ("alignment.weight_decay", "0.1", &[]),
    ("alignment.adam_beta1", "0.8", &[]),
    ("alignment.adam_beta2", "0.95", &[]),
    ("alignment.adam_epsilon", "1e-6", &[]),
    ("alignment.max_grad_norm", "0", &[]),
    ("alignment.shuffle_dataset", "false", &[]),
    ("alignment.seed", "3407", &[]),
    ("alignment.save_steps", "10", &[]),
    ("alignment.save_total_limit", "2", &[]),
    ("alignment.eval_steps", "20", EVAL),
    ("alignment.logging_steps", "1", &[]),
    ("alignment.load_best_model_at_end", "true", EVAL),
    ("alignment.metric_for_best_model", "eval_rewards/margins", EVAL),
    ("alignment.early_stopping_patience", "3", EVAL),
    ("alignment.stop_when", "{loss_above: 2, reward_margin_above: 8.5}", &[]),
    ("alignment.tokens_per_micro_batch", "1000", &[]),
    ("alignment.gradient_checkpointing", "true", &[]),
    ("training.method", "full", FINETUNING),
    ("training.output_dir", "./runs/1", FINETUNING),
    ("training.run_name", "first try", FINETUNING),
    ("training.quantization_bits", "4", FINETUNING),
    ("training.completion_only_loss", "false", FINETUNING),
    ("training.assistant_only_loss", "true", FINETUNING),
    ("training.max_seq_length", "100", FINETUNING),
    ("training.packing", "true", FINETUNING),
    ("training.lora_r", "8", FINETUNING),
    ("training.lora_alpha", "16.5", FINETUNING),
    ("training.lora_dropout", "0.1", FINETUNING),
    ("training.use_rslora", "true", FINETUNING),
    ("training.target_modules", "[q_proj, \"v_proj\"]", FINETUNING),
    ("training.layers_to_transform", "[0, 3]", FINETUNING),
    ("training.num_layers", "3", FINETUNING),
    ("training.learning_rate", "3e-6", FINETUNING),
    ("training.lr_scheduler_type", "constant_with_warmup", FINETUNING),
    ("training.warmup_steps", "30", FINETUNING),
    ("training.warmup_ratio", "0.25", FINETUNING),
    ("training.batch_size", "2", FINETUNING),
    ("training.gradient_accumulation_steps", "16", FINETUNING),
    ("training.num_epochs", "1", FINETUNING),
    ("training.max_steps", "7", FINETUNING),
    ("training.weight_decay", "0.1", FINETUNING),
    ("training.adam_beta1", "0.8", FINETUNING),
    ("training.adam_beta2", "0.95", FINETUNING),
    ("training.adam_epsilon", "1e-6", FINETUNING),
    ("training.max_grad_norm", "0", FINETUNING),
    ("training.shuffle_dataset", "false", FINETUNING),
    ("training.seed", "3407", FINETUNING),
    ("training.save_steps", "10", FINETUNING),
    ("training.save_total_limit", "2", FINETUNING),
    ("training.eval_steps", "20", FINETUNING_EVAL),
    ("training.logging_steps", "1", FINETUNING),
    ("training.load_best_model_at_end", "true", FINETUNING_EVAL),
    ("training.metric_for_best_model", "eval_mean_token_accuracy", FINETUNING_EVAL),
    ("training.early_stopping_patience", "3", FINETUNING_EVAL),
    ("training.tokens_per_micro_batch", "1000", FINETUNING),
    ("training.gradient_checkpointing", "true", FINETUNING),
    ("device", "cpu", &[]),
    ("threads", "1", &[]),
];

fn sample(key: &str) -> (&'static str, &'static [&'static str]) {
    let found = SAMPLES.iter().find(|(of, ..)| *of == key);
    let (_, value, beside) = found.unwrap_or_else(|| panic!("{key} has no sample"));
    (value, beside)
}

fn with(key: &str, value: &str, beside: &[&str]) -> Result<Checked, Vec<Problem>> {
    let mut overrides: Vec<Override> = beside.iter().map(|text| Override::set(text)).collect();
    overrides.push(Override::set(&format!("{key}={value}")));
    check(SHORTEST, &overrides, TIME)
}

#[test]
fn every_key_changes_the_recipe_or_says_that_it_cannot() {
    for key in KEYS.iter().map(Key::path) {
        let (value, beside) = sample(&key);
        let without = with("device", "auto", beside).unwrap();
        match with(&key, value, beside) {
            Ok(checked) => assert_ne!(checked, without, "{key} does nothing, silently"),
            Err(problems) => {
                let is_not_yet = |problem: &Problem| matches!(problem.what, What::NotYet { .. });
                assert!(problems.iter().all(is_not_yet), "{key}: {problems:?}");
            }
        }
    }
}

#[test]
fn no_key_takes_nonsense() {
    for key in KEYS.iter().map(Key::path) {
        let (_, beside) = sample(&key);
        for nonsense in ["{a: 1}", "[[1]]", "[]"] {
            assert!(with(&key, nonsense, beside).is_err(), "{key} takes {nonsense}");
        }
    }
}

#[test]
fn null_is_as_good_as_nothing() {
    let shortest = good(SHORTEST);
    let finetuning = with("training.seed", "42", &[]).unwrap();
    for key in KEYS.iter().filter(|key| key.name != "path") {
        let wanted = if key.section == "training" { &finetuning } else { &shortest };
        assert_eq!(with(&key.path(), "null", &[]), Ok(wanted.clone()), "{key:?}");
    }
}

#[test]
fn a_rendered_recipe_reads_back_to_itself() {
    let reads_back = |recipe: &Recipe| {
        let text = recipe.render();
        let again = good(&text);
        assert_eq!(again.recipe, *recipe, "{text}");
        assert!(again.notes.is_empty());
        assert_eq!(again.recipe.render(), text);
    };
    reads_back(&good(LEXALIGN).recipe);
    for key in KEYS.iter().map(Key::path) {
        let (value, beside) = sample(&key);
        if let Ok(checked) = with(&key, value, beside) {
            reads_back(&checked.recipe);
        }
    }
    let odd = [("model.path", "\"C:\\\\mod\\tel\\n\\\"ü\""), ("alignment.beta", "1e-300")];
    for (key, value) in odd {
        reads_back(&with(key, value, &[]).unwrap().recipe);
    }
}

/// A recipe with a mistake in nearly every line.
const MISTAKEN: &str = "\
model:
  path: 7B
  precison: bf16
  load_in_4bit: true
dataset:
  path: []
  format: txt
  eval_fraction: 1
  max_length: many
alignment:
  per_device_train_batch_size: 4
  beta: -0.1
  beta: 0.2
  method: kto
  warmup_steps: 0.1
  warmup_ratio: 0.1
  label_smoothing: 0.1
  loss_type: ipo
  group_delay_size: 1
  use_lora: false
  lora_r: 8
  num_epochs: 0.5
  eval_steps: 10
  seed: -1
  disable_dropout: yes
learning_rate: 1
sedd: 3
colour_of_the_sky: blue
";

#[test]
fn every_problem_is_told_with_its_line() {
    assert_data_eq!(
        told(MISTAKEN, &["alignment.save_steps=0", "dataset.weigth=1", "seed", "a.b.c=1"]),
        str![[r#"
align.yaml:3: unknown key `model.precison`
  -> the nearest key is `precision`
align.yaml:4: `model.load_in_4bit` has no effect with `alignment.use_lora: false`
  -> remove it: weights that are trained are kept in 32 bits
align.yaml:6: path must be a path or a list of paths (got: an empty list)
align.yaml:7: unsupported dataset format "txt"
supported formats: auto, json, csv, jsonl, parquet
align.yaml:8: eval_fraction must be > 0 and < 1 (got: 1)
align.yaml:9: max_length must be a whole number (got: many)
align.yaml:11: unknown key `alignment.per_device_train_batch_size`
  -> `per_device_train_batch_size` is TRL's name; here it is `alignment.batch_size`
align.yaml:12: beta must be > 0 (got: -0.1)
align.yaml:13: `beta` is given twice
  -> remove one of the two
align.yaml:14: unsupported method "kto"
supported methods: dpo, gdpo
align.yaml:15: warmup_steps must be a whole number (got: 0.1)
  -> for a share of all steps write `warmup_ratio`
align.yaml:16: `warmup_steps` and `warmup_ratio` contradict each other
  -> keep one of the two
align.yaml:17: `alignment.label_smoothing` has no effect with `loss_type: ipo`
  -> remove it, or use `loss_type: sigmoid`
align.yaml:19: group_delay_size must be >= 2 (got: 1)
  -> need at least chosen + rejected responses
align.yaml:21: `alignment.lora_r` has no effect with `use_lora: false`
  -> remove it, or set `use_lora: true`
align.yaml:22: num_epochs must be a whole number (got: 0.5)
align.yaml:24: seed must be >= 0 (got: -1)
align.yaml:25: disable_dropout must be `true` or `false` (got: yes)
align.yaml:26: unknown key `learning_rate`
  -> it belongs at `alignment.learning_rate`
align.yaml:27: unknown key `sedd`
  -> the nearest key is `alignment.seed`
align.yaml:28: unknown key `colour_of_the_sky`
`--set a.b.c=1`: unknown key `a`
`--set alignment.save_steps=0`: save_steps must be >= 1 (got: 0)
`--set dataset.weigth=1`: unknown key `dataset.weigth`
`--set seed`: not of the form `section.key=value`
  -> for example `--set alignment.beta=0.3`

"#]]
    );
}

#[test]
fn a_weight_is_a_number_the_reader_of_data_takes() {
    for weight in ["0", "-1", "1001", "x", "inf", "null"] {
        let path = format!("[{{path: a, weight: {weight}}}]");
        assert!(with("dataset.path", &path, &[]).is_err(), "{weight}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let text = "\
model: {path: a, reference: adapter}
dataset: {path: b, eval_split: train, eval_path: null, max_length: 100, max_prompt_length: 100}
alignment: {lr_scheduler_type: constant, warmup_ratio: 0.1, load_best_model_at_end: false}
";
    assert_data_eq!(
        told(text, &[]),
        str![[r#"
align.yaml:1: `model.adapter` is missing
  -> for example `adapter: ./checkpoints/sft`
align.yaml:2: `dataset.eval_split` and `dataset.train_split` contradict each other
  -> evaluate on another split, or set `eval_fraction`
align.yaml:2: `max_prompt_length: 100` and `max_length: 100` contradict each other
  -> leave room for the completion: raise `dataset.max_length`
align.yaml:3: `alignment.warmup_ratio` has no effect with `lr_scheduler_type: constant`
  -> remove it, or use `lr_scheduler_type: constant_with_warmup`

"#]]
    );
    let adapter = "model: {path: a, adapter: b}\ndataset: {path: c, eval_fraction: 0.1, eval_split: d}\n\
                   alignment: {use_lora: false}";
    assert_data_eq!(
        told(adapter, &[]),
        str![[r#"
align.yaml:2: `dataset.eval_fraction` and `dataset.eval_split` contradict each other
  -> keep `eval_fraction` to set training data apart, or `eval_split`
align.yaml:3: `model.adapter` and `use_lora: false` contradict each other
  -> remove one of the two

"#]]
    );
    let settings = "model: {path: a, adapter: b}\ndataset: {path: c}\nalignment: {lora_r: 16}";
    assert_data_eq!(
        told(settings, &[]),
        str![[r#"
align.yaml:3: `alignment.lora_r` has no effect with `model.adapter`
  -> remove it: the adapter's own settings hold

"#]]
    );
}

/// Evaluations of unpaired rows have no metric about pairs, so that none could be the best.
#[test]
fn metrics_of_pairs_are_refused_for_unpaired_rows() {
    let text = |loss: &str, metric: &str| {
        format!(
            "model: {{path: a}}\ndataset: {{path: b, eval_fraction: 0.1}}\n\
             alignment: {{loss_type: {loss}, metric_for_best_model: {metric}}}"
        )
    };
    assert_data_eq!(
        told(&text("kto", "eval_rewards/accuracies"), &[]),
        str![[r#"
align.yaml:3: `metric_for_best_model: eval_rewards/accuracies` and `loss_type: kto` contradict each other
  -> its rows are no pairs to compare: use `eval_loss` or `eval_rewards/margins`

"#]]
    );
    for (metric, ..) in super::saving::Metric::WORDS {
        let of_all = ["eval_loss", "eval_rewards/margins", "eval_mean_token_accuracy"];
        let is_of_pairs = !of_all.contains(metric);
        for loss in ["kto", "apo_zero_unpaired"] {
            let refused = check(&text(loss, metric), &[], TIME).is_err();
            assert_eq!(refused, is_of_pairs, "{loss} {metric}");
        }
        assert!(check(&text("sigmoid", metric), &[], TIME).is_ok(), "{metric}");
    }
}

#[test]
fn guards_have_names_and_bounds() {
    let text = format!(
        "{SHORTEST}alignment:\n  stop_when:\n    reward_margin: 8\n    colour: 3\n    loss_above: high\n    accuracy_at_least: 2\n    reward_margin_above: 0\n"
    );
    assert_data_eq!(
        told(&text, &[]),
        str![[r#"
align.yaml:7: unknown key `alignment.stop_when.reward_margin`
  -> guards are `reward_margin_above`, `accuracy_at_least`, `chosen_reward_below`, `loss_above`
align.yaml:8: unknown key `alignment.stop_when.colour`
  -> guards are `reward_margin_above`, `accuracy_at_least`, `chosen_reward_below`, `loss_above`
align.yaml:9: loss_above must be a number (got: high)
align.yaml:10: accuracy_at_least must be > 0 and <= 1 (got: 2)
align.yaml:11: reward_margin_above must be > 0 (got: 0)

"#]]
    );
    for (guards, wanted) in [("3", "mapping"), ("{}", "empty mapping"), ("[loss_above]", "a list")]
    {
        let told = told(&format!("{SHORTEST}alignment: {{stop_when: {guards}}}"), &[]);
        assert!(told.contains("stop_when must be") && told.contains(wanted), "{told}");
    }
    let unpaired = "alignment: {loss_type: kto, stop_when: {accuracy_at_least: 1}}";
    assert!(told(&format!("{SHORTEST}{unpaired}"), &[]).contains("has no effect with a loss over"));
}

#[test]
fn a_recipe_that_is_no_recipe_is_refused() {
    for (text, wanted) in [
        (
            "",
            str![[r#"
align.yaml: `model.path` is missing
  -> for example `path: ./checkpoints/gpt2-finetuned`
align.yaml: `dataset.path` is missing
  -> for example `path: ./data/preferences.jsonl`

"#]],
        ),
        (
            "model: [",
            str![[r#"
align.yaml:1: not readable as YAML: unclosed bracket '['

"#]],
        ),
        (
            "- a\n- b",
            str![[r#"
align.yaml:1: `model` must be a mapping of keys to values (got: a list)
  -> write its keys below `model:`, each indented by two blanks

"#]],
        ),
        (
            "model:\n  path: a\n---\nmodel:\n",
            str![[r#"
align.yaml:4: a recipe is one YAML document, and here a second one begins
  -> write one file a run

"#]],
        ),
        (
            "model: &a {path: b}\ndataset: *a",
            str![[r#"
align.yaml:2: YAML anchors and aliases are not read in a recipe
  -> write the value out

"#]],
        ),
        (
            "model:\n\tpath: a",
            str![[r#"
align.yaml:2: not readable as YAML: tabs disallowed within this context (block indentation)

"#]],
        ),
    ] {
        assert_data_eq!(told(text, &[]), wanted);
    }
}

#[test]
fn files_of_other_shapes_are_recognised() {
    let sweep = "models:\n  - id: a/b\n    short: b\nmodified_dpo:\n  deltas: [0, 2]\n";
    assert_data_eq!(
        told(sweep, &[]),
        str![[r#"
align.yaml:1: `models:` belongs to `trueup sweep`
  -> run `trueup sweep --config` on this file

"#]]
    );
}

#[test]
fn the_command_line_goes_before_the_file() {
    let overrides = [
        Override::set("alignment.beta=0.2"),
        Override::set("alignment.beta=0.3"),
        Override::set("alignment.target_modules=[k_proj]"),
        Override::set("dataset.eval_fraction=0.1"),
        Override::set("alignment.max_steps="),
        Override::flag("--device", "device", "cpu"),
    ];
    let recipe = check(LEXALIGN, &overrides, TIME).unwrap().recipe;
    assert_eq!(recipe.alignment.objective.name(), "sigmoid");
    assert!(recipe.render().contains("\n  beta: 0.3\n"));
    assert!(recipe.render().contains("\n  target_modules: [\"k_proj\"]\n"));
    assert_eq!(recipe.dataset.eval_fraction, Some(0.1));
    assert_eq!(recipe.device, Device::Cpu);
    let wrong = check(LEXALIGN, &[Override::flag("--device", "device", "tpu")], TIME).unwrap_err();
    assert_eq!(wrong[0].place, Place::Argument("--device tpu".into()));
}

#[test]
fn the_run_folder_is_named_after_the_model_and_the_time() {
    for (path, name) in [
        ("./checkpoints/gpt2-finetuned/", "gpt2-finetuned"),
        ("org/model-1B", "model-1B"),
        ("a/b.Q4_K_M.gguf", "b.Q4_K_M"),
    ] {
        let recipe = with("model.path", path, &[]).unwrap().recipe;
        let wanted = format!("./checkpoints/{name}-aligned-{TIME}");
        assert_eq!(recipe.alignment.output_dir, Path::new(&wanted));
    }
}

#[test]
fn a_resumed_run_may_change_what_changes_no_number() {
    let path_of = |difference: &Difference| difference.key.clone();
    for key in KEYS {
        let (value, beside) = sample(&key.path());
        let first = with("device", "auto", beside).unwrap().recipe;
        let Ok(Checked { recipe, .. }) = with(&key.path(), value, beside) else { continue };
        let (free, forbidding) = recipe.differences(&first);
        if recipe != first {
            let changed = if key.is_free { &free } else { &forbidding };
            assert!(changed.iter().map(path_of).any(|path| path == key.path()), "{key:?}");
            assert!(!key.is_free || forbidding.is_empty(), "{key:?}: {forbidding:?}");
        }
    }
}

#[test]
fn a_resumed_run_takes_what_the_first_process_resolved() {
    let mut resolved = good(SHORTEST).recipe;
    resolved.model.precision = Precision::Bf16;
    resolved.dataset.lengths.max_length = Some(1024);
    resolved.alignment.gradient_checkpointing = Some(true);
    let mut again = good(SHORTEST).recipe;
    again.take_resolved(&resolved);
    assert_eq!(again, resolved);
    let mut other = with("model.precision", "f32", &[]).unwrap().recipe;
    other.take_resolved(&resolved);
    let wanted = Difference { key: "model.precision".into(), was: "bf16".into(), is: "f32".into() };
    assert_eq!(other.differences(&resolved), (vec![], vec![wanted]));
}

#[test]
fn sources_are_what_the_reader_of_data_takes() {
    let dataset = |pairs: &[&str]| {
        let overrides: Vec<Override> = pairs.iter().map(|text| Override::set(text)).collect();
        check(SHORTEST, &overrides, TIME).unwrap().recipe.dataset
    };
    let weighted =
        dataset(&["dataset.path=[a, {path: b, weight: 2}]", "dataset.chosen_field=good"]);
    let [a, b] = &weighted.training_sources()[..] else { panic!("two sources") };
    assert_eq!((a.path.as_path(), &*a.split), (Path::new("a"), "train"));
    assert_eq!((b.weight.to_bits(), b.fields.column("chosen")), (2.0_f64.to_bits(), "good"));
    assert!(weighted.evaluation_sources().is_empty() && !weighted.has_evaluation());
    let split = dataset(&["dataset.eval_split=test"]).evaluation_sources();
    assert_eq!((split[0].path.as_path(), &*split[0].split), (Path::new("pairs.jsonl"), "test"));
    let path = dataset(&["dataset.eval_path=e.jsonl"]).evaluation_sources();
    assert_eq!((path[0].path.as_path(), &*path[0].split), (Path::new("e.jsonl"), "train"));
    assert!(dataset(&["dataset.eval_fraction=0.5"]).evaluation_sources().is_empty());
}

#[test]
fn numbers_may_be_written_as_people_write_them() {
    for text in ["1e-5", "1.0e-5", "0.00001", "1E-5", "\"1e-5\"", "+1e-5"] {
        let recipe = with("alignment.learning_rate", text, &[]).unwrap().recipe;
        assert_eq!(recipe.alignment.rates.learning_rate.to_bits(), 1e-5_f64.to_bits(), "{text}");
    }
    for text in [".nan", "NaN", "inf", "1e999", "1,5", "0x10"] {
        assert!(with("alignment.learning_rate", text, &[]).is_err(), "{text}");
    }
}

#[test]
fn the_schedule_follows_its_kind() {
    let rates = |pairs: &[&str]| {
        let overrides: Vec<Override> = pairs.iter().map(|text| Override::set(text)).collect();
        check(SHORTEST, &overrides, TIME).unwrap().recipe.alignment.rates
    };
    assert_eq!(rates(&[]).lr_scheduler_type, SchedulerType::Linear);
    assert_eq!(rates(&[]).warmup, Warmup::Ratio(0.1));
    assert_eq!(rates(&["alignment.warmup_steps=0"]).warmup, Warmup::Steps(0));
    let constant = rates(&["alignment.lr_scheduler_type=constant"]);
    assert_eq!(constant.warmup, Warmup::Steps(0));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,200}") {
        let _ = check(&text, &[], TIME);
    }

    #[test]
    fn no_broken_recipe_makes_the_reader_panic(at in 0..LEXALIGN.len(), with in "[\\[\\]{}:,&*!|>'\"%@`\n\t -]{0,3}") {
        let (before, after) = LEXALIGN.split_at(at);
        let _ = check(&format!("{before}{with}{after}"), &[], TIME);
        let _ = check(&format!("{before}{with}"), &[], TIME);
    }
}
