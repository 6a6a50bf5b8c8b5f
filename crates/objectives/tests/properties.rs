//! Every objective against calculus and against its own promises.

use objectives::{
    BcoPair, Completion, Confidence, Cpo, Discopop, Distance, Dpop, FDivergence, Gdpo, Group,
    GroupOutcome, GroupTerm, Kto, Lmpo, Loss, Modifiers, Objective, Outcomes, Reliability, Repo,
    RepoPp, Rpo, Scored, Simpo, State, Term,
};
use proptest::prelude::*;
use testkit::tolerance::{CANCELLED_F64, OBJECTIVE_SLOPE, SAME_F64_ARITHMETIC, SLOPE_F64};

prop_compose! {
    fn any_completion()(
        policy_logp in -200.0..-0.5,
        reference_logp in -200.0..0.0,
        token_count in 1_u32..64,
        score in -5.0..5.0,
    ) -> Completion {
        Completion { score: Some(score), ..completion(policy_logp, reference_logp, token_count) }
    }
}

fn completion(policy_logp: f64, reference_logp: f64, token_count: u32) -> Completion {
    Completion { policy_logp, reference_logp, token_count, ..Completion::default() }
}

/// Every loss, with settings.
fn losses() -> Vec<Loss> {
    let weights = Kto { desirable_weight: 1.0, undesirable_weight: 1.5 };
    let rpo = |distance| Loss::Rpo(Rpo { distance, gt_reward_scale: 0.5 });
    vec![
        Loss::Sigmoid,
        Loss::Robust,
        Loss::Hinge,
        Loss::Ipo,
        Loss::ExoPair,
        Loss::NcaPair,
        Loss::BcoPair(BcoPair { reward_shift: false }),
        Loss::BcoPair(BcoPair { reward_shift: true }),
        Loss::SppoHard,
        Loss::Aot,
        Loss::AotUnpaired,
        Loss::ApoZero,
        Loss::ApoDown,
        Loss::Discopop(Discopop { tau: 0.05 }),
        Loss::Sft,
        Loss::SigmoidNorm,
        Loss::Dpop(Dpop { lambda: 5.0 }),
        rpo(Distance::BackwardKl),
        rpo(Distance::ForwardKl),
        rpo(Distance::Squared),
        rpo(Distance::Ipo),
        Loss::Simpo(Simpo { gamma: 0.5, cpo_alpha: 0.5, alpha: 0.25 }),
        Loss::Cpo(Cpo { cpo_alpha: 1.0, alpha: 0.0 }),
        Loss::Orpo,
        Loss::Lmpo(Lmpo { gamma_beta_ratio: 0.8 }),
        Loss::Repo(Repo { gamma: 0.5 }),
        Loss::RepoPp(RepoPp { gamma: 0.5 }),
        Loss::Kto(weights),
        Loss::ApoZeroUnpaired(weights),
    ]
}

/// A loss by itself, smoothed if it must be.
fn alone(loss: Loss, beta: f64) -> Objective {
    let label_smoothing = if loss == Loss::ExoPair { 0.1 } else { 0.0 };
    Objective { label_smoothing, ..Objective::new(loss, beta) }
}

fn plain(beta: f64) -> Objective {
    Objective::new(Loss::Sigmoid, beta)
}

fn with(modifiers: Modifiers, objective: Objective) -> Objective {
    Objective { modifiers, ..objective }
}

fn ranked(term: GroupTerm, weight: f64, beta: f64) -> Objective {
    Objective { gdpo: Some(Gdpo { size: 8, weight, term }), ..plain(beta) }
}

/// The rows that an objective takes, made of pairs.
fn rows(objective: &Objective, pairs: &[(Completion, Completion)]) -> Vec<Group> {
    let row = |(index, &(chosen, rejected)): (usize, &(Completion, Completion))| {
        if objective.needs().desirable {
            let mismatched =
                Some(Scored { policy_logp: -3.0, reference_logp: rejected.reference_logp });
            return Group { mismatched, ..Group::unpaired(chosen, index % 2 == 0) };
        }
        Group::pair(chosen, rejected)
    };
    pairs.iter().enumerate().map(row).collect()
}

fn evaluate(objective: &Objective, groups: &[Group]) -> Outcomes {
    objective.evaluate(&mut State::default(), groups)
}

fn one(objective: &Objective, completions: &[Completion]) -> GroupOutcome {
    evaluate(objective, &[Group::ranked(completions.to_vec())]).groups.remove(0)
}

fn total(objective: &Objective, groups: &[Group]) -> f64 {
    evaluate(objective, groups).groups.iter().map(|outcome| outcome.loss).sum()
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

const H: f64 = 1e-4;

/// Whether the slope itself moves too much within the step to compare: at a kink, or near one.
fn is_smooth(at: impl Fn(f64) -> f64, size: f64) -> bool {
    let (low, middle, high) = (at(-H), at(0.0), at(H));
    ((high - middle) - (middle - low)).abs() / H <= 0.2 * SLOPE_F64 * (1.0 + size)
}

/// Compares the coefficients of some groups with the slopes of the sum of their losses.
fn slopes_agree(objective: &Objective, groups: &[Group]) -> Result<(), TestCaseError> {
    prop_assert_eq!(objective.check(), Ok(()));
    let outcomes = evaluate(objective, groups);
    for (place, outcome) in outcomes.groups.iter().enumerate() {
        for (index, coefficient) in outcome.coefficients.iter().enumerate() {
            let at = |h: f64| {
                let mut moved = groups.to_vec();
                moved[place].completions[index].policy_logp += h;
                total(objective, &moved)
            };
            // Rounding of a larger loss hides the slope.
            if !is_smooth(at, coefficient.abs()) || 1e5 < at(0.0) {
                continue;
            }
            let slope = (at(H) - at(-H)) / (2.0 * H);
            prop_assert!(
                close(*coefficient, slope, OBJECTIVE_SLOPE),
                "{objective:?}: {coefficient} of completion {index} of row {place}: {slope}"
            );
        }
    }
    Ok(())
}

proptest! {
    /// The closed-form coefficients are the slope of the sum of the losses, for every loss.
    #[test]
    fn coefficients_are_the_slope(
        beta in 0.05..1.0, pairs in prop::collection::vec((any_completion(), any_completion()), 1..4),
    ) {
        // What no gradient flows into would move with the step.
        let has_detached = |loss: &Loss| {
            matches!(loss, Loss::Lmpo(_) | Loss::BcoPair(BcoPair { reward_shift: true }))
        };
        for loss in losses().into_iter().filter(|loss| !has_detached(loss)) {
            let objective = alone(loss, beta);
            slopes_agree(&objective, &rows(&objective, &pairs))?;
        }
    }

    /// The same for sums of losses and for modifiers without detached parts.
    #[test]
    fn coefficients_are_the_slope_of_sums(
        beta in 0.05..1.0,
        pairs in prop::collection::vec((any_completion(), any_completion()), 1..4),
        weights in (0.0..2.0, 0.0..2.0, 0.0..2.0),
    ) {
        let terms = [(Loss::Sigmoid, weights.0), (Loss::Sft, weights.1), (Loss::Orpo, weights.2)];
        let terms = terms.map(|(loss, weight)| Term { loss, weight }).to_vec();
        let modifiers = Modifiers { rpo_alpha: 0.5, ..Modifiers::default() };
        let objective = Objective { terms, modifiers, ..plain(beta) };
        slopes_agree(&objective, &rows(&objective, &pairs))?;
        for f_divergence in [
            FDivergence::JsDivergence,
            FDivergence::AlphaDivergence { coefficient: 1.01 },
            FDivergence::AlphaDivergence { coefficient: 0.99 },
        ] {
            let modifiers = Modifiers { f_divergence, ..Modifiers::default() };
            for loss in [Loss::Sigmoid, Loss::Ipo, Loss::SigmoidNorm] {
                let objective = with(modifiers, Objective::new(loss, beta));
                slopes_agree(&objective, &rows(&objective, &pairs))?;
            }
        }
    }

    /// The same for terms over groups.
    #[test]
    fn coefficients_are_the_slope_of_group_terms(
        beta in 0.05..1.0,
        completions in prop::collection::vec(any_completion(), 2..6),
        ranks in prop::collection::vec(0_u32..4, 6),
    ) {
        let mut sorted = ranks[..completions.len()].to_vec();
        sorted.sort_unstable();
        prop_assume!(sorted.first() != sorted.last());
        let rank = |(completion, rank): (&Completion, &u32)| {
            Completion { rank: Some(*rank), score: None, ..*completion }
        };
        let tied = Group::ranked(completions.iter().zip(&sorted).map(rank).collect());
        let strict = Group::ranked(completions);
        for term in [GroupTerm::Listwise, GroupTerm::Pairs, GroupTerm::PairwiseMean, GroupTerm::Epo]
        {
            slopes_agree(&ranked(term, 0.75, beta), &[tied.clone(), strict.clone()])?;
        }
        let places_are_safe = tied.completions.iter().enumerate().all(|(i, a)| {
            tied.completions[..i].iter().all(|b| 1e-3 < (a.log_ratio() - b.log_ratio()).abs())
        });
        if places_are_safe {
            slopes_agree(&ranked(GroupTerm::Lambda, 0.75, beta), &[tied.clone(), tied])?;
        }
    }

    /// The variance over a batch sees every pair through every other.
    #[test]
    fn coefficients_are_the_slope_of_the_variance(
        pairs in prop::collection::vec((any_completion(), any_completion()), 1..5),
    ) {
        let objective = ranked(GroupTerm::BatchVariance, 0.01, 0.1);
        slopes_agree(&objective, &rows(&objective, &pairs))?;
    }

    /// A tail's coefficient is the slope by what its tokens say, the head's by all that is left.
    #[test]
    fn tails_have_slopes_of_their_own(
        beta in 0.05..1.0, alpha in 0.0..1.0, share in 0.0..1.0,
        chosen in any_completion(), rejected in any_completion(),
    ) {
        let modifiers = Modifiers { ld_alpha: Some(alpha), rpo_alpha: 0.5, ..Modifiers::default() };
        let objective = with(modifiers, plain(beta));
        let chosen = Completion {
            policy_tail_logp: chosen.policy_logp * share,
            reference_tail_logp: chosen.reference_logp * share,
            ..chosen
        };
        let outcome = one(&objective, &[chosen, rejected]);
        let slope = |head: f64, tail: f64| {
            let at = |h: f64| {
                let policy_logp = chosen.policy_logp + h * (head + tail);
                let policy_tail_logp = chosen.policy_tail_logp + h * tail;
                one(&objective, &[Completion { policy_logp, policy_tail_logp, ..chosen }, rejected])
                    .loss
            };
            (at(H) - at(-H)) / (2.0 * H)
        };
        prop_assert!(close(outcome.coefficients[0], slope(1.0, 0.0), SLOPE_F64));
        prop_assert!(close(outcome.tail_coefficients[0], slope(0.0, 1.0), SLOPE_F64));
    }

    /// Whatever is finite stays finite, however far apart.
    #[test]
    fn finite_input_gives_finite_losses(
        beta in 0.01..10.0,
        logps in prop::collection::vec((-1e6..0.0, -1e6..0.0, 0_u32..2000), 4),
    ) {
        let all: Vec<Completion> = logps
            .iter()
            .map(|&(p, r, t)| Completion { score: Some(p / 1e3), ..completion(p, r, t) })
            .collect();
        let pairs = [(all[0], all[1]), (all[2], all[3]), (all[0], all[0])];
        for loss in losses() {
            let objective = alone(loss, beta);
            is_finite(&objective, &rows(&objective, &pairs))?;
        }
        for f_divergence in [
            FDivergence::ForwardKl,
            FDivergence::JsDivergence,
            FDivergence::AlphaDivergence { coefficient: 0.5 },
            FDivergence::AlphaDivergence { coefficient: 2.0 },
        ] {
            for loss in losses().into_iter().filter(Loss::takes_divergence) {
                let modifiers = Modifiers { f_divergence, ..Modifiers::default() };
                let objective = with(modifiers, alone(loss, beta));
                is_finite(&objective, &rows(&objective, &pairs))?;
            }
        }
        for modifiers in [
            Modifiers { reliability: Some(Reliability::default()), ..Modifiers::default() },
            Modifiers { confidence: Some(Confidence::default()), ..Modifiers::default() },
        ] {
            let objective = with(modifiers, plain(beta));
            is_finite(&objective, &rows(&objective, &pairs))?;
        }
        let labelled: Vec<Completion> =
            all.iter().map(|c| Completion { score: None, ..*c }).collect();
        for term in TERMS {
            is_finite(&ranked(term, 1.0, beta), &[Group::ranked(labelled.clone())])?;
        }
    }

    /// Swapping a pair swaps the rewards and turns the margin around.
    #[test]
    fn swapping_the_pair_flips_the_margin(
        beta in 0.01..1.0, chosen in any_completion(), rejected in any_completion(),
    ) {
        for loss in losses().into_iter().filter(|loss| !loss.is_unpaired()) {
            let objective = alone(loss, beta);
            let ahead = one(&objective, &[chosen, rejected]);
            let behind = one(&objective, &[rejected, chosen]);
            prop_assert_eq!(&ahead.rewards, &[behind.rewards[1], behind.rewards[0]]);
            prop_assert!(close(ahead.margin(), -behind.margin(), 0.0));
        }
    }

    /// Smoothing mixes the loss of the pair with that of the swapped pair; `robust` undoes it.
    #[test]
    fn smoothing_mixes_with_the_swapped_pair(
        beta in 0.01..1.0, s in 0.001..0.49, chosen in any_completion(), rejected in any_completion(),
    ) {
        let smoothed = |loss| Objective { label_smoothing: s, ..Objective::new(loss, beta) };
        for loss in losses().into_iter().filter(Loss::smooths) {
            if matches!(loss, Loss::ExoPair | Loss::Robust) {
                continue;
            }
            let mixed = one(&smoothed(loss), &[chosen, rejected]).pair_loss;
            let right = one(&Objective::new(loss, beta), &[chosen, rejected]).pair_loss;
            let Loss::Simpo(_) = loss else {
                let wrong = one(&Objective::new(loss, beta), &[rejected, chosen]).pair_loss;
                let want = (1.0 - s) * right + s * wrong;
                prop_assert!(close(mixed, want, SAME_F64_ARITHMETIC), "{}", loss.name());
                continue;
            };
        }
        // What flipping a fraction s of the labels does to `robust` gives DPO back.
        let kept = one(&smoothed(Loss::Robust), &[chosen, rejected]).loss;
        let flipped = one(&smoothed(Loss::Robust), &[rejected, chosen]).loss;
        let mean = (1.0 - s) * kept + s * flipped;
        let want = one(&plain(beta), &[chosen, rejected]).loss;
        let scale = 1.0 + kept.abs() + flipped.abs();
        prop_assert!((mean - want).abs() <= scale * CANCELLED_F64);
    }

    /// Anchored losses are bounded, and `apo_zero` of a pair and of its swap make two.
    #[test]
    fn anchored_losses_mirror(
        beta in 0.01..1.0, chosen in any_completion(), rejected in any_completion(),
    ) {
        let zero = Objective::new(Loss::ApoZero, beta);
        let both = one(&zero, &[chosen, rejected]).loss + one(&zero, &[rejected, chosen]).loss;
        prop_assert!(close(both, 2.0, SAME_F64_ARITHMETIC));
        for loss in [Loss::ApoZero, Loss::ApoDown] {
            let outcome = one(&Objective::new(loss, beta), &[chosen, rejected]);
            prop_assert!((0.0..=2.0).contains(&outcome.loss));
        }
        let down = one(&Objective::new(Loss::ApoDown, beta), &[chosen, rejected]);
        let up = one(&Objective::new(Loss::ApoDown, beta), &[rejected, chosen]);
        let anchors = [chosen, rejected].map(|c| 1.0 / (1.0 + (-beta * c.log_ratio()).exp()));
        prop_assert!(close(down.loss + up.loss, anchors[0] + anchors[1] + 1.0, SAME_F64_ARITHMETIC));
    }

    /// A pair paired as rows of its own is the same to losses that take rows.
    #[test]
    fn unpaired_rows_are_the_sides_of_a_pair(
        beta in 0.01..1.0, chosen in any_completion(), rejected in any_completion(),
    ) {
        let weights = Kto { desirable_weight: 1.0, undesirable_weight: 1.0 };
        let sides = [Group::unpaired(chosen, true), Group::unpaired(rejected, false)];
        let apart = evaluate(&Objective::new(Loss::ApoZeroUnpaired(weights), beta), &sides).groups;
        let pair = one(&Objective::new(Loss::ApoZero, beta), &[chosen, rejected]);
        prop_assert!(close(apart[0].loss + apart[1].loss, pair.loss, SAME_F64_ARITHMETIC));
        let coefficients = [apart[0].coefficients[0], apart[1].coefficients[0]];
        prop_assert_eq!(&pair.coefficients, &coefficients);
        // Without any divergence, KTO is the same.
        let kto = evaluate(&Objective::new(Loss::Kto(weights), beta), &sides);
        prop_assert_eq!(kto.kl, Some(0.0));
        prop_assert_eq!(kto.groups, apart);
    }

    /// The loss of plain DPO falls as the margin grows.
    #[test]
    fn the_loss_falls_with_the_margin(
        beta in 0.01..1.0, chosen in any_completion(), rejected in any_completion(), step in 0.01..50.0,
    ) {
        let likelier = Completion { policy_logp: chosen.policy_logp + step, ..chosen };
        let before = one(&plain(beta), &[chosen, rejected]);
        let after = one(&plain(beta), &[likelier, rejected]);
        prop_assert!(after.loss <= before.loss);
        prop_assert!(after.loss < before.loss || before.loss < 1e-300);
        prop_assert!(before.coefficients[0] < 0.0);
    }

    /// A row's result does not depend on the rows beside it, unless the objective says so.
    #[test]
    fn uncoupled_rows_do_not_see_each_other(
        beta in 0.01..1.0,
        pairs in prop::collection::vec((any_completion(), any_completion()), 2..5),
    ) {
        for loss in losses() {
            let objective = alone(loss, beta);
            let groups = rows(&objective, &pairs);
            let together = evaluate(&objective, &groups);
            let apart: Vec<GroupOutcome> = groups
                .iter()
                .map(|group| evaluate(&objective, std::slice::from_ref(group)).groups.remove(0))
                .collect();
            if !objective.is_batch_coupled() {
                prop_assert_eq!(&together.groups, &apart, "{}", loss.name());
            }
        }
    }

    /// The order of the rows of a call changes nothing but their order.
    #[test]
    fn coupled_rows_may_come_in_any_order(
        pairs in prop::collection::vec((any_completion(), any_completion()), 2..5),
    ) {
        for loss in losses().into_iter().filter(Loss::is_batch_coupled) {
            let objective = alone(loss, 0.1);
            let groups = rows(&objective, &pairs);
            let mut turned = groups.clone();
            turned.reverse();
            let forward = evaluate(&objective, &groups).groups;
            let mut backward = evaluate(&objective, &turned).groups;
            backward.reverse();
            for (a, b) in forward.iter().zip(&backward) {
                prop_assert!(close(a.loss, b.loss, CANCELLED_F64), "{}", loss.name());
                prop_assert!(close(a.coefficients[0], b.coefficients[0], CANCELLED_F64));
            }
        }
    }

    /// A group of two is its pair: the term over the group adds its weight.
    #[test]
    fn a_group_of_two_is_a_pair(
        beta in 0.01..1.0, weight in 0.0..3.0, chosen in any_completion(), rejected in any_completion(),
    ) {
        let pair = one(&plain(beta), &[chosen, rejected]);
        for term in [GroupTerm::Listwise, GroupTerm::Pairs, GroupTerm::PairwiseMean, GroupTerm::Epo]
        {
            let group = one(&ranked(term, weight, beta), &[chosen, rejected]);
            let scale = 1.0 + weight;
            prop_assert!(close(group.loss, scale * pair.loss, SAME_F64_ARITHMETIC), "{term:?}");
            for (a, b) in group.coefficients.iter().zip(&pair.coefficients) {
                prop_assert!(close(*a, scale * b, SAME_F64_ARITHMETIC), "{term:?}");
            }
        }
    }

    /// The expected win is cheaper than the mean of the losses.
    #[test]
    fn epo_is_at_most_the_mean(completions in prop::collection::vec(any_completion(), 2..6)) {
        let epo = one(&ranked(GroupTerm::Epo, 1.0, 0.1), &completions).group_loss;
        let mean = one(&ranked(GroupTerm::PairwiseMean, 1.0, 0.1), &completions).group_loss;
        prop_assert!(epo <= mean * (1.0 + SAME_F64_ARITHMETIC));
    }

    /// A completion between the best and the worst is reported but not trained on by a pair's loss.
    #[test]
    fn middle_completions_are_left_alone(
        completions in prop::collection::vec(any_completion(), 3),
    ) {
        for loss in losses().into_iter().filter(|loss| !loss.is_unpaired()) {
            let three = one(&alone(loss, 0.1), &completions);
            let two = one(&alone(loss, 0.1), &[completions[0], completions[2]]);
            prop_assert_eq!(three.loss.to_bits(), two.loss.to_bits());
            prop_assert_eq!(&three.coefficients, &[two.coefficients[0], 0.0, two.coefficients[1]]);
        }
    }

    /// A reference-free objective does not look at the reference, and all others do.
    #[test]
    fn the_reference_is_read_where_it_is_needed(
        chosen in any_completion(), rejected in any_completion(),
    ) {
        let moved = Completion { reference_logp: chosen.reference_logp - 3.0, ..chosen };
        for loss in losses() {
            let objective = alone(loss, 0.3);
            let before = evaluate(&objective, &rows(&objective, &[(chosen, rejected)]));
            let after = evaluate(&objective, &rows(&objective, &[(moved, rejected)]));
            prop_assert_eq!(objective.needs_reference(), before != after, "{}", loss.name());
            prop_assert_eq!(objective.needs_reference(), objective.needs().reference);
        }
    }

    /// A row's own weight multiplies all that it says, and 1 says nothing.
    #[test]
    fn a_weight_multiplies_the_row(
        weight in 0.0..3.0, chosen in any_completion(), rejected in any_completion(),
    ) {
        let modifiers = Modifiers { rpo_alpha: 0.5, ..Modifiers::default() };
        let objective = with(modifiers, plain(0.1));
        let plain = one(&objective, &[chosen, rejected]);
        let group = Group { weight, ..Group::pair(chosen, rejected) };
        let weighted = evaluate(&objective, &[group]).groups.remove(0);
        prop_assert!(close(weighted.loss, weight * plain.loss, SAME_F64_ARITHMETIC));
        for (a, b) in weighted.coefficients.iter().zip(&plain.coefficients) {
            prop_assert!(close(*a, weight * b, SAME_F64_ARITHMETIC));
        }
        prop_assert_eq!(weighted.rewards, plain.rewards);
    }

    /// An annotator who is always right gives the loss back, and one who errs believes it less.
    #[test]
    fn re_po_with_a_sure_annotator_is_dpo(
        chosen in any_completion(), rejected in any_completion(),
    ) {
        let believing = |initial| {
            let reliability = Some(Reliability { initial, rate: 0.1 });
            with(Modifiers { reliability, ..Modifiers::default() }, plain(0.01))
        };
        let sure = one(&believing(1.0 - f64::EPSILON / 2.0), &[chosen, rejected]);
        let pair = one(&plain(0.01), &[chosen, rejected]);
        prop_assert!(close(sure.loss, pair.loss, CANCELLED_F64));
        let unsure = one(&believing(0.6), &[chosen, rejected]);
        prop_assert!(unsure.posterior < sure.posterior);
    }
}

const TERMS: [GroupTerm; 6] = [
    GroupTerm::Listwise,
    GroupTerm::Lambda,
    GroupTerm::Pairs,
    GroupTerm::PairwiseMean,
    GroupTerm::Epo,
    GroupTerm::BatchVariance,
];

fn is_finite(objective: &Objective, groups: &[Group]) -> Result<(), TestCaseError> {
    let mut state = State::default();
    for outcome in objective.evaluate(&mut state, groups).groups {
        let all = outcome.coefficients.iter().chain(&outcome.rewards).chain([&outcome.loss]);
        for number in all {
            prop_assert!(number.is_finite(), "{objective:?}: {outcome:?}");
        }
    }
    for (name, number) in state.to_numbers() {
        prop_assert!(number.is_finite(), "{objective:?}: {name}");
    }
    Ok(())
}

/// Without a margin these losses cost a known amount, and pull the pair apart.
#[test]
fn an_undecided_pair_costs_a_known_amount() {
    let same = completion(-12.0, -12.0, 6);
    let beta = 0.25_f64;
    for (loss, want) in [
        (Loss::Sigmoid, 2_f64.ln()),
        (Loss::Robust, 2_f64.ln()),
        (Loss::Hinge, 1.0),
        (Loss::Ipo, 1.0 / (4.0 * beta * beta)),
        (Loss::SigmoidNorm, 2_f64.ln()),
        (Loss::NcaPair, 2.0 * 2_f64.ln()),
        (Loss::BcoPair(BcoPair::default()), 2.0 * 2_f64.ln()),
        (Loss::SppoHard, 1.0 / (2.0 * beta * beta)),
        (Loss::ApoZero, 1.0),
        (Loss::ApoDown, 1.0),
        (Loss::Dpop(Dpop { lambda: 50.0 }), 2_f64.ln()),
        (Loss::Discopop(Discopop { tau: 0.05 }), 0.5 + 0.5 * 2_f64.ln()),
        (Loss::Repo(Repo { gamma: 0.5 }), 0.5),
        (Loss::Cpo(Cpo { cpo_alpha: 0.0, alpha: 0.0 }), 2_f64.ln()),
    ] {
        let outcome = one(&Objective::new(loss, beta), &[same, same]);
        assert!(close(outcome.loss, want, SAME_F64_ARITHMETIC), "{}: {outcome:?}", loss.name());
        // One lets both fall; the other's bump at 0 pushes the pair together.
        if !matches!(loss, Loss::ApoDown | Loss::Discopop(_)) {
            assert!(outcome.coefficients[0] < 0.0, "{}", loss.name());
            assert!(0.0 < outcome.coefficients[1], "{}", loss.name());
        }
    }
}

/// At a kink the slope is that of the flat side.
#[test]
fn kinks_have_the_flat_slope() {
    let beta = 0.5;
    let apart = one(
        &Objective::new(Loss::Hinge, beta),
        &[completion(-1.0, -2.0, 3), completion(-3.0, -2.0, 3)],
    );
    assert_eq!((apart.loss, apart.coefficients), (0.0, vec![0.0, 0.0]));
    let repo = Objective::new(Loss::Repo(Repo { gamma: 0.5 }), beta);
    let apart = one(&repo, &[completion(-3.0, 0.0, 2), completion(-4.0, 0.0, 2)]);
    assert_eq!((apart.loss, apart.coefficients), (0.0, vec![0.0, 0.0]));
    // A chosen completion that is as likely as it was costs DPO-Positive nothing.
    let dpop = Objective::new(Loss::Dpop(Dpop { lambda: 50.0 }), beta);
    let pair = [completion(-5.0, -5.0, 2), completion(-4.0, -5.0, 2)];
    assert_eq!(one(&dpop, &pair).coefficients, one(&plain(beta), &pair).coefficients);
    // The bound of ORPO's odds is reached from below, and flat above.
    let orpo = Objective::new(Loss::Orpo, beta);
    let at = |logp: f64| one(&orpo, &[completion(-1.0, 0.0, 1), completion(logp, 0.0, 1)]);
    assert_eq!(at(0.0).coefficients[1].to_bits(), at(-0.999e-6).coefficients[1].to_bits());
    assert!(1e3 < at(-1.001e-6).coefficients[1]);
    assert!(1e3 < at(-1e-6).coefficients[1]);
    assert!(at(0.0).coefficients[1].abs() < f64::MIN_POSITIVE);
}

/// A divergence's exponent stops at 80, where its slope becomes 0.
#[test]
fn exponents_are_bounded() {
    let modifiers = Modifiers { f_divergence: FDivergence::ForwardKl, ..Modifiers::default() };
    let objective = with(modifiers, Objective::new(Loss::Hinge, 1.0));
    let fallen = |u: f64| one(&objective, &[completion(u, 0.0, 1), completion(0.0, 0.0, 1)]);
    assert!(0.0 < fallen(-80.0).coefficients[0].abs());
    assert_eq!(fallen(-81.0).coefficients, [0.0, 1.0]);
    assert_eq!(fallen(-81.0).loss.to_bits(), fallen(-900.0).loss.to_bits());
    let limit = FDivergence::AlphaDivergence { coefficient: 1.0 + 0.9e-6 };
    let limit = with(Modifiers { f_divergence: limit, ..Modifiers::default() }, plain(0.1));
    let pair = [completion(-30.0, -20.0, 4), completion(-31.0, -20.0, 4)];
    assert_eq!(one(&limit, &pair), one(&plain(0.1), &pair));
    let outside = FDivergence::AlphaDivergence { coefficient: 1.0 + 1.1e-6 };
    let outside = with(Modifiers { f_divergence: outside, ..Modifiers::default() }, plain(0.1));
    assert_ne!(one(&outside, &pair), one(&plain(0.1), &pair));
    let shaped = |alpha| {
        let simpo = Loss::Simpo(Simpo { gamma: 0.5, cpo_alpha: 0.0, alpha });
        one(&Objective::new(simpo, 2.0), &pair).loss.to_bits()
    };
    assert_eq!(shaped(0.99e-6), shaped(0.0));
    assert_ne!(shaped(1e-6), shaped(0.0), "the limit is taken below 1e-6");
}

/// Where the best of a group wins for sure, what little it costs keeps its digits.
#[test]
fn a_sure_win_keeps_its_digits() {
    let [best, other] = [completion(-1.0, -31.0, 3), completion(-5.0, -5.0, 3)];
    let epo = one(&ranked(GroupTerm::Epo, 1.0, 1.0), &[best, other, other]).group_loss;
    let of_a_pair = (-30_f64).exp().ln_1p();
    assert!((epo - of_a_pair).abs() <= SAME_F64_ARITHMETIC * of_a_pair, "{epo:e}");
}

/// A number that is not one is passed on, so that training stops and names the pair.
#[test]
fn not_a_number_is_not_hidden() {
    let fine = Completion { score: Some(1.0), ..completion(-1.0, -1.0, 1) };
    let broken = Completion { policy_logp: f64::NAN, ..fine };
    for loss in losses() {
        let objective = alone(loss, 0.1);
        let outcomes = evaluate(&objective, &rows(&objective, &[(broken, fine)]));
        assert!(outcomes.groups[0].loss.is_nan(), "{}", loss.name());
        if loss != Loss::Sft && !loss.is_unpaired() {
            let outcomes = evaluate(&objective, &rows(&objective, &[(fine, broken)]));
            assert!(outcomes.groups[0].loss.is_nan(), "{}", loss.name());
        }
    }
    // KTO sees a broken estimate of the divergence too.
    let kto =
        Objective::new(Loss::Kto(Kto { desirable_weight: 1.0, undesirable_weight: 1.0 }), 0.1);
    let mismatched = Some(Scored { policy_logp: f64::NAN, reference_logp: 0.0 });
    let row = Group { mismatched, ..Group::unpaired(fine, true) };
    assert!(evaluate(&kto, &[row]).groups[0].loss.is_nan());
}

/// A completion without tokens counts as one token, as in TRL, and an empty group costs nothing.
#[test]
fn nothing_to_divide_by_is_not_divided_by() {
    let none = completion(-1.0, -2.0, 0);
    let single = Completion { token_count: 1, ..none };
    for loss in losses().into_iter().filter(|loss| !loss.is_unpaired()) {
        let objective = alone(loss, 0.5);
        let (none, single) = (one(&objective, &[none, none]), one(&objective, &[single, single]));
        if !matches!(loss, Loss::Rpo(_)) {
            assert_eq!(none, single, "{}", loss.name());
        }
        assert_eq!(one(&objective, &[]), GroupOutcome::default());
    }
    let outcomes = evaluate(&plain(0.5), &[Group::default(), Group::pair(none, single)]);
    assert_eq!(outcomes.groups[0], GroupOutcome::default());
    assert_eq!(outcomes.groups[1], one(&plain(0.5), &[none, single]));
    assert_eq!(outcomes.kl, None);
}

/// Each part of an outcome is told, and they add up.
#[test]
fn the_parts_of_a_loss_add_up() {
    let modifiers = Modifiers {
        rpo_alpha: 0.5,
        confidence: Some(Confidence { floor: 0.25 }),
        warmup_epochs: 2.0,
        ..Modifiers::default()
    };
    let objective = with(modifiers, ranked(GroupTerm::Listwise, 0.75, 0.1));
    let mut state = State::default();
    state.epoch = 1.0;
    let completions =
        vec![completion(-9.0, -8.0, 4), completion(-7.0, -7.5, 4), completion(-6.0, -8.0, 4)];
    let group = Group { weight: 0.5, ..Group::ranked(completions) };
    let outcome = &objective.evaluate(&mut state, &[group]).groups[0];
    assert!(0.125 <= outcome.preference_weight && outcome.preference_weight < 0.25);
    let preference = (outcome.pair_loss + 0.75 * outcome.group_loss) * outcome.preference_weight;
    assert!(close(outcome.loss, (preference + outcome.nll_loss) * 0.5, SAME_F64_ARITHMETIC));
    assert!(close(outcome.nll_loss, 0.5 * 9.0 / 4.0, SAME_F64_ARITHMETIC));
    assert!(0.0 < outcome.pair_loss && 0.0 < outcome.group_loss);
    let later = |epoch: f64| {
        state.epoch = epoch;
        let pair = [Group::pair(completion(-1.0, -1.0, 1), completion(-1.0, -1.0, 1))];
        objective.clone().evaluate(&mut state, &pair).groups[0].preference_weight
    };
    let weights = [-1.0, 0.0, 1.0, 2.0, 3.0].map(later);
    assert_eq!(weights.map(f64::to_bits), [0.0_f64, 0.0, 0.25, 0.5, 0.5].map(f64::to_bits));
}

/// What is remembered survives a checkpoint, and carries on.
#[test]
fn what_is_remembered_can_be_kept() {
    let pairs = [
        (completion(-9.0, -8.0, 4), completion(-7.0, -7.5, 3)),
        (completion(-5.0, -8.0, 6), completion(-17.0, -12.5, 9)),
    ];
    let shift = Loss::BcoPair(BcoPair { reward_shift: true });
    let lmpo = Loss::Lmpo(Lmpo { gamma_beta_ratio: 0.5 });
    let terms = [shift, lmpo].map(|loss| Term { loss, weight: 1.0 }).to_vec();
    let believing = with(
        Modifiers { reliability: Some(Reliability::default()), ..Modifiers::default() },
        plain(0.1),
    );
    let mut state = State::default();
    assert!(state.to_numbers().is_empty());
    let both = Objective { terms, ..plain(0.1) };
    let mut groups = rows(&both, &pairs);
    groups[1].annotator = "ada".into();
    both.evaluate(&mut state, &groups);
    believing.evaluate(&mut state, &groups);
    let numbers = state.to_numbers();
    let names: Vec<&str> = numbers.keys().map(String::as_str).collect();
    let want = ["bco/count", "bco/mean", "lmpo/deviation", "lmpo/mean", "re_po/", "re_po/ada"];
    assert_eq!(names, want);
    assert_eq!(numbers["bco/count"].to_bits(), 4_f64.to_bits());
    assert_eq!(state.reliabilities().len(), 2);
    let mut resumed = State::from_numbers(&numbers).unwrap();
    assert_eq!(resumed, state);
    assert_eq!(both.evaluate(&mut resumed, &groups), both.evaluate(&mut state, &groups));
    assert_eq!(believing.evaluate(&mut resumed, &groups), believing.evaluate(&mut state, &groups));
    assert_eq!(resumed.to_numbers(), state.to_numbers());
    let unknown = [("dpo/mean".to_owned(), 1.0)].into();
    let error = State::from_numbers(&unknown).unwrap_err();
    assert_eq!(error.to_string(), "no objective remembers `dpo/mean`");
}
