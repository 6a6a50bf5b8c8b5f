//! What the sections decide for each other: keys of one that do nothing beside another.

use super::{Alignment, Model, Tuning, problem::Problem, section, tree::Entry};

/// A key that has no effect: its section, its name, when, and what to do.
type Void = (&'static str, &'static str, &'static str, &'static str);

/// Reports keys that have no effect.
pub(super) fn check(
    alignment: &Alignment,
    model: Option<&Model>,
    entries: &[Entry],
    problems: &mut Vec<Problem>,
) {
    let mut voids =
        if alignment.finetuning.is_some() { of_finetuning() } else { of_alignment(alignment) };
    if alignment.tuning == Tuning::Full {
        let when = match alignment.finetuning {
            Some(_) => "with `training.method: full`",
            None => "with `alignment.use_lora: false`",
        };
        let hint = "remove it: weights that are trained are kept in 32 bits";
        if model.is_some_and(|model| model.load_in_4bit) {
            voids.push(("model", "load_in_4bit", when, hint));
        }
        voids.push(("model", "dequantize", when, hint));
    }
    for (name, key, when, hint) in voids {
        let _ = section(name, entries, problems, |section| {
            section.refuse(key, when, hint);
            Some(())
        });
    }
}

fn of_finetuning() -> Vec<Void> {
    let when = "in fine-tuning";
    let no_pairs = "remove it: rows have one completion";
    vec![
        ("dataset", "group_by_prompt", when, no_pairs),
        ("dataset", "chosen_field", when, "name the completion's field with `completion_field`"),
        ("dataset", "rejected_field", when, no_pairs),
        ("dataset", "max_length", when, "write `training.max_seq_length`"),
        ("model", "reference", when, "remove it: nothing is held to a reference"),
    ]
}

fn of_alignment(alignment: &Alignment) -> Vec<Void> {
    let objective = &alignment.objective;
    let mut voids = vec![(
        "dataset",
        "text_field",
        "in alignment",
        "remove it: preferences are between completions of a prompt",
    )];
    if !objective.needs().desirable {
        let hint = "name the fields with `chosen_field` and `rejected_field`";
        voids.push(("dataset", "completion_field", "with a loss over pairs", hint));
    }
    if objective.gdpo.is_none() {
        let hint = "remove it, or use `method: gdpo`";
        voids.push(("dataset", "group_by_prompt", "with `method: dpo`", hint));
    }
    if !objective.needs_reference() {
        let hint = "remove it, or use a loss that is held to a reference";
        let when = "with a loss that has no reference";
        voids.push(("model", "reference", when, hint));
        if alignment.sync.is_some() {
            voids.push(("alignment", "sync_ref_model", when, hint));
        }
    }
    voids
}
