//! The project's own commands: `cargo xtask <command>`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use xtask::run::{Job, cargo, say};
use xtask::{bench, docs, files, goldens, parity, random, road::Road, speed, study, tidy};

const HELP: &str = "commands:
  check             what must pass before a commit: fmt, clippy, tidy, docs, test, doc
  tidy              the rules about the repository itself
  goldens [--check] make the reference values, or verify that they are what their programs compute;
                    TRUEUP_ORACLE names the virtual environment with those programs
  docs [--check]    make the generated pages, or verify that they are up to date
  parity [--only templates|greedy|likelihood|objectives|training|server|gguf] [--model FOLDER] [--data FILE] [--case NAME] [--templates FOLDER]
                    compare templates, generation and losses with transformers and TRL, then train with
                    both from the same point; FOLDER has the Hugging Face layout, and FILE pairs for it; without it the
                    tiny models are used; `server` asks `trueup serve` with OpenAI's client, `gguf` reads
                    what `trueup fuse` writes with llama.cpp, and both run only where they are named
  study NAME MODEL DATA
                    train what a page of docs reports on (`factual` or `noise`), three seeds each, and
                    print its table; MODEL as for parity, DATA rows of pairs with h_w, h_l and qid
  road MODEL QUESTIONS
                    from 100 questions with answers to a fused model, killed and resumed on the way
  random CONFIG DIR write a model of any size with random weights, for memory and time
  speed FILE [THREADS]
                    how fast a GGUF file is read and written on, beside llama.cpp in turns (2 threads
                    each); TRUEUP_ORACLE as for goldens, with llama-cpp-python
  bench kernels [NAME]
                    measure how fast the kernels are, all of them or one example
  bench step MODEL DATA [--pairs N] [--batch 2x4] [--max-length N] [--rank N] [--precision bf16|f32]
             [--threads N]
                    train one epoch and tell what a step consists of, as a table and a picture
  bench trl MODEL DATA [the same] [--trl default|tuned] [--runs N]
                    train beside TRL, the same tokens from the same start; TRUEUP_ORACLE as for goldens";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace that the debug form would add.
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let root = files::root();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["check"] => check(&root),
        ["tidy"] => run_tidy(&root),
        ["goldens"] => goldens::make(&root, &oracle()?),
        ["goldens", "--check"] => goldens::check(&root, &oracle()?),
        ["docs"] => docs::make(&root),
        ["docs", "--check"] => docs::check(&root),
        ["parity", ref rest @ ..] => parity::compare(&root, &oracle()?, asked(rest)?),
        ["study", name, model, data] => study::run(&root, name, Path::new(model), Path::new(data)),
        ["road", model, questions] => travel(&root, Path::new(model), Path::new(questions)),
        ["speed", model] => speed::compare(&root, &oracle_python()?, Path::new(model), 2),
        ["speed", model, threads] => {
            speed::compare(&root, &oracle_python()?, Path::new(model), threads.parse()?)
        }
        ["random", config, folder] => random::write(&root, Path::new(config), Path::new(folder)),
        ["bench", "kernels"] => bench::kernels(&root, None),
        ["bench", "kernels", name] => bench::kernels(&root, Some(name)),
        ["bench", "step", model, data, ref rest @ ..] => {
            bench::step(&root, &bench::Work::new(model, data, rest, false)?)
        }
        ["bench", "trl", model, data, ref rest @ ..] => {
            bench::beside(&root, &oracle()?, &bench::Work::new(model, data, rest, true)?)
        }
        ["help" | "--help" | "-h"] => {
            say(HELP);
            Ok(())
        }
        _ => bail!("`{}` is not a command\n\n{HELP}", words.join(" ")),
    }
}

/// The options of `parity`.
fn asked<'a>(words: &[&'a str]) -> anyhow::Result<parity::Asked<'a>> {
    use parity::Stage::{Gguf, Greedy, Likelihood, Training};
    let mut asked = parity::Asked::default();
    for option in words.chunks(2) {
        match *option {
            ["--only", "objectives"] => asked.stage = Some(parity::Stage::Objectives),
            ["--only", "templates"] => asked.stage = Some(parity::Stage::Templates),
            ["--only", "greedy"] => asked.stage = Some(Greedy),
            ["--only", "likelihood"] => asked.stage = Some(Likelihood),
            ["--only", "training"] => asked.stage = Some(parity::Stage::Training),
            ["--only", "gguf"] => asked.stage = Some(parity::Stage::Gguf),
            ["--only", "server"] => asked.stage = Some(parity::Stage::Server),
            ["--model", folder] => asked.model = Some(Path::new(folder)),
            ["--data", file] => asked.data = Some(Path::new(file)),
            ["--case", name] => asked.case = Some(name),
            ["--templates", folder] => asked.templates = Some(Path::new(folder)),
            _ => bail!("`parity` has no option `{}`\n\n{HELP}", option.join(" ")),
        }
    }
    ensure!(
        asked.templates.is_none() || asked.stage.is_none_or(|it| it == parity::Stage::Templates),
        "only `--only templates` takes `--templates`"
    );
    ensure!(
        asked.case.is_none() || asked.stage.is_none_or(|stage| stage == Training),
        "only training takes `--case`"
    );
    ensure!(
        asked.model.is_none()
            || asked.stage.is_none_or(|it| [Greedy, Likelihood, Training, Gguf].contains(&it)),
        "only training and `--only greedy|likelihood|gguf` take `--model`"
    );
    ensure!(
        asked.model.is_some() || !asked.stage.is_some_and(|it| [Greedy, Likelihood].contains(&it)),
        "`--only greedy` and `--only likelihood` need `--model`"
    );
    if asked.model.is_some() || asked.case.is_some() {
        asked.stage = asked.stage.or(Some(Training));
    }
    ensure!(asked.model.is_some() || asked.data.is_none(), "`--data` needs `--model`");
    ensure!(asked.data.is_none() || asked.stage != Some(Gguf), "`--only gguf` takes no `--data`");
    Ok(asked)
}

/// Goes the road with the release build.
fn travel(root: &Path, model: &Path, questions: &Path) -> anyhow::Result<()> {
    cargo(root, ["build", "--release", "--quiet", "--package", "cli"]).run()?;
    let target = xtask::run::target(root)?;
    let folder = target.join("road");
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    let program = target.join("release/trueup");
    let (model, questions) = (fs_err::canonicalize(model)?, fs_err::canonicalize(questions)?);
    let road = Road {
        program: &program,
        model: &model,
        questions: &questions,
        limit: 100,
        tokens: 64,
        folder: &folder,
    };
    road.travel()
}

/// Runs all that must pass, quick things first.
fn check(root: &Path) -> anyhow::Result<()> {
    cargo(root, ["fmt", "--all", "--check"]).run()?;
    run_tidy(root)?;
    docs::check(root)?;
    cargo(root, ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
        .run()?;
    cargo(root, ["test", "--workspace", "--quiet"]).run()?;
    cargo(root, ["doc", "--workspace", "--no-deps", "--quiet"])
        .with("RUSTDOCFLAGS", "-D warnings")
        .run()
}

fn run_tidy(root: &Path) -> anyhow::Result<()> {
    let complaints = tidy::check(root)?;
    for complaint in &complaints {
        say(&complaint.to_string());
    }
    ensure!(complaints.is_empty(), "the repository is not tidy");
    say("tidy");
    Ok(())
}

/// The Python of the virtual environment that holds the reference programs.
fn oracle() -> anyhow::Result<Job> {
    Ok(Job::new(oracle_python()?))
}

/// Where that Python lies.
fn oracle_python() -> anyhow::Result<PathBuf> {
    let folder: Option<OsString> = std::env::var_os("TRUEUP_ORACLE");
    let folder = folder.context(
        "TRUEUP_ORACLE is not set\n\nhint: point it at a virtual environment; the head of each \
         goldens/make_*.py says what it needs",
    )?;
    let python = PathBuf::from(&folder).join("bin/python");
    ensure!(python.exists(), "`{}` does not exist", python.display());
    Ok(python)
}
