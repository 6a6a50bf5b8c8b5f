//! `trueup quickstart`: from nothing to an aligned model in a few minutes.

mod show;
mod tiny;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use data::{sample, template::Moment};
use hub::{Quickstart, Source};
use kernels::Device;
use run::RunFolder;
use train::{
    Session,
    align::{Outcome, Prepared, Setting, Start},
    recipe,
    training::Ending,
    watching::Kind,
};

use crate::{
    args::Quickstart as Args, environment, failure::Failure, machine::Memory, progress::Meter,
    signals::Signals, terminal::Terminal,
};

/// How the recipe of a quickstart begins, so that a later one knows its own folder.
const MARK: &str = "# Written by `trueup quickstart`; a later quickstart writes it again.";

/// Finds or fetches a model, aligns it on the sample data, and shows what changed.
pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<(), Failure> {
    let root = &args.output_dir;
    check_root(root)?;
    fs_err::create_dir_all(root)?;
    let caches = environment::caches()?;
    let model = find_model(args, &caches, root, terminal)?;
    let data = root.join("data");
    let text = recipe_text(&model, root);
    let config = root.join("recipe.yaml");
    run::atomic::write(&config, text.as_bytes())?;
    fs_err::create_dir_all(&data)?;
    sample::write(&data)?;
    terminal.print(&format!(
        "data:   {} (396 pairs to train on, 108 held out)\nrecipe: {}\n\n",
        data.display(),
        config.display()
    ));
    let now = environment::unix_seconds();
    let recipe = recipe::read(&config, None, &[], &environment::timestamp(now))?.recipe;
    let setting = Setting {
        device: Device::cpu(),
        model,
        tokenizer: None,
        caches: Some(caches.own),
        memory: Memory::detect().usable().unwrap_or(u64::MAX),
        datasets: BTreeMap::new(),
        today: Moment::from_unix_seconds(now).ok_or(Failure::Clock)?,
        profile: false,
    };
    let out = root.join("run");
    let (folder, start) = run_folder(&out)?;
    let mut session = Session::default();
    let prepared = Prepared::new(recipe, setting, &mut session)?;
    let signals = Signals::listen()?;
    // The sample is easy on purpose, so that minutes are enough.
    let mut meter =
        Meter::new(terminal, signals.clone(), false).expecting(&[Kind::Separable, Kind::Saturated]);
    // On a thread of the pool, for which each operation is no more than a call.
    let outcome = rayon::scope(|_| prepared.run(folder, &start, &mut session, &mut meter));
    meter.end();
    let Outcome { ending: Ending::Finished, trainer: Some(trainer) } = outcome? else {
        let signal = signals.received().unwrap_or(crate::signals::INTERRUPT);
        let resume = format!("trueup align --config {} --resume auto", config.display());
        return Err(Failure::Stopped { signal, checkpoint: None, resume });
    };
    show::results(&prepared, &trainer, &out, terminal)
}

/// Refuses a folder with files that no quickstart wrote: it would overwrite them.
fn check_root(root: &Path) -> Result<(), Failure> {
    let is_empty = !root.is_dir() || fs_err::read_dir(root)?.next().is_none();
    let recipe = root.join("recipe.yaml");
    let is_ours = recipe.is_file() && fs_err::read_to_string(&recipe)?.starts_with(MARK);
    if is_empty || is_ours {
        return Ok(());
    }
    Err(run::Error::NotEmpty { path: root.to_owned() }.into())
}

/// The run folder, and whether it is new; an earlier quickstart's run is done over.
fn run_folder(out: &Path) -> Result<(RunFolder, Start), Failure> {
    if out.is_dir() {
        return Ok((RunFolder::open(out)?, Start::Over));
    }
    Ok((RunFolder::create(out)?, Start::Fresh))
}

fn find_model(
    args: &Args,
    caches: &hub::Caches,
    root: &Path,
    terminal: &mut Terminal,
) -> Result<PathBuf, Failure> {
    let client = hub::Client::new(hub::Settings::from_environment(&environment::lookup))?;
    let places = Quickstart {
        given: args.model.as_deref(),
        caches,
        client: &client,
        pythons: &["python3", "python"],
    };
    let signals = Signals::listen()?;
    let mut lines = Vec::new();
    let found = hub::quickstart_model(
        &places,
        &mut |_| match signals.received() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        },
        &mut |line| lines.push(line.to_owned()),
    );
    for line in lines {
        terminal.note(&line);
    }
    match found {
        Ok((path, source)) => {
            let from = match source {
                Source::Given => "as given",
                Source::Cache => "found on this machine",
                Source::Hub => "fetched from the hub",
                Source::Package => "unpacked from a Python package",
            };
            terminal.print(&format!("model:  {} ({from})\n", path.display()));
            Ok(path)
        }
        Err(hub::Error::NoSource { .. }) => {
            let path = root.join("tiny-model");
            tiny::write(&path).map_err(train::Error::from)?;
            terminal.warn(
                "no model could be fetched, so this run uses a tiny random one made on the spot.\n\
                 It shows the way, and its numbers; its answers mean nothing.",
            );
            terminal.print(&format!("model:  {}\n", path.display()));
            Ok(path)
        }
        Err(error) => Err(error.into()),
    }
}

/// The recipe of the quickstart: what a user would write, and nothing more.
fn recipe_text(model: &Path, root: &Path) -> String {
    format!(
        "{MARK}\nmodel:\n  path: {model:?}\n\
         dataset:\n  path: {train:?}\n  eval_path: {test:?}\n  max_length: 256\n\
         alignment:\n  method: dpo\n  output_dir: {out:?}\n  beta: 0.1\n  loss_type: sigmoid\n\
         \x20 lora_r: 16\n  lora_alpha: 32\n  target_modules: all-linear\n\
         \x20 learning_rate: 1e-4\n  lr_scheduler_type: cosine\n  warmup_ratio: 0.1\n\
         \x20 batch_size: 4\n  gradient_accumulation_steps: 2\n  num_epochs: 1\n\
         \x20 save_steps: 50\n  save_total_limit: 1\n",
        model = model.display().to_string(),
        train = root.join("data/train.jsonl").display().to_string(),
        test = root.join("data/test.jsonl").display().to_string(),
        out = root.join("run").display().to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_users_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let recipe = home.path().join("recipe.yaml");
        check_root(home.path()).unwrap();
        check_root(&home.path().join("new")).unwrap();
        run::atomic::write(&recipe, b"model:\n  path: mine\n").unwrap();
        let refused = check_root(home.path());
        assert!(matches!(refused, Err(Failure::Run(run::Error::NotEmpty { .. }))));
        let ours = recipe_text(Path::new("model"), home.path());
        run::atomic::write(&recipe, ours.as_bytes()).unwrap();
        check_root(home.path()).unwrap();
    }
}
