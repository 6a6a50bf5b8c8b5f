//! The road of a model: questions become pairs, pairs an adapter, the adapter a model that answers.
//!
//! Five commands, as a user types them; the two that take long are killed in the middle and run
//! again, and must leave the bytes of runs that nobody touched.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::run::say;

/// Longer than any step here waits for its middle.
const PATIENCE: Duration = Duration::from_mins(20);

/// Where the road begins and where it leads.
#[derive(Clone, Debug)]
pub struct Road<'a> {
    /// Our program.
    pub program: &'a Path,
    /// The model, a folder.
    pub model: &'a Path,
    /// Questions with answers.
    pub questions: &'a Path,
    /// How many of them are taken.
    pub limit: usize,
    /// Tokens of a generated answer.
    pub tokens: usize,
    /// Where everything is written; new.
    pub folder: &'a Path,
}

impl Road<'_> {
    /// Goes it.
    ///
    /// # Errors
    ///
    /// If a command fails, or what was killed and resumed differs from what was not.
    pub fn travel(&self) -> anyhow::Result<()> {
        fs_err::create_dir_all(self.folder)?;
        self.pairs()?;
        self.align()?;
        // A short run changes weights by less than 16 bits can say.
        let exact = ["--dtype", "f32", "--check"];
        self.run(&[&["fuse", "--adapter", "run", "--output", "fused"][..], &exact].concat())?;
        say("road: fused and checked");
        let told = self.run(&["eval", "--json", "--adapter", "run", "pairs.jsonl"])?;
        say(&format!("road: over its own pairs {}", told.trim()));
        let question = ["generate", "--model", "fused", "--max-new-tokens", "32", "--prompt"];
        let answer = self.run(&[&question[..], &["Why is the sky blue?"]].concat())?;
        say(&format!("road: the fused model says {:?}", answer.trim()));
        Ok(())
    }

    /// The model writes the rejected answers.
    fn pairs(&self) -> anyhow::Result<()> {
        let (limit, tokens) = (self.limit.to_string(), self.tokens.to_string());
        let (questions, model) = (path_text(self.questions)?, path_text(self.model)?);
        let to = |output: &'static str| {
            let base = ["data", "pairs", questions, "--model", model, "--output", output];
            [&base[..], &["--limit", &limit, "--max-new-tokens", &tokens]].concat()
        };
        let third = self.limit / 3;
        let rows = |name: &str| {
            let text = fs_err::read_to_string(self.folder.join(name)).unwrap_or_default();
            text.lines().count()
        };
        self.kill_when(&to("pairs.jsonl"), &|| third < rows("pairs.jsonl"))?;
        let kept = rows("pairs.jsonl");
        self.run(&to("pairs.jsonl"))?;
        self.run(&to("whole.jsonl"))?;
        self.same("pairs.jsonl", "whole.jsonl")?;
        say(&format!("road: {} pairs, {kept} of them before the kill", rows("pairs.jsonl")));
        Ok(())
    }

    /// The model learns to prefer the given answers.
    fn align(&self) -> anyhow::Result<()> {
        let model = serde_json::to_string(path_text(self.model)?)?;
        let recipe = format!(
            "model: {{path: {model}}}\ndataset: {{path: pairs.jsonl}}\n\
             alignment: {{output_dir: run, lora_r: 8, learning_rate: 2e-5, num_epochs: 2, save_steps: 2,\n\
             batch_size: 2, gradient_accumulation_steps: 4, gradient_checkpointing: true}}\n"
        );
        fs_err::write(self.folder.join("recipe.yaml"), recipe)?;
        let align = ["align", "--config", "recipe.yaml", "--no-cache"];
        let is_saved = || self.folder.join("run/checkpoint-2").is_dir();
        self.kill_when(&align, &is_saved)?;
        self.run(&[&align[..], &["--resume", "auto"]].concat())?;
        self.run(&[&align[..], &["--set", "alignment.output_dir=whole"]].concat())?;
        for name in ["events.jsonl", "adapter_model.safetensors"] {
            self.same(&format!("run/{name}"), &format!("whole/{name}"))?;
        }
        say("road: aligned; killed and resumed, the same bytes");
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        let caches: PathBuf = self.folder.join("caches");
        command.args(arguments).current_dir(self.folder).stdin(Stdio::null());
        command.env("TRUEUP_HOME", &caches).env("HF_HOME", caches);
        command
    }

    /// Runs a command to its end and returns what it prints.
    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).output().context("cannot run the program")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{}` failed:\n{told}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command until something holds, and kills it without a warning.
    fn kill_when(&self, arguments: &[&str], holds: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let mut child: Child =
            self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let began = Instant::now();
        while !holds() {
            if child.try_wait()?.is_some() {
                bail!("`{}` ended before it could be killed", arguments.join(" "));
            }
            if PATIENCE < began.elapsed() {
                child.kill()?;
                bail!("`{}` never came to its middle", arguments.join(" "));
            }
            thread::sleep(Duration::from_millis(1));
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn same(&self, left: &str, right: &str) -> anyhow::Result<()> {
        let read = |name: &str| fs_err::read(self.folder.join(name));
        ensure!(read(left)? == read(right)?, "`{left}` and `{right}` differ");
        Ok(())
    }
}

fn path_text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no text")
}
