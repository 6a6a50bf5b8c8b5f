//! Every key of a recipe: what it means, its range and its default.
//!
//! This table decides which keys exist and feeds the generated reference; the readers beside it
//! decide what a value means. A test goes through the table and shows that every key acts.

/// A key of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The section it stands in; empty for keys at the root.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Meaning, unit and range.
    pub meaning: &'static str,
    /// What holds where the recipe is silent.
    pub default: &'static str,
    /// Whether a resumed run may have another value: it changes no number.
    pub is_free: bool,
}

impl Key {
    /// The key with its section, as messages name it.
    pub fn path(&self) -> String {
        if self.section.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.section, self.name)
        }
    }
}

/// The sections, in the order in which a recipe is written.
pub const SECTIONS: [&str; 4] = ["model", "dataset", "alignment", "training"];

const fn key(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { section, name, meaning, default, is_free: false }
}

const fn free(key: Key) -> Key {
    Key { is_free: true, ..key }
}

const fn model(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    key("model", name, default, meaning)
}

const fn dataset(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    key("dataset", name, default, meaning)
}

const fn alignment(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    key("alignment", name, default, meaning)
}

const fn training(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    key("training", name, default, meaning)
}

/// Every key, in the order in which a resolved recipe is written.
pub const KEYS: &[Key] = &[
    model(
        "path",
        "required",
        "the model: a folder, a GGUF file, or a hub id that is in the Hugging Face cache",
    ),
    model(
        "base_model",
        "none",
        "hub id or folder whose tokenizer is used, and which the adapter names as its base",
    ),
    model("adapter", "none", "a PEFT adapter to go on training, in place of a new one"),
    model(
        "reference",
        "`adapter` with an adapter, else `base`",
        "what the policy is held to: `base` (the weights without any adapter), `adapter` (the given adapter as it is at the start), or the path of another adapter",
    ),
    model(
        "precision",
        "auto",
        "operands of products: `bf16`, `f32`, or `auto` (bf16 where the processor multiplies it, else f32)",
    ),
    model(
        "load_in_4bit",
        "false",
        "round the frozen linears as 4-bit storage would (NF4 in blocks of 64, double quantization, as bitsandbytes)",
    ),
    free(model(
        "dequantize",
        "auto",
        "where frozen weights of few bits (a quantized GGUF file, or `load_in_4bit`) are widened: when they are loaded (`always`), where they are used (`never`: less memory, a little slower), or when they are loaded if that fits into memory (`auto`); no number depends on it",
    )),
    dataset(
        "path",
        "required",
        "a file or folder of preferences, a hub id that is in the Hugging Face cache, or a list of them; an item may be `{path, weight}`, where a weight of 2 takes every row twice an epoch and 0.5 half of them",
    ),
    dataset(
        "format",
        "auto",
        "`auto` (by the ending and the first bytes), `json`, `jsonl`, `csv` or `parquet`",
    ),
    dataset(
        "layout",
        "recognised from the rows",
        "how a row holds prompt and completions, such as `preference`, `hh-rlhf`, `sharegpt` or `openai`",
    ),
    dataset("prompt_field", "prompt", "the field that holds the prompt"),
    dataset("chosen_field", "chosen", "the field that holds the chosen completion"),
    dataset("rejected_field", "rejected", "the field that holds the rejected completion"),
    dataset(
        "completion_field",
        "completion",
        "the field that holds the completion of a row that has one",
    ),
    dataset("text_field", "text", "for fine-tuning: the field that holds a text without a prompt"),
    dataset("train_split", "train", "the split to train on, where the dataset has splits"),
    dataset("eval_path", "none", "a file or folder of pairs to evaluate on"),
    dataset("eval_split", "none", "the split to evaluate on"),
    dataset(
        "eval_fraction",
        "none",
        "the share of prompts set apart to evaluate on; above 0, below 1",
    ),
    dataset(
        "on_invalid",
        "drop",
        "what to do with rows that cannot be used: `drop` (and say how many) or `error`",
    ),
    dataset(
        "on_duplicate",
        "drop",
        "what to do with rows that came before: `drop`, `keep` or `error`",
    ),
    dataset(
        "on_contradiction",
        "keep",
        "what to do with pairs whose sides another pair swaps: `keep`, `drop` (both) or `error`",
    ),
    dataset(
        "group_by_prompt",
        "false",
        "with `method: gdpo`: the pairs of a prompt become one group, ranked by what follows from all of them; pairs that contradict each other are left out",
    ),
    dataset(
        "max_length",
        "1024, or the model's context if that is shorter",
        "tokens of prompt and completion together; at least 2",
    ),
    dataset(
        "max_prompt_length",
        "none",
        "tokens of a prompt; its beginning is dropped; at least 1",
    ),
    dataset(
        "truncation_side",
        "right",
        "where tokens are dropped if a pair is longer than `max_length`: `right` (the end of completions) or `left` (the beginning of the prompt)",
    ),
    dataset(
        "chat_template",
        "auto",
        "`auto` (records of messages go through the model's template, records of strings do not), `always` or `never`",
    ),
    dataset(
        "template_date",
        "today",
        "the day, as `YYYY-MM-DD`, that a chat template sees if it asks for the date; a resumed run keeps its own",
    ),
    alignment(
        "method",
        "dpo",
        "`dpo` (pairs, or the best and the worst of ranked completions; unpaired rows with `loss_type: kto`) or `gdpo` (groups of ranked completions)",
    ),
    free(alignment(
        "output_dir",
        "./checkpoints/<model>-aligned-<time>",
        "the run folder; new or empty",
    )),
    free(alignment(
        "run_name",
        "the name of the run folder",
        "what the run is called where runs are compared",
    )),
    alignment(
        "beta",
        "0.1",
        "how strongly the policy is held to the reference; above 0, usually 0.1 to 0.5",
    ),
    alignment(
        "loss_type",
        "sigmoid",
        "the objective, or a list of them: `sigmoid`, `robust`, `hinge`, `ipo`, `exo_pair`, `nca_pair`, `bco_pair`, `sppo_hard`, `aot`, `aot_unpaired`, `apo_zero`, `apo_down`, `discopop`, `sft`, `sigmoid_norm`, `dpop`, `rpo`, `simpo`, `cpo`, `orpo`, `lmpo`, `repo`, `repo_pp`, `kto` or `apo_zero_unpaired`",
    ),
    alignment(
        "loss_weights",
        "1 for each",
        "what each loss of a list counts for, in the same order; at least 0",
    ),
    alignment(
        "label_smoothing",
        "0",
        "the share of labels taken to be flipped, for `sigmoid`, `robust`, `exo_pair`, `aot`, `aot_unpaired`, `simpo` and `cpo`; at least 0, below 0.5",
    ),
    alignment("reward_shift", "false", "for `bco_pair`: compare rewards with their running mean"),
    alignment(
        "discopop_tau",
        "0.05",
        "for `discopop`: width of the blend of its two losses; above 0, at most 1",
    ),
    alignment(
        "dpop_lambda",
        "50",
        "for `dpop`: what a lost nat of the chosen completion costs; at least 0",
    ),
    alignment(
        "simpo_gamma",
        "0.5",
        "for `simpo`: the target margin, outside of `beta`; at least 0",
    ),
    alignment(
        "cpo_alpha",
        "1",
        "for `simpo` and `cpo`: weight of the likelihood of the chosen completion; at least 0",
    ),
    alignment("alpha", "0", "for `simpo` and `cpo`: AlphaPO's shape of the reward"),
    alignment(
        "gamma_beta_ratio",
        "0.8",
        "for `lmpo`: target margin over `beta`, in nats a token; at least 0",
    ),
    alignment(
        "repo_gamma",
        "0.5",
        "for `repo` and `repo_pp`: the margin a token, in nats, that is far enough; at least 0",
    ),
    alignment(
        "rpo_distance",
        "bwd_kl",
        "for `rpo`: `bwd_kl`, `fwd_kl`, `sq` or `ipo`, how far the margin is from that of the rewards",
    ),
    alignment(
        "gt_reward_scale",
        "1",
        "for `rpo`: what the rows' scores are multiplied by; above 0",
    ),
    alignment(
        "desirable_weight",
        "1",
        "for `kto` and `apo_zero_unpaired`: weight of a desirable row; at least 0",
    ),
    alignment(
        "undesirable_weight",
        "1",
        "for `kto` and `apo_zero_unpaired`: weight of an undesirable row; at least 0",
    ),
    alignment(
        "delta",
        "none",
        "factual preference optimization: what comes off the margin of a pair whose rejected completion alone is not factual (`h_w`, `h_l`), in nats; at least 0",
    ),
    alignment(
        "flip",
        "false",
        "with `delta`: swap the completions of pairs whose chosen one alone is not factual, in place of refusing them",
    ),
    alignment(
        "f_divergence_type",
        "reverse_kl",
        "what holds the policy to the reference: `reverse_kl`, `forward_kl`, `js_divergence` or `alpha_divergence`",
    ),
    alignment("f_alpha_divergence_coef", "0.5", "for `alpha_divergence`: its coefficient"),
    alignment(
        "ld_alpha",
        "none",
        "LD-DPO: weight of the tokens past the shorter length of a pair; at least 0, at most 1",
    ),
    alignment(
        "use_weighting",
        "false",
        "WPO: weigh pairs by how likely the policy would write them",
    ),
    alignment(
        "rpo_alpha",
        "0",
        "weight of the likelihood of the chosen completion beside the loss; at least 0",
    ),
    alignment(
        "confidence_weighting",
        "false",
        "weigh rows by how far the policy shares their preference",
    ),
    alignment(
        "confidence_floor",
        "0.2",
        "with `confidence_weighting`: the least weight of a row; at least 0, at most 1",
    ),
    alignment(
        "preference_warmup_epochs",
        "0",
        "passes over the data in which the preference part grows to its full weight; at least 0",
    ),
    alignment(
        "reliability",
        "none",
        "RE-PO: how often a label is right, to begin with, for each `annotator`; above 0, below 1",
    ),
    alignment(
        "reliability_rate",
        "0.1",
        "with `reliability`: how far one step moves an estimate; above 0, at most 1",
    ),
    alignment(
        "group_delay_size",
        "4",
        "with `method: gdpo`: completions of a prompt that take part; at least 2",
    ),
    alignment(
        "group_delay_weight",
        "0.5",
        "with `method: gdpo`: weight of the term over groups; at least 0",
    ),
    alignment(
        "group_term",
        "listwise",
        "with `method: gdpo`: `listwise`, `lambda`, `pairs`, `pairwise_mean`, `epo` or `batch_variance`",
    ),
    alignment(
        "sync_ref_model",
        "false",
        "whether the reference follows the policy, TR-DPO; it then starts as the policy does",
    ),
    alignment(
        "ref_model_mixup_alpha",
        "0.6, and 1 with an adapter",
        "what the policy counts for in the new reference, the old one counting for the rest; above 0, at most 1, with an adapter only 1",
    ),
    alignment(
        "ref_model_sync_steps",
        "512",
        "optimizer steps after which the reference moves; at least 1",
    ),
    alignment("use_lora", "true", "train low-rank adapters; `false` trains all weights"),
    alignment("lora_r", "16", "rank of the adapters; at least 1"),
    alignment("lora_alpha", "32", "scale of the adapters, divided by the rank; above 0"),
    alignment("lora_dropout", "0", "not used: alignment runs without dropout"),
    alignment("disable_dropout", "true", "run without dropout; only `true` so far"),
    alignment("use_rslora", "false", "divide `lora_alpha` by the root of the rank"),
    alignment(
        "target_modules",
        "all-linear",
        "linears that carry an adapter, by the end of their names, or `all-linear` (all but the head)",
    ),
    alignment("layers_to_transform", "all", "blocks that carry adapters, from 0"),
    alignment(
        "num_layers",
        "all",
        "how many blocks carry adapters, counted from the last, in place of `layers_to_transform`; all of a model that has no more; at least 1",
    ),
    alignment("learning_rate", "1e-5", "peak learning rate; above 0"),
    alignment(
        "lr_scheduler_type",
        "linear",
        "`linear`, `cosine`, `constant` or `constant_with_warmup`",
    ),
    alignment("warmup_steps", "none", "steps of warm-up; the first one has rate 0"),
    alignment(
        "warmup_ratio",
        "0.1, or 0 for `constant`",
        "warm-up as a share of all steps, rounded up; at least 0, at most 1",
    ),
    alignment(
        "batch_size",
        "4",
        "pairs a micro-batch as TRL counts; with `gradient_accumulation_steps` the pairs of a step; at least 1",
    ),
    alignment("gradient_accumulation_steps", "4", "factor of `batch_size`; at least 1"),
    alignment("num_epochs", "3", "passes over the data; at least 1"),
    alignment("max_steps", "none", "optimizer steps, in place of `num_epochs`; at least 1"),
    alignment(
        "max_epochs",
        "none",
        "with `max_steps`: passes over the data after which the run ends, however many steps are left; at least 1",
    ),
    alignment("weight_decay", "0.01", "decoupled decay, not of biases and norms; at least 0"),
    alignment("adam_beta1", "0.9", "decay of the gradient's mean; at least 0, below 1"),
    alignment("adam_beta2", "0.999", "decay of the gradient's square; at least 0, below 1"),
    alignment("adam_epsilon", "1e-8", "added to the root of the square; above 0"),
    alignment(
        "max_grad_norm",
        "1.0",
        "gradients are scaled down to this norm; at least 0, 0 for never",
    ),
    alignment(
        "shuffle_dataset",
        "true",
        "a new order of the pairs each epoch; `false` keeps the files' order",
    ),
    alignment("seed", "42", "seed of everything random; a whole number"),
    free(alignment("save_steps", "500", "steps between checkpoints; at least 1")),
    free(alignment(
        "save_total_limit",
        "none",
        "checkpoints kept, the best one among them; at least 1",
    )),
    alignment(
        "eval_steps",
        "`save_steps`, with evaluation data",
        "steps between evaluations; at least 1",
    ),
    free(alignment(
        "logging_steps",
        "10",
        "steps between entries of `log_history` in `trainer_state.json`; at least 1",
    )),
    alignment(
        "load_best_model_at_end",
        "false",
        "end with the best evaluated weights, not the last ones",
    ),
    alignment(
        "metric_for_best_model",
        "eval_loss",
        "the metric that says which checkpoint is best; those that compare pairs need pairs",
    ),
    alignment(
        "early_stopping_patience",
        "none",
        "evaluations without improvement before the run ends; at least 1",
    ),
    free(alignment(
        "stop_when",
        "none",
        "guards that end the run, judged on each evaluation, or without evaluation data on the mean of the last 5 steps: a mapping with any of `reward_margin_above`, `accuracy_at_least`, `chosen_reward_below` and `loss_above`",
    )),
    alignment(
        "tokens_per_micro_batch",
        "1024",
        "tokens in memory at once; changes memory and speed, and rounding; at least 1",
    ),
    alignment(
        "gradient_checkpointing",
        "auto",
        "compute activations twice to save memory: `true`, `false` or `auto` (only if memory is short)",
    ),
    training(
        "method",
        "lora",
        "`lora` (a low-rank adapter), `qlora` (the same over weights rounded to 4 bits) or `full` (all weights)",
    ),
    free(training(
        "output_dir",
        "./checkpoints/<model>-finetuned-<time>",
        "the run folder; new or empty",
    )),
    free(training(
        "run_name",
        "the name of the run folder",
        "what the run is called where runs are compared",
    )),
    training("quantization_bits", "4", "for `qlora`: bits a weight; only 4 so far"),
    training(
        "completion_only_loss",
        "by the rows",
        "whether prompts are read and not learned; by default so for rows of `prompt` and `completion`, and not for `messages`, of which `true` learns the last answer alone; texts have no prompt",
    ),
    training(
        "assistant_only_loss",
        "false",
        "learn the assistant's answers of a conversation alone, all of them, with any chat template; rows of plain text are refused",
    ),
    training(
        "max_seq_length",
        "512, or the model's context if that is shorter",
        "tokens of a row; what is longer loses its end; at least 1",
    ),
    training(
        "packing",
        "false",
        "put rows together up to `max_seq_length` tokens and count them as one; each row attends to itself alone, as without",
    ),
    training("lora_r", "16", "rank of the adapters; at least 1"),
    training("lora_alpha", "32", "scale of the adapters, divided by the rank; above 0"),
    training(
        "lora_dropout",
        "0.05",
        "share of an adapter's input that is dropped while training; at least 0, below 1",
    ),
    training("use_rslora", "false", "divide `lora_alpha` by the root of the rank"),
    training(
        "target_modules",
        "all-linear",
        "linears that carry an adapter, by the end of their names, or `all-linear` (all but the head)",
    ),
    training("layers_to_transform", "all", "blocks that carry adapters, from 0"),
    training(
        "num_layers",
        "all",
        "how many blocks carry adapters, counted from the last, in place of `layers_to_transform`; all of a model that has no more; at least 1",
    ),
    training("learning_rate", "3e-4", "peak learning rate; above 0"),
    training(
        "lr_scheduler_type",
        "linear",
        "`linear`, `cosine`, `constant` or `constant_with_warmup`",
    ),
    training(
        "warmup_steps",
        "100, or 0 for `constant`",
        "steps of warm-up; the first one has rate 0",
    ),
    training(
        "warmup_ratio",
        "none",
        "warm-up as a share of all steps, rounded up; at least 0, at most 1",
    ),
    training(
        "batch_size",
        "4",
        "rows a micro-batch as TRL counts; with `gradient_accumulation_steps` the rows of a step; at least 1",
    ),
    training("gradient_accumulation_steps", "4", "factor of `batch_size`; at least 1"),
    training("num_epochs", "3", "passes over the data; at least 1"),
    training("max_steps", "none", "optimizer steps, in place of `num_epochs`; at least 1"),
    training("weight_decay", "0.01", "decoupled decay, not of biases and norms; at least 0"),
    training("adam_beta1", "0.9", "decay of the gradient's mean; at least 0, below 1"),
    training("adam_beta2", "0.999", "decay of the gradient's square; at least 0, below 1"),
    training("adam_epsilon", "1e-8", "added to the root of the square; above 0"),
    training(
        "max_grad_norm",
        "1.0",
        "gradients are scaled down to this norm; at least 0, 0 for never",
    ),
    training(
        "shuffle_dataset",
        "true",
        "a new order of the rows each epoch; `false` keeps the files' order",
    ),
    training("seed", "42", "seed of everything random; a whole number"),
    free(training("save_steps", "500", "steps between checkpoints; at least 1")),
    free(training(
        "save_total_limit",
        "none",
        "checkpoints kept, the best one among them; at least 1",
    )),
    training(
        "eval_steps",
        "`save_steps`, with evaluation data",
        "steps between evaluations; at least 1",
    ),
    free(training(
        "logging_steps",
        "10",
        "steps between entries of `log_history` in `trainer_state.json`; at least 1",
    )),
    training(
        "load_best_model_at_end",
        "false",
        "end with the best evaluated weights, not the last ones",
    ),
    training(
        "metric_for_best_model",
        "eval_loss",
        "the metric that says which checkpoint is best: `eval_loss` or `eval_mean_token_accuracy`",
    ),
    training(
        "early_stopping_patience",
        "none",
        "evaluations without improvement before the run ends; at least 1",
    ),
    training(
        "tokens_per_micro_batch",
        "1024",
        "tokens in memory at once; changes memory and speed, and rounding; at least 1",
    ),
    training(
        "gradient_checkpointing",
        "auto",
        "compute activations twice to save memory: `true`, `false` or `auto` (only if memory is short)",
    ),
    free(key("", "device", "auto", "`auto`, `cpu` or `cuda`")),
    free(key(
        "",
        "threads",
        "all cores",
        "threads of the processor; changes no result; at least 1",
    )),
];

/// The key of that section and name.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// The names in a section.
pub(super) fn names(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(move |key| key.section == section).map(|key| key.name)
}

/// What to write in place of a name that is no key of its section.
///
/// Another tool's name comes first, then the same name in another section, then the nearest name.
pub(super) fn instead(section: &str, name: &str) -> Option<String> {
    if let Some(advice) = super::peers::advice(section, name) {
        return Some(advice);
    }
    let elsewhere = KEYS.iter().find(|key| key.name == name);
    if let Some(key) = elsewhere {
        return Some(format!("it belongs at `{}`", key.path()));
    }
    let sections = if section.is_empty() { &SECTIONS[..] } else { &[] };
    let here = nearest(name, names(section).chain(sections.iter().copied()));
    if let Some(near) = here {
        return Some(format!("the nearest key is `{near}`"));
    }
    let near = nearest(name, KEYS.iter().map(|key| key.name))?;
    let key = KEYS.iter().find(|key| key.name == near)?;
    Some(format!("the nearest key is `{}`", key.path()))
}

/// The word with the fewest edits, if it is near enough to be meant.
pub(super) fn nearest(
    name: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let (edits, near) = known.map(|known| (distance(name, known), known)).min()?;
    (edits <= name.len() / 3).then_some(near)
}

/// Edits between two words: insertions, deletions, substitutions and swaps of neighbours.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for (index, row) in rows.iter_mut().enumerate() {
        row[0] = index;
    }
    rows[0] = (0..=right.len()).collect();
    for i in 1..=left.len() {
        for j in 1..=right.len() {
            let differs = usize::from(left[i - 1] != right[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            let is_swap =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if is_swap {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        for (left, right, edits) in [
            ("beta", "beta", 0),
            ("bata", "beta", 1),
            ("btea", "beta", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }

    #[test]
    fn a_wrong_name_leads_to_the_right_one() {
        let cases = [
            ("alignment", "learning_rat", Some("the nearest key is `learning_rate`")),
            ("model", "beta", Some("it belongs at `alignment.beta`")),
            ("", "beta", Some("it belongs at `alignment.beta`")),
            ("", "modle", Some("the nearest key is `model`")),
            ("", "sedd", Some("the nearest key is `alignment.seed`")),
            (
                "alignment",
                "lr",
                Some("`lr` is Hugging Face's name; here it is `alignment.learning_rate`"),
            ),
            ("alignment", "colour_of_the_sky", None),
        ];
        for (section, name, wanted) in cases {
            assert_eq!(instead(section, name).as_deref(), wanted, "{section}.{name}");
        }
    }

    #[test]
    fn no_key_is_listed_twice() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[index + 1..].iter().all(|other| other.path() != key.path()));
        }
    }
}
