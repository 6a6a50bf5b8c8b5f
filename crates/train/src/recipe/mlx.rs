//! The flat configuration file of DPO with MLX: `model` is a text, and all keys stand beside it.
//!
//! It becomes a recipe. What the file leaves to its program is written out here: the values below,
//! a constant rate, rows in the order of the file, and repeated rows kept. MLX multiplies an
//! adapter's product by `lora_scale` itself, where PEFT multiplies by `lora_alpha / lora_r`.

use super::{
    dialect::{self, File, Keys, Names},
    overrides,
    problem::{Note, Place, Problem, What},
    tree::{Entry, Node, Value},
};

/// Keys of the file, and what they are in a recipe.
const NAMES: Names = &[
    ("model", "model.path"),
    ("data", "dataset.path"),
    ("output_dir", "alignment.output_dir"),
    ("beta", "alignment.beta"),
    ("num_layers", NUM_LAYERS),
    ("lora_rank", RANK),
    ("lora_dropout", "alignment.lora_dropout"),
    ("learning_rate", "alignment.learning_rate"),
    ("steps", "alignment.max_steps"),
    ("epochs", "alignment.max_epochs"),
    ("batch_size", "alignment.batch_size"),
    ("grad_accumulation_steps", "alignment.gradient_accumulation_steps"),
    ("max_seq_length", "dataset.max_length"),
    ("steps_per_report", "alignment.logging_steps"),
    ("save_every", "alignment.save_steps"),
    ("seed", "alignment.seed"),
    ("device", "device"),
    ("threads", "threads"),
];

const NUM_LAYERS: &str = "alignment.num_layers";
const RANK: &str = "alignment.lora_r";

/// Keys that are more than another name.
const OWN: [&str; 5] = ["normalize_by_length", "lora_alpha", "lora_scale", "scale", "optimizer"];

/// What holds where the file is silent.
const USUAL: Names = &[
    ("alignment.beta", "0.1"),
    (NUM_LAYERS, "16"),
    (RANK, "8"),
    ("alignment.learning_rate", "1e-6"),
    ("alignment.max_steps", "100"),
    ("alignment.max_epochs", "1"),
    ("alignment.batch_size", "1"),
    ("alignment.gradient_accumulation_steps", "8"),
    ("dataset.max_length", "1024"),
    ("alignment.save_steps", "50"),
    ("alignment.lr_scheduler_type", "constant"),
    ("alignment.shuffle_dataset", "false"),
    ("dataset.on_duplicate", "keep"),
];

/// The usual `lora_scale`.
const SCALE: f64 = 10.0;

/// Whether a file is of this shape.
pub(super) fn is_here(entries: &[Entry]) -> bool {
    let is_flat =
        |entry: &Entry| entry.key == "model" && matches!(entry.node.value, Value::Scalar(_));
    let has_sections =
        entries.iter().any(|it| ["dataset", "alignment", "training"].contains(&&*it.key));
    !has_sections && entries.iter().any(is_flat)
}

/// The file as a recipe; nothing of it if there are problems.
pub(super) fn recipe(
    root: &[Entry],
    problems: &mut Vec<Problem>,
    notes: &mut Vec<Note>,
) -> Option<Vec<Entry>> {
    let before = problems.len();
    let mut file = File::new(problems);
    let is_set = |entry: &&Entry| !matches!(entry.node.value, Value::Null);
    let set: Vec<Entry> = root.iter().filter(is_set).cloned().collect();
    let place = &root.first()?.place;
    let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).chain(OWN).collect();
    file.refuse_unknown(&set, "", &known);
    let (own, named): (Vec<Entry>, Vec<Entry>) = set
        .into_iter()
        .filter(|entry| known.contains(&&*entry.key))
        .partition(|entry| OWN.contains(&&*entry.key));
    let mut keys = Keys::new();
    file.translate(&named, "", NAMES, &mut keys);
    file.require_data(&named);
    file.refuse_no_checkpoints(&named);
    file.refuse_other_optimizers(&own);
    dialect::add_usual(&mut keys, USUAL, place);
    // MLX's word for every block.
    keys.retain(|(key, node)| key != NUM_LAYERS || node.as_number() != Some(-1.0));
    keys.push(file.objective(&own));
    keys.extend(file.alpha(&own, &keys, notes));
    if before < problems.len() {
        return None;
    }
    let mut entries = Vec::new();
    for (key, node) in keys {
        let place = node.place.clone();
        overrides::put(&mut entries, &key, node, &place);
    }
    Some(entries)
}

fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.key == key)
}

impl File<'_> {
    fn require_data(&mut self, named: &[Entry]) {
        if find(named, "data").is_none() {
            let example = "data: ./data/preferences.jsonl";
            self.report(&Place::File, What::Missing { key: "data".into(), example });
        }
    }

    /// There `save_every: 0` keeps nothing until the end.
    fn refuse_no_checkpoints(&mut self, named: &[Entry]) {
        if let Some(entry) = find(named, "save_every")
            && entry.node.as_number() == Some(0.0)
        {
            let hint = Some("a run can always be resumed; write how many steps may be lost");
            let (key, range, got) = ("save_every", ">= 1", "0".into());
            self.report(&entry.place, What::OutOfRange { key, range, got, hint });
        }
    }

    fn refuse_other_optimizers(&mut self, own: &[Entry]) {
        let Some(entry) = find(own, "optimizer") else { return };
        let got = entry.node.value.describe();
        if got != "adamw" {
            let (noun, supported) = ("optimizer", vec!["adamw"]);
            self.report(&entry.place, What::Unsupported { noun, got, supported, hint: None });
        }
    }

    /// The loss per token, or per completion.
    fn objective(&mut self, own: &[Entry]) -> (String, Node) {
        let entry = find(own, "normalize_by_length");
        let place = entry.map_or(Place::File, |entry| entry.place.clone());
        let got = entry.map_or_else(|| "true".into(), |entry| entry.node.value.describe());
        let loss = match &*got {
            "false" | "False" | "FALSE" => "sigmoid",
            "true" | "True" | "TRUE" => "sigmoid_norm",
            _ => {
                let (key, wanted) = ("normalize_by_length", "`true` or `false`");
                self.report(&place, What::WrongKind { key, wanted, got });
                "sigmoid_norm"
            }
        };
        ("alignment.loss_type".into(), Node::scalar(loss.into(), &place))
    }

    /// The `lora_alpha` with which PEFT's scale is MLX's; nothing if a number has a problem.
    fn alpha(
        &mut self,
        own: &[Entry],
        keys: &Keys,
        notes: &mut Vec<Note>,
    ) -> Option<(String, Node)> {
        let (long, short) = (find(own, "lora_scale"), find(own, "scale"));
        if let (Some(_), Some(entry)) = (long, short) {
            let (first, second) = ("`lora_scale`".into(), "`scale`".into());
            let hint = "they are two names of the same number; keep one".into();
            self.report(&entry.place, What::Conflict { first, second, hint });
        }
        let given = long.or(short);
        let scale = match given {
            None => SCALE,
            Some(entry) => self.positive("lora_scale", entry)?,
        };
        let (_, rank) = keys.iter().find(|(key, _)| key == RANK)?;
        // A rank that is no number has its own problem.
        let alpha = scale * rank.as_number()?;
        if let Some(entry) = find(own, "lora_alpha") {
            let theirs = self.positive("lora_alpha", entry)?;
            notes.extend((theirs.to_bits() != alpha.to_bits()).then_some(Note::LoraAlpha));
        }
        let place = given.map_or(&rank.place, |entry| &entry.place);
        Some(("alignment.lora_alpha".into(), Node::scalar(alpha.to_string(), place)))
    }

    fn positive(&mut self, key: &'static str, entry: &Entry) -> Option<f64> {
        let got = entry.node.value.describe();
        match entry.node.as_number() {
            Some(number) if 0.0 < number => return Some(number),
            Some(_) => {
                let range = "> 0";
                self.report(&entry.place, What::OutOfRange { key, range, got, hint: None });
            }
            None => {
                self.report(&entry.place, What::WrongKind { key, wanted: "a number", got });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::super::{Checked, Override, Problems, Purpose, check, check_for, check_sweep};

    /// The file that was published with Granite 4.0 H Micro, without its comments.
    const PUBLISHED: &str = "\
model: ibm-granite/granite-4.0-h-micro
data: data/mlx_training_data/dpo_train_gemini.jsonl
output_dir: models/granite-4.0-h-micro-dpo
beta: 0.5
normalize_by_length: true
num_layers: 16
lora_rank: 8
lora_alpha: 16
lora_dropout: 0.2
lora_scale: 10.0
learning_rate: 1e-6
steps: 50
epochs: 2
batch_size: 1
grad_accumulation_steps: 4
max_seq_length: 1024
optimizer: adamw
steps_per_report: 1
save_every: 10
seed: 42
";

    fn told(text: &str) -> String {
        let list = match check(text, &[], "now") {
            Ok(checked) => {
                let lines = checked.notes.iter().map(ToString::to_string);
                return lines.collect::<Vec<_>>().join("\n");
            }
            Err(list) => list,
        };
        let problems = Problems { file: "dpo.yaml".into(), list };
        let lines = problems.list.iter().map(|problem| {
            let hint = problem.hint().map(|hint| format!("\n  -> {hint}")).unwrap_or_default();
            format!("{}{hint}", problems.render(problem))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn good(text: &str) -> Checked {
        check(text, &[], "now").unwrap()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a recipe, whole")]
    fn the_published_file_is_a_recipe_of_ours() {
        let checked = good(PUBLISHED);
        assert_data_eq!(
            checked.recipe.render(),
            str![[r#"
model:
  path: "ibm-granite/granite-4.0-h-micro"
  base_model: null
  adapter: null
  reference: base
  precision: auto
  load_in_4bit: false
  dequantize: auto
dataset:
  path: "data/mlx_training_data/dpo_train_gemini.jsonl"
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
  on_duplicate: keep
  on_contradiction: keep
  max_length: 1024
  max_prompt_length: null
  truncation_side: right
  chat_template: auto
  template_date: null
alignment:
  method: dpo
  output_dir: "models/granite-4.0-h-micro-dpo"
  run_name: null
  beta: 0.5
  loss_type: sigmoid_norm
  sync_ref_model: false
  use_lora: true
  lora_r: 8
  lora_alpha: 80.0
  use_rslora: false
  target_modules: all-linear
  num_layers: 16
  learning_rate: 1.0e-6
  lr_scheduler_type: constant
  warmup_steps: 0
  batch_size: 1
  gradient_accumulation_steps: 4
  num_epochs: 3
  max_steps: 50
  max_epochs: 2
  weight_decay: 0.01
  adam_beta1: 0.9
  adam_beta2: 0.999
  adam_epsilon: 1.0e-8
  max_grad_norm: 1.0
  shuffle_dataset: false
  seed: 42
  save_steps: 10
  save_total_limit: null
  logging_steps: 1
  stop_when: null
  tokens_per_micro_batch: 1024
  gradient_checkpointing: auto
device: auto
threads: null

"#]]
        );
        assert_data_eq!(
            told(PUBLISHED),
            str![[r#"
`lora_alpha` is not used: MLX multiplies by `lora_scale` (10 if it is not there) and divides by no rank
`alignment.lora_dropout` is not used: alignment runs without dropout, as in TRL
"#]]
        );
        // The recipe that is written is the same recipe.
        assert_eq!(good(&checked.recipe.render()).recipe, checked.recipe);
    }

    #[test]
    fn what_the_file_leaves_out_is_what_its_program_does() {
        let shortest = good("model: m\ndata: d\n");
        let text = shortest.recipe.render();
        let published = good(PUBLISHED).recipe.render();
        let differs = |line: &&str| !published.lines().any(|other| other == *line);
        let differing: Vec<&str> = text.lines().filter(differs).map(str::trim).collect();
        let wanted = [
            "path: \"m\"",
            "path: \"d\"",
            "output_dir: \"./checkpoints/m-aligned-now\"",
            "beta: 0.1",
            "gradient_accumulation_steps: 8",
            "max_steps: 100",
            "max_epochs: 1",
            "save_steps: 50",
            "logging_steps: 10",
        ];
        assert_eq!(differing, wanted);
        assert!(shortest.notes.is_empty());
        // An unset key counts as none.
        let unset = "model: m\ndata: d\nlora_rank: null\nlora_scale: ~\nnum_layers:\n";
        assert_eq!(good(unset).recipe, shortest.recipe);
    }

    #[test]
    fn the_scale_is_not_divided_by_the_rank() {
        let alpha = |more: &str| {
            let text = good(&format!("model: m\ndata: d\n{more}")).recipe.render();
            text.lines().find(|line| line.contains("lora_alpha")).unwrap().trim().to_owned()
        };
        assert_eq!(alpha(""), "lora_alpha: 80.0");
        assert_eq!(alpha("lora_rank: 4"), "lora_alpha: 40.0");
        assert_eq!(alpha("lora_rank: 4\nlora_scale: 2.5"), "lora_alpha: 10.0");
        assert_eq!(alpha("scale: 20"), "lora_alpha: 160.0");
        // As MLX does: its own scale holds, whatever alpha says.
        assert_eq!(alpha("lora_alpha: 16"), "lora_alpha: 80.0");
        assert!(told("model: m\ndata: d\nlora_alpha: 16").starts_with("`lora_alpha` is not used"));
        assert_eq!(told("model: m\ndata: d\nlora_alpha: 80"), "");
    }

    #[test]
    fn every_block_is_minus_one() {
        let text = good("model: m\ndata: d\nnum_layers: -1").recipe.render();
        assert!(text.contains("layers_to_transform: null") && !text.contains("num_layers"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let wrong = "model: m\nnormalize_by_length: 3\nlora_scale: 0\nscale: 1\nlora_alpha: a\n\
                     optimizer: sgd\nsave_every: 0\nlearning_rat: 1\nalpha: 2\n";
        assert_data_eq!(
            told(wrong),
            str![[r#"
dpo.yaml:2: normalize_by_length must be `true` or `false` (got: 3)
dpo.yaml:3: lora_scale must be > 0 (got: 0)
dpo.yaml:4: `lora_scale` and `scale` contradict each other
  -> they are two names of the same number; keep one
dpo.yaml:6: unsupported optimizer "sgd"
supported optimizers: adamw
dpo.yaml:7: save_every must be >= 1 (got: 0)
  -> a run can always be resumed; write how many steps may be lost
dpo.yaml:8: unknown key `learning_rat`
  -> known here: model, data, output_dir, beta, num_layers, lora_rank, lora_dropout, learning_rate, steps, epochs, batch_size, grad_accumulation_steps, max_seq_length, steps_per_report, save_every, seed, device, threads, normalize_by_length, lora_alpha, lora_scale, scale, optimizer
dpo.yaml:9: unknown key `alpha`
  -> known here: model, data, output_dir, beta, num_layers, lora_rank, lora_dropout, learning_rate, steps, epochs, batch_size, grad_accumulation_steps, max_seq_length, steps_per_report, save_every, seed, device, threads, normalize_by_length, lora_alpha, lora_scale, scale, optimizer
dpo.yaml: `data` is missing
  -> for example `data: ./data/preferences.jsonl`
"#]]
        );
        let numbers = "model: m\ndata: d\nsteps: 0\nlora_rank: x\nbeta: 0\nnum_layers: 0\n";
        assert_data_eq!(
            told(numbers),
            str![[r#"
dpo.yaml:3: max_steps must be >= 1 (got: 0)
  -> leave it out for whole epochs
dpo.yaml:4: lora_r must be a whole number (got: x)
dpo.yaml:5: beta must be > 0 (got: 0)
dpo.yaml:6: num_layers must be >= 1 (got: 0)
"#]]
        );
        // Half of each shape is neither.
        assert_data_eq!(
            told("model: m\ndataset: {path: d}\n"),
            str![[r#"
dpo.yaml:1: `model` must be a mapping of keys to values (got: m)
  -> write its keys below `model:`, each indented by two blanks
"#]]
        );
        let list = check_for(Some(Purpose::Finetune), PUBLISHED, &[], "now").unwrap_err();
        assert_eq!(list[0].what.to_string(), "`data:` belongs to `trueup align`");
    }

    #[test]
    fn the_command_line_goes_before_it_and_it_can_be_swept() {
        let set =
            [Override::set("alignment.beta=0.3"), Override::flag("--device", "device", "cpu")];
        let recipe = check(PUBLISHED, &set, "now").unwrap().recipe;
        assert_eq!(recipe.alignment.objective.beta.to_bits(), 0.3_f64.to_bits());
        let sweep = format!("{PUBLISHED}sweep: {{alignment.beta: [0.1, 0.5]}}\n");
        let runs = check_sweep(&sweep, &[]).unwrap();
        let names: Vec<&str> = runs.iter().map(|run| &*run.name).collect();
        assert_eq!(names, ["beta0.1", "beta0.5"]);
        assert_eq!(runs[0].checked.notes.len(), 2);
        assert!(told(&sweep).contains("`sweep:` belongs to `trueup sweep`"));
    }
}
