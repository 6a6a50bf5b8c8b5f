//! The server as OpenAI's own client finds it.
//!
//! `goldens/parity/server.py` asks; the model is tiny, since nothing here is about its words.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::run::{Job, cargo, say, target};

/// The key that the client sends; it opens nothing else.
const KEY: &str = "open-sesame";
/// The variable that holds it.
const KEY_NAME: &str = "TRUEUP_PARITY_KEY";

/// A server that ends when it is dropped.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(root: &Path) -> anyhow::Result<Self> {
        cargo(root, ["build", "--quiet", "--package", "cli"]).run()?;
        let mut child = Command::new(target(root)?.join("debug/trueup"))
            .args(["serve", "--port", "0", "--model", "goldens/trl/chat"])
            .args(["--adapter", "tuned=goldens/trl/adapter", "--api-key-env", KEY_NAME])
            .env(KEY_NAME, KEY)
            .current_dir(root)
            .stderr(Stdio::piped())
            .spawn()?;
        let told = child.stderr.take().context("a pipe is there")?;
        let mut running = Self { child, url: String::new() };
        let mut lines = BufReader::new(told).lines();
        let mut said = Vec::new();
        while let Some(line) = lines.next().transpose()? {
            if let Some(url) = line.strip_prefix("listening on ") {
                url.clone_into(&mut running.url);
                return Ok(running);
            }
            said.push(line);
        }
        anyhow::bail!("the server does not listen: {}", said.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the server all that the client can, and returns what is wrong.
///
/// # Errors
///
/// If a program fails.
pub(super) fn compare(root: &Path, python: &Job) -> anyhow::Result<Vec<String>> {
    let server = Running::start(root)?;
    let script = root.join("goldens/parity/server.py");
    let job = python.clone().args([&script]).args([server.url.as_str(), KEY, "chat", "tuned"]);
    let answer: Value = serde_json::from_slice(&job.output()?)?;
    let checks = answer["checks"].as_u64().context("the client counts its checks")?;
    ensure!(checks > 0, "the client checked nothing");
    say(&format!("server: {checks} checks by the client {}", answer["client"]));
    let wrong = answer["wrong"].as_array().context("the client says what is wrong")?;
    Ok(wrong.iter().map(|what| format!("server: {}", what.as_str().unwrap_or("?"))).collect())
}
