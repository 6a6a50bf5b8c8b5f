//! A folder with data, a recipe and caches, in which the program runs.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use fs_err as fs;
use serde_json::Value;

/// Longer than any run here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// What decides the numbers of a run, and what they became.
const RESULTS: [&str; 3] = ["events.jsonl", "adapter_model.safetensors", "adapter_config.json"];

pub(crate) struct Home {
    folder: tempfile::TempDir,
    /// The command that trains, and the section that tells it how.
    command: (&'static str, &'static str),
}

impl Home {
    /// A folder with `pairs.jsonl` and `recipe.yaml`.
    pub(crate) fn new(pairs: &[String], recipe: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Self { folder, command: ("align", "alignment") };
        home.write("pairs.jsonl", &(pairs.join("\n") + "\n"));
        home.write("recipe.yaml", recipe);
        home
    }

    /// The same for a recipe of fine-tuning.
    pub(crate) fn finetuning(rows: &[String], recipe: &str) -> Self {
        Self { command: ("finetune", "training"), ..Self::new(rows, recipe) }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs any command to the end, with caches that such commands share.
    pub(crate) fn program(&self, arguments: &[&str]) -> Output {
        self.any(arguments).output().unwrap()
    }

    /// Any command, with caches that such commands share, and with no endpoint in its environment.
    pub(crate) fn any(&self, arguments: &[&str]) -> Command {
        let cache = self.path("caches/shared");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TRUEUP_HOME", &cache)
            .env("HF_HOME", &cache)
            .env_remove("OPENAI_API_KEY")
            .env_remove("OPENAI_BASE_URL")
            .stdin(Stdio::null());
        command
    }

    /// Every run has caches of its own, so that none finds the work of another.
    fn command(&self, output_dir: &str, more: &[&str]) -> Command {
        let cache = self.path("caches").join(output_dir);
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        let (name, section) = self.command;
        command
            .args([name, "--config", "recipe.yaml", "--set"])
            .arg(format!("{section}.output_dir={output_dir}"))
            .args(more)
            .current_dir(self.folder.path())
            .env("TRUEUP_HOME", &cache)
            .env("HF_HOME", &cache)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, output_dir: &str, more: &[&str]) -> Child {
        self.command(output_dir, more).stderr(Stdio::null()).spawn().unwrap()
    }

    pub(crate) fn finish(&self, output_dir: &str, more: &[&str]) -> ExitStatus {
        self.start(output_dir, more).wait().unwrap()
    }

    /// Runs to the end and keeps what is printed.
    pub(crate) fn output(&self, output_dir: &str, more: &[&str]) -> Output {
        self.command(output_dir, more).output().unwrap()
    }

    /// Waits until something holds, or the run has ended without it; says whether it held.
    pub(crate) fn wait_until(&self, child: &mut Child, holds: impl Fn(&Self) -> bool) -> bool {
        let began = Instant::now();
        while !holds(self) {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "it never came");
            thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Both runs left the same bytes.
    pub(crate) fn assert_same(&self, left: &str, right: &str) {
        for name in RESULTS {
            let read = |root: &str| fs::read(self.path(root).join(name)).unwrap();
            assert!(read(left) == read(right), "{name} of {left} and {right} differ");
        }
    }

    /// The events of a run.
    pub(crate) fn events(&self, root: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(root).join("events.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The path of the newest checkpoint.
pub(crate) fn newest(root: &Path) -> String {
    let (_, path) = run::checkpoint::folders(root).unwrap().remove(0);
    path.to_str().unwrap().to_owned()
}
