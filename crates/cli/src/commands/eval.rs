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
    refuse_void(&args.set)?;
    let overrides: Vec<Override> = args.set.iter().map(|text| Override::set(text)).collect();
    let timestamp = environment::timestamp(now);
    let checked = recipe::check(&text, &overrides, &timestamp)
        .map_err(|list| train::Error::Recipe(recipe::Problems { file: FLAGS.into(), list }))?;
    let mut recipe = checked.recipe;
    if recipe.alignment.tuning != Tuning::Full && adapter.is_none() {
        // Nothing is trained, so there is nothing to draw.
        recipe.alignment.tuning = Tuning::Adapter;
    }
    Ok(recipe)
}

/// What stands for a recipe's file in messages.
const FLAGS: &str = "the flags of `trueup eval`";

/// Keys of `alignment` and `training` that only training asks for.
const VOID: [&str; 35] = [
    "output_dir",
    "run_name",
    "sync_ref_model",
    "ref_model_mixup_alpha",
    "ref_model_sync_steps",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "disable_dropout",
    "use_rslora",
    "target_modules",
    "layers_to_transform",
    "num_layers",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "warmup_ratio",
    "batch_size",
    "gradient_accumulation_steps",
    "num_epochs",
    "max_steps",
    "max_epochs",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "shuffle_dataset",
    "packing",
    "save_steps",
    "save_total_limit",
    "logging_steps",
    "stop_when",
    "gradient_checkpointing",
    "early_stopping_patience",
];

/// Refuses keys that change nothing without training, or would leave rows out.
fn refuse_void(set: &[String]) -> Result<(), Failure> {
    let of_training = "remove it: nothing is trained";
    let of_evaluation = "remove it: all rows of the given files are scored once";
    let problem = |text: &String| {
        let key = text.split_once('=').map_or(&**text, |(key, _)| key).trim();
        let hint = match key.split_once('.')? {
            ("alignment" | "training", name) if VOID.contains(&name) => of_training,
            (
                "alignment" | "training",
                "eval_steps" | "load_best_model_at_end" | "metric_for_best_model",
            )
            | ("dataset", "eval_path" | "eval_split" | "eval_fraction") => of_evaluation,
            _ => return None,
        };
        let (key, when, hint) = (key.to_owned(), "without training".to_owned(), hint.to_owned());
        let what = recipe::What::NoEffect { key, when, hint };
        Some(recipe::Problem { place: recipe::Place::Argument(format!("--set {text}")), what })
    };
    match set.iter().filter_map(problem).collect::<Vec<_>>() {
        list if list.is_empty() => Ok(()),
        list => Err(train::Error::Recipe(recipe::Problems { file: FLAGS.into(), list }).into()),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use train::recipe::{KEYS, Key};

    use super::*;

    /// Keys that decide what is scored, and how; a new key is in this list or in the other.
    const ACTING: &str = "method beta loss_type loss_weights label_smoothing reward_shift \
        discopop_tau dpop_lambda simpo_gamma cpo_alpha alpha gamma_beta_ratio repo_gamma \
        rpo_distance gt_reward_scale desirable_weight undesirable_weight delta flip \
        f_divergence_type f_alpha_divergence_coef ld_alpha use_weighting rpo_alpha \
        confidence_weighting confidence_floor preference_warmup_epochs reliability \
        reliability_rate group_delay_size group_delay_weight group_term use_lora seed \
        tokens_per_micro_batch quantization_bits completion_only_loss assistant_only_loss \
        max_seq_length";

    #[test]
    fn every_key_of_a_training_acts_or_is_refused() {
        let is_training = |key: &&Key| ["alignment", "training"].contains(&key.section);
        let is_taken = |key: &&Key| refuse_void(&[format!("{}=1", key.path())]).is_ok();
        let taken: BTreeSet<&str> =
            KEYS.iter().filter(is_training).filter(is_taken).map(|key| key.name).collect();
        assert_eq!(taken, ACTING.split(' ').collect());
        for name in VOID {
            assert!(KEYS.iter().any(|key| key.name == name), "{name} is no key");
        }
    }
}
