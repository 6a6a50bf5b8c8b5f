//! `trueup eval`: what a model makes of preferences, without training.

use std::{fmt::Write as _, path::Path};

use hub::Kind;
use serde_json::{Map, json};
use train::{
    Session,
    align::Prepared,
    metrics::Sums,
    recipe::{self, Override, Recipe, Tuning},
    trainer::Judged,
};

use super::align;
use crate::{
    args::Eval, environment, failure::Failure, progress::Meter, signals::Signals,
    terminal::Terminal,
};

/// Scores every pair and says how often and by how much the chosen side is ahead.
pub(super) fn run(args: &Eval, terminal: &mut Terminal) -> Result<(), Failure> {
    let now = environment::unix_seconds();
    let recipe = recipe(args, now)?;
    let setting = align::setting(args.no_cache, &recipe, now, terminal)?;
    let signals = Signals::listen()?;
    let mut session = Session::default();
    let prepared = Prepared::new(recipe, setting, &mut session)?;
    let reports = &prepared.pairs().reports;
    terminal.print(&format!("rows: {}\n", reports.train_pairs));
    terminal.print(&reports.train.render_problems());
    terminal.print(&format!("reference: {}\n", prepared.reference_in_words()));
    let mut meter = Meter::new(terminal, signals.clone(), false);
    // On a thread of the pool, for which each operation is no more than a call.
    let evaluated = rayon::scope(|_| prepared.evaluate(&mut session, &mut meter));
    meter.end();
    let Some((sums, rows)) = evaluated? else {
        let signal = signals.received().unwrap_or(crate::signals::INTERRUPT);
        return Err(Failure::Unfinished { signal });
    };
    if let Some(path) = &args.rows {
        write_rows(path, &rows)?;
    }
    tell(args, &prepared, &sums, terminal)
}

/// The recipe that says what the flags say.
fn recipe(args: &Eval, now: u64) -> Result<Recipe, Failure> {
    let adapter = args.adapter.as_deref();
    let model = match (&args.model, adapter) {
        (Some(model), _) => model.clone(),
        (None, Some(folder)) => {
            let config = formats::peft::read(folder).map_err(train::Error::from)?.config;
            config.base_model_name_or_path.ok_or(Failure::NoModel)?
        }
        (None, None) => return Err(Failure::NoModel),
    };
    // Found here, so that an adapter's base is named where it is missing.
    hub::locate(Kind::Model, &model, None, &environment::caches()?)?;
    let mut section = Map::new();
    section.insert("path".into(), json!(model));
    if let Some(folder) = adapter {
        section.insert("adapter".into(), json!(folder));
        // An adapter that is held to itself has no rewards.
        section.insert("reference".into(), json!(args.reference.as_deref().unwrap_or("base")));
    } else if let Some(reference) = &args.reference {
        section.insert("reference".into(), json!(reference));
    }
    // JSON is YAML.
    let text = json!({ "model": section, "dataset": { "path": args.data } }).to_string();
    let overrides: Vec<Override> = args.set.iter().map(|text| Override::set(text)).collect();
    let timestamp = environment::timestamp(now);
    let checked = recipe::check(&text, &overrides, &timestamp).map_err(|list| {
        let file = "the flags of `trueup eval`".into();
        train::Error::Recipe(recipe::Problems { file, list })
    })?;
    let mut recipe = checked.recipe;
    refuse_void(&recipe)?;
    if recipe.alignment.tuning != Tuning::Full && adapter.is_none() {
        // Nothing is trained, so there is nothing to draw.
        recipe.alignment.tuning = Tuning::Adapter;
    }
    Ok(recipe)
}

/// Refuses keys that would leave rows out or move the reference, which only training does.
fn refuse_void(recipe: &Recipe) -> Result<(), Failure> {
    let voids = [
        ("--set dataset.eval_*", recipe.dataset.has_evaluation()),
        ("--set max_steps", recipe.alignment.max_steps.is_some()),
        ("--set alignment.sync_ref_model", recipe.alignment.sync.is_some()),
    ];
    match voids.into_iter().find(|(_, is_set)| *is_set) {
        Some((flag, _)) => Err(Failure::Useless {
            flag,
            when: "without training",
            hint: "remove it: all rows of the given files are scored once",
        }),
        None => Ok(()),
    }
}

fn write_rows(path: &Path, rows: &[Judged]) -> Result<(), Failure> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(row).map_err(std::io::Error::other)?);
        text.push('\n');
    }
    Ok(run::atomic::write(path, text.as_bytes()).map_err(train::Error::from)?)
}

/// The metrics, as a table or as JSON.
fn tell(args: &Eval, prepared: &Prepared, sums: &Sums, terminal: &Terminal) -> Result<(), Failure> {
    let metrics = sums.metrics("", &prepared.recipe().alignment.objective);
    if args.json {
        let mut object = Map::new();
        object.insert("rows".into(), json!(sums.rows));
        for (name, value) in metrics {
            object.insert(name, json!(value.as_f64()));
        }
        return terminal.data(&format!("{}\n", serde_json::Value::Object(object)));
    }
    let mut text = format!("{:22}  {:>10}\n", "rows", sums.rows);
    for (name, value) in metrics {
        let value = value.as_f64();
        let _ = write!(text, "{name:22}  {value:>10.4}");
        let is_share = ["rewards/accuracies", "accuracy_half_ties", "likelier"];
        if is_share.contains(&name.as_str()) {
            // Of a share of independent rows.
            let error = (value * (1.0 - value) / sums.pairs.max(1) as f64).sqrt();
            let _ = write!(text, "  ± {error:.4}");
        }
        text.push('\n');
    }
    terminal.data(&text)
}
