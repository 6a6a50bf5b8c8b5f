//! Running other programs, and saying what happens.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Writes a line for people.
pub fn say(line: &str) {
    // Nobody is left to tell when the terminal is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A program with its arguments, still to be run.
#[derive(Clone, Debug)]
pub struct Job {
    program: PathBuf,
    args: Vec<OsString>,
    folder: Option<PathBuf>,
    variables: Vec<(&'static str, OsString)>,
}

impl Job {
    /// A program without arguments.
    pub fn new(program: PathBuf) -> Self {
        Self { program, args: Vec::new(), folder: None, variables: Vec::new() }
    }

    /// With arguments added.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// In a folder.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name, value.as_ref().to_owned()));
        self
    }

    /// Runs it with our output as its output.
    ///
    /// # Errors
    ///
    /// If it cannot be started or does not end with 0.
    pub fn run(&self) -> anyhow::Result<()> {
        let status = self.command().status().with_context(|| format!("cannot run {self}"))?;
        ensure!(status.success(), "{self} failed: {status}");
        Ok(())
    }

    /// Runs it and returns what it prints.
    ///
    /// # Errors
    ///
    /// If it cannot be started or does not end with 0.
    pub fn output(&self) -> anyhow::Result<Vec<u8>> {
        let output = self.command().output().with_context(|| format!("cannot run {self}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{self} failed: {}\n{said}", output.status);
        Ok(output.stdout)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.variables.iter().cloned());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}", self.program.display())?;
        for arg in &self.args {
            write!(f, " {}", arg.display())?;
        }
        write!(f, "`")
    }
}

/// The cargo that built this program, in the repository.
pub fn cargo<A: AsRef<OsStr>>(root: &Path, args: impl IntoIterator<Item = A>) -> Job {
    Job::new(PathBuf::from(env!("CARGO"))).args(args).folder(root)
}

/// Where cargo builds to.
///
/// # Errors
///
/// If cargo cannot say.
pub fn target(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = cargo(root, ["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target")?.into())
}
