//! Which losses are compared, with what around them, and where the two are meant to differ.

use objectives::{BcoPair, Discopop, FDivergence, Loss, Modifiers, Objective, Term};
use serde_json::{Value, json};

/// The losses of TRL's `DPOTrainer`; a name that it adds or drops is reported.
pub(super) const LOSSES: [Loss; 15] = [
    Loss::Sigmoid,
    Loss::Hinge,
    Loss::Ipo,
    Loss::ExoPair,
    Loss::NcaPair,
    Loss::Robust,
    Loss::BcoPair(BcoPair { reward_shift: false }),
    Loss::SppoHard,
    Loss::Aot,
    Loss::AotUnpaired,
    Loss::ApoZero,
    Loss::ApoDown,
    Loss::Discopop(Discopop { tau: 0.05 }),
    Loss::Sft,
    Loss::SigmoidNorm,
];

/// Pairs to make, by name: how many, and within how many nats their log-ratios lie.
pub(super) const BATCHES: [(&str, usize, f64); 4] =
    [("near", 24, 4.0), ("far", 24, 70.0), ("single", 1, 4.0), ("given up", 24, 2000.0)];

/// What is asked of TRL.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// What TRL is told.
    pub(super) asked: Objective,
    /// What is held against its answer.
    pub(super) ours: Objective,
    /// The name of the pairs.
    pub(super) batch: &'static str,
}

/// A case in which ours is meant to say something else than TRL.
#[derive(Clone, Debug)]
pub(super) struct Departure {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Whether TRL cannot compute it.
    pub(super) fails: bool,
    pub(super) case: Case,
}

/// The settings of `DPOConfig` that say the same as an objective.
pub(super) fn config(objective: &Objective) -> Value {
    let names: Vec<&str> = objective.terms.iter().map(|term| term.loss.name()).collect();
    let weights: Vec<f64> = objective.terms.iter().map(|term| term.weight).collect();
    let modifiers = &objective.modifiers;
    let mut config = json!({
        "beta": objective.beta,
        "label_smoothing": objective.label_smoothing,
        "loss_type": names,
        "loss_weights": weights,
        "ld_alpha": modifiers.ld_alpha,
        "f_divergence_type": modifiers.f_divergence.name(),
        "use_weighting": modifiers.use_weighting,
    });
    if let FDivergence::AlphaDivergence { coefficient } = modifiers.f_divergence {
        config["f_alpha_divergence_coef"] = json!(coefficient);
    }
    for term in &objective.terms {
        if let Loss::Discopop(Discopop { tau }) = term.loss {
            config["discopop_tau"] = json!(tau);
        }
    }
    config
}

/// A loss alone, with what changes it; each loss meets each of them.
fn alone(loss: Loss) -> Vec<Objective> {
    // TRL refuses `exo_pair` without smoothing.
    let label_smoothing = if loss == Loss::ExoPair { 0.125 } else { 0.0 };
    let plain = Objective { label_smoothing, ..Objective::new(loss, 0.1) };
    let with = |modifiers| Objective { modifiers, ..plain.clone() };
    let none = Modifiers::default();
    let tails = [0.0, 0.3, 1.0].map(|alpha| with(Modifiers { ld_alpha: Some(alpha), ..none }));
    let alphas = [0.5, 1.0, 2.0].map(|coefficient| FDivergence::AlphaDivergence { coefficient });
    let divergences = [FDivergence::ForwardKl, FDivergence::JsDivergence].into_iter().chain(alphas);
    let mut all = vec![
        plain.clone(),
        Objective { beta: 0.5, ..plain.clone() },
        Objective { label_smoothing: 0.25, ..plain.clone() },
        with(Modifiers { use_weighting: true, ..none }),
        with(Modifiers { use_weighting: true, ld_alpha: Some(0.3), ..none }),
    ];
    all.extend(tails);
    all.extend(divergences.map(|f_divergence| with(Modifiers { f_divergence, ..none })));
    all
}

/// Weighted sums.
fn sums() -> Vec<Objective> {
    let sum = |terms: &[(Loss, f64)], modifiers| Objective {
        terms: terms.iter().map(|&(loss, weight)| Term { loss, weight }).collect(),
        modifiers,
        ..Objective::new(Loss::Sigmoid, 0.1)
    };
    let none = Modifiers::default();
    let pair = Loss::BcoPair(BcoPair::default());
    // Mixed preference optimization, arXiv:2411.10442.
    let mixed = [(Loss::Sigmoid, 0.8), (pair, 0.2), (Loss::Sft, 1.0)];
    let all: Vec<_> = LOSSES
        .into_iter()
        .filter(|loss| *loss != Loss::ExoPair)
        .zip([0.5, 0.25, 2.0, 0.0, 1.0, 0.75, 0.125].into_iter().cycle())
        .collect();
    let smoothed = [(Loss::ExoPair, 0.5), (Loss::Robust, 2.0), (Loss::Aot, 0.25)];
    vec![
        sum(&mixed, none),
        sum(&mixed, Modifiers { ld_alpha: Some(0.3), ..none }),
        sum(&all, none),
        sum(&all, Modifiers { ld_alpha: Some(0.3), ..none }),
        Objective { label_smoothing: 0.125, ..sum(&smoothed, none) },
        sum(&[(Loss::Sigmoid, 1.0), (Loss::Ipo, 0.01)], Modifiers { use_weighting: true, ..none }),
        sum(
            &[(Loss::Hinge, 1.0), (Loss::Sft, 0.5)],
            Modifiers { f_divergence: FDivergence::JsDivergence, ..none },
        ),
    ]
}

/// Whether TRL computes this in f32 alone.
pub(super) fn is_f32(objective: &Objective) -> bool {
    match objective.modifiers.f_divergence {
        FDivergence::AlphaDivergence { coefficient } => coefficient.to_bits() != 1_f64.to_bits(),
        _ => false,
    }
}

/// `sigmoid` with a likelihood as TRL has it, and as it is here.
fn likely() -> [Objective; 2] {
    let plain = Objective::new(Loss::Sigmoid, 0.1);
    let mut summed = plain.clone();
    summed.terms.push(Term { loss: Loss::Sft, weight: 0.75 });
    let modifiers = Modifiers { rpo_alpha: 0.75, ..Modifiers::default() };
    [summed, Objective { modifiers, ..plain }]
}

/// Cases that must agree, or be refused by both.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for asked in LOSSES.into_iter().flat_map(alone).chain(sums()) {
        // The departure `use_weighting`.
        if asked.terms[0].loss == Loss::Hinge && asked.modifiers.use_weighting {
            continue;
        }
        let mut case = Case { ours: asked.clone(), asked, batch: "near" };
        // The departure `label_smoothing`: what TRL ignores is left out here.
        let is_smoothed = |term: &Term| term.loss.smooths() && term.loss != Loss::Sigmoid;
        if !case.asked.terms.iter().all(is_smoothed) {
            case.ours.label_smoothing = 0.0;
        }
        // In f32 the powers of far log-ratios are mostly rounding; and the departure `discopop`.
        let exploding = matches!(case.asked.terms[0].loss, Loss::Discopop(_))
            && case.asked.modifiers.f_divergence == FDivergence::ForwardKl;
        if !is_f32(&case.asked) && !exploding {
            cases.push(Case { batch: "far", ..case.clone() });
        }
        cases.push(case);
    }
    let [asked, ours] = likely();
    cases.push(Case { asked, ours, batch: "single" });
    cases
}

/// Every departure in TRL's losses, in loss or rewards; each is a case that would agree without it.
pub(super) fn departures() -> Vec<Departure> {
    let plain = Objective::new(Loss::Sigmoid, 0.1);
    let smoothed = Objective { label_smoothing: 0.25, ..plain.clone() };
    let [summed, likely] = likely();
    let bco = |reward_shift| Objective::new(Loss::BcoPair(BcoPair { reward_shift }), 0.1);
    let modifiers = Modifiers { f_divergence: FDivergence::ForwardKl, ..Modifiers::default() };
    let exploding =
        Objective { modifiers, ..Objective::new(Loss::Discopop(Discopop { tau: 0.05 }), 0.1) };
    let forward = Objective { modifiers, ..plain };
    let sft = Objective::new(Loss::Sft, 0.1);
    let of = |name, what, asked, ours, batch| Departure {
        name,
        what,
        fails: false,
        case: Case { asked, ours, batch },
    };
    let modifiers = Modifiers { use_weighting: true, ..Modifiers::default() };
    let weighed = Objective { modifiers, ..Objective::new(Loss::Hinge, 0.1) };
    let what =
        "TRL weighs a hinge in place, over what its own backward pass still needs, and fails";
    vec![
        Departure { fails: true, ..of("use_weighting", what, weighed.clone(), weighed, "near") },
        of(
            "label_smoothing",
            "TRL ignores it but for `exo_pair`, `robust` and both `aot`; here it smooths `sigmoid` \
             too, and others refuse it",
            smoothed.clone(),
            smoothed,
            "near",
        ),
        of(
            "rpo_alpha",
            "TRL adds `sft`, a mean over the tokens of a micro-batch; here each row has its own mean, \
             which is the same where a row is alone",
            summed,
            likely,
            "near",
        ),
        of(
            "bco_pair",
            "TRL has no shift of rewards; here it is a choice",
            bco(false),
            bco(true),
            "far",
        ),
        of(
            "forward_kl",
            "TRL's exponent has no bound, so that its loss overflows; here it stays finite",
            forward.clone(),
            forward,
            "given up",
        ),
        of(
            "discopop",
            "TRL multiplies an exponential that overflowed by 0, which is no number; here it stays finite",
            exploding.clone(),
            exploding,
            "far",
        ),
        of(
            "sft",
            "TRL runs a reference for rewards alone; here rewards are those of the policy",
            sft.clone(),
            sft,
            "near",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left out for TRL's sake is nothing that would have acted.
    #[test]
    fn smoothing_that_trl_ignores_is_refused_here() {
        let ignored = |case: &&Case| case.ours.label_smoothing < case.asked.label_smoothing;
        let cases = cases();
        let ignored: Vec<&Case> = cases.iter().filter(ignored).collect();
        assert!(LOSSES.len() < ignored.len(), "near and far");
        for case in ignored {
            let is_sigmoid = case.asked.terms[0].loss == Loss::Sigmoid;
            assert_eq!(case.asked.check().is_ok(), is_sigmoid, "{:?}", case.asked);
        }
    }

    #[test]
    fn settings_have_the_names_of_trl() {
        let modifiers = Modifiers {
            ld_alpha: Some(0.5),
            f_divergence: FDivergence::AlphaDivergence { coefficient: 2.0 },
            ..Modifiers::default()
        };
        let loss = Loss::Discopop(Discopop { tau: 0.25 });
        assert_eq!(
            config(&Objective { modifiers, ..Objective::new(loss, 0.1) }),
            json!({
                "beta": 0.1, "label_smoothing": 0.0, "loss_type": ["discopop"], "loss_weights": [1.0],
                "ld_alpha": 0.5, "f_divergence_type": "alpha_divergence", "use_weighting": false,
                "f_alpha_divergence_coef": 2.0, "discopop_tau": 0.25,
            })
        );
    }
}
