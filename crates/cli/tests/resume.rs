//! A run that is killed or interrupted ends with the same bytes as one that is left alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use fs_err as fs;

/// Longer than any run here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// A line of preference data.
fn pair(number: u32) -> String {
    let chosen = format!("it is {}", number + 1);
    let rejected = format!("no idea {number}");
    serde_json::json!({"prompt": format!("{number}+1?"), "chosen": chosen, "rejected": rejected})
        .to_string()
}

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// A folder with preference data and a recipe over a tiny chat model.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pairs: Vec<String> = (0..64).map(pair).collect();
        let pairs = pairs.join("\n");
        run::atomic::write(&folder.path().join("pairs.jsonl"), pairs.as_bytes()).unwrap();
        let model = testkit::golden("trl/chat");
        let recipe = format!(
            "model: {{path: \"{}\"}}\n\
             dataset: {{path: pairs.jsonl, eval_fraction: 0.125}}\n\
             alignment: {{save_steps: 10, eval_steps: 10, batch_size: 2, num_epochs: 40, lora_r: 4,\n\
             gradient_accumulation_steps: 1, max_steps: 400, learning_rate: 1e-3}}\n",
            model.display()
        );
        run::atomic::write(&folder.path().join("recipe.yaml"), recipe.as_bytes()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, output_dir: &str, more: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_trueup"))
            .args(["align", "--config", "recipe.yaml", "--set"])
            .arg(format!("alignment.output_dir={output_dir}"))
            .args(more)
            .current_dir(self.folder.path())
            .env("TRUEUP_HOME", self.path("cache"))
            .env("HF_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn finish(&self, output_dir: &str, more: &[&str]) -> ExitStatus {
        self.start(output_dir, more).wait().unwrap()
    }

    /// Waits until a checkpoint is there, or the run has ended without it.
    fn wait_for(&self, child: &mut Child, checkpoint: &str) {
        let began = Instant::now();
        while !self.path(checkpoint).is_dir() && child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "{checkpoint} never came");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn assert_same(&self, left: &str, right: &str) {
        for name in ["events.jsonl", "adapter_model.safetensors", "adapter_config.json"] {
            let read = |root: &str| fs::read(self.path(root).join(name)).unwrap();
            assert!(read(left) == read(right), "{name} differs");
        }
    }
}

fn kill(child: &Child, signal: &str) {
    let done = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let home = Home::new();
    assert!(home.finish("whole", &[]).success());

    let mut child = home.start("killed", &[]);
    home.wait_for(&mut child, "killed/checkpoint-30");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed before its end");
    // Without `--resume` nothing is overwritten.
    assert_eq!(home.finish("killed", &[]).code(), Some(2));
    assert!(home.finish("killed", &["--resume", "auto"]).success());
    home.assert_same("whole", "killed");

    // A finished run stays as it is, and that is no failure.
    assert!(home.finish("killed", &["--resume", "auto"]).success());
    home.assert_same("whole", "killed");
}

#[test]
fn an_interrupted_run_saves_and_resumes_to_the_same_bytes() {
    let home = Home::new();
    assert!(home.finish("whole", &[]).success());
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let root = format!("stopped{signal}");
        let mut child = home.start(&root, &[]);
        home.wait_for(&mut child, &format!("{root}/checkpoint-20"));
        kill(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        let saved = newest(&home.path(&root));
        let other = ["--resume", &saved, "--set", "alignment.beta=0.2"];
        assert_eq!(home.finish(&root, &other).code(), Some(2), "another recipe is refused");
        assert!(home.finish(&root, &["--resume", &saved]).success());
        home.assert_same("whole", &root);
    }
}

/// The path of the newest checkpoint.
fn newest(root: &Path) -> String {
    let (_, path) = run::checkpoint::folders(root).unwrap().remove(0);
    path.to_str().unwrap().to_owned()
}
