//! What other tools call things, for people who bring their files.
//!
//! These are no aliases: a peer's key is refused, and the message says what to write.

/// What to do about a key of another tool.
#[derive(Clone, Copy, Debug)]
pub(super) enum Advice {
    /// The same thing under our name.
    Here(&'static str),
    /// Anything else that is to be said, as a whole sentence fragment.
    Say(&'static str),
}

use Advice::{Here, Say};

const TRL: &str = "TRL";
const GONE: &str = "older TRL versions";
const HF: &str = "Hugging Face";
const PEFT: &str = "PEFT";
const FACTORY: &str = "LLaMA-Factory";
const AXOLOTL: &str = "Axolotl";
const UNSLOTH: &str = "Unsloth";
const MLX: &str = "mlx-lm-lora";
const AIXPERT: &str = "AIXpert";
const LEXALIGN: &str = "LexAlign";

const ONE_PASS: &str = "remove it: reference log-probabilities are always computed once and kept";
const NO_REPORTS: &str = "remove it: every step is in `events.jsonl` of the run folder";
const NO_PADDING: &str = "remove it: nothing is padded";
const NEVER_PICKLED: &str = "remove it: no code and no pickle is ever loaded";
const ONE_PROCESS: &str = "remove it: a run is one process, and uses all cores";
const ADAMW: &str = "remove it: the optimizer is AdamW";
const NO_DROPOUT: &str = "remove it: alignment runs without dropout";
const EVERY_STEP: &str = "give evaluation data and set `alignment.eval_steps`";
const NOT_YET: &str = "remove it: this version cannot do it yet";
const PRECISION: &str = "write `model.precision: bf16` or `f32`";
const TEMPLATE: &str = "a model's own chat template is used; see `dataset.chat_template`";

/// A key's name, whose it is, and what to do.
const PEERS: &[(&str, &str, Advice)] = &[
    // Where things come from.
    ("model_name_or_path", TRL, Here("model.path")),
    ("model_name", UNSLOTH, Here("model.path")),
    ("model_id", AIXPERT, Here("model.path")),
    ("id", AIXPERT, Here("model.path")),
    ("adapter_name_or_path", FACTORY, Here("model.adapter")),
    ("resume_adapter_file", MLX, Here("model.adapter")),
    ("lora_model_dir", AXOLOTL, Here("model.adapter")),
    ("ref_model", FACTORY, Here("model.reference")),
    ("reference_model_path", MLX, Here("model.reference")),
    ("dataset_name", TRL, Here("dataset.path")),
    ("datasets", AXOLOTL, Here("dataset.path")),
    ("dataset_dir", FACTORY, Here("dataset.path")),
    ("data", MLX, Here("dataset.path")),
    ("train", AIXPERT, Here("dataset.path")),
    ("train_file", AIXPERT, Here("dataset.path")),
    ("eval", AIXPERT, Here("dataset.eval_path")),
    ("eval_file", AIXPERT, Here("dataset.eval_path")),
    ("eval_dataset", FACTORY, Here("dataset.eval_path")),
    ("test_datasets", AXOLOTL, Here("dataset.eval_path")),
    ("dataset_train_split", TRL, Here("dataset.train_split")),
    ("dataset_test_split", TRL, Here("dataset.eval_split")),
    ("val_size", FACTORY, Here("dataset.eval_fraction")),
    ("val_set_size", AXOLOTL, Here("dataset.eval_fraction")),
    ("output_root", AIXPERT, Here("alignment.output_dir")),
    ("adapter_path", MLX, Here("alignment.output_dir")),
    // Lengths and text.
    ("max_seq_length", UNSLOTH, Here("dataset.max_length")),
    ("max_seq_len", UNSLOTH, Here("dataset.max_length")),
    ("cutoff_len", FACTORY, Here("dataset.max_length")),
    ("sequence_len", AXOLOTL, Here("dataset.max_length")),
    ("model_max_length", HF, Here("dataset.max_length")),
    (
        "truncation_mode",
        TRL,
        Say("it is `dataset.truncation_side` here: `keep_start` is `right`, `keep_end` is `left`"),
    ),
    ("template", FACTORY, Say(TEMPLATE)),
    ("chat_template_path", TRL, Say(TEMPLATE)),
    (
        "max_completion_length",
        GONE,
        Say("use `dataset.max_length`, which counts prompt and completion"),
    ),
    (
        "max_target_length",
        GONE,
        Say("use `dataset.max_length`, which counts prompt and completion"),
    ),
    ("packing", LEXALIGN, Say("remove it: micro-batches are always packed")),
    ("sample_packing", AXOLOTL, Say("remove it: micro-batches are always packed")),
    ("padding_free", TRL, Say(NO_PADDING)),
    ("pad_to_multiple_of", TRL, Say(NO_PADDING)),
    ("pad_token", TRL, Say(NO_PADDING)),
    ("padding_value", GONE, Say(NO_PADDING)),
    ("label_pad_token_id", GONE, Say(NO_PADDING)),
    ("dataset_num_proc", TRL, Say(ONE_PROCESS)),
    ("preprocessing_num_workers", FACTORY, Say(ONE_PROCESS)),
    ("dataloader_num_workers", HF, Say(ONE_PROCESS)),
    ("tools", GONE, Say("remove it: a record carries its own tools")),
    ("is_encoder_decoder", GONE, Say("remove it: only decoders are trained")),
    // The objective.
    ("pref_beta", FACTORY, Here("alignment.beta")),
    ("dpo_beta", AXOLOTL, Here("alignment.beta")),
    ("rl_beta", AXOLOTL, Here("alignment.beta")),
    ("pref_loss", FACTORY, Here("alignment.loss_type")),
    ("dpo_loss_type", AXOLOTL, Here("alignment.loss_type")),
    ("dpo_cpo_loss_type", MLX, Here("alignment.loss_type")),
    ("dpo_label_smoothing", FACTORY, Here("alignment.label_smoothing")),
    ("rl", AXOLOTL, Here("alignment.method")),
    ("train_mode", MLX, Here("alignment.method")),
    ("stage", FACTORY, Here("alignment.method")),
    ("pref_ftx", FACTORY, Here("alignment.rpo_alpha")),
    ("f_divergence_params", GONE, Say("set `alignment.f_alpha_divergence_coef`")),
    (
        "normalize_by_length",
        MLX,
        Say("remove it; `alignment.loss_type: sigmoid_norm` is the loss by token"),
    ),
    (
        "reference_free",
        GONE,
        Say("remove it; `simpo`, `cpo` and `orpo` are losses without a reference"),
    ),
    (
        "deltas",
        AIXPERT,
        Say("set `alignment.delta`, or sweep over it with `sweep: {alignment.delta: [0, 10]}`"),
    ),
    ("kto_chosen_weight", FACTORY, Here("alignment.desirable_weight")),
    ("kto_rejected_weight", FACTORY, Here("alignment.undesirable_weight")),
    ("kto_desirable_weight", AXOLOTL, Here("alignment.desirable_weight")),
    ("kto_undesirable_weight", AXOLOTL, Here("alignment.undesirable_weight")),
    // The reference.
    ("precompute_ref_log_probs", TRL, Say(ONE_PASS)),
    ("precompute_ref_batch_size", TRL, Say(ONE_PASS)),
    ("ref_model_init_kwargs", GONE, Say("name it with `model.reference`")),
    ("force_use_ref_model", GONE, Say("name it with `model.reference`")),
    ("model_adapter_name", GONE, Here("model.adapter")),
    ("ref_adapter_name", GONE, Here("model.reference")),
    // Adapters.
    ("use_peft", TRL, Here("alignment.use_lora")),
    ("finetuning_type", FACTORY, Here("alignment.use_lora")),
    ("adapter_type", MLX, Here("alignment.use_lora")),
    ("r", PEFT, Here("alignment.lora_r")),
    ("rank", MLX, Here("alignment.lora_r")),
    ("lora_rank", FACTORY, Here("alignment.lora_r")),
    ("lora_scale", MLX, Say("set `alignment.lora_alpha` to the scale times `lora_r`")),
    ("lora_target", FACTORY, Here("alignment.target_modules")),
    ("lora_target_modules", TRL, Here("alignment.target_modules")),
    ("lora_target_linear", AXOLOTL, Say("write `alignment.target_modules: all-linear`")),
    ("lora_keys", MLX, Here("alignment.target_modules")),
    ("lora_layers", MLX, Here("alignment.num_layers")),
    ("peft_layers_to_transform", AXOLOTL, Here("alignment.layers_to_transform")),
    ("lora_use_rslora", AXOLOTL, Here("alignment.use_rslora")),
    ("peft_use_rslora", AXOLOTL, Here("alignment.use_rslora")),
    ("use_dora", PEFT, Say(NOT_YET)),
    ("lora_modules_to_save", TRL, Say(NOT_YET)),
    ("modules_to_save", PEFT, Say(NOT_YET)),
    ("lora_task_type", TRL, Say("remove it: only causal language models are trained")),
    ("lora_bias", PEFT, Say(NOT_YET)),
    ("loraplus_lr_ratio", FACTORY, Say(NOT_YET)),
    ("dropout", MLX, Say(NO_DROPOUT)),
    // Numbers.
    ("dtype", TRL, Here("model.precision")),
    ("torch_dtype", HF, Here("model.precision")),
    ("bf16", HF, Say(PRECISION)),
    ("fp16", HF, Say(PRECISION)),
    ("tf32", HF, Say(PRECISION)),
    ("load_in_8bit", TRL, Say(NOT_YET)),
    ("quantization_bit", FACTORY, Here("model.load_in_4bit")),
    ("quantization_bits", LEXALIGN, Here("model.load_in_4bit")),
    ("bnb_4bit_quant_type", TRL, Say(NOT_YET)),
    ("use_bnb_nested_quant", TRL, Say(NOT_YET)),
    ("attn_implementation", TRL, Say("remove it: attention is always exact and fused")),
    ("flash_attn", FACTORY, Say("remove it: attention is always exact and fused")),
    ("flash_attention", AXOLOTL, Say("remove it: attention is always exact and fused")),
    ("use_liger_kernel", TRL, Say("remove it: the logits are never formed anyway")),
    ("use_liger_loss", GONE, Say("remove it: the logits are never formed anyway")),
    ("use_logits_to_keep", GONE, Say("remove it: only completions go through the head anyway")),
    ("activation_offloading", TRL, Say(NOT_YET)),
    ("gradient_checkpointing_kwargs", HF, Here("alignment.gradient_checkpointing")),
    ("use_gradient_checkpointing", UNSLOTH, Here("alignment.gradient_checkpointing")),
    ("grad_checkpoint", MLX, Here("alignment.gradient_checkpointing")),
    ("router_aux_loss_coef", TRL, Say(NOT_YET)),
    ("trust_remote_code", TRL, Say(NEVER_PICKLED)),
    ("model_init_kwargs", TRL, Say("write its keys under `model`")),
    // Steps and rates.
    ("lr", HF, Here("alignment.learning_rate")),
    ("lr_scheduler", AXOLOTL, Here("alignment.lr_scheduler_type")),
    ("lr_schedule", MLX, Here("alignment.lr_scheduler_type")),
    ("lr_scheduler_kwargs", HF, Say(NOT_YET)),
    ("per_device_train_batch_size", TRL, Here("alignment.batch_size")),
    ("micro_batch_size", AXOLOTL, Here("alignment.batch_size")),
    ("train_batch_size", HF, Here("alignment.batch_size")),
    (
        "per_device_eval_batch_size",
        TRL,
        Say("remove it: evaluation is cut by `alignment.tokens_per_micro_batch` too"),
    ),
    ("eval_batch_size", AXOLOTL, Say("remove it: `alignment.tokens_per_micro_batch` cuts it too")),
    ("grad_accumulation", AIXPERT, Here("alignment.gradient_accumulation_steps")),
    ("grad_accumulation_steps", MLX, Here("alignment.gradient_accumulation_steps")),
    ("num_train_epochs", TRL, Here("alignment.num_epochs")),
    ("epochs", MLX, Here("alignment.num_epochs")),
    ("iters", MLX, Here("alignment.max_steps")),
    ("steps", MLX, Here("alignment.max_steps")),
    ("warmup", MLX, Here("alignment.warmup_steps")),
    ("optim", HF, Say(ADAMW)),
    ("optimizer", AXOLOTL, Say(ADAMW)),
    ("optim_args", HF, Say(ADAMW)),
    ("adam_eps", HF, Here("alignment.adam_epsilon")),
    ("grad_clip", HF, Here("alignment.max_grad_norm")),
    ("random_state", UNSLOTH, Here("alignment.seed")),
    ("data_seed", HF, Here("alignment.seed")),
    ("group_by_length", HF, Say("remove it: micro-batches are cut by tokens, nothing is padded")),
    ("auto_find_batch_size", HF, Here("alignment.tokens_per_micro_batch")),
    // Saving, logging, evaluating.
    ("save_every", MLX, Here("alignment.save_steps")),
    ("save_strategy", HF, Here("alignment.save_steps")),
    ("steps_per_report", MLX, Here("alignment.logging_steps")),
    ("logging_strategy", HF, Here("alignment.logging_steps")),
    ("logging_dir", HF, Say(NO_REPORTS)),
    ("report_to", HF, Say(NO_REPORTS)),
    ("wandb", AIXPERT, Say(NO_REPORTS)),
    ("wandb_project", AXOLOTL, Say(NO_REPORTS)),
    ("eval_strategy", HF, Say(EVERY_STEP)),
    ("evaluation_strategy", HF, Say(EVERY_STEP)),
    ("do_eval", HF, Say(EVERY_STEP)),
    ("do_train", HF, Say("remove it: `trueup align` trains")),
    ("steps_per_eval", MLX, Here("alignment.eval_steps")),
    ("evals_per_epoch", AXOLOTL, Here("alignment.eval_steps")),
    ("greater_is_better", HF, Say("remove it: the direction is known for each metric")),
    ("generate_during_eval", GONE, Say(NOT_YET)),
    (
        "overwrite_output_dir",
        HF,
        Say("remove it: nothing is overwritten; choose another `alignment.output_dir`"),
    ),
    ("resume_from_checkpoint", HF, Say("give `--resume DIR` on the command line")),
    ("auto_resume_from_checkpoints", AXOLOTL, Say("give `--resume auto` on the command line")),
    ("save_safetensors", HF, Say(NEVER_PICKLED)),
    ("save_only_model", HF, Say("remove it: a checkpoint can always be resumed")),
    ("push_to_hub", HF, Say("remove it: upload the run folder with `hf upload`")),
    ("hub_model_id", HF, Say("remove it: upload the run folder with `hf upload`")),
    ("remove_unused_columns", HF, Say("remove it: other columns do no harm")),
    ("ddp_timeout", HF, Say(ONE_PROCESS)),
    ("deepspeed", HF, Say(ONE_PROCESS)),
    ("fsdp", HF, Say(ONE_PROCESS)),
    ("base_model_attribute_name", GONE, Say("remove it")),
    ("use_cpu", HF, Here("device")),
    ("no_cuda", HF, Here("device")),
];

/// What to write in place of another tool's key, by its section and its name.
pub(super) fn advice(section: &str, name: &str) -> Option<String> {
    let (_, owner, advice) = PEERS.iter().find(|(peer, ..)| *peer == name)?;
    Some(match advice {
        Here(ours) if section == "training" && ours.starts_with("alignment.") => {
            let ours = ours.replace("alignment.", "training.");
            format!("`{name}` is {owner}'s name; here it is `{ours}`")
        }
        Here(ours) => format!("`{name}` is {owner}'s name; here it is `{ours}`"),
        Say(text) => format!("`{name}` is known from {owner}; {text}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::keys::{KEYS, find};

    #[test]
    fn peers_names_lead_to_keys_that_exist() {
        for (name, _, advice) in PEERS {
            if let Here(ours) = advice {
                let (section, key) = ours.split_once('.').unwrap_or(("", ours));
                assert!(find(section, key).is_some(), "{name} leads to {ours}");
            }
        }
    }

    #[test]
    fn no_name_is_listed_twice_or_is_a_key_of_ours() {
        for (index, (name, ..)) in PEERS.iter().enumerate() {
            assert!(PEERS[index + 1..].iter().all(|(other, ..)| other != name), "{name} twice");
            // What fine-tuning has, alignment may be asked for.
            let ours = KEYS.iter().filter(|key| key.section != "training");
            assert!(ours.map(|key| key.name).all(|ours| ours != *name), "{name} is ours");
        }
    }

    #[test]
    fn the_advice_names_the_tool_and_our_key() {
        assert_eq!(
            advice("alignment", "per_device_train_batch_size").unwrap(),
            "`per_device_train_batch_size` is TRL's name; here it is `alignment.batch_size`"
        );
        assert_eq!(
            advice("alignment", "padding_value").unwrap(),
            "`padding_value` is known from older TRL versions; remove it: nothing is padded"
        );
        assert_eq!(
            advice("alignment", "optim").unwrap(),
            "`optim` is known from Hugging Face; remove it: the optimizer is AdamW"
        );
    }
}
