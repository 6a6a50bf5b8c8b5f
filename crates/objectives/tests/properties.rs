//! Every objective against calculus and against its own promises.

use objectives::{Completion, Error, Group, GroupOutcome, Hinge, Ipo, Objective, Sigmoid, State};
use proptest::prelude::*;
use testkit::tolerance::{SAME_F64_ARITHMETIC, SLOPE_F64};

prop_compose! {
    fn any_completion()(
        policy_logp in -200.0..0.0,
        reference_logp in -200.0..0.0,
        token_count in 1_u32..64,
    ) -> Completion {
        Completion { policy_logp, reference_logp, token_count }
    }
}

fn any_objective() -> impl Strategy<Value = Objective> {
    prop_oneof![
        (0.01..1.0, 0.0..0.49).prop_map(|(beta, s)| sigmoid(beta, s)),
        (0.01..1.0).prop_map(|beta| Objective::Hinge(Hinge { beta })),
        (0.01..1.0).prop_map(|beta| Objective::Ipo(Ipo { beta })),
    ]
}

fn sigmoid(beta: f64, label_smoothing: f64) -> Objective {
    Objective::Sigmoid(Sigmoid { beta, label_smoothing })
}

fn evaluate(objective: Objective, completions: &[Completion]) -> GroupOutcome {
    let group = Group { completions: completions.to_vec() };
    objective.evaluate(&mut State::default(), &[group]).groups.remove(0)
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

/// The pair with every log-ratio moved so that the margin is 0, whatever the objective divides by.
fn undecided(completion: Completion) -> Completion {
    Completion { reference_logp: completion.policy_logp, ..completion }
}

proptest! {
    /// The closed-form coefficients are the slope of the loss, for every completion of a group.
    #[test]
    fn coefficients_are_the_slope(
        objective in any_objective(),
        completions in prop::collection::vec(any_completion(), 1..5),
    ) {
        const H: f64 = 1e-4;
        let outcome = evaluate(objective, &completions);
        if let Objective::Hinge(_) = objective {
            // There is no slope to compare within a step of the kink.
            prop_assume!((outcome.margin() - 1.0).abs() > 4.0 * H);
        }
        for index in 0..completions.len() {
            let at = |h: f64| {
                let mut moved = completions.clone();
                moved[index].policy_logp += h;
                evaluate(objective, &moved).loss
            };
            let slope = (at(H) - at(-H)) / (2.0 * H);
            prop_assert!(close(outcome.coefficients[index], slope, SLOPE_F64), "{index}: {slope}");
        }
    }

    /// Swapping the pair swaps the rewards and turns the margin around.
    #[test]
    fn swapping_the_pair_flips_the_margin(
        objective in any_objective(), chosen in any_completion(), rejected in any_completion(),
    ) {
        let one = evaluate(objective, &[chosen, rejected]);
        let other = evaluate(objective, &[rejected, chosen]);
        prop_assert_eq!(&one.rewards, &[other.rewards[1], other.rewards[0]]);
        prop_assert!(close(one.margin(), -other.margin(), 0.0));
    }

    /// Without a margin each objective costs a known amount, and pulls the pair apart.
    #[test]
    fn an_undecided_pair_costs_a_known_amount(
        objective in any_objective(), chosen in any_completion(), rejected in any_completion(),
    ) {
        let outcome = evaluate(objective, &[undecided(chosen), undecided(rejected)]);
        let want = match objective {
            Objective::Sigmoid(_) => 2_f64.ln(),
            Objective::Hinge(_) => 1.0,
            Objective::Ipo(Ipo { beta }) => 1.0 / (4.0 * beta * beta),
        };
        prop_assert!(close(outcome.loss, want, SAME_F64_ARITHMETIC));
        prop_assert!(outcome.coefficients[0] < 0.0 && 0.0 < outcome.coefficients[1]);
    }

    /// Smoothing mixes the loss of the pair with the loss of the swapped pair; none is plain DPO.
    #[test]
    fn smoothing_mixes_with_the_swapped_pair(
        beta in 0.01..1.0, s in 0.0..0.49, chosen in any_completion(), rejected in any_completion(),
    ) {
        let plain = evaluate(sigmoid(beta, 0.0), &[chosen, rejected]);
        let swapped = evaluate(sigmoid(beta, 0.0), &[rejected, chosen]);
        let smoothed = evaluate(sigmoid(beta, s), &[chosen, rejected]);
        let mixed = (1.0 - s) * plain.loss + s * swapped.loss;
        prop_assert!(close(smoothed.loss, mixed, SAME_F64_ARITHMETIC));
        let margin = beta * (chosen.log_ratio() - rejected.log_ratio());
        prop_assert!(close(plain.loss, (-margin).exp().ln_1p(), SAME_F64_ARITHMETIC));
    }

    /// The loss of plain DPO falls as the margin grows.
    #[test]
    fn the_loss_falls_with_the_margin(
        beta in 0.01..1.0, chosen in any_completion(), rejected in any_completion(), step in 0.01..50.0,
    ) {
        let likelier = Completion { policy_logp: chosen.policy_logp + step, ..chosen };
        let before = evaluate(sigmoid(beta, 0.0), &[chosen, rejected]);
        let after = evaluate(sigmoid(beta, 0.0), &[likelier, rejected]);
        prop_assert!(after.loss < before.loss);
        prop_assert!(before.coefficients[0] < 0.0);
    }

    /// A group's result does not depend on the groups beside it.
    #[test]
    fn groups_do_not_see_each_other(
        objective in any_objective(),
        pairs in prop::collection::vec((any_completion(), any_completion()), 0..5),
    ) {
        let groups: Vec<Group> = pairs.iter().map(|&(a, b)| Group::pair(a, b)).collect();
        let together = objective.evaluate(&mut State::default(), &groups);
        let alone = pairs.iter().map(|&(a, b)| evaluate(objective, &[a, b]));
        prop_assert_eq!(together.groups, alone.collect::<Vec<_>>());
    }

    /// A completion between the best and the worst is reported but not trained on.
    #[test]
    fn middle_completions_are_left_alone(
        objective in any_objective(), completions in prop::collection::vec(any_completion(), 3),
    ) {
        let three = evaluate(objective, &completions);
        let two = evaluate(objective, &[completions[0], completions[2]]);
        prop_assert_eq!(three.loss.to_bits(), two.loss.to_bits());
        prop_assert_eq!(&three.coefficients, &[two.coefficients[0], 0.0, two.coefficients[1]]);
    }
}

/// A number that is not one is passed on, so that training stops and names the pair.
#[test]
fn not_a_number_is_not_hidden() {
    let fine = Completion { policy_logp: -1.0, reference_logp: -1.0, token_count: 1 };
    let broken = Completion { policy_logp: f64::NAN, ..fine };
    for objective in [
        sigmoid(0.1, 0.0),
        Objective::Hinge(Hinge { beta: 0.1 }),
        Objective::Ipo(Ipo { beta: 0.1 }),
    ] {
        assert!(evaluate(objective, &[broken, fine]).loss.is_nan(), "{objective:?}");
    }
}

/// A completion without tokens counts as one token, as in TRL, and an empty group costs nothing.
#[test]
fn nothing_to_divide_by_is_not_divided_by() {
    let ipo = Objective::Ipo(Ipo { beta: 0.5 });
    let none = Completion { policy_logp: -1.0, reference_logp: -2.0, token_count: 0 };
    let one = Completion { token_count: 1, ..none };
    assert_eq!(evaluate(ipo, &[none, none]), evaluate(ipo, &[one, one]));
    assert_eq!(evaluate(ipo, &[]), GroupOutcome::default());
}

#[test]
fn settings_outside_their_range_are_named() {
    let cases = [
        (sigmoid(0.0, 0.0), "beta", "`beta` is 0, it must be above 0"),
        (sigmoid(f64::NAN, 0.0), "beta", "`beta` is NaN, it must be above 0"),
        (Objective::Hinge(Hinge { beta: -1.0 }), "beta", "`beta` is -1, it must be above 0"),
        (Objective::Ipo(Ipo { beta: f64::INFINITY }), "beta", "`beta` is inf, it must be above 0"),
        (
            sigmoid(0.1, 0.5),
            "label_smoothing",
            "`label_smoothing` is 0.5, it must be at least 0 and below 0.5",
        ),
    ];
    for (objective, want_key, want) in cases {
        let error = objective.check().expect_err("the setting is out of range");
        let Error::OutOfRange { key, .. } = error;
        assert_eq!((key, error.to_string().as_str()), (want_key, want));
        assert!(error.hint().is_some_and(|hint| hint.contains(key)));
    }
    for objective in [sigmoid(0.1, 0.49), Objective::Ipo(Ipo { beta: 1e-3 })] {
        assert_eq!(objective.check(), Ok(()));
    }
}
