//! What is minimized: the losses, their parameters, and what changes them.

use objectives::{
    BcoPair, Confidence, Cpo, Discopop, Distance, Dpop, FDivergence, Gdpo, GroupTerm, Kto, Lmpo,
    Loss, Modifiers, Objective, Reliability, Repo, RepoPp, Rpo, Simpo, Term,
};

use super::{
    problem::{Note, What},
    read::{POSITIVE, Section, Words},
    tree::{Node, Value},
};

pub(super) const DISTANCES: Words<Distance> = &[
    ("bwd_kl", Distance::BackwardKl),
    ("fwd_kl", Distance::ForwardKl),
    ("sq", Distance::Squared),
    ("ipo", Distance::Ipo),
];
pub(super) const GROUP_TERMS: Words<GroupTerm> = &[
    ("listwise", GroupTerm::Listwise),
    ("lambda", GroupTerm::Lambda),
    ("pairs", GroupTerm::Pairs),
    ("pairwise_mean", GroupTerm::PairwiseMean),
    ("epo", GroupTerm::Epo),
    ("batch_variance", GroupTerm::BatchVariance),
];
/// A divergence without its coefficient.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Divergence {
    ReverseKl,
    ForwardKl,
    Js,
    Alpha,
}
const DIVERGENCES: Words<Divergence> = &[
    ("reverse_kl", Divergence::ReverseKl),
    ("forward_kl", Divergence::ForwardKl),
    ("js_divergence", Divergence::Js),
    ("alpha_divergence", Divergence::Alpha),
];

/// Whether a key acts on a loss.
type Applies = fn(&Loss) -> bool;

/// Keys that belong to some losses alone.
const OWN: [(&str, Applies); 13] = [
    ("label_smoothing", Loss::smooths),
    ("reward_shift", |loss| matches!(loss, Loss::BcoPair(_))),
    ("discopop_tau", |loss| matches!(loss, Loss::Discopop(_))),
    ("dpop_lambda", |loss| matches!(loss, Loss::Dpop(_))),
    ("simpo_gamma", |loss| matches!(loss, Loss::Simpo(_))),
    ("cpo_alpha", |loss| matches!(loss, Loss::Simpo(_) | Loss::Cpo(_))),
    ("alpha", |loss| matches!(loss, Loss::Simpo(_) | Loss::Cpo(_))),
    ("gamma_beta_ratio", |loss| matches!(loss, Loss::Lmpo(_))),
    ("repo_gamma", |loss| matches!(loss, Loss::Repo(_) | Loss::RepoPp(_))),
    ("rpo_distance", |loss| matches!(loss, Loss::Rpo(_))),
    ("gt_reward_scale", |loss| matches!(loss, Loss::Rpo(_))),
    ("desirable_weight", Loss::is_unpaired),
    ("undesirable_weight", Loss::is_unpaired),
];

/// Reads the objective.
pub(super) fn read(section: &mut Section<'_>, notes: &mut Vec<Note>) -> Option<Objective> {
    let beta = section.number("beta", POSITIVE, "> 0").unwrap_or(0.1);
    let label_smoothing = section.number("label_smoothing", 0.0..0.5, ">= 0 and < 0.5");
    let gdpo = gdpo(section, notes);
    let parameters = Parameters::read(section);
    let names = if section.has("loss_type") {
        section.texts("loss_type")?
    } else {
        vec!["sigmoid".to_owned()]
    };
    let mut losses = Vec::with_capacity(names.len());
    for name in names {
        let Some(loss) = parameters.loss(&name) else {
            let (noun, supported) = ("loss_type", Loss::NAMES.to_vec());
            section
                .report("loss_type", What::Unsupported { noun, got: name, supported, hint: None });
            return None;
        };
        losses.push(loss);
    }
    let terms = terms(section, &losses)?;
    refuse_others(section, &losses);
    let objective = Objective {
        beta,
        label_smoothing: label_smoothing.unwrap_or(0.0),
        terms,
        modifiers: modifiers(section),
        gdpo,
    };
    check(section, &objective);
    Some(objective)
}

/// What losses are made of beside what all share.
struct Parameters {
    reward_shift: bool,
    discopop_tau: f64,
    dpop_lambda: f64,
    simpo_gamma: f64,
    cpo_alpha: f64,
    alpha: f64,
    gamma_beta_ratio: f64,
    repo_gamma: f64,
    distance: Distance,
    gt_reward_scale: f64,
    kto: Kto,
}

impl Parameters {
    /// What holds where the recipe is silent.
    const USUAL: Self = Self {
        reward_shift: false,
        discopop_tau: 0.05,
        dpop_lambda: 50.0,
        simpo_gamma: 0.5,
        cpo_alpha: 1.0,
        alpha: 0.0,
        gamma_beta_ratio: 0.8,
        repo_gamma: 0.5,
        distance: Distance::BackwardKl,
        gt_reward_scale: 1.0,
        kto: Kto { desirable_weight: 1.0, undesirable_weight: 1.0 },
    };

    fn read(section: &mut Section<'_>) -> Self {
        let mut at_least_zero = |key, usual| section.number(key, 0.0.., ">= 0").unwrap_or(usual);
        let usual = Self::USUAL;
        let mut read = Self {
            dpop_lambda: at_least_zero("dpop_lambda", usual.dpop_lambda),
            simpo_gamma: at_least_zero("simpo_gamma", usual.simpo_gamma),
            cpo_alpha: at_least_zero("cpo_alpha", usual.cpo_alpha),
            gamma_beta_ratio: at_least_zero("gamma_beta_ratio", usual.gamma_beta_ratio),
            repo_gamma: at_least_zero("repo_gamma", usual.repo_gamma),
            kto: Kto {
                desirable_weight: at_least_zero("desirable_weight", usual.kto.desirable_weight),
                undesirable_weight: at_least_zero(
                    "undesirable_weight",
                    usual.kto.undesirable_weight,
                ),
            },
            ..usual
        };
        let up_to_one = (POSITIVE.0, std::ops::Bound::Included(1.0));
        let tau = section.number("discopop_tau", up_to_one, "> 0 and <= 1");
        read.discopop_tau = tau.unwrap_or(read.discopop_tau);
        read.alpha = section.number("alpha", .., "a number").unwrap_or(read.alpha);
        read.reward_shift = section.flag("reward_shift").unwrap_or(read.reward_shift);
        let distance = section.word("rpo_distance", "rpo_distance", DISTANCES);
        read.distance = distance.unwrap_or(read.distance);
        let scale = section.number("gt_reward_scale", POSITIVE, "> 0");
        read.gt_reward_scale = scale.unwrap_or(read.gt_reward_scale);
        read
    }

    /// The loss of a name, with its parameters.
    fn loss(&self, name: &str) -> Option<Loss> {
        let (cpo_alpha, alpha) = (self.cpo_alpha, self.alpha);
        Some(match name {
            "sigmoid" => Loss::Sigmoid,
            "robust" => Loss::Robust,
            "hinge" => Loss::Hinge,
            "ipo" => Loss::Ipo,
            "exo_pair" => Loss::ExoPair,
            "nca_pair" => Loss::NcaPair,
            "bco_pair" => Loss::BcoPair(BcoPair { reward_shift: self.reward_shift }),
            "sppo_hard" => Loss::SppoHard,
            "aot" => Loss::Aot,
            "aot_unpaired" => Loss::AotUnpaired,
            "apo_zero" => Loss::ApoZero,
            "apo_down" => Loss::ApoDown,
            "discopop" => Loss::Discopop(Discopop { tau: self.discopop_tau }),
            "sft" => Loss::Sft,
            "sigmoid_norm" => Loss::SigmoidNorm,
            "dpop" => Loss::Dpop(Dpop { lambda: self.dpop_lambda }),
            "rpo" => {
                let (distance, gt_reward_scale) = (self.distance, self.gt_reward_scale);
                Loss::Rpo(Rpo { distance, gt_reward_scale })
            }
            "simpo" => Loss::Simpo(Simpo { gamma: self.simpo_gamma, cpo_alpha, alpha }),
            "cpo" => Loss::Cpo(Cpo { cpo_alpha, alpha }),
            "orpo" => Loss::Orpo,
            "lmpo" => Loss::Lmpo(Lmpo { gamma_beta_ratio: self.gamma_beta_ratio }),
            "repo" => Loss::Repo(Repo { gamma: self.repo_gamma }),
            "repo_pp" => Loss::RepoPp(RepoPp { gamma: self.repo_gamma }),
            "kto" => Loss::Kto(self.kto),
            "apo_zero_unpaired" => Loss::ApoZeroUnpaired(self.kto),
            _ => return None,
        })
    }
}

/// The method, and the keys that belong to one.
fn gdpo(section: &mut Section<'_>, notes: &mut Vec<Note>) -> Option<Gdpo> {
    let is_gdpo = section.word("method", "method", &[("dpo", false), ("gdpo", true)]);
    let both = Some("need at least chosen + rejected responses");
    let size = section.count_hinted("group_delay_size", 2, both);
    let weight = section.number("group_delay_weight", 0.0.., ">= 0");
    let term = section.word("group_term", "group_term", GROUP_TERMS);
    if is_gdpo != Some(true) {
        // LexAlign's recipes have the first two beside `method: dpo`.
        notes.extend(size.map(|_| Note::GroupDelaySize));
        notes.extend(weight.map(|_| Note::GroupDelayWeight));
        section.refuse("group_term", "with `method: dpo`", "remove it, or use `method: gdpo`");
        return None;
    }
    Some(Gdpo {
        size: size.map_or(4, |size| size as usize),
        weight: weight.unwrap_or(0.5),
        term: term.unwrap_or(GroupTerm::Listwise),
    })
}

fn terms(section: &mut Section<'_>, losses: &[Loss]) -> Option<Vec<Term>> {
    let weights = weights(section)?;
    let all_one = vec![1.0; losses.len()];
    let weights = weights.unwrap_or(all_one);
    if weights.len() != losses.len() {
        let (first, second) =
            (format!("{} `loss_weights`", weights.len()), format!("{} losses", losses.len()));
        let hint = "give each of `loss_type` a weight, in the same order".into();
        section.report("loss_weights", What::Conflict { first, second, hint });
        return None;
    }
    let term = |(loss, weight): (&Loss, f64)| Term { loss: *loss, weight };
    Some(losses.iter().zip(weights).map(term).collect())
}

/// The weights if there are any; `None` for a list that is no list of numbers.
#[expect(clippy::option_option, reason = "absent is one thing, wrong another")]
fn weights(section: &mut Section<'_>) -> Option<Option<Vec<f64>>> {
    let Some(node) = section.node("loss_weights") else { return Some(None) };
    let numbers: Option<Vec<f64>> = match &node.value {
        Value::List(items) => items.iter().map(Node::as_number).collect(),
        _ => node.as_number().map(|number| vec![number]),
    };
    let got = node.value.describe();
    let fitting = numbers.filter(|all| all.iter().all(|weight| 0.0 <= *weight));
    if fitting.is_none() {
        section.wrong("loss_weights", "a list of numbers >= 0", got);
    }
    fitting.map(Some)
}

/// Refuses parameters of losses that take no part.
fn refuse_others(section: &mut Section<'_>, losses: &[Loss]) {
    let names: Vec<&str> = losses.iter().map(Loss::name).collect();
    let when = format!("with `loss_type: {}`", names.join(", "));
    for (key, applies) in OWN {
        if losses.iter().any(applies) {
            continue;
        }
        // A smoothing of 0 is what these losses do.
        let is_zero = section.node(key).and_then(Node::as_number) == Some(0.0);
        if key == "label_smoothing" && is_zero {
            continue;
        }
        let taker = first_name(applies);
        section.refuse(key, when.clone(), format!("remove it, or use `loss_type: {taker}`"));
    }
}

/// The first name of a loss for which something holds.
fn first_name(holds: Applies) -> &'static str {
    let fits = |name: &&str| Parameters::USUAL.loss(name).is_some_and(|loss| holds(&loss));
    Loss::NAMES.into_iter().find(fits).unwrap_or("sigmoid")
}

fn modifiers(section: &mut Section<'_>) -> Modifiers {
    let delta = section.number("delta", 0.0.., ">= 0");
    if delta.is_none() {
        let hint = "remove it, or set `delta` for factual preference optimization";
        section.refuse("flip", "without `delta`", hint);
    }
    let confidence = section.flag("confidence_weighting").unwrap_or(false);
    let floor = section.number("confidence_floor", 0.0..=1.0, ">= 0 and <= 1");
    if !confidence {
        let hint = "remove it, or set `confidence_weighting: true`";
        section.refuse("confidence_floor", "without `confidence_weighting`", hint);
    }
    let inside = (POSITIVE.0, std::ops::Bound::Excluded(1.0));
    let initial = section.number("reliability", inside, "> 0 and < 1");
    let up_to_one = (POSITIVE.0, std::ops::Bound::Included(1.0));
    let rate = section.number("reliability_rate", up_to_one, "> 0 and <= 1");
    if initial.is_none() {
        section.refuse(
            "reliability_rate",
            "without `reliability`",
            "remove it, or set `reliability`, such as to 0.9",
        );
    }
    let usual = (Confidence::default(), Reliability::default());
    Modifiers {
        delta,
        f_divergence: f_divergence(section),
        ld_alpha: section.number("ld_alpha", 0.0..=1.0, ">= 0 and <= 1"),
        use_weighting: section.flag("use_weighting").unwrap_or(false),
        rpo_alpha: section.number("rpo_alpha", 0.0.., ">= 0").unwrap_or(0.0),
        confidence: confidence.then(|| Confidence { floor: floor.unwrap_or(usual.0.floor) }),
        warmup_epochs: section.number("preference_warmup_epochs", 0.0.., ">= 0").unwrap_or(0.0),
        reliability: initial
            .map(|initial| Reliability { initial, rate: rate.unwrap_or(usual.1.rate) }),
    }
}

fn f_divergence(section: &mut Section<'_>) -> FDivergence {
    let kind = section.word("f_divergence_type", "f_divergence_type", DIVERGENCES);
    let coefficient = section.number("f_alpha_divergence_coef", .., "a number");
    if kind != Some(Divergence::Alpha) {
        section.refuse(
            "f_alpha_divergence_coef",
            "without `f_divergence_type: alpha_divergence`",
            "remove it, or use `f_divergence_type: alpha_divergence`",
        );
    }
    match kind.unwrap_or(Divergence::ReverseKl) {
        Divergence::ReverseKl => FDivergence::ReverseKl,
        Divergence::ForwardKl => FDivergence::ForwardKl,
        Divergence::Js => FDivergence::JsDivergence,
        Divergence::Alpha => {
            FDivergence::AlphaDivergence { coefficient: coefficient.unwrap_or(0.5) }
        }
    }
}

/// What the objective itself finds wrong with how its parts go together.
fn check(section: &mut Section<'_>, objective: &Objective) {
    let Err(error) = objective.check() else { return };
    let hint = error.hint().unwrap_or_default();
    match error {
        // Said already where the key was read.
        objectives::Error::NotWith { key: "label_smoothing", .. } => {}
        objectives::Error::NotWith { key, other } => {
            let what = What::Conflict { first: quoted(key), second: quoted(other), hint };
            section.report("loss_type", what);
        }
        other => {
            let what = What::Conflict { first: other.to_string(), second: "the rest".into(), hint };
            section.report("loss_type", what);
        }
    }
}

fn quoted(key: &str) -> String {
    format!("`{key}`")
}

/// The objective's keys and values, those that act.
pub(super) fn rows(objective: &Objective) -> Vec<(&'static str, String)> {
    use super::render::{list, number, word};
    let mut rows = vec![("beta", number(objective.beta))];
    let names = objective.terms.iter().map(|term| term.loss.name().to_owned());
    let weights = objective.terms.iter().map(|term| number(term.weight));
    if let [term] = objective.terms[..]
        && term.weight.to_bits() == 1.0_f64.to_bits()
    {
        rows.push(("loss_type", term.loss.name().into()));
    } else {
        rows.push(("loss_type", list(names)));
        rows.push(("loss_weights", list(weights)));
    }
    if objective.terms.iter().any(|term| term.loss.smooths()) {
        rows.push(("label_smoothing", number(objective.label_smoothing)));
    }
    for term in &objective.terms {
        for row in own_rows(&term.loss) {
            if !rows.iter().any(|known| known.0 == row.0) {
                rows.push(row);
            }
        }
    }
    let modifiers = &objective.modifiers;
    rows.extend(modifiers.delta.map(|delta| ("delta", number(delta))));
    let (kind, coefficient) = match modifiers.f_divergence {
        FDivergence::ReverseKl => (Divergence::ReverseKl, None),
        FDivergence::ForwardKl => (Divergence::ForwardKl, None),
        FDivergence::JsDivergence => (Divergence::Js, None),
        FDivergence::AlphaDivergence { coefficient } => (Divergence::Alpha, Some(coefficient)),
    };
    if kind != Divergence::ReverseKl {
        rows.push(("f_divergence_type", word(DIVERGENCES, kind).into()));
    }
    rows.extend(coefficient.map(|it| ("f_alpha_divergence_coef", number(it))));
    rows.extend(modifiers.ld_alpha.map(|it| ("ld_alpha", number(it))));
    rows.extend(modifiers.use_weighting.then(|| ("use_weighting", "true".into())));
    rows.extend((0.0 < modifiers.rpo_alpha).then(|| ("rpo_alpha", number(modifiers.rpo_alpha))));
    if let Some(Confidence { floor }) = modifiers.confidence {
        rows.push(("confidence_weighting", "true".into()));
        rows.push(("confidence_floor", number(floor)));
    }
    if 0.0 < modifiers.warmup_epochs {
        rows.push(("preference_warmup_epochs", number(modifiers.warmup_epochs)));
    }
    if let Some(Reliability { initial, rate }) = modifiers.reliability {
        rows.push(("reliability", number(initial)));
        rows.push(("reliability_rate", number(rate)));
    }
    if let Some(gdpo) = objective.gdpo {
        rows.push(("group_delay_size", gdpo.size.to_string()));
        rows.push(("group_delay_weight", number(gdpo.weight)));
        rows.push(("group_term", word(GROUP_TERMS, gdpo.term).into()));
    }
    rows
}

fn own_rows(loss: &Loss) -> Vec<(&'static str, String)> {
    use super::render::{number, word};
    match *loss {
        Loss::BcoPair(it) => vec![("reward_shift", it.reward_shift.to_string())],
        Loss::Discopop(it) => vec![("discopop_tau", number(it.tau))],
        Loss::Dpop(it) => vec![("dpop_lambda", number(it.lambda))],
        Loss::Simpo(it) => vec![
            ("simpo_gamma", number(it.gamma)),
            ("cpo_alpha", number(it.cpo_alpha)),
            ("alpha", number(it.alpha)),
        ],
        Loss::Cpo(it) => vec![("cpo_alpha", number(it.cpo_alpha)), ("alpha", number(it.alpha))],
        Loss::Lmpo(it) => vec![("gamma_beta_ratio", number(it.gamma_beta_ratio))],
        Loss::Repo(Repo { gamma }) | Loss::RepoPp(RepoPp { gamma }) => {
            vec![("repo_gamma", number(gamma))]
        }
        Loss::Rpo(it) => vec![
            ("rpo_distance", word(DISTANCES, it.distance).into()),
            ("gt_reward_scale", number(it.gt_reward_scale)),
        ],
        Loss::Kto(it) | Loss::ApoZeroUnpaired(it) => vec![
            ("desirable_weight", number(it.desirable_weight)),
            ("undesirable_weight", number(it.undesirable_weight)),
        ],
        _ => Vec::new(),
    }
}
