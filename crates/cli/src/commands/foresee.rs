//! `trueup plan`: what a recipe will take, and what to change where that is too much.

use std::fmt::Write as _;

use data::tokenize::Example;
use model::MemoryPlan;
use serde_json::json;
use train::{
    Session,
    align::Prepared,
    recipe::{self, Override, Recipe},
};

use super::{
    align,
    plan::{products_per_second, reference_tokens, rounded, seconds},
    size,
};
use crate::{args::Plan, environment, failure::Failure, machine::Memory, terminal::Terminal};

/// A way to run the recipe.
struct Choice {
    /// The settings that differ, as a recipe has them; empty for the recipe itself.
    settings: String,
    memory: MemoryPlan,
}

/// Shows what a recipe will take; no weight is loaded.
pub(super) fn run(args: &Plan, terminal: &mut Terminal) -> Result<(), Failure> {
    let now = environment::unix_seconds();
    let overrides: Vec<Override> = args.set.iter().map(|text| Override::set(text)).collect();
    let recipe::Checked { recipe, notes } =
        recipe::read(&args.recipe, None, &overrides, &environment::timestamp(now))?;
    for note in notes {
        terminal.note(&note.to_string());
    }
    let prepared = prepare(&recipe, now, terminal)?;
    let choices = choices(&prepared);
    let available = Memory::detect().usable();
    let rate = products_per_second(prepared.precision());
    if args.json {
        terminal.data(&(as_json(&prepared, &choices, (available, rate)).to_string() + "\n"))
    } else {
        terminal.data(&text(&prepared, &choices, (available, rate)))
    }
}

/// The run, planned for a machine without limits.
fn prepare(recipe: &Recipe, now: u64, terminal: &Terminal) -> Result<Prepared, Failure> {
    let mut setting = align::setting(true, recipe, now, terminal)?;
    setting.memory = u64::MAX;
    Ok(Prepared::new(recipe.clone(), setting, &mut Session::default())?)
}

/// The recipe, and ways to run it that take less.
fn choices(prepared: &Prepared) -> Vec<Choice> {
    let alignment = &prepared.recipe().alignment;
    let (recompute, tokens) =
        (alignment.gradient_checkpointing == Some(true), alignment.tokens_per_micro_batch);
    let section = if alignment.finetuning.is_some() { "training" } else { "alignment" };
    let again = format!("{section}.gradient_checkpointing: true");
    let smaller = |tokens: usize| format!("{section}.tokens_per_micro_batch: {tokens}");
    let mut found = vec![Choice { settings: String::new(), memory: *prepared.memory() }];
    let mut add = |settings: String, memory: MemoryPlan| {
        if found.iter().all(|choice| memory.total() < choice.memory.total()) {
            found.push(Choice { settings, memory });
        }
    };
    let mut part = tokens / 2;
    if !recompute {
        add(smaller(part), prepared.memory_if(false, part));
        add(again.clone(), prepared.memory_if(true, tokens));
    }
    while part >= 64 {
        let settings =
            if recompute { smaller(part) } else { format!("{again}, {}", smaller(part)) };
        add(settings, prepared.memory_if(true, part));
        part /= 2;
    }
    found
}

fn text(prepared: &Prepared, choices: &[Choice], (available, rate): (Option<u64>, f64)) -> String {
    let config = prepared.files().checkpoint.config();
    let mut text = String::new();
    let (weights, blocks) = (config.parameter_count(), config.layers());
    let _ = writeln!(text, "model    {}, {weights} weights in {blocks} blocks", config.family);
    let _ = writeln!(text, "trained  {} numbers", prepared.trained_count());
    let steps = prepared.batches().total_steps();
    let _ = writeln!(
        text,
        "steps    {steps} of {:.0} tokens, the longest row has {}",
        trained_tokens(prepared) / steps.max(1) as f64,
        longest(prepared)
    );
    let head = ["memory", "weights", "trained", "activations", "scratch"];
    let [all, weights, trained, activations, scratch] = head;
    let _ = writeln!(
        text,
        "\n{all:>10}  {weights:>10}  {trained:>10}  {activations:>11}  {scratch:>10}  with"
    );
    for Choice { settings, memory } in choices {
        let settings = if settings.is_empty() { "the recipe as it is" } else { settings };
        let _ = writeln!(
            text,
            "{:>10}  {:>10}  {:>10}  {:>11}  {:>10}  {settings}",
            size(memory.total()),
            size(memory.weights),
            size(memory.trainable),
            size(memory.activations),
            size(memory.scratch),
        );
    }
    let _ = writeln!(text, "\n{}", verdict(choices, available));
    let all = seconds(prepared, reference_tokens(prepared), rate);
    let step = seconds(prepared, 0, rate) / steps.max(1) as f64;
    let _ = writeln!(
        text,
        "about {} a step, {} in all without evaluation, at {:.0} GFLOP/s measured now",
        brief(step),
        rounded(all),
        rate / 1e9
    );
    text
}

/// Whether it fits, and the first setting that makes it fit.
fn verdict(choices: &[Choice], available: Option<u64>) -> String {
    let Some(available) = available else { return "how much memory is free is not known".into() };
    let free = size(available);
    match choices.iter().position(|choice| choice.memory.total() <= available) {
        Some(0) => format!("fits into the {free} that are free"),
        Some(index) => {
            format!("does not fit into the {free} that are free; set {}", choices[index].settings)
        }
        None => format!(
            "does not fit into the {free} that are free, whatever is set; take a smaller model, shorter rows, or fewer trained numbers"
        ),
    }
}

fn as_json(
    prepared: &Prepared,
    choices: &[Choice],
    (available, rate): (Option<u64>, f64),
) -> serde_json::Value {
    let config = prepared.files().checkpoint.config();
    let steps = prepared.batches().total_steps();
    let choices: Vec<_> = choices
        .iter()
        .map(|Choice { settings, memory }| {
            json!({"settings": settings, "bytes": memory.total(), "parts": memory})
        })
        .collect();
    json!({
        "model": config.family,
        "weights": config.parameter_count(),
        "trained": prepared.trained_count(),
        "steps": steps,
        "tokens_per_step": trained_tokens(prepared) / steps.max(1) as f64,
        "longest_row": longest(prepared),
        "memory": choices,
        "available": available,
        "seconds_per_step": seconds(prepared, 0, rate) / steps.max(1) as f64,
        "seconds": seconds(prepared, reference_tokens(prepared), rate),
        "flops_per_second": rate,
    })
}

fn trained_tokens(prepared: &Prepared) -> f64 {
    let train: usize = prepared.pairs().train.iter().map(Example::token_count).sum();
    train as f64 * prepared.batches().epoch(prepared.batches().total_steps())
}

fn longest(prepared: &Prepared) -> usize {
    let pairs = prepared.pairs();
    pairs.train.iter().chain(&pairs.held_out).map(Example::token_count).max().unwrap_or(0)
}

/// A short time with a decimal, a long one in two units.
fn brief(seconds: f64) -> String {
    if seconds < 60.0 { format!("{seconds:.1} s") } else { rounded(seconds) }
}

#[cfg(test)]
mod tests {
    use model::MemoryPlan;

    use super::{Choice, verdict};

    #[test]
    fn the_first_setting_that_fits_is_named() {
        let choice = |settings: &str, activations| Choice {
            settings: settings.into(),
            memory: MemoryPlan { weights: 100, trainable: 0, activations, scratch: 0 },
        };
        let choices = [choice("", 50), choice("a: 1", 20), choice("b: 2", 10)];
        assert!(verdict(&choices, Some(150)).starts_with("fits into the 150 B"));
        assert!(verdict(&choices, Some(149)).ends_with("set a: 1"));
        assert!(verdict(&choices, Some(119)).ends_with("set b: 2"));
        assert!(verdict(&choices, Some(99)).contains("smaller model"));
        assert!(verdict(&choices, None).contains("not known"));
    }
}
