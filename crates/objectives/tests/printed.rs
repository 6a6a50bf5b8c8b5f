//! The values that papers, programs and their users print, each worked out by hand or by them.

#![expect(clippy::approx_constant, reason = "ln 2 is printed as what it is: a loss")]

use objectives::{
    BcoPair, Completion, Cpo, Discopop, FDivergence, Gdpo, Group, GroupTerm, Loss, Modifiers,
    Objective, Outcomes, Reliability, Repo, Simpo, State,
};
use testkit::tolerance::{NINE_PRINTED_DIGITS, SIX_PRINTED_DIGITS};

fn completion(policy_logp: f64, reference_logp: f64, token_count: u32) -> Completion {
    Completion { policy_logp, reference_logp, token_count, ..Completion::default() }
}

/// Two pairs that the peers' losses were printed for.
fn two_pairs() -> [Group; 2] {
    [
        Group::pair(completion(-10.0, -11.0, 5), completion(-14.0, -12.5, 8)),
        Group::pair(completion(-7.5, -7.0, 3), completion(-6.0, -6.5, 2)),
    ]
}

fn evaluate(objective: &Objective, groups: &[Group]) -> Outcomes {
    assert_eq!(objective.check(), Ok(()));
    objective.evaluate(&mut State::default(), groups)
}

fn losses(objective: &Objective, groups: &[Group]) -> Vec<f64> {
    evaluate(objective, groups).groups.iter().map(|outcome| outcome.loss).collect()
}

fn near(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= tolerance, "{what}: got {got}, printed {want}");
    }
}

#[test]
fn trl_prints_these_losses() {
    let simpo = |gamma| Loss::Simpo(Simpo { gamma, cpo_alpha: 0.0, alpha: 0.0 });
    let cpo = Loss::Cpo(Cpo { cpo_alpha: 0.0, alpha: 0.0 });
    let smoothing = [Loss::ExoPair, Loss::Robust];
    for (loss, beta, want) in [
        (Loss::Sigmoid, 0.1, [0.575_939_420, 0.744_396_660]),
        (Loss::Hinge, 0.1, [0.75, 1.10]),
        (Loss::Ipo, 0.1, [21.275_156_250, 29.340_277_778]),
        (Loss::ExoPair, 0.1, [0.381_961_774, 0.566_958_948]),
        (Loss::NcaPair, 0.1, [1.327_073_514, 1.411_919_296]),
        (Loss::Robust, 0.1, [0.544_689_420, 0.756_896_660]),
        (Loss::BcoPair(BcoPair::default()), 0.1, [1.265_353_708, 1.436_919_296]),
        (Loss::SppoHard, 0.1, [28.25, 60.5]),
        // Printed in the sorted order, which for this loss is not that of the pairs.
        (Loss::Aot, 0.1, [0.575_939_420, 0.744_396_660]),
        (Loss::AotUnpaired, 0.1, [0.668_459_648, 0.644_396_660]),
        (Loss::ApoZero, 0.1, [0.937_590_967, 1.024_994_793]),
        (Loss::ApoDown, 0.1, [0.962_802_687, 1.012_481_791]),
        (Loss::Discopop(Discopop { tau: 0.05 }), 0.1, [0.777_443_062, 0.787_402_006]),
        (Loss::SigmoidNorm, 0.1, [0.673_959_864, 0.714_197_512]),
        (simpo(0.5), 0.1, [0.989_711_755, 0.943_248_946]),
        (simpo(1.0), 2.0, [1.701_413_278, 0.693_147_181]),
        (cpo, 0.1, [0.513_015_252, 0.770_957_048]),
    ] {
        let mut objective = Objective::new(loss, beta);
        if smoothing.contains(&loss) {
            objective.label_smoothing = 0.1;
        }
        near(loss.name(), &losses(&objective, &two_pairs()), &want, NINE_PRINTED_DIGITS);
    }
    let conservative = Objective { label_smoothing: 0.1, ..Objective::new(Loss::Sigmoid, 0.1) };
    let got = losses(&conservative, &two_pairs());
    near("conservative", &got, &[0.600_939_420, 0.734_396_660], NINE_PRINTED_DIGITS);
    let sft = losses(&Objective::new(Loss::Sft, 0.1), &two_pairs());
    near("sft", &[f64::midpoint(sft[0], sft[1])], &[2.1875], NINE_PRINTED_DIGITS);
    let orpo = evaluate(&Objective::new(Loss::Orpo, 0.1), &two_pairs());
    let odds: Vec<f64> = orpo.groups.iter().map(|outcome| outcome.pair_loss).collect();
    near("orpo", &odds, &[0.085_175_748, 0.046_116_125], NINE_PRINTED_DIGITS);
}

#[test]
fn trl_prints_these_losses_under_other_divergences() {
    for (f_divergence, want) in [
        (FDivergence::ForwardKl, [0.508_463_480, 0.746_613_799]),
        (FDivergence::JsDivergence, [0.626_146_376, 0.718_459_648]),
    ] {
        let modifiers = Modifiers { f_divergence, ..Modifiers::default() };
        let objective = Objective { modifiers, ..Objective::new(Loss::Sigmoid, 0.1) };
        let got = losses(&objective, &two_pairs());
        near(f_divergence.name(), &got, &want, NINE_PRINTED_DIGITS);
    }
    // TRL computes this one in f32.
    let f_divergence = FDivergence::AlphaDivergence { coefficient: 0.5 };
    let modifiers = Modifiers { f_divergence, ..Modifiers::default() };
    let objective = Objective { modifiers, ..Objective::new(Loss::Sigmoid, 0.1) };
    let got = losses(&objective, &two_pairs());
    near("alpha", &got, &[0.553_464_718, 0.744_945_361], SIX_PRINTED_DIGITS);
}

#[test]
fn trl_prints_these_rewards() {
    let outcomes = evaluate(&Objective::new(Loss::Sigmoid, 0.1), &two_pairs());
    let rewards: Vec<f64> =
        outcomes.groups.iter().flat_map(|outcome| outcome.rewards.clone()).collect();
    near("rewards", &rewards, &[0.1, -0.15, -0.05, 0.05], NINE_PRINTED_DIGITS);
    let margins: f64 = outcomes.groups.iter().map(objectives::GroupOutcome::margin).sum();
    near("margins", &[margins / 2.0], &[0.075], NINE_PRINTED_DIGITS);
}

/// A pair without a margin, of which the rejected completion alone is not factual.
fn contrast() -> Group {
    let labelled = |hallucinated| Completion {
        hallucinated: Some(hallucinated),
        ..completion(-12.0, -12.0, 7)
    };
    Group::pair(labelled(0.0), labelled(1.0))
}

#[test]
fn f_dpo_costs_this_much_and_weighs_this_much() {
    for (delta, want) in [
        (0.0, 0.693_147),
        (2.0, 0.798_139),
        (4.0, 0.913_015),
        (6.0, 1.037_488),
        (8.0, 1.171_101),
        (10.0, 1.313_262),
        (20.0, 2.126_928),
        (30.0, 3.048_587),
        (50.0, 5.006_715),
        (100.0, 10.000_045),
    ] {
        let modifiers = Modifiers { delta: Some(delta), ..Modifiers::default() };
        let objective = Objective { modifiers, ..Objective::new(Loss::Sigmoid, 0.1) };
        let outcome = &evaluate(&objective, &[contrast()]).groups[0];
        near(&format!("delta {delta}"), &[outcome.loss], &[want], SIX_PRINTED_DIGITS);
        // The gradient's weight is sigmoid(beta * delta), that of a plain pair 0.5.
        let weight = -outcome.coefficients[0] / 0.1;
        let want = 1.0 / (1.0 + (-0.1 * delta).exp());
        near(&format!("weight at {delta}"), &[weight], &[want], NINE_PRINTED_DIGITS);
        near("rewards without the shift", &outcome.rewards, &[0.0, 0.0], 0.0);
    }
}

#[test]
fn f_dpo_prints_these_losses_for_two_pairs() {
    let mut pairs = two_pairs();
    for (pair, h_l) in pairs.iter_mut().zip([1.0, 0.0]) {
        pair.completions[0].hallucinated = Some(0.0);
        pair.completions[1].hallucinated = Some(h_l);
    }
    let modifiers = Modifiers { delta: Some(10.0), ..Modifiers::default() };
    let objective = Objective { modifiers, ..Objective::new(Loss::Sigmoid, 0.1) };
    let got = losses(&objective, &pairs);
    near("delta", &got, &[1.136_871_006, 0.744_396_660], NINE_PRINTED_DIGITS);
}

#[test]
fn the_variance_over_a_batch_is_the_one_of_its_origin() {
    let pair = |apart: f64| Group::pair(completion(apart, 0.0, 1), completion(0.0, 0.0, 1));
    let gdpo = Some(Gdpo { size: 2, weight: 0.5, term: GroupTerm::BatchVariance });
    let objective = Objective { gdpo, ..Objective::new(Loss::Sigmoid, 0.1) };
    let got = losses(&objective, &[pair(1.0), pair(-1.0)]);
    near("mean", &[f64::midpoint(got[0], got[1])], &[1.694_397], SIX_PRINTED_DIGITS);
}

/// A group whose rewards are these numbers.
fn group(scores: &[f64]) -> Group {
    Group::ranked(scores.iter().map(|score| completion(*score, 0.0, 1)).collect())
}

fn group_loss(term: GroupTerm, beta: f64, group: Group) -> f64 {
    let size = group.completions.len();
    let objective = Objective {
        gdpo: Some(Gdpo { size, weight: 1.0, term }),
        ..Objective::new(Loss::Sigmoid, beta)
    };
    evaluate(&objective, &[group]).groups[0].group_loss
}

#[test]
fn listwise_terms_cost_this_much() {
    // Printed as the sum over both factors of the likelihood.
    let sum = 2.0 * group_loss(GroupTerm::Listwise, 1.0, group(&[2.0, 1.0, 0.0]));
    near("plackett-luce", &[sum], &[0.720_868], SIX_PRINTED_DIGITS);
    let mut labelled = group(&[0.0, 1.0, 2.0]);
    for (completion, label) in labelled.completions.iter_mut().zip([1.0, 0.5, 0.0]) {
        completion.score = Some(label);
    }
    for group in [labelled, group(&[0.0, 1.0, 2.0])] {
        let lambda = group_loss(GroupTerm::Lambda, 1.0, group);
        near("lambda", &[lambda], &[1.969_207], SIX_PRINTED_DIGITS);
    }
}

#[test]
fn estimators_over_negatives_cost_this_much() {
    let scores = [1.0, 0.0, -1.0, 2.0, 0.5];
    let mean = group_loss(GroupTerm::PairwiseMean, 2.6, group(&scores));
    near("pairwise_mean", &[mean], &[0.747_450], SIX_PRINTED_DIGITS);
    let epo = group_loss(GroupTerm::Epo, 2.6, group(&scores));
    near("epo", &[epo], &[0.363_718], SIX_PRINTED_DIGITS);
    assert!(epo <= mean, "by Jensen's inequality");
    let repo = Objective::new(Loss::Repo(Repo { gamma: 0.2 }), 2.6);
    let pairs: Vec<Group> = scores[1..].iter().map(|score| group(&[scores[0], *score])).collect();
    let mean = losses(&repo, &pairs).iter().sum::<f64>() / 4.0;
    near("repo", &[mean], &[0.3], SIX_PRINTED_DIGITS);
}

#[test]
fn re_po_believes_labels_this_much() {
    let modifiers = Modifiers { reliability: Some(Reliability::default()), ..Modifiers::default() };
    let objective = Objective { modifiers, ..Objective::new(Loss::Sigmoid, 1.0) };
    for (margin, want) in [(1.0, 0.960_730), (-3.0, 0.309_432)] {
        let outcomes = evaluate(&objective, &[group(&[margin, 0.0])]);
        let posterior = outcomes.groups[0].posterior.unwrap_or(f64::NAN);
        near("posterior", &[posterior], &[want], SIX_PRINTED_DIGITS);
    }
}

#[test]
fn orpo_prints_these_odds() {
    let outcome = &evaluate(
        &Objective::new(Loss::Orpo, 0.1),
        &[Group::pair(completion(-0.5, 0.0, 1), completion(-1.2, 0.0, 1))],
    )
    .groups[0];
    near("term", &[outcome.pair_loss], &[0.024_655], SIX_PRINTED_DIGITS);
    // The term is -beta * ln sigmoid(log odds), so the odds are 1 / (exp(term / beta) - 1).
    let log_odds = -((outcome.pair_loss / 0.1).exp_m1()).ln();
    near("log odds", &[log_odds], &[1.274_370], SIX_PRINTED_DIGITS);
}

/// The weights that the documents print for margins at a beta of 0.1.
#[test]
fn margins_have_the_printed_weights() {
    let of = |delta| {
        let mut objective = Objective::new(Loss::Sigmoid, 0.1);
        objective.modifiers.delta = delta;
        objective.contrast_weight()
    };
    assert_eq!(of(None), None);
    for (delta, wanted) in [(0.0, 0.5), (10.0, 0.731_059), (50.0, 0.993_307), (100.0, 0.999_955)] {
        let weight = of(Some(delta)).unwrap();
        assert!((weight - wanted).abs() <= SIX_PRINTED_DIGITS, "{delta}: {weight}");
    }
}
