//! The programs that are compared, and when TRL need not run again.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::cases::Case;
use crate::run::{Job, cargo, say};

/// Both programs.
pub(super) struct Programs {
    root: PathBuf,
    python: Job,
    /// Where cargo builds to.
    pub(super) target: PathBuf,
}

impl Programs {
    /// Builds ours.
    pub(super) fn build(root: &Path, python: &Job) -> anyhow::Result<Self> {
        cargo(root, ["build", "--release", "--quiet", "--package", "cli"]).run()?;
        let target = crate::run::target(root)?;
        // Threads that wait must not spin where other programs want the processor.
        let python = python.clone().with("OMP_WAIT_POLICY", "passive");
        Ok(Self { root: root.into(), python, target })
    }

    /// Runs TRL, in one process, for the cases whose last run was made from something else.
    pub(super) fn run_trl(&self, cases: &[Case]) -> anyhow::Result<()> {
        let mut stale: Vec<&Case> = Vec::new();
        for case in cases {
            let is_after_stale =
                stale.iter().any(|other| case.beside.as_ref() == Some(&other.folder));
            if is_after_stale || !self.is_current(case)? {
                stale.push(case);
            }
        }
        if stale.is_empty() {
            say("TRL: every run is kept from before");
            return Ok(());
        }
        let mut args = vec![self.script("trl_run.py")];
        for case in stale.iter().copied() {
            if case.trl().exists() {
                fs_err::remove_dir_all(case.trl())?;
            }
            fs_err::create_dir_all(case.trl())?;
            let made_from = serde_json::to_string(&self.made_from(case)?)?;
            fs_err::write(case.trl().join(MADE_FROM), made_from)?;
            let settings = case.folder.join("settings.json");
            fs_err::write(&settings, serde_json::to_string(&case.settings)?)?;
            args.extend([settings, case.trl()]);
        }
        say(&format!("TRL: {} runs of {}", stale.len(), cases.len()));
        self.python.clone().args(args).output()?;
        Ok(())
    }

    /// Whether TRL's last run of a case was made from what is there now.
    fn is_current(&self, case: &Case) -> anyhow::Result<bool> {
        let kept = case.trl().join(MADE_FROM);
        // The steps are written last.
        if !kept.exists() || !case.trl().join("steps.json").exists() {
            return Ok(false);
        }
        let kept: Value = serde_json::from_str(&fs_err::read_to_string(kept)?)?;
        Ok(kept == self.made_from(case)?)
    }

    /// All that TRL's run depends on; of the model its files' sizes and times.
    fn made_from(&self, case: &Case) -> anyhow::Result<Value> {
        let mut files = Vec::new();
        for entry in fs_err::read_dir(case.text("model").context("a case has no model")?)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH)?;
            files.push(json!([entry.path(), metadata.len(), modified.as_nanos().to_string()]));
        }
        files.sort_by_key(Value::to_string);
        // A case beside another starts from what that one leaves.
        let data = match &case.beside {
            Some(other) => other.join("trl").join(MADE_FROM),
            None => PathBuf::from(case.text("data").context("a case has no data")?),
        };
        let data = if data.exists() { fs_err::read_to_string(data)? } else { String::new() };
        Ok(json!({
            "settings": case.settings,
            "program": fs_err::read_to_string(self.script("trl_run.py"))?,
            "data": data,
            "model": files,
        }))
    }

    /// Trains with ours from TRL's starting point.
    pub(super) fn run_ours(&self, case: &Case) -> anyhow::Result<()> {
        self.align(&case.recipe(), &case.ours())
    }

    /// The log-probabilities that ours gives all pairs under given weights: chosen, rejected, and
    /// those of the reference.
    pub(super) fn score(&self, case: &Case, weights: &Path, name: &str) -> anyhow::Result<Scores> {
        let tokens = fs_err::read_to_string(case.tokens())?;
        let out = case.folder.join(name);
        self.align(&case.scoring(weights, tokens.lines().count(), &out), &out)?;
        let mut scores = Scores::default();
        for event in steps(&out)? {
            let number = |name: &str| event[name].as_f64().with_context(|| format!("no {name}"));
            let sides = [number("logps/chosen")?, number("logps/rejected")?];
            let rewards = [number("rewards/chosen")?, number("rewards/rejected")?];
            scores.policy.push(sides);
            scores.reference.push([0, 1].map(|side| sides[side] - rewards[side] / BETA));
        }
        Ok(scores)
    }

    fn align(&self, recipe: &Value, out: &Path) -> anyhow::Result<()> {
        if out.exists() {
            fs_err::remove_dir_all(out)?;
        }
        let path = out.with_extension("yaml");
        fs_err::write(&path, serde_json::to_string_pretty(recipe)?)?;
        // Its own caches: a reference that an earlier build scored would hide what this one does.
        let home = out.with_extension("home");
        let job = Job::new(self.target.join("release/trueup"))
            .args([Path::new("align"), Path::new("--config"), &path])
            .with("TRUEUP_HOME", &home);
        job.output()?;
        Ok(fs_err::remove_dir_all(home)?)
    }

    /// Asks transformers and PEFT.
    pub(super) fn check(&self, request: &Value, at: &Path) -> anyhow::Result<Value> {
        fs_err::write(at, serde_json::to_string_pretty(request)?)?;
        let output = self.python.clone().args([&self.script("check.py"), at]).output()?;
        Ok(serde_json::from_slice(&output)?)
    }

    /// Asks llama.cpp.
    pub(super) fn llama_cpp<const N: usize>(&self, args: [&Path; N]) -> anyhow::Result<Vec<u8>> {
        let script = self.script("llama_cpp_run.py");
        self.python.clone().args([&script]).args(args).output()
    }

    fn script(&self, name: &str) -> PathBuf {
        self.root.join("goldens/parity").join(name)
    }
}

/// Says what TRL's run was made from.
const MADE_FROM: &str = "made_from.json";

/// The `beta` of a recipe that names none.
const BETA: f64 = 0.1;

/// Log-probabilities of all pairs, chosen and rejected.
#[derive(Clone, Debug, Default)]
pub(super) struct Scores {
    /// Of the weights asked for.
    pub(super) policy: Vec<[f64; 2]>,
    /// Of the model under its adapter.
    pub(super) reference: Vec<[f64; 2]>,
}

/// The events of optimizer steps in a run folder.
pub(super) fn steps(run: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs_err::read_to_string(run.join("events.jsonl"))?;
    let events: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    Ok(events?.into_iter().filter(|event| event.get("loss").is_some()).collect())
}

/// TRL's metrics of every step.
pub(super) fn trl_steps(case: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs_err::read_to_string(case.join("trl/steps.json"))?;
    let report: Value = serde_json::from_str(&text)?;
    Ok(report["steps"].as_array().context("TRL's report has no steps")?.clone())
}
