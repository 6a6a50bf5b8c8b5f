//! Every objective against its paper in 200 digits, and against TRL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;

use std::collections::BTreeSet;

use cases::{Case, Golden, evaluate, read};
use objectives::{FDivergence, GroupTerm, Loss, Objective};
use testkit::tolerance::{DIFFERENCE_NOISE, OBJECTIVE_F64, OBJECTIVE_TRL};

#[test]
fn every_loss_agrees_with_its_paper() {
    for name in Loss::NAMES {
        let golden = read(name);
        for objective in golden.cases.iter().map(Case::objective) {
            assert!(objective.terms.iter().any(|term| term.loss.name() == name), "{name}");
        }
        agree(&golden, OBJECTIVE_F64);
    }
}

#[test]
fn every_modifier_agrees_with_its_paper() {
    for name in Objective::MODIFIERS {
        agree(&read(name), OBJECTIVE_F64);
    }
}

#[test]
fn every_divergence_and_every_term_over_groups_has_cases() {
    let divergences = read("f_divergence").cases.iter().map(Case::objective).fold(
        BTreeSet::from([FDivergence::ReverseKl.name()]),
        |mut found, objective| {
            found.insert(objective.modifiers.f_divergence.name());
            found
        },
    );
    assert_eq!(divergences, FDivergence::NAMES.into_iter().collect());
    let terms: BTreeSet<&str> = read("gdpo")
        .cases
        .iter()
        .filter_map(|case| case.objective().gdpo.map(|gdpo| gdpo.term.name()))
        .collect();
    assert_eq!(terms, GroupTerm::NAMES.into_iter().collect());
}

/// TRL has no such loss, or had one only before 1.0.
const NOT_IN_TRL: [&str; 5] = ["dpop", "rpo", "lmpo", "repo", "repo_pp"];

#[test]
fn every_loss_of_trl_agrees_with_it() {
    let golden = read("trl");
    for name in Loss::NAMES {
        let has_cases = golden.cases.iter().any(|case| case.objective().name() == name);
        assert_ne!(
            has_cases,
            NOT_IN_TRL.contains(&name),
            "TRL's values of `{name}` in goldens/objectives/trl.json"
        );
    }
    agree(&golden, OBJECTIVE_TRL);
}

/// An objective is done when it has its file, its golden and its page, and none outlives it.
#[test]
fn every_objective_has_a_file_a_golden_and_a_page() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names: Vec<&str> = Loss::NAMES.into_iter().chain(Objective::MODIFIERS).collect();
    for name in &names {
        let file = root.join(format!("crates/objectives/src/{name}.rs"));
        assert!(file.is_file(), "crates/objectives/src/{name}.rs: one file for each objective");
    }
    names.sort_unstable();
    for (folder, extension, also) in
        [("goldens/objectives", "json", &["trl"][..]), ("docs/objectives", "md", &[])]
    {
        let found: BTreeSet<String> = fs_err::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let want: BTreeSet<String> =
            names.iter().chain(also).map(|name| (*name).to_owned()).collect();
        let missing: Vec<_> = want.difference(&found).collect();
        let left_over: Vec<_> = found.difference(&want).collect();
        assert!(missing.is_empty(), "{folder}/*.{extension}: {missing:?} missing");
        assert!(
            left_over.is_empty(),
            "{folder}/*.{extension}: nothing has the names {left_over:?}"
        );
    }
}

/// Every name is that of a variant, and every variant that a golden makes says its name.
#[test]
fn names_are_those_of_the_variants() {
    let said: BTreeSet<&str> = Loss::NAMES
        .into_iter()
        .flat_map(|name| read(name).cases)
        .map(|case| case.objective().name())
        .collect();
    assert_eq!(said, Loss::NAMES.into_iter().collect());
}

/// Compares every case, and tells of all that are off.
fn agree(golden: &Golden, tolerance: f64) {
    let mut off = Vec::new();
    for case in &golden.cases {
        assert_eq!(case.objective().check(), Ok(()), "{}", case.name);
        for (what, got, want) in numbers(case) {
            let apart = (got - want).abs() / want.abs().max(DIFFERENCE_NOISE);
            if !(apart <= tolerance || (got - want).abs() < DIFFERENCE_NOISE) {
                let (name, objective) = (&case.name, case.objective());
                off.push(format!(
                    "{name}: {what}: got {got:e}, want {want:e} (off by {apart:.1e}); {objective:?}"
                ));
            }
        }
    }
    assert!(off.is_empty(), "{}\n{}", golden.source, off.join("\n"));
}

/// Every number of a case: what it is, what we say, and what is wanted.
fn numbers(case: &Case) -> Vec<(String, f64, f64)> {
    let (outcomes, state) = evaluate(case);
    assert_eq!(outcomes.groups.len(), case.want.len(), "{}", case.name);
    let mut numbers = Vec::new();
    for (index, (outcome, want)) in outcomes.groups.iter().zip(&case.want).enumerate() {
        let tails = want.tail_coefficients.as_deref().unwrap_or_default();
        let lists = [
            ("coefficient", &outcome.coefficients, &want.coefficients[..]),
            ("tail coefficient", &outcome.tail_coefficients, tails),
            ("reward", &outcome.rewards, want.rewards.as_ref().unwrap_or(&outcome.rewards)),
        ];
        for (what, got, want) in lists {
            assert_eq!(got.len(), want.len(), "{}: {what}s of row {index}", case.name);
            let both = got.iter().zip(want).enumerate();
            let list =
                both.map(|(i, (got, want))| (format!("{what} {i} of row {index}"), *got, *want));
            numbers.extend(list);
        }
        let loss = want.loss.map(|loss| (format!("loss of row {index}"), outcome.loss, loss));
        numbers.extend(loss);
        assert_eq!(outcome.posterior.is_some(), want.posterior.is_some(), "{}", case.name);
        let posteriors = outcome.posterior.zip(want.posterior);
        numbers.extend(posteriors.map(|(a, b)| (format!("posterior of row {index}"), a, b)));
    }
    let total: f64 = outcomes.groups.iter().map(|outcome| outcome.loss).sum();
    numbers.extend(case.total.map(|want| ("total".to_owned(), total, want)));
    if case.total.is_none() {
        let remembered = state.to_numbers();
        let names: Vec<&String> = remembered.keys().collect();
        assert_eq!(names, case.after.keys().collect::<Vec<_>>(), "{}: memory", case.name);
        let both = case.after.iter().map(|(name, want)| (name.clone(), remembered[name], *want));
        numbers.extend(both);
    }
    numbers
}
