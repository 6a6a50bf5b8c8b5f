//! Runs of ours, with what the clock and the memory say.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::run::cargo;

/// How often the memory of a running process is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The program, and where its runs lie.
pub(super) struct Ours {
    program: PathBuf,
    folder: PathBuf,
}

/// A run from start to end.
pub(super) struct Run {
    /// Seconds of the whole process.
    pub(super) seconds: f64,
    /// The most memory that was resident, in bytes; 0 where the system does not tell.
    pub(super) peak: u64,
    /// The lines of its timings and of its events.
    pub(super) timings: Vec<Value>,
    pub(super) events: Vec<Value>,
}

impl Run {
    /// Seconds of its steps alone.
    pub(super) fn step_seconds(&self) -> f64 {
        self.timings.iter().filter_map(|step| step["step_secs"].as_f64()).sum()
    }
}

impl Ours {
    /// Builds the program; its runs go into an empty folder beside what cargo builds.
    pub(super) fn build(root: &Path, name: &str) -> anyhow::Result<Self> {
        cargo(root, ["build", "--release", "--quiet", "--package", "cli"]).run()?;
        let target = crate::run::target(root)?;
        let folder = target.join(name);
        if folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        fs_err::create_dir_all(&folder)?;
        Ok(Self { program: target.join("release/trueup"), folder })
    }

    /// Where everything is written.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Drops what earlier runs kept, so that the next one finds nothing.
    pub(super) fn forget(&self) -> anyhow::Result<()> {
        let home = self.folder.join("home");
        if home.exists() {
            fs_err::remove_dir_all(home)?;
        }
        Ok(())
    }

    /// Runs a recipe, whose output goes to `name` in the folder.
    pub(super) fn align(&self, recipe: &Value, name: &str) -> anyhow::Result<Run> {
        let out = self.folder.join(name);
        if out.exists() {
            fs_err::remove_dir_all(&out)?;
        }
        let path = out.with_extension("yaml");
        fs_err::write(&path, serde_json::to_string_pretty(recipe)?)?;
        let mut command = Command::new(&self.program);
        command.args([Path::new("align"), Path::new("--profile"), Path::new("--config"), &path]);
        command.env("TRUEUP_HOME", self.folder.join("home"));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let mut peak = 0;
        let status = loop {
            peak = peak.max(peak_of(child.id()).unwrap_or(0));
            match child.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(LOOK),
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let told = child.wait_with_output()?.stderr;
        ensure!(status.success(), "{command:?} failed\n{}", String::from_utf8_lossy(&told));
        let [timings, events] = ["timings.jsonl", "events.jsonl"].map(|file| out.join(file));
        Ok(Run { seconds, peak, timings: lines(&timings)?, events: lines(&events)? })
    }
}

/// The most memory that a process had, in bytes, as Linux tells it.
fn peak_of(process: u32) -> Option<u64> {
    let status = fs_err::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs_err::read_to_string(path)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// What this machine does at best, as the kernels' example `peak_rate` measures it.
pub(super) fn peaks(root: &Path, threads: usize) -> anyhow::Result<Value> {
    let args = ["run", "--release", "--quiet", "--package", "kernels", "--example", "peak_rate"];
    let job = cargo(root, args).args(["--", "--json"]);
    let output = job.with("RAYON_NUM_THREADS", threads.to_string()).output()?;
    Ok(serde_json::from_slice(&output)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_lives_has_memory() {
        assert!(peak_of(std::process::id()).is_some_and(|bytes| 1 << 20 < bytes));
        assert_eq!(peak_of(u32::MAX), None);
    }
}
