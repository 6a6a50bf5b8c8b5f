//! What is compared: models, and runs on them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

/// Settings that are no keys of `alignment`: the paths, and what the given adapter decides.
const NO_RECIPE_KEYS: [&str; 10] = [
    "model",
    "adapter",
    "data",
    "precision",
    "full",
    "pairs",
    "lora_r",
    "lora_alpha",
    "initial_b",
    "save_gradients",
];

/// Files of a tokenizer; models without one borrow those of the chat model, whose tokenizer only
/// pads, for their rows are token ids.
const TOKENIZER: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

/// Rows made of the pairs of a tiny model's golden.
const TINY_ROWS: usize = 22;

/// A model, and pairs for it.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: String,
    folder: PathBuf,
    data: PathBuf,
    /// Standard deviation of an adapter's B at the start.
    initial_b: f64,
}

impl Model {
    /// A model that somebody names.
    pub(super) fn given(root: &Path, folder: &Path, data: Option<&Path>) -> anyhow::Result<Self> {
        let folder = fs_err::canonicalize(folder)?;
        let name = folder.file_name().context("the model's folder has no name")?;
        let name = name.display().to_string();
        let data = match data {
            Some(data) => fs_err::canonicalize(data)?,
            None => root.join("goldens/trl/pairs.jsonl"),
        };
        Ok(Self { name, folder, data, initial_b: 0.02 })
    }

    /// The tiny model that has a chat template.
    pub(super) fn chat(root: &Path) -> Self {
        let data = root.join("goldens/trl/pairs.jsonl");
        Self { name: "chat".into(), folder: root.join("goldens/trl/chat"), data, initial_b: 0.1 }
    }

    /// Where it lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tiny models of the goldens, with what they lack for training.
    pub(super) fn tiny(root: &Path, out: &Path) -> anyhow::Result<Vec<Self>> {
        let mut models = vec![Self::chat(root)];
        let chat = models[0].folder.clone();
        let mut sources: Vec<PathBuf> = Vec::new();
        for entry in fs_err::read_dir(root.join("goldens/model"))? {
            let path = entry?.path();
            sources.extend(path.join("golden.json").exists().then_some(path));
        }
        sources.sort();
        for source in sources {
            let name = source.file_name().context("a folder has no name")?.display().to_string();
            let home = out.join(&name);
            let (folder, data) = (home.join("model"), home.join("rows.jsonl"));
            fs_err::create_dir_all(&folder)?;
            for entry in fs_err::read_dir(&source)? {
                let path = entry?.path();
                let is_model = path.file_name().is_some_and(|name| {
                    let name = name.display().to_string();
                    name == "config.json" || name.starts_with("model")
                });
                if is_model {
                    copy_into(&path, &folder)?;
                }
            }
            for name in TOKENIZER {
                copy_into(&chat.join(name), &folder)?;
            }
            let golden = fs_err::read_to_string(source.join("golden.json"))?;
            let rows = tiny_rows(&serde_json::from_str(&golden)?)?;
            let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
            fs_err::write(&data, lines.join("\n") + "\n")?;
            models.push(Self { name, folder, data, initial_b: 0.1 });
        }
        Ok(models)
    }
}

/// Copies a file, unless the same one is there.
///
/// An untouched copy keeps its time, by which TRL's runs are known to be current.
fn copy_into(path: &Path, folder: &Path) -> anyhow::Result<()> {
    let target = folder.join(path.file_name().context("a file has no name")?);
    if !target.exists() || fs_err::read(path)? != fs_err::read(&target)? {
        fs_err::copy(path, target)?;
    }
    Ok(())
}

/// The few pairs of a golden, each with every other's completions in turn.
fn tiny_rows(golden: &Value) -> anyhow::Result<Vec<Value>> {
    let pairs = golden["pairs"].as_array().context("a golden has no pairs")?;
    let row = |index: usize| {
        let prompt = &pairs[index % pairs.len()];
        let other = &pairs[(index + index / pairs.len()) % pairs.len()];
        json!({
            "prompt_ids": prompt["prompt"],
            "chosen_ids": other["chosen"],
            "rejected_ids": other["rejected"],
        })
    };
    Ok((0..TINY_ROWS).map(row).collect())
}

/// One comparison.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) model: String,
    pub(super) name: String,
    pub(super) settings: Map<String, Value>,
    pub(super) folder: PathBuf,
    /// The folder of the f32 case from whose tokens and adapter this one starts; the two programs
    /// are then not held against each other, but each against its own f32 run.
    pub(super) beside: Option<PathBuf>,
}

impl Case {
    /// All cases of a model; one that stands beside another comes after it.
    pub(super) fn all(root: &Path, out: &Path, model: &Model) -> anyhow::Result<Vec<Self>> {
        let text = fs_err::read_to_string(root.join("goldens/parity/cases.json"))?;
        let listed: Vec<Value> = serde_json::from_str(&text)?;
        let mut cases: Vec<Self> = Vec::new();
        for one in &listed {
            let name = one["name"].as_str().context("a case has no name")?;
            let mut settings = Map::from_iter([
                ("model".into(), json!(model.folder)),
                ("data".into(), json!(model.data)),
                ("initial_b".into(), json!(model.initial_b)),
            ]);
            let mut beside = None;
            if let Some(other) = one["beside"].as_str() {
                let other = cases.iter().find(|case| case.name == other);
                let other = other.context("a case stands beside none that came before")?;
                settings.clone_from(&other.settings);
                settings.insert("data".into(), json!(other.tokens()));
                settings.insert("adapter".into(), json!(other.trl().join("initial")));
                beside = Some(other.folder.clone());
            }
            settings.extend(one["settings"].as_object().context("no settings")?.clone());
            let folder = out.join(&model.name).join(name);
            let (model, name) = (model.name.clone(), name.to_owned());
            cases.push(Self { model, name, settings, folder, beside });
        }
        Ok(cases)
    }

    /// Model and case, for people.
    pub(super) fn label(&self) -> String {
        format!("{} {}", self.model, self.name)
    }

    /// What TRL left.
    pub(super) fn trl(&self) -> PathBuf {
        self.folder.join("trl")
    }

    /// The run folder of our training.
    pub(super) fn ours(&self) -> PathBuf {
        self.folder.join("ours")
    }

    /// The pairs, as token ids.
    pub(super) fn tokens(&self) -> PathBuf {
        self.trl().join("tokens.jsonl")
    }

    /// Where both programs start from.
    pub(super) fn start(&self) -> PathBuf {
        match self.text("adapter") {
            Some(adapter) => adapter.into(),
            None => self.trl().join("initial"),
        }
    }

    /// Whether every weight is trained.
    pub(super) fn is_full(&self) -> bool {
        self.is("full")
    }

    /// A switch among the settings.
    pub(super) fn is(&self, name: &str) -> bool {
        self.settings.get(name) == Some(&json!(true))
    }

    /// A setting that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.settings.get(name)?.as_str()
    }

    /// The numbers, from 0, of the rows of a step, counted from 0.
    pub(super) fn rows_of_step(&self, step: usize, rows: usize) -> Vec<usize> {
        let number = |name: &str, default: u64| {
            let found = self.settings.get(name).and_then(Value::as_u64).unwrap_or(default);
            usize::try_from(found).unwrap_or(usize::MAX)
        };
        let size = number("batch_size", 4) * number("gradient_accumulation_steps", 1);
        let start = step % rows.div_ceil(size) * size;
        (start..rows.min(start + size)).collect()
    }

    /// The same run as a recipe: JSON is YAML.
    pub(super) fn recipe(&self) -> Value {
        let mut alignment = json!({
            "output_dir": self.ours(),
            "learning_rate": 1e-6,
            "lr_scheduler_type": "linear",
            "warmup_ratio": 0.0,
            "batch_size": 4,
            "gradient_accumulation_steps": 1,
            "num_epochs": 1,
            "weight_decay": 0.0,
            "shuffle_dataset": false,
            "save_steps": 1,
        });
        let precision = self.text("precision").unwrap_or("f32");
        let mut model = json!({ "path": self.settings["model"], "precision": precision });
        if self.is_full() {
            alignment["use_lora"] = json!(false);
        } else {
            model["adapter"] = json!(self.start());
            model["reference"] = json!("base");
        }
        for (name, value) in &self.settings {
            if !NO_RECIPE_KEYS.contains(&name.as_str()) {
                alignment[name] = value.clone();
            }
        }
        json!({ "model": model, "dataset": dataset(&self.tokens()), "alignment": alignment })
    }

    /// A recipe whose events are the log-probabilities of all pairs, one a step, under given
    /// weights: its rate is too small to move any of them.
    pub(super) fn scoring(&self, weights: &Path, rows: usize, out: &Path) -> Value {
        let mut model = json!({ "path": self.settings["model"], "precision": "f32" });
        let mut alignment = json!({
            "output_dir": out,
            "learning_rate": 1e-30,
            "lr_scheduler_type": "constant",
            "batch_size": 1,
            "gradient_accumulation_steps": 1,
            "max_steps": rows,
            "weight_decay": 0.0,
            "shuffle_dataset": false,
        });
        if self.is_full() {
            // A fresh adapter changes nothing.
            alignment["lora_r"] = json!(1);
            model["base_model"] = model["path"].take();
            model["path"] = json!(weights);
        } else {
            model["adapter"] = json!(weights);
            model["reference"] = json!("base");
        }
        json!({ "model": model, "dataset": dataset(&self.tokens()), "alignment": alignment })
    }
}

fn dataset(tokens: &Path) -> Value {
    json!({ "path": tokens, "max_length": 1024, "on_duplicate": "keep" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(settings: Value) -> Case {
        let Value::Object(settings) = settings else { panic!("{settings}") };
        Case { model: "m".into(), name: "x".into(), settings, folder: "/x".into(), beside: None }
    }

    #[test]
    fn a_recipe_has_the_settings_and_the_starting_point() {
        let recipe = case(json!({
            "model": "/m", "data": "/d", "learning_rate": 2e-4, "pairs": 8, "lora_r": 4,
        }))
        .recipe();
        assert_eq!(recipe["model"]["adapter"], "/x/trl/initial");
        assert_eq!(recipe["model"]["reference"], "base");
        assert_eq!(recipe["dataset"]["path"], "/x/trl/tokens.jsonl");
        assert_eq!(recipe["alignment"]["learning_rate"], 2e-4);
        assert_eq!(recipe["alignment"].get("lora_r"), None);
        let recipe = case(json!({ "model": "/m", "full": true })).recipe();
        assert_eq!(recipe["alignment"]["use_lora"], false);
        assert_eq!(recipe["model"].get("adapter"), None);
    }

    #[test]
    fn scoring_takes_an_adapter_or_a_whole_model() {
        let (weights, out) = (Path::new("/w"), Path::new("/o"));
        let recipe = case(json!({ "model": "/m" })).scoring(weights, 3, out);
        assert_eq!(
            (&recipe["model"]["path"], &recipe["model"]["adapter"]),
            (&json!("/m"), &json!("/w"))
        );
        let recipe = case(json!({ "model": "/m", "full": true })).scoring(weights, 3, out);
        assert_eq!(
            (&recipe["model"]["path"], &recipe["model"]["base_model"]),
            (&json!("/w"), &json!("/m"))
        );
        assert_eq!(recipe["alignment"]["max_steps"], 3);
    }

    #[test]
    fn steps_go_through_the_rows_again_and_again() {
        let case = case(json!({ "batch_size": 2, "gradient_accumulation_steps": 2 }));
        assert_eq!(case.rows_of_step(0, 10), [0, 1, 2, 3]);
        assert_eq!(case.rows_of_step(2, 10), [8, 9]);
        assert_eq!(case.rows_of_step(3, 10), [0, 1, 2, 3]);
    }

    #[test]
    fn tiny_rows_differ() {
        let golden = json!({ "pairs": [
            { "prompt": [1], "chosen": [2], "rejected": [3] },
            { "prompt": [4], "chosen": [5], "rejected": [6] },
        ] });
        let rows = tiny_rows(&golden).unwrap();
        assert_eq!(rows.len(), TINY_ROWS);
        assert_eq!(rows[3], json!({ "prompt_ids": [4], "chosen_ids": [2], "rejected_ids": [3] }));
    }
}
