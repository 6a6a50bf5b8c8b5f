//! What is refused before anything is trained, and what an objective asks for.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use objectives::{
    BcoPair, Completion, Confidence, Cpo, Discopop, Distance, Dpop, Error, FDivergence, Gdpo,
    Group, GroupTerm, Kto, Lmpo, Loss, LossParts, Modifiers, Needs, Objective, Reliability, Repo,
    RepoPp, Rpo, Scored, Simpo, Term,
};

const WEIGHTS: Kto = Kto { desirable_weight: 1.0, undesirable_weight: 1.0 };
const SIMPO: Simpo = Simpo { gamma: 0.5, cpo_alpha: 1.0, alpha: 0.0 };
const RPO: Loss = Loss::Rpo(Rpo { distance: Distance::Squared, gt_reward_scale: 1.0 });

fn plain() -> Objective {
    Objective::new(Loss::Sigmoid, 0.1)
}

fn alone(loss: Loss) -> Objective {
    Objective::new(loss, 0.1)
}

fn smoothed(loss: Loss, label_smoothing: f64) -> Objective {
    Objective { label_smoothing, ..alone(loss) }
}

fn with(objective: Objective, change: impl Fn(&mut Modifiers)) -> Objective {
    let mut modifiers = Modifiers::default();
    change(&mut modifiers);
    Objective { modifiers, ..objective }
}

fn grouped(objective: Objective, term: GroupTerm) -> Objective {
    Objective { gdpo: Some(Gdpo { size: 4, weight: 0.5, term }), ..objective }
}

fn sum(losses: &[Loss]) -> Objective {
    let terms = losses.iter().map(|loss| Term { loss: *loss, weight: 1.0 }).collect();
    Objective { terms, ..plain() }
}

/// Every error names its setting, and so does its hint.
fn are_named(cases: &[(Objective, &str)]) {
    for (objective, want) in cases {
        let error = objective.check().expect_err(want);
        assert_eq!(error.to_string(), *want);
        let Error::OutOfRange { key, .. } = error else { panic!("{error:?}") };
        assert!(error.hint().is_some_and(|hint| hint.starts_with(&format!("set `{key}`"))));
    }
}

#[test]
fn settings_of_losses_outside_their_range_are_named() {
    let beta = |beta| Objective { beta, ..plain() };
    let weight =
        |weight| Objective { terms: vec![Term { loss: Loss::Sigmoid, weight }], ..plain() };
    let simpo = |gamma, cpo_alpha, alpha| alone(Loss::Simpo(Simpo { gamma, cpo_alpha, alpha }));
    let kto = |desirable_weight, undesirable_weight| {
        alone(Loss::Kto(Kto { desirable_weight, undesirable_weight }))
    };
    are_named(&[
        (beta(0.0), "`beta` is 0, it must be above 0"),
        (beta(f64::NAN), "`beta` is NaN, it must be above 0"),
        (beta(f64::INFINITY), "`beta` is inf, it must be above 0"),
        (
            smoothed(Loss::Sigmoid, 0.5),
            "`label_smoothing` is 0.5, it must be at least 0 and below 0.5",
        ),
        (
            smoothed(Loss::Sigmoid, -0.1),
            "`label_smoothing` is -0.1, it must be at least 0 and below 0.5",
        ),
        (
            smoothed(Loss::ExoPair, 0.0),
            "`label_smoothing` is 0, it must be above 0 and below 0.5 with `exo_pair`",
        ),
        (weight(-1.0), "`loss_weights` is -1, it must be at least 0"),
        (weight(f64::INFINITY), "`loss_weights` is inf, it must be at least 0"),
        (
            alone(Loss::Discopop(Discopop { tau: 0.0 })),
            "`discopop_tau` is 0, it must be above 0 and at most 1",
        ),
        (
            alone(Loss::Discopop(Discopop { tau: 1.5 })),
            "`discopop_tau` is 1.5, it must be above 0 and at most 1",
        ),
        (alone(Loss::Dpop(Dpop { lambda: -1.0 })), "`dpop_lambda` is -1, it must be at least 0"),
        (
            alone(Loss::Rpo(Rpo { distance: Distance::Ipo, gt_reward_scale: 0.0 })),
            "`gt_reward_scale` is 0, it must be above 0",
        ),
        (simpo(-0.5, 1.0, 0.0), "`simpo_gamma` is -0.5, it must be at least 0"),
        (simpo(0.5, -1.0, 0.0), "`cpo_alpha` is -1, it must be at least 0"),
        (simpo(0.5, 1.0, f64::NAN), "`alpha` is NaN, it must be finite"),
        (
            alone(Loss::Cpo(Cpo { cpo_alpha: -1.0, alpha: 0.0 })),
            "`cpo_alpha` is -1, it must be at least 0",
        ),
        (
            alone(Loss::Cpo(Cpo { cpo_alpha: 1.0, alpha: f64::INFINITY })),
            "`alpha` is inf, it must be finite",
        ),
        (
            alone(Loss::Lmpo(Lmpo { gamma_beta_ratio: -1.0 })),
            "`gamma_beta_ratio` is -1, it must be at least 0",
        ),
        (alone(Loss::Repo(Repo { gamma: -1.0 })), "`repo_gamma` is -1, it must be at least 0"),
        (alone(Loss::RepoPp(RepoPp { gamma: -2.0 })), "`repo_gamma` is -2, it must be at least 0"),
        (kto(-1.0, 1.0), "`desirable_weight` is -1, it must be at least 0"),
        (kto(1.0, f64::NAN), "`undesirable_weight` is NaN, it must be at least 0"),
    ]);
}

#[test]
fn settings_around_losses_outside_their_range_are_named() {
    let gdpo = |size, weight| Objective {
        gdpo: Some(Gdpo { size, weight, term: GroupTerm::Listwise }),
        ..plain()
    };
    let believing =
        |initial, rate| with(plain(), |m| m.reliability = Some(Reliability { initial, rate }));
    let alpha = FDivergence::AlphaDivergence { coefficient: f64::NAN };
    are_named(&[
        (gdpo(1, 0.5), "`group_delay_size` is 1, it must be at least 2"),
        (gdpo(2, -0.5), "`group_delay_weight` is -0.5, it must be at least 0"),
        (with(plain(), |m| m.delta = Some(-1.0)), "`delta` is -1, it must be at least 0"),
        (
            with(plain(), |m| m.f_divergence = alpha),
            "`f_alpha_divergence_coef` is NaN, it must be finite",
        ),
        (with(plain(), |m| m.ld_alpha = Some(1.5)), "`ld_alpha` is 1.5, it must be from 0 to 1"),
        (with(plain(), |m| m.rpo_alpha = -1.0), "`rpo_alpha` is -1, it must be at least 0"),
        (
            with(plain(), |m| m.warmup_epochs = -1.0),
            "`preference_warmup_epochs` is -1, it must be at least 0",
        ),
        (
            with(plain(), |m| m.confidence = Some(Confidence { floor: 2.0 })),
            "`confidence_floor` is 2, it must be from 0 to 1",
        ),
        (believing(0.0, 0.1), "`reliability` is 0, it must be between 0 and 1"),
        (believing(1.0, 0.1), "`reliability` is 1, it must be between 0 and 1"),
        (believing(0.9, 0.0), "`reliability_rate` is 0, it must be above 0 and at most 1"),
        (believing(0.9, 1.1), "`reliability_rate` is 1.1, it must be above 0 and at most 1"),
    ]);
}

#[test]
fn settings_on_the_edge_of_their_range_are_taken() {
    let edges = [
        smoothed(Loss::Sigmoid, 0.49),
        smoothed(Loss::ExoPair, 0.001),
        alone(Loss::Discopop(Discopop { tau: 1.0 })),
        alone(Loss::Dpop(Dpop { lambda: 0.0 })),
        with(plain(), |m| m.ld_alpha = Some(0.0)),
        with(plain(), |m| m.ld_alpha = Some(1.0)),
        with(plain(), |m| m.delta = Some(0.0)),
        with(plain(), |m| m.reliability = Some(Reliability { initial: 0.5, rate: 1.0 })),
        with(sum(&[Loss::Sigmoid, Loss::Sft]), |m| m.delta = Some(1.0)),
        with(sum(&[Loss::Sigmoid, Loss::Sft]), |m| m.ld_alpha = Some(0.5)),
        with(sum(&[Loss::Sigmoid, Loss::Sft]), |m| m.f_divergence = FDivergence::ForwardKl),
        with(alone(Loss::Kto(WEIGHTS)), |m| m.warmup_epochs = 1.0),
        sum(&[Loss::Kto(WEIGHTS), Loss::ApoZeroUnpaired(WEIGHTS)]),
        Objective { label_smoothing: 0.1, ..sum(&[Loss::Sigmoid, Loss::Hinge]) },
        Objective { gdpo: Some(Gdpo { size: 2, weight: 0.0, term: GroupTerm::Epo }), ..plain() },
    ];
    for objective in edges {
        assert_eq!(objective.check(), Ok(()), "{objective:?}");
    }
    assert_eq!(sum(&[]).check(), Err(Error::NoLoss));
    assert_eq!(sum(&[]).name(), "");
}

/// A setting that would do nothing, or nothing that is defined, is refused by both names.
#[test]
fn settings_that_do_not_go_together_are_named() {
    let kto = || alone(Loss::Kto(WEIGHTS));
    let shifted = BcoPair { reward_shift: true };
    let believe = |m: &mut Modifiers| m.reliability = Some(Reliability::default());
    let sure = |m: &mut Modifiers| m.confidence = Some(Confidence::default());
    let forward = |m: &mut Modifiers| m.f_divergence = FDivergence::ForwardKl;
    let weigh = |m: &mut Modifiers| m.use_weighting = true;
    let tail = |m: &mut Modifiers| m.ld_alpha = Some(0.5);
    let cases = [
        (smoothed(Loss::Hinge, 0.1), "label_smoothing", "hinge"),
        (smoothed(Loss::Ipo, 0.1), "label_smoothing", "ipo"),
        (smoothed(Loss::SigmoidNorm, 0.1), "label_smoothing", "sigmoid_norm"),
        (sum(&[Loss::Kto(WEIGHTS), Loss::Sigmoid]), "sigmoid", "kto"),
        (grouped(kto(), GroupTerm::Listwise), "method: gdpo", "kto"),
        (with(kto(), tail), "ld_alpha", "kto"),
        (with(kto(), |m| m.rpo_alpha = 1.0), "rpo_alpha", "kto"),
        (with(kto(), sure), "confidence", "kto"),
        (with(kto(), |m| m.delta = Some(1.0)), "delta", "kto"),
        (with(alone(Loss::Hinge), |m| m.delta = Some(1.0)), "delta", "hinge"),
        (with(alone(Loss::NcaPair), forward), "f_divergence_type", "nca_pair"),
        (with(alone(Loss::Simpo(SIMPO)), forward), "f_divergence_type", "simpo"),
        (
            with(plain(), |m| {
                m.delta = Some(1.0);
                forward(m);
            }),
            "f_divergence_type",
            "delta",
        ),
        (with(alone(Loss::Simpo(SIMPO)), tail), "ld_alpha", "simpo"),
        (with(alone(Loss::Aot), weigh), "use_weighting", "aot"),
        (with(alone(Loss::AotUnpaired), weigh), "use_weighting", "aot_unpaired"),
        (with(alone(Loss::Sft), weigh), "use_weighting", "sft"),
        (with(kto(), weigh), "use_weighting", "kto"),
        (with(grouped(plain(), GroupTerm::Epo), weigh), "use_weighting", "method: gdpo"),
        (with(alone(Loss::Aot), believe), "reliability", "aot"),
        (with(kto(), believe), "reliability", "kto"),
        (with(alone(Loss::ApoZeroUnpaired(WEIGHTS)), believe), "reliability", "apo_zero_unpaired"),
        (with(alone(Loss::Sft), believe), "reliability", "sft"),
        (with(alone(Loss::BcoPair(shifted)), believe), "reliability", "bco_pair"),
        (with(grouped(plain(), GroupTerm::Epo), believe), "reliability", "method: gdpo"),
        (
            with(plain(), |m| {
                m.delta = Some(1.0);
                believe(m);
            }),
            "reliability",
            "delta",
        ),
        (
            with(plain(), |m| {
                sure(m);
                believe(m);
            }),
            "reliability",
            "confidence",
        ),
    ];
    for (objective, key, other) in cases {
        let error = objective.check().expect_err(key);
        assert_eq!(error, Error::NotWith { key, other });
        let want = format!("`{key}` has no effect or no meaning with `{other}`");
        assert_eq!(error.to_string(), want);
        assert_eq!(error.hint(), Some(format!("remove `{key}`, or `{other}`")));
    }
}

fn completion() -> Completion {
    Completion { policy_logp: -2.0, reference_logp: -3.0, token_count: 2, ..Default::default() }
}

fn factual(labels: [Option<f64>; 2]) -> Group {
    let [a, b] = labels.map(|hallucinated| Completion { hallucinated, ..completion() });
    Group::pair(a, b)
}

fn scored(scores: &[Option<f64>]) -> Group {
    let of = |score: &Option<f64>| Completion { score: *score, ..completion() };
    Group::ranked(scores.iter().map(of).collect())
}

fn places(ranks: &[Option<u32>]) -> Group {
    let of = |rank: &Option<u32>| Completion { rank: *rank, ..completion() };
    Group::ranked(ranks.iter().map(of).collect())
}

#[test]
fn rows_without_what_is_needed_are_named() {
    let pair = || Group::pair(completion(), completion());
    let lone = || Group::unpaired(completion(), true);
    let many = |count| Group::ranked(vec![completion(); count]);
    let kto = || alone(Loss::Kto(WEIGHTS));
    let f_dpo = || with(plain(), |m| m.delta = Some(1.0));
    let listwise = || grouped(plain(), GroupTerm::Listwise);
    let lambda = || grouped(plain(), GroupTerm::Lambda);
    let weighted = |weight| Group { weight, ..pair() };
    let cases = [
        (plain(), many(0), "`sigmoid` takes 2 completions a row, not 0"),
        (plain(), many(1), "`sigmoid` takes 2 completions a row, not 1"),
        (plain(), many(3), "`sigmoid` takes 2 completions a row, not 3"),
        (kto(), pair(), "`kto` takes 1 completion a row, not 2"),
        (listwise(), many(1), "`gdpo` takes at least 2 completions a row, not 1"),
        (kto(), many(1), "the row has no label of desirability, which `kto` needs"),
        (kto(), lone(), "the row has no completion of another prompt, which `kto` needs"),
        (alone(RPO), pair(), "the row has no score of each completion, which `rpo` needs"),
        (
            alone(RPO),
            scored(&[Some(1.0), None]),
            "the row has no score of each completion, which `rpo` needs",
        ),
        (alone(RPO), scored(&[Some(1.0), Some(f64::NAN)]), "score is NaN, it must be finite"),
        (f_dpo(), pair(), "the row has no labels of factuality, which `delta` needs"),
        (
            f_dpo(),
            factual([Some(0.0), None]),
            "the row has no labels of factuality, which `delta` needs",
        ),
        (f_dpo(), factual([Some(0.0), Some(0.5)]), "label of factuality is 0.5, it must be 0 or 1"),
        (f_dpo(), factual([Some(-1.0), Some(1.0)]), "label of factuality is -1, it must be 0 or 1"),
        (
            f_dpo(),
            factual([Some(1.0), Some(0.0)]),
            "the chosen completion is not factual while the rejected one is",
        ),
        (
            listwise(),
            places(&[Some(0), None]),
            "the row has no rank of some completions, which `gdpo` needs",
        ),
        (listwise(), places(&[Some(1), Some(0)]), "the ranks of the completions give no order"),
        (
            listwise(),
            places(&[Some(1), Some(1), Some(1)]),
            "the ranks of the completions give no order",
        ),
        (
            lambda(),
            scored(&[Some(1.0), None]),
            "the row has no score of some completions, which `lambda` needs",
        ),
        (lambda(), scored(&[Some(1.5), Some(0.0)]), "score is 1.5, it must be from 0 to 1"),
        (plain(), weighted(-1.0), "weight of the row is -1, it must be at least 0"),
        (plain(), weighted(f64::NAN), "weight of the row is NaN, it must be at least 0"),
    ];
    for (objective, group, want) in cases {
        let error = objective.check_group(&group).expect_err(want);
        assert_eq!(error.to_string(), want);
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
    }
}

#[test]
fn rows_with_what_is_needed_are_taken() {
    let f_dpo = || with(plain(), |m| m.delta = Some(1.0));
    let mismatched = Some(Scored::default());
    let lone = Group::unpaired(completion(), false);
    let listwise = || grouped(plain(), GroupTerm::Listwise);
    for (objective, group) in [
        (plain(), Group::pair(completion(), completion())),
        (plain(), Group { weight: 0.0, ..Group::pair(completion(), completion()) }),
        (alone(Loss::ApoZeroUnpaired(WEIGHTS)), lone.clone()),
        (alone(Loss::Kto(WEIGHTS)), Group { mismatched, ..lone }),
        (alone(RPO), scored(&[Some(3.0), Some(-2.0)])),
        (f_dpo(), factual([Some(0.0), Some(0.0)])),
        (f_dpo(), factual([Some(0.0), Some(1.0)])),
        (f_dpo(), factual([Some(1.0), Some(1.0)])),
        (listwise(), places(&[None, None, None])),
        (listwise(), places(&[Some(0), Some(0), Some(7)])),
        (listwise(), scored(&[Some(9.0), None])),
        (grouped(plain(), GroupTerm::Lambda), scored(&[Some(1.0), Some(0.0)])),
        (grouped(plain(), GroupTerm::Lambda), scored(&[None, None])),
    ] {
        assert_eq!(objective.check_group(&group), Ok(()), "{objective:?} {group:?}");
    }
}

/// What a row lacks makes its loss one that stops the training, if nobody checked.
#[test]
fn rows_that_nobody_checked_do_not_pass_in_silence() {
    let pair = Group::pair(completion(), completion());
    let lone = Group::ranked(vec![completion()]);
    for (objective, group) in [
        (with(plain(), |m| m.delta = Some(1.0)), &pair),
        (alone(RPO), &pair),
        (alone(Loss::Kto(WEIGHTS)), &lone),
    ] {
        let outcomes =
            objective.evaluate(&mut objectives::State::default(), std::slice::from_ref(group));
        assert!(outcomes.groups[0].loss.is_nan(), "{objective:?}");
    }
}

#[test]
fn what_is_needed_is_told() {
    let nothing = Needs::default();
    let reference = Needs { reference: true, ..nothing };
    for (objective, want) in [
        (plain(), reference),
        (alone(Loss::Simpo(SIMPO)), nothing),
        (sum(&[Loss::Simpo(SIMPO), Loss::Sigmoid]), reference),
        (with(plain(), |m| m.ld_alpha = Some(0.5)), Needs { tails: true, ..reference }),
        (with(plain(), |m| m.use_weighting = true), Needs { relative: true, ..reference }),
        (alone(RPO), Needs { scores: true, ..reference }),
        (with(plain(), |m| m.delta = Some(0.0)), Needs { factuality: true, ..reference }),
        (alone(Loss::Kto(WEIGHTS)), Needs { desirable: true, mismatched: true, ..reference }),
        (alone(Loss::ApoZeroUnpaired(WEIGHTS)), Needs { desirable: true, ..reference }),
        (
            with(plain(), |m| m.reliability = Some(Reliability::default())),
            Needs { annotator: true, ..reference },
        ),
        (with(plain(), |m| m.warmup_epochs = 0.5), Needs { epoch: true, ..reference }),
    ] {
        assert_eq!(objective.needs(), want, "{objective:?}");
        assert_eq!(objective.needs_reference(), want.reference);
    }
}

#[test]
fn parts_of_a_loss_are_told() {
    let none = LossParts::default();
    let [group, likelihood, weight] = [
        LossParts { group: true, ..none },
        LossParts { likelihood: true, ..none },
        LossParts { weight: true, ..none },
    ];
    for (objective, want) in [
        (plain(), none),
        (alone(Loss::Simpo(Simpo { cpo_alpha: 0.0, ..SIMPO })), none),
        (grouped(plain(), GroupTerm::Listwise), group),
        (with(plain(), |m| m.rpo_alpha = 0.5), likelihood),
        (alone(Loss::Simpo(SIMPO)), likelihood),
        (alone(Loss::Orpo), likelihood),
        (sum(&[Loss::Sigmoid, Loss::Sft]), likelihood),
        (with(plain(), |m| m.use_weighting = true), weight),
        (with(plain(), |m| m.confidence = Some(Confidence::default())), weight),
        (with(plain(), |m| m.warmup_epochs = 0.5), weight),
    ] {
        assert_eq!(objective.loss_parts(), want, "{objective:?}");
    }
}

#[test]
fn coupling_is_told() {
    let shift = |reward_shift| alone(Loss::BcoPair(BcoPair { reward_shift }));
    for coupled in [
        alone(Loss::Aot),
        alone(Loss::AotUnpaired),
        alone(Loss::Sft),
        alone(Loss::Kto(WEIGHTS)),
        alone(Loss::Lmpo(Lmpo { gamma_beta_ratio: 0.5 })),
        shift(true),
        sum(&[Loss::Sigmoid, Loss::Sft]),
        grouped(plain(), GroupTerm::BatchVariance),
        with(plain(), |m| m.reliability = Some(Reliability::default())),
    ] {
        assert!(coupled.is_batch_coupled(), "{coupled:?}");
    }
    for free in [
        plain(),
        shift(false),
        alone(Loss::ApoZeroUnpaired(WEIGHTS)),
        grouped(plain(), GroupTerm::Listwise),
        with(plain(), |m| m.confidence = Some(Confidence::default())),
        with(plain(), |m| m.use_weighting = true),
    ] {
        assert!(!free.is_batch_coupled(), "{free:?}");
    }
}

/// Names in recipes are those of the variants, in their order.
#[test]
fn names_are_in_the_order_of_the_variants() {
    let divergences = [
        FDivergence::default(),
        FDivergence::ForwardKl,
        FDivergence::JsDivergence,
        FDivergence::AlphaDivergence { coefficient: 0.5 },
    ];
    assert_eq!(divergences.map(FDivergence::name), FDivergence::NAMES);
    let distances = [Distance::BackwardKl, Distance::ForwardKl, Distance::Squared, Distance::Ipo];
    assert_eq!(distances.map(Distance::name), Distance::NAMES);
    let terms = [
        GroupTerm::Listwise,
        GroupTerm::Lambda,
        GroupTerm::Pairs,
        GroupTerm::PairwiseMean,
        GroupTerm::Epo,
        GroupTerm::BatchVariance,
    ];
    assert_eq!(terms.map(GroupTerm::name), GroupTerm::NAMES);
    assert_eq!(Objective::NAMES, Loss::NAMES);
    assert_eq!(Confidence::default().floor.to_bits(), 0.2_f64.to_bits());
    let Reliability { initial, rate } = Reliability::default();
    assert_eq!((initial.to_bits(), rate.to_bits()), (0.9_f64.to_bits(), 0.1_f64.to_bits()));
}
