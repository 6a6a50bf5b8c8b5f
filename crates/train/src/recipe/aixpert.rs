//! AIXpert's `config.yaml`: many models, Original-DPO, and Factual-DPO at many margins.
//!
//! Each run becomes a recipe. What the file leaves to AIXpert's programs is written out here:
//! a cosine schedule without weight decay, prompts of at most half the length, rows cut on the
//! left, text that goes through no template, every row kept, pairs turned so that the factual side
//! is the chosen one, weights in 4 bits, and `beta` 0.1.

use super::{
    dialect::{self, File, Keys, Names},
    problem::{Note, Place, Problem, What},
    tree::{Entry, Node, Value},
};

/// A run of the file: its recipe, still to be checked.
pub(super) struct Draft {
    /// The last part of its folder.
    pub(super) name: String,
    /// Its keys, by section.
    pub(super) entries: Keys,
    /// What its reader should tell.
    pub(super) notes: Vec<Note>,
}

const ORIGINAL: &str = "original_dpo";

/// The block of Factual-DPO under its older and its newer name.
const FACTUAL: [&str; 2] = ["modified_dpo", "factual_dpo"];

/// Keys of `paths`, and what they are in a recipe.
const PATHS: Names = &[
    ("train", "dataset.path"),
    ("train_file", "dataset.path"),
    ("eval", "dataset.eval_path"),
    ("eval_file", "dataset.eval_path"),
    ("output_root", OUTPUT_ROOT),
];

const OUTPUT_ROOT: &str = "alignment.output_dir";

/// Keys of `hyperparams`, and what they are in a recipe.
const HYPERPARAMS: Names = &[
    ("max_seq_length", MAX_LENGTH),
    ("load_in_4bit", "model.load_in_4bit"),
    ("lora_r", "alignment.lora_r"),
    ("lora_alpha", "alignment.lora_alpha"),
    ("lora_dropout", "alignment.lora_dropout"),
    ("batch_size", "alignment.batch_size"),
    ("per_device_train_batch_size", "alignment.batch_size"),
    ("grad_accumulation", "alignment.gradient_accumulation_steps"),
    ("gradient_accumulation_steps", "alignment.gradient_accumulation_steps"),
    ("num_epochs", "alignment.num_epochs"),
    ("num_train_epochs", "alignment.num_epochs"),
    ("learning_rate", "alignment.learning_rate"),
    ("warmup_ratio", "alignment.warmup_ratio"),
    ("beta", "alignment.beta"),
    ("save_steps", "alignment.save_steps"),
    ("logging_steps", "alignment.logging_steps"),
    ("seed", "alignment.seed"),
];

const MAX_LENGTH: &str = "dataset.max_length";

/// A key that says how evaluation is cut, which changes no number here.
const EVAL_BATCH: &str = "per_device_eval_batch_size";

/// What holds where the file is silent.
const USUAL: Names = &[
    (MAX_LENGTH, "2048"),
    ("model.load_in_4bit", "true"),
    ("alignment.beta", "0.1"),
    ("alignment.lora_r", "32"),
    ("alignment.lora_alpha", "64"),
    ("dataset.truncation_side", "left"),
    ("dataset.chat_template", "never"),
    ("dataset.on_duplicate", "keep"),
    ("dataset.on_contradiction", "keep"),
    ("alignment.lr_scheduler_type", "cosine"),
    ("alignment.weight_decay", "0"),
];

/// Whether a file is AIXpert's.
pub(super) fn is_here(entries: &[Entry]) -> bool {
    let is_block = |key: &str| key == ORIGINAL || FACTUAL.contains(&key) || key == "models";
    entries.iter().any(|entry| is_block(&entry.key))
}

/// The runs of the file, one model after the other.
pub(super) fn drafts(root: &[Entry], problems: &mut Vec<Problem>) -> Vec<Draft> {
    let mut file = File::new(problems);
    let known: Vec<&str> =
        ["models", ORIGINAL, "device", "threads"].into_iter().chain(FACTUAL).collect();
    file.refuse_unknown(root, "", &known);
    let models = file.models(root);
    if let [first, second] = FACTUAL.map(|name| root.iter().find(|entry| entry.key == name))
        && let (Some(_), Some(entry)) = (first, second)
    {
        let (first, second) = (format!("`{}`", FACTUAL[0]), format!("`{}`", FACTUAL[1]));
        let hint = "they are two names of the same block; keep one".into();
        file.report(&entry.place, What::Conflict { first, second, hint });
    }
    let mut blocks = Vec::new();
    for entry in root.iter().filter(|entry| entry.key == ORIGINAL || FACTUAL.contains(&&*entry.key))
    {
        blocks.extend(file.block(entry));
    }
    if blocks.is_empty() && file.problems.is_empty() {
        let key = ORIGINAL.into();
        let example = "original_dpo: {paths: {train: pairs.jsonl, output_root: ./models}}";
        file.report(&Place::File, What::Missing { key, example });
    }
    // Original-DPO first, whatever the order of the file.
    blocks.sort_by_key(|block| !block.deltas.is_empty());
    let beside: Keys = root
        .iter()
        .filter(|entry| ["device", "threads"].contains(&&*entry.key))
        .map(|entry| (entry.key.clone(), entry.node.clone()))
        .collect();
    models
        .iter()
        .flat_map(|model| blocks.iter().flat_map(move |block| block.drafts(model)))
        .map(|mut draft| {
            draft.entries.extend(beside.iter().cloned());
            draft
        })
        .collect()
}

/// A model of the list.
struct Model {
    id: Node,
    short: String,
}

/// Original-DPO, which has no margins, or Factual-DPO.
struct Block {
    place: Place,
    keys: Keys,
    output_root: String,
    deltas: Vec<(Node, f64)>,
    run_prefix: Option<String>,
    notes: Vec<Note>,
}

impl Block {
    fn drafts(&self, model: &Model) -> Vec<Draft> {
        if self.deltas.is_empty() {
            return vec![self.draft(model, format!("{}_OriginalDPO", model.short), &[])];
        }
        let of_margin = |(node, delta): &(Node, f64)| {
            // `{}` writes whole numbers without a point.
            let name = format!("{}_delta{delta}", model.short);
            let flip = Node::scalar("true".into(), &node.place);
            let keys =
                [("alignment.delta".to_owned(), node.clone()), ("alignment.flip".to_owned(), flip)];
            self.draft(model, name, &keys)
        };
        self.deltas.iter().map(of_margin).collect()
    }

    fn draft(&self, model: &Model, name: String, own: &[(String, Node)]) -> Draft {
        let scalar = |text: String| Node::scalar(text, &self.place);
        let mut entries = vec![("model.path".to_owned(), model.id.clone())];
        entries.extend(self.keys.iter().cloned());
        entries.extend(own.iter().cloned());
        let folder = format!("{}/{name}", self.output_root.trim_end_matches('/'));
        entries.push((OUTPUT_ROOT.to_owned(), scalar(folder)));
        if let Some(prefix) = &self.run_prefix {
            entries.push(("alignment.run_name".to_owned(), scalar(format!("{prefix}_{name}"))));
        }
        Draft { name, entries, notes: self.notes.clone() }
    }
}

impl File<'_> {
    /// The keys of a mapping; none of what is not there.
    fn map<'b>(&mut self, entries: &'b [Entry], name: &str) -> &'b [Entry] {
        let Some(entry) = entries.iter().find(|entry| entry.key == name) else { return &[] };
        match &entry.node.value {
            Value::Map(inside) => inside,
            Value::Null => &[],
            other => {
                let what = What::NotASection { section: name.into(), got: other.describe() };
                self.report(&entry.node.place, what);
                &[]
            }
        }
    }

    fn models(&mut self, root: &[Entry]) -> Vec<Model> {
        let example = "models: [{id: HuggingFaceTB/SmolLM2-135M-Instruct, short: smollm2}]";
        let missing = || What::Missing { key: "models".into(), example };
        let Some(entry) = root.iter().find(|entry| entry.key == "models") else {
            self.report(&Place::File, missing());
            return Vec::new();
        };
        let Value::List(items) = &entry.node.value else {
            self.report(&entry.place, missing());
            return Vec::new();
        };
        if items.is_empty() {
            self.report(&entry.place, missing());
        }
        items.iter().filter_map(|item| self.model(item)).collect()
    }

    fn model(&mut self, item: &Node) -> Option<Model> {
        let (key, wanted) = ("models", "a list of `{id, short}`");
        let Value::Map(keys) = &item.value else {
            self.report(&item.place, What::WrongKind { key, wanted, got: item.value.describe() });
            return None;
        };
        self.refuse_unknown(keys, "models.", &["id", "short"]);
        let text = |name: &str| {
            let entry = keys.iter().find(|entry| entry.key == name)?;
            match &entry.node.value {
                Value::Scalar(text) if !text.trim().is_empty() => Some((&entry.node, text)),
                _ => None,
            }
        };
        let Some((id, path)) = text("id") else {
            let example = "id: HuggingFaceTB/SmolLM2-135M-Instruct";
            self.report(&item.place, What::Missing { key: "models.id".into(), example });
            return None;
        };
        let last = || path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned();
        let short = text("short").map_or_else(last, |(_, short)| short.clone());
        Some(Model { id: id.clone(), short })
    }

    fn block(&mut self, entry: &Entry) -> Option<Block> {
        let is_factual = entry.key != ORIGINAL;
        let Value::Map(inside) = &entry.node.value else {
            let (section, got) = (entry.key.clone(), entry.node.value.describe());
            self.report(&entry.node.place, What::NotASection { section, got });
            return None;
        };
        let known: &[&str] = if is_factual {
            &["deltas", "paths", "hyperparams", "wandb"]
        } else {
            &["paths", "hyperparams", "wandb"]
        };
        self.refuse_unknown(inside, &format!("{}.", entry.key), known);
        let mut notes = Vec::new();
        let mut keys = Vec::new();
        let paths = self.map(inside, "paths");
        self.translate(paths, &format!("{}.paths.", entry.key), PATHS, &mut keys);
        let hyperparams = self.map(inside, "hyperparams");
        let (eval_batch, hyperparams): (Vec<Entry>, Vec<Entry>) =
            hyperparams.iter().cloned().partition(|entry| entry.key == EVAL_BATCH);
        notes.extend(eval_batch.first().map(|_| Note::EvalBatchSize));
        let path = format!("{}.hyperparams.", entry.key);
        self.translate(&hyperparams, &path, HYPERPARAMS, &mut keys);
        let run_prefix = self.run_prefix(inside, &entry.key, &mut notes);
        let output_root = self.output_root(&mut keys, entry);
        let deltas = if is_factual { self.deltas(inside, entry) } else { Some(Vec::new()) };
        add_usual(&mut keys, &entry.place);
        let (place, output_root, deltas) = (entry.place.clone(), output_root?, deltas?);
        Some(Block { place, keys, output_root, deltas, run_prefix, notes })
    }

    /// The name before those of the runs; nothing is sent anywhere.
    fn run_prefix(
        &mut self,
        inside: &[Entry],
        block: &str,
        notes: &mut Vec<Note>,
    ) -> Option<String> {
        let wandb = self.map(inside, "wandb");
        self.refuse_unknown(
            wandb,
            &format!("{block}.wandb."),
            &["project", "entity", "run_prefix"],
        );
        notes.extend((!wandb.is_empty()).then_some(Note::Wandb));
        let entry = wandb.iter().find(|entry| entry.key == "run_prefix")?;
        match &entry.node.value {
            Value::Scalar(prefix) => Some(prefix.clone()),
            Value::Null => None,
            other => {
                let (key, wanted) = ("run_prefix", "a text");
                self.report(&entry.place, What::WrongKind { key, wanted, got: other.describe() });
                None
            }
        }
    }

    fn output_root(&mut self, keys: &mut Keys, block: &Entry) -> Option<String> {
        let at = keys.iter().position(|(key, _)| key == OUTPUT_ROOT);
        match at.map(|at| keys.remove(at).1.value) {
            Some(Value::Scalar(root)) if !root.trim().is_empty() => Some(root),
            _ => {
                let key = format!("{}.paths.output_root", block.key);
                let example = "output_root: ./models";
                self.report(&block.place, What::Missing { key, example });
                None
            }
        }
    }

    fn deltas(&mut self, inside: &[Entry], block: &Entry) -> Option<Vec<(Node, f64)>> {
        let entry = inside.iter().find(|entry| entry.key == "deltas");
        let numbers = entry.and_then(|entry| match &entry.node.value {
            Value::List(items) if !items.is_empty() => {
                items.iter().map(|item| Some((item.clone(), item.as_number()?))).collect()
            }
            _ => None,
        });
        if numbers.is_none() {
            let place = entry.map_or(&block.place, |entry| &entry.place);
            let got = entry.map_or_else(|| "nothing".into(), |entry| entry.node.value.describe());
            let (key, wanted) = ("deltas", "a list of numbers");
            self.report(place, What::WrongKind { key, wanted, got });
        }
        numbers
    }
}

/// Adds what the file does not say.
fn add_usual(keys: &mut Keys, place: &Place) {
    dialect::add_usual(keys, USUAL, place);
    let length =
        keys.iter().find(|(key, _)| key == MAX_LENGTH).and_then(|(_, node)| node.as_number());
    // A length that is no number has its own problem.
    if let Some(length) = length.filter(|length| 2.0 <= *length) {
        let half = (length / 2.0).floor().to_string();
        keys.push(("dataset.max_prompt_length".to_owned(), Node::scalar(half, place)));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use snapbox::{assert_data_eq, str};

    use super::super::{Note, Problems, SweepRun, check_sweep};

    /// The blocks of AIXpert's README, one after the other.
    const README: &str = r#"
models:
  - id: "google/gemma-2-9b-it"
    short: "gemma2-9b"
  - id: "meta-llama/Llama-3.2-1B-Instruct"
    short: "llama3.2-1b"

original_dpo:
  paths:
    train: "src/aixpert/training/data/original/train_finallast.jsonl"
    eval:  "src/aixpert/training/data/original/eval_final.jsonl"
    output_root: "src/aixpert/training/data/original/Models"
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
  deltas: [0, 2.5, 100]
  paths:
    train_file: "src/aixpert/training/data/modified/train_final_flipped.jsonl"
    eval_file:  "src/aixpert/training/data/modified/eval_final_flipped.jsonl"
    output_root: "src/aixpert/training/data/modified/Models"
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
"#;

    fn runs(text: &str) -> Vec<SweepRun> {
        check_sweep(text, &[]).unwrap()
    }

    #[test]
    fn the_readmes_blocks_are_a_sweep_one_model_after_the_other() {
        let names: Vec<String> = runs(README).into_iter().map(|run| run.name).collect();
        assert_eq!(
            names,
            [
                "gemma2-9b_OriginalDPO",
                "gemma2-9b_delta0",
                "gemma2-9b_delta2.5",
                "gemma2-9b_delta100",
                "llama3.2-1b_OriginalDPO",
                "llama3.2-1b_delta0",
                "llama3.2-1b_delta2.5",
                "llama3.2-1b_delta100",
            ]
        );
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a recipe, whole")]
    fn a_run_is_a_recipe_of_ours() {
        let runs = runs(README);
        let original = &runs[0].checked;
        assert_eq!(
            original.recipe.alignment.output_dir,
            Path::new("src/aixpert/training/data/original/Models/gemma2-9b_OriginalDPO")
        );
        assert_eq!(original.recipe.alignment.objective.modifiers.delta, None);
        assert_eq!(original.recipe.alignment.seed, 3407);
        assert_eq!(original.notes, [Note::LoraDropout]);
        assert_data_eq!(
            runs[3].checked.recipe.render(),
            str![[r#"
model:
  path: "google/gemma-2-9b-it"
  base_model: null
  adapter: null
  reference: base
  precision: auto
  load_in_4bit: true
  dequantize: auto
dataset:
  path: "src/aixpert/training/data/modified/train_final_flipped.jsonl"
  format: auto
  layout: null
  prompt_field: "prompt"
  chosen_field: "chosen"
  rejected_field: "rejected"
  train_split: "train"
  eval_path: "src/aixpert/training/data/modified/eval_final_flipped.jsonl"
  eval_split: null
  eval_fraction: null
  on_invalid: drop
  on_duplicate: keep
  on_contradiction: keep
  max_length: 2048
  max_prompt_length: 1024
  truncation_side: left
  chat_template: never
  template_date: null
alignment:
  method: dpo
  output_dir: "src/aixpert/training/data/modified/Models/gemma2-9b_delta100"
  run_name: "FactualDPO_gemma2-9b_delta100"
  beta: 0.1
  loss_type: sigmoid
  label_smoothing: 0.0
  delta: 100.0
  flip: true
  sync_ref_model: false
  use_lora: true
  lora_r: 32
  lora_alpha: 64.0
  use_rslora: false
  target_modules: all-linear
  layers_to_transform: null
  learning_rate: 1.8e-6
  lr_scheduler_type: cosine
  warmup_ratio: 0.25
  batch_size: 2
  gradient_accumulation_steps: 16
  num_epochs: 3
  max_steps: null
  weight_decay: 0.0
  adam_beta1: 0.9
  adam_beta2: 0.999
  adam_epsilon: 1.0e-8
  max_grad_norm: 1.0
  shuffle_dataset: true
  seed: 42
  save_steps: 100
  save_total_limit: null
  eval_steps: 100
  logging_steps: 20
  load_best_model_at_end: false
  metric_for_best_model: eval_loss
  early_stopping_patience: null
  stop_when: null
  tokens_per_micro_batch: 1024
  gradient_checkpointing: auto
device: auto
threads: null

"#]]
        );
        assert_eq!(runs[3].checked.notes, [Note::Wandb, Note::LoraDropout]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &str| {
            let list = check_sweep(text, &[]).unwrap_err();
            let problems = Problems { file: "config.yaml".into(), list };
            let lines = problems.list.iter().map(|problem| {
                let hint = problem.hint().map(|hint| format!("  -> {hint}\n")).unwrap_or_default();
                format!("{}\n{hint}", problems.render(problem))
            });
            lines.collect::<String>()
        };
        assert_data_eq!(
            told(
                "models:\n- {id: a/b, shirt: c}\n- {short: d}\n- 3\n\
                 original_dpo: {paths: {train: t, test: u}, deltas: [1]}\n\
                 modified_dpo:\n  paths: {train_file: t, train: u, output_root: m}\n  \
                 hyperparams: {beta: 0, epochs: 3}\n  deltas: [a]\n  wandb: {run_prefix: [p]}\n\
                 factual_dpo: 4\nsweep: {}\n"
            ),
            str![[r#"
config.yaml:2: unknown key `models.shirt`
  -> known here: id, short
config.yaml:3: `models.id` is missing
  -> for example `id: HuggingFaceTB/SmolLM2-135M-Instruct`
config.yaml:4: models must be a list of `{id, short}` (got: 3)
config.yaml:5: unknown key `original_dpo.deltas`
  -> known here: paths, hyperparams, wandb
config.yaml:5: unknown key `original_dpo.paths.test`
  -> known here: train, train_file, eval, eval_file, output_root
config.yaml:5: `original_dpo.paths.output_root` is missing
  -> for example `output_root: ./models`
config.yaml:7: `train` is given twice
  -> remove one of the two
config.yaml:8: unknown key `modified_dpo.hyperparams.epochs`
  -> known here: max_seq_length, load_in_4bit, lora_r, lora_alpha, lora_dropout, batch_size, per_device_train_batch_size, grad_accumulation, gradient_accumulation_steps, num_epochs, num_train_epochs, learning_rate, warmup_ratio, beta, save_steps, logging_steps, seed
config.yaml:9: deltas must be a list of numbers (got: a list)
config.yaml:10: run_prefix must be a text (got: a list)
config.yaml:11: `modified_dpo` and `factual_dpo` contradict each other
  -> they are two names of the same block; keep one
config.yaml:11: `factual_dpo` must be a mapping of keys to values (got: 4)
  -> write its keys below `factual_dpo:`, each indented by two blanks
config.yaml:12: unknown key `sweep`
  -> known here: models, original_dpo, device, threads, modified_dpo, factual_dpo

"#]]
        );
        assert_data_eq!(
            told("models: [{id: a/b}]"),
            str![[r#"
config.yaml: `original_dpo` is missing
  -> for example `original_dpo: {paths: {train: pairs.jsonl, output_root: ./models}}`

"#]]
        );
        assert_data_eq!(
            told(
                "models: [{id: a/b}]\nmodified_dpo: {deltas: [1, -1, 1.0], \
                 paths: {train_file: t, output_root: m}, hyperparams: {max_seq_length: 1}}"
            ),
            str![[r#"
config.yaml:2: max_length must be >= 2 (got: 1)

"#]]
        );
    }
}
