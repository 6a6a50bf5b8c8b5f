//! Every objective against its paper in 50 digits, and against TRL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use objectives::{Completion, Group, Hinge, Ipo, Objective, Sigmoid, State};
use serde::Deserialize;
use testkit::tolerance::SAME_F64_ARITHMETIC;

#[derive(Deserialize)]
struct Golden {
    source: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    objective: Settings,
    chosen: Scored,
    rejected: Scored,
    want: Want,
}

#[derive(Deserialize)]
#[serde(tag = "loss_type", rename_all = "lowercase", deny_unknown_fields)]
enum Settings {
    Sigmoid { beta: f64, label_smoothing: f64 },
    Hinge { beta: f64 },
    Ipo { beta: f64 },
}

#[derive(Clone, Copy, Deserialize)]
struct Scored {
    policy_logp: f64,
    reference_logp: f64,
    token_count: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Want {
    loss: f64,
    chosen_coefficient: f64,
    rejected_coefficient: f64,
    chosen_reward: f64,
    rejected_reward: f64,
}

#[test]
fn every_objective_agrees_with_its_paper() {
    for name in Objective::NAMES {
        let golden = read(name);
        assert!(golden.cases.iter().all(|case| objective(&case.objective).name() == name));
        golden.cases.iter().for_each(|case| agrees(case, &golden.source));
    }
}

#[test]
fn every_objective_agrees_with_trl() {
    let golden = read("trl");
    for name in Objective::NAMES {
        let ours = golden.cases.iter().filter(|case| objective(&case.objective).name() == name);
        assert_ne!(
            ours.count(),
            0,
            "TRL's values of `{name}` are missing in goldens/objectives/trl.json"
        );
    }
    golden.cases.iter().for_each(|case| agrees(case, &golden.source));
}

/// An objective is done when it has its golden and its page, and neither outlives it.
#[test]
fn every_objective_has_a_golden_and_a_page() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (folder, extension, also) in
        [("goldens/objectives", "json", &["trl"][..]), ("docs/objectives", "md", &[])]
    {
        let mut found: Vec<String> = fs_err::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        found.sort();
        let mut want: Vec<&str> = Objective::NAMES.iter().chain(also).copied().collect();
        want.sort_unstable();
        assert_eq!(found, want, "{folder}/*.{extension}: one file for each objective");
    }
}

fn read(name: &str) -> Golden {
    let path = testkit::golden(&format!("objectives/{name}.json"));
    let text = fs_err::File::open(&path).unwrap_or_else(|err| {
        panic!(
            "objective `{name}` has no golden ({}: {err}); make it with `cargo xtask goldens`",
            path.display()
        )
    });
    serde_json::from_reader(text).unwrap()
}

fn agrees(case: &Case, source: &str) {
    let objective = objective(&case.objective);
    let group = Group::pair(completion(case.chosen), completion(case.rejected));
    let outcomes = objective.evaluate(&mut State::default(), &[group]);
    let outcome = &outcomes.groups[0];
    let Want { loss, chosen_coefficient, rejected_coefficient, chosen_reward, rejected_reward } =
        case.want;
    for (what, got, want) in [
        ("loss", outcome.loss, loss),
        ("chosen_coefficient", outcome.coefficients[0], chosen_coefficient),
        ("rejected_coefficient", outcome.coefficients[1], rejected_coefficient),
        ("chosen_reward", outcome.rewards[0], chosen_reward),
        ("rejected_reward", outcome.rewards[1], rejected_reward),
    ] {
        let off = (got - want).abs() / want.abs().max(f64::MIN_POSITIVE);
        assert!(
            off <= SAME_F64_ARITHMETIC,
            "{} of {objective:?}, {what}: got {got:e}, {source} has {want:e} (off by {off:.1e})",
            case.name,
        );
    }
}

fn objective(settings: &Settings) -> Objective {
    match *settings {
        Settings::Sigmoid { beta, label_smoothing } => {
            Objective::Sigmoid(Sigmoid { beta, label_smoothing })
        }
        Settings::Hinge { beta } => Objective::Hinge(Hinge { beta }),
        Settings::Ipo { beta } => Objective::Ipo(Ipo { beta }),
    }
}

fn completion(scored: Scored) -> Completion {
    let Scored { policy_logp, reference_logp, token_count } = scored;
    Completion { policy_logp, reference_logp, token_count }
}
