//! `trueup align` and `trueup finetune`: from a recipe to a model that was trained.

use std::{fmt::Write as _, path::Path};

use data::template::Moment;
use hub::Kind;
use train::{
    Session,
    align::{Prepared, Setting},
    recipe::{self, Device, Override, Purpose, Recipe},
    resume::{self, Opening, Resume},
    training::Ending,
};

use super::{plan, size};
use crate::{
    args::Align,
    environment,
    failure::Failure,
    machine::{self, Memory},
    progress::Meter,
    signals::Signals,
    terminal::Terminal,
};

/// Trains a model for a purpose, or shows the recipe.
pub(super) fn run(args: &Align, purpose: Purpose, terminal: &mut Terminal) -> Result<(), Failure> {
    let now = environment::unix_seconds();
    let timestamp = environment::timestamp(now);
    let mut overrides: Vec<Override> = args.set.iter().map(|text| Override::set(text)).collect();
    let device = args.device.as_ref();
    overrides.extend(device.map(|device| Override::flag("--device", "device", device)));
    let recipe::Checked { recipe, notes } =
        recipe::read(&args.config, Some(purpose), &overrides, &timestamp)?;
    for note in notes {
        terminal.note(&note.to_string());
    }
    if args.dry_run {
        return dry_run(args, &recipe, now, terminal);
    }
    let resume = wanted(args, &recipe, &timestamp)?;
    if recipe.device == Device::Cuda {
        terminal.warn(
            "CUDA requested but unavailable. Using CPU.\nTraining will be significantly slower.",
        );
    }
    if let Some(threads) = recipe.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        // Nothing has computed yet, so this is the first and only pool.
        pool.build_global().map_err(std::io::Error::other)?;
    }
    train(&Order { args, resume: &resume, now }, recipe, &mut Session::default(), terminal)
}

/// Shows the recipe, and the plan of the run if model and data are on this machine.
fn dry_run(args: &Align, recipe: &Recipe, now: u64, terminal: &Terminal) -> Result<(), Failure> {
    let setting = match setting(args.no_cache, recipe, now, terminal) {
        Ok(setting) => setting,
        Err(error) => {
            terminal.data(&recipe.render())?;
            terminal.note(&format!("no plan: {error}"));
            return Ok(());
        }
    };
    let prepared = match Prepared::new(recipe.clone(), setting, &mut Session::default()) {
        Ok(prepared) => prepared,
        Err(error) => {
            terminal.data(&recipe.render())?;
            return Err(error.into());
        }
    };
    terminal.data(&prepared.recipe().render())?;
    tell(&prepared, args, terminal);
    terminal.print(&plan::text(&prepared));
    // The process ends here; giving its memory back first would only take time.
    std::mem::forget(prepared);
    Ok(())
}

/// Where the run begins.
fn wanted(args: &Align, recipe: &Recipe, timestamp: &str) -> Result<Resume, Failure> {
    Ok(match args.resume.as_deref() {
        None => Resume::No,
        Some(path) if path == Path::new("auto") => {
            // The default folder has the time in its name, so no other run would ever find it.
            if recipe.alignment.output_dir.to_string_lossy().ends_with(timestamp) {
                return Err(Failure::NowhereToResume);
            }
            Resume::Auto
        }
        Some(path) => Resume::From(path.to_owned()),
    })
}

/// How a recipe is to be trained.
pub(super) struct Order<'a> {
    /// The flags.
    pub(super) args: &'a Align,
    /// Where the run begins.
    pub(super) resume: &'a Resume,
    /// The time, in seconds since 1970.
    pub(super) now: u64,
}

/// Trains as a recipe says, with what the session has of earlier runs.
pub(super) fn train(
    order: &Order<'_>,
    mut recipe: Recipe,
    session: &mut Session,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let args = order.args;
    let setting = setting(args.no_cache, &recipe, order.now, terminal)?;
    let setting = Setting { profile: args.profile, ..setting };
    // From here on the first Ctrl-C saves; before, there is nothing to save.
    let signals = Signals::listen()?;
    let (folder, start) = match resume::open(&mut recipe, order.resume)? {
        Opening::Finished { root } => {
            terminal.note(&format!("`{}` is finished already", root.display()));
            return Ok(());
        }
        Opening::Run { folder, start, notes } => {
            for note in notes {
                terminal.note(&note);
            }
            (folder, start)
        }
    };
    let root = folder.root().to_owned();
    let prepared = Prepared::new(recipe, setting, session)?;
    tell(&prepared, args, terminal);

    let mut meter = Meter::new(terminal, signals.clone(), args.verbose);
    // On a thread of the pool, for which each operation is no more than a call.
    let outcome = rayon::scope(|_| prepared.run(folder, &start, session, &mut meter));
    meter.end();
    let outcome = outcome?;
    if let Some(trainer) = outcome.trainer {
        session.keep(&prepared, trainer);
    }
    match outcome.ending {
        Ending::Finished => {
            terminal.print(&format!("done: {}\n", root.display()));
            Ok(())
        }
        Ending::Interrupted { step } => {
            let checkpoint = (0 < step).then(|| root.join(format!("checkpoint-{step}")));
            Err(stopped(&prepared, args, &signals, checkpoint))
        }
    }
}

fn stopped(
    prepared: &Prepared,
    args: &Align,
    signals: &Signals,
    checkpoint: Option<std::path::PathBuf>,
) -> Failure {
    let command = prepared.recipe().purpose().command();
    let mut resume = format!("trueup {command} --config {}", args.config.display());
    for set in &args.set {
        let _ = write!(resume, " --set {set}");
    }
    if let Some(checkpoint) = &checkpoint {
        let _ = write!(resume, " --resume {}", checkpoint.display());
    }
    let signal = signals.received().unwrap_or(crate::signals::INTERRUPT);
    Failure::Stopped { signal, checkpoint, resume }
}

/// Finds everything that the recipe names.
///
/// `no_cache` keeps nothing for later runs.
pub(super) fn setting(
    no_cache: bool,
    recipe: &Recipe,
    now: u64,
    terminal: &Terminal,
) -> Result<Setting, Failure> {
    let caches = environment::caches()?;
    let model = hub::locate(Kind::Model, &recipe.model.path, None, &caches)?.path;
    let tokenizer = recipe.model.base_model.as_ref().and_then(|base| {
        let found = hub::locate(Kind::Model, base, None, &caches);
        if found.is_err() {
            let told = "is not on this machine; the tokenizer beside the model is used";
            terminal.note(&format!("`{base}` {told}"));
        }
        Some(found.ok()?.path)
    });
    let sources = recipe.dataset.training_sources().into_iter();
    let sources = sources.chain(recipe.dataset.evaluation_sources());
    let datasets = sources.filter_map(|source| {
        let name = source.path.to_str()?.to_owned();
        let path = environment::dataset(&name, &caches)?;
        Some((name, path))
    });
    Ok(Setting {
        datasets: datasets.collect(),
        device: kernels::Device::cpu(),
        model,
        tokenizer,
        caches: (!no_cache).then_some(caches.own),
        memory: Memory::detect().usable().unwrap_or(u64::MAX),
        today: Moment::from_unix_seconds(now).ok_or(Failure::Clock)?,
        profile: false,
    })
}

/// Says once what was decided.
fn tell(prepared: &Prepared, args: &Align, terminal: &Terminal) {
    let reports = &prepared.pairs().reports;
    let noun = match prepared.recipe().purpose() {
        Purpose::Align => "pairs",
        Purpose::Finetune => "rows",
    };
    terminal.print(&format!(
        "{noun}: {} to train on, {} to evaluate on\n",
        reports.train_pairs, reports.eval_pairs
    ));
    if prepared.pairs().decisions.cache_was_damaged {
        terminal.note("the tokens kept of an earlier run were damaged, and were made again");
    }
    terminal.print(&reports.train.render_problems());
    for remark in prepared.remarks() {
        terminal.print(&format!("{remark}\n"));
    }
    terminal.print(&format!(
        "steps: {}; trained numbers: {}; memory: {}; threads: {}\n",
        prepared.batches().total_steps(),
        prepared.trained_count(),
        size(prepared.memory().total()),
        prepared.recipe().threads.unwrap_or_else(machine::threads),
    ));
    if prepared.recipe().purpose() == Purpose::Align {
        terminal.print(&format!("reference: {}\n", prepared.reference_in_words()));
    }
    if args.verbose && !args.dry_run {
        terminal.print(&prepared.recipe().render());
    }
}
