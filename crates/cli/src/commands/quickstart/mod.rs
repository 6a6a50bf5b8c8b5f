//! `trueup quickstart`: from nothing to an aligned model in a few minutes.

mod show;
mod tiny;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use data::{sample, template::Moment};
use hub::{Quickstart, Source};
use kernels::Device;
use run::RunFolder;
use train::{
    align::{Outcome, Prepared, Setting, Start},
    recipe,
    training::Ending,
};

use crate::{
    args::Quickstart as Args, environment, failure::Failure, machine::Memory, progress::Meter,
    signals::Signals, terminal::Terminal,
};

/// Finds or fetches a model, aligns it on the sample data, and shows what changed.
pub(super) fn run(args: &Args, terminal: &mut Terminal) -> Result<(), Failure> {
    let root = &args.output_dir;
    fs_err::create_dir_all(root)?;
    let caches = environment::caches()?;
    let model = find_model(args, &caches, root, terminal)?;
    let data = root.join("data");
    fs_err::create_dir_all(&data)?;
    sample::write(&data)?;
    let text = recipe_text(&model, root);
    let config = root.join("recipe.yaml");
    run::atomic::write(&config, text.as_bytes())?;
    terminal.print(&format!(
        "data:   {} (396 pairs to train on, 108 held out)\nrecipe: {}\n\n",
        data.display(),
        config.display()
    ));
    let now = environment::unix_seconds();
    let recipe = recipe::read(&config, &[], &environment::timestamp(now))?.recipe;
    let setting = Setting {
        device: Device::cpu(),
        model,
        tokenizer: None,
        caches: Some(caches.own),
        memory: Memory::detect().usable().unwrap_or(u64::MAX),
        today: Moment::from_unix_seconds(now).ok_or(Failure::Clock)?,
    };
    let out = root.join("run");
    let folder = fresh_folder(&out)?;
    let prepared = Prepared::new(recipe, setting)?;
    let signals = Signals::listen()?;
    let mut meter = Meter::new(terminal, signals.clone(), false);
    let outcome = prepared.run(folder, &Start::Fresh, &mut meter);
    meter.end();
    let Outcome { ending: Ending::Finished, trainer: Some(trainer) } = outcome? else {
        let signal = signals.received().unwrap_or(crate::signals::INTERRUPT);
        let resume = format!("trueup align --config {} --resume auto", config.display());
        return Err(Failure::Stopped { signal, checkpoint: None, resume });
    };
    show::results(&prepared, &trainer, &out, terminal)
}

/// The run folder, emptied of an earlier quickstart.
fn fresh_folder(out: &Path) -> Result<RunFolder, Failure> {
    if out.is_dir() {
        let folder = RunFolder::open(out)?;
        drop(folder);
        run::atomic::remove_folder(out)?;
    }
    Ok(RunFolder::create(out)?)
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
        "model:\n  path: {model:?}\n\
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
