//! The same training run by TRL and by this program, step by step, and the weights of both loaded
//! by transformers and PEFT.
//!
//! TRL goes first and leaves its token ids, its starting adapter and its metrics; the program then
//! starts from the same point with `trueup align`. The cases are in `goldens/parity/cases.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use crate::run::{Job, cargo, say};

/// Metrics that must agree at every step.
const METRICS: [&str; 7] = [
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/margins",
    "rewards/chosen",
    "logps/chosen",
    "logps/rejected",
];

/// How far two f32 programs may lie apart after a few steps of Adam, relative to 1 + the value:
/// they round differently, and Adam scales small differences of small gradients up. Seen: 1e-6 with
/// the tiny model, 4e-6 with one of 135 million weights.
const F32_APART: f64 = 1e-4;

/// The same with bf16 operands: 8 bits of mantissa in every product. Seen: 1.4e-2.
const BF16_APART: f64 = 3e-2;

/// How far a log-probability of a checkpoint loaded elsewhere may lie from what the run itself saw.
const RELOADED_APART: f64 = 1e-3;

/// One comparison.
struct Case {
    name: String,
    settings: Map<String, Value>,
    folder: PathBuf,
}

/// Runs all cases, or the one that is named.
///
/// # Errors
///
/// If a program fails, or the two disagree.
pub fn compare(root: &Path, python: &Job, model: &Path, only: Option<&str>) -> anyhow::Result<()> {
    let model = fs_err::canonicalize(model)?;
    cargo(root, ["build", "--release", "--quiet", "--package", "cli"]).run()?;
    let text = fs_err::read_to_string(root.join("goldens/parity/cases.json"))?;
    let cases: Vec<Value> = serde_json::from_str(&text)?;
    let mut ran = 0;
    let mut complaints = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().context("a case has no name")?;
        if only.is_some_and(|only| only != name) {
            continue;
        }
        ran += 1;
        let mut settings = case["settings"].as_object().context("a case has no settings")?.clone();
        settings.insert("model".into(), json!(model));
        settings.insert("data".into(), json!(root.join("goldens/trl/pairs.jsonl")));
        let folder = root.join("target/parity").join(name);
        let case = Case { name: name.into(), settings, folder };
        complaints.extend(case.compare(root, python)?);
    }
    ensure!(ran > 0, "no case has that name");
    for complaint in &complaints {
        say(complaint);
    }
    ensure!(complaints.is_empty(), "{} values are too far apart", complaints.len());
    say("both programs agree");
    Ok(())
}

impl Case {
    /// Runs both programs, compares, and returns what is too far apart.
    fn compare(&self, root: &Path, python: &Job) -> anyhow::Result<Vec<String>> {
        if self.folder.exists() {
            fs_err::remove_dir_all(&self.folder)?;
        }
        fs_err::create_dir_all(&self.folder)?;
        let settings_path = self.folder.join("settings.json");
        fs_err::write(&settings_path, serde_json::to_string(&self.settings)?)?;
        let (trl, ours) = (self.folder.join("trl"), self.folder.join("ours"));
        let script = |name: &str| root.join("goldens/parity").join(name);
        python.clone().args([script("trl_run.py"), settings_path.clone(), trl.clone()]).output()?;
        let recipe_path = self.folder.join("recipe.yaml");
        fs_err::write(&recipe_path, serde_json::to_string_pretty(&self.recipe(&trl, &ours))?)?;
        Job::new(root.join("target/release/trueup"))
            .args([Path::new("align"), Path::new("--config"), &recipe_path])
            .output()?;

        let mut differences = Differences::new(&self.name);
        let apart = if self.text("precision") == Some("bf16") { BF16_APART } else { F32_APART };
        let theirs: Value = serde_json::from_str(&fs_err::read_to_string(trl.join("steps.json"))?)?;
        let theirs = theirs["steps"].as_array().context("TRL's report has no steps")?;
        let events = steps(&fs_err::read_to_string(ours.join("events.jsonl"))?)?;
        let count = (events.len(), theirs.len());
        ensure!(count.0 == count.1, "{}: {} steps, TRL took {}", self.name, count.0, count.1);
        for (number, (event, step)) in events.iter().zip(theirs).enumerate() {
            for metric in METRICS {
                let place = format!("step {} {metric}", number + 1);
                differences.compare(&place, metric, (&event[metric], &step[metric]), apart)?;
            }
        }

        let weights =
            python.clone().args([script("check_weights.py"), settings_path, trl, ours]).output()?;
        let weights: Value = serde_json::from_slice(&weights)?;
        for checkpoint in weights["checkpoints"].as_array().context("no checkpoints")? {
            let step = checkpoint["step"].as_u64().context("a checkpoint has no step")?;
            // The event of the next step, counted from 1, was computed with these weights.
            let Some(event) = events.get(usize::try_from(step)?) else { continue };
            let allowed = apart.max(RELOADED_APART);
            for metric in ["logps/chosen", "logps/rejected"] {
                let place = format!("checkpoint {step} {metric}");
                differences.compare(
                    &place,
                    "reloaded",
                    (&event[metric], &checkpoint[metric]),
                    allowed,
                )?;
            }
        }
        let both = [&weights["ours"], &weights["trl"]].map(|rows| rows.as_array());
        let [Some(ours), Some(trl)] = both else {
            anyhow::bail!("no log-probabilities at the end")
        };
        for (row, (ours, trl)) in ours.iter().zip(trl).enumerate() {
            for side in 0..2 {
                let place = format!("pair {} at the end", row + 1);
                differences.compare(&place, "final logps", (&ours[side], &trl[side]), apart)?;
            }
        }
        differences.say();
        Ok(differences.complaints)
    }

    /// The same run as a recipe: JSON is YAML.
    fn recipe(&self, trl: &Path, ours: &Path) -> Value {
        let is_full = self.settings.get("full") == Some(&json!(true));
        let mut model = json!({
            "path": self.settings["model"],
            "precision": self.text("precision").unwrap_or("f32"),
        });
        let mut alignment = json!({
            "output_dir": ours,
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
        if is_full {
            alignment["use_lora"] = json!(false);
        } else {
            model["adapter"] = json!(trl.join("initial"));
            model["reference"] = json!("base");
        }
        // Settings that are no keys of `alignment`: the paths, and what the given adapter decides.
        let elsewhere = ["model", "data", "precision", "full", "pairs", "lora_r", "lora_alpha"];
        for (name, value) in &self.settings {
            if !elsewhere.contains(&name.as_str()) {
                alignment[name] = value.clone();
            }
        }
        let dataset =
            json!({ "path": trl.join("tokens.jsonl"), "max_length": 1024, "on_duplicate": "keep" });
        json!({ "model": model, "dataset": dataset, "alignment": alignment })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.settings.get(name)?.as_str()
    }
}

/// The events of optimizer steps.
fn steps(text: &str) -> anyhow::Result<Vec<Value>> {
    let events: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    Ok(events?.into_iter().filter(|event| event.get("loss").is_some()).collect())
}

/// The largest difference of each kind, and those that are too large.
struct Differences {
    case: String,
    largest: Map<String, Value>,
    complaints: Vec<String>,
}

impl Differences {
    fn new(case: &str) -> Self {
        Self { case: case.into(), largest: Map::new(), complaints: Vec::new() }
    }

    /// Compares ours with theirs, relative to 1 + the size of theirs.
    fn compare(
        &mut self,
        place: &str,
        kind: &str,
        (ours, theirs): (&Value, &Value),
        allowed: f64,
    ) -> anyhow::Result<()> {
        let number = |value: &Value, whose: &str| {
            value.as_f64().with_context(|| format!("{}: {whose} {place} is {value}", self.case))
        };
        let (ours, theirs) = (number(ours, "our")?, number(theirs, "TRL's")?);
        let apart = (ours - theirs).abs() / (1.0 + theirs.abs());
        let seen = self.largest.get(kind).and_then(Value::as_f64).unwrap_or(0.0);
        self.largest.insert(kind.into(), json!(apart.max(seen)));
        // Written so that a value that is no number complains.
        let is_near = apart <= allowed;
        if !is_near {
            let case = &self.case;
            self.complaints.push(format!("{case}: {place}: {ours} here, {theirs} there"));
        }
        Ok(())
    }

    fn say(&self) {
        let values = self
            .largest
            .iter()
            .map(|(kind, apart)| format!("{kind} {:.1e}", apart.as_f64().unwrap_or(f64::NAN)));
        say(&format!(
            "{}: largest difference: {}",
            self.case,
            values.collect::<Vec<_>>().join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_far_or_missing_is_reported() {
        let mut differences = Differences::new("case");
        differences.compare("step 1", "loss", (&json!(1.0), &json!(1.001)), 1e-3).unwrap();
        assert!(differences.complaints.is_empty());
        differences.compare("step 2", "loss", (&json!(1.0), &json!(1.01)), 1e-3).unwrap();
        assert_eq!(differences.complaints, ["case: step 2: 1 here, 1.01 there"]);
        assert!(differences.compare("step 3", "loss", (&Value::Null, &json!(1.0)), 1e-3).is_err());
    }

    #[test]
    fn a_recipe_has_the_settings_and_the_starting_point() {
        let settings = json!({
            "model": "/m", "data": "/d", "learning_rate": 2e-4, "pairs": 8, "lora_r": 4,
        });
        let settings = settings.as_object().unwrap().clone();
        let case = Case { name: "x".into(), settings, folder: "/f".into() };
        let recipe = case.recipe(Path::new("/trl"), Path::new("/ours"));
        assert_eq!(recipe["model"]["adapter"], "/trl/initial");
        assert_eq!(recipe["model"]["reference"], "base");
        assert_eq!(recipe["dataset"]["path"], "/trl/tokens.jsonl");
        assert_eq!(recipe["alignment"]["learning_rate"], 2e-4);
        assert_eq!(recipe["alignment"].get("lora_r"), None);
        let full = json!({ "model": "/m", "full": true }).as_object().unwrap().clone();
        let case = Case { name: "x".into(), settings: full, folder: "/f".into() };
        let recipe = case.recipe(Path::new("/trl"), Path::new("/ours"));
        assert_eq!(recipe["alignment"]["use_lora"], false);
        assert_eq!(recipe["model"].get("adapter"), None);
    }
}
