//! The cases of `goldens/objectives`, as objectives and groups.

use std::collections::BTreeMap;

use objectives::{
    BcoPair, Completion, Confidence, Cpo, Discopop, Distance, Dpop, FDivergence, Gdpo, Group,
    GroupTerm, Kto, Lmpo, Loss, Modifiers, Objective, Outcomes, Reliability, Repo, RepoPp, Rpo,
    Scored, Simpo, State, Term,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Golden {
    pub(crate) source: String,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    objective: Settings,
    groups: Vec<Row>,
    pub(crate) want: Vec<Want>,
    #[serde(default)]
    before: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) after: BTreeMap<String, f64>,
    #[serde(default)]
    epoch: f64,
    /// The sum of all losses, where TRL gives no loss for each row.
    pub(crate) total: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Want {
    pub(crate) loss: Option<f64>,
    pub(crate) coefficients: Vec<f64>,
    pub(crate) tail_coefficients: Option<Vec<f64>>,
    pub(crate) rewards: Option<Vec<f64>>,
    pub(crate) posterior: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    beta: f64,
    label_smoothing: f64,
    terms: Vec<TermText>,
    #[serde(default)]
    modifiers: ModifiersText,
    gdpo: Option<GdpoText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermText {
    loss_type: String,
    weight: f64,
    reward_shift: Option<bool>,
    tau: Option<f64>,
    lambda: Option<f64>,
    distance: Option<String>,
    gt_reward_scale: Option<f64>,
    gamma: Option<f64>,
    cpo_alpha: Option<f64>,
    alpha: Option<f64>,
    gamma_beta_ratio: Option<f64>,
    desirable_weight: Option<f64>,
    undesirable_weight: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ModifiersText {
    delta: Option<f64>,
    f_divergence_type: Option<String>,
    f_alpha_divergence_coef: Option<f64>,
    ld_alpha: Option<f64>,
    use_weighting: bool,
    rpo_alpha: f64,
    confidence_floor: Option<f64>,
    warmup_epochs: f64,
    reliability: Option<f64>,
    reliability_rate: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GdpoText {
    size: usize,
    weight: f64,
    term: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    completions: Vec<CompletionText>,
    #[serde(default = "one")]
    weight: f64,
    #[serde(default)]
    annotator: String,
    desirable: Option<bool>,
    mismatched: Option<(f64, f64)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompletionText {
    policy_logp: f64,
    reference_logp: f64,
    token_count: u32,
    #[serde(default)]
    policy_tail_logp: f64,
    #[serde(default)]
    reference_tail_logp: f64,
    #[serde(default)]
    relative_logp: f64,
    score: Option<f64>,
    rank: Option<u32>,
    hallucinated: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// The cases of one objective, or of TRL.
pub(crate) fn read(name: &str) -> Golden {
    let path = testkit::golden(&format!("objectives/{name}.json"));
    let text = fs_err::read(&path).unwrap_or_else(|err| {
        panic!(
            "objective `{name}` has no golden ({}: {err}); make it with `cargo xtask goldens`",
            path.display()
        )
    });
    serde_json::from_slice(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// What a case's objective says about its groups, and what it then remembers.
pub(crate) fn evaluate(case: &Case) -> (Outcomes, State) {
    let mut state = State::from_numbers(&case.before).unwrap();
    state.epoch = case.epoch;
    let objective = case.objective();
    let groups = case.groups();
    for group in &groups {
        assert_eq!(objective.check_group(group), Ok(()), "{}", case.name);
    }
    let outcomes = objective.evaluate(&mut state, &groups);
    (outcomes, state)
}

impl Case {
    pub(crate) fn groups(&self) -> Vec<Group> {
        let group = |row: &Row| Group {
            completions: row.completions.iter().map(completion).collect(),
            weight: row.weight,
            annotator: row.annotator.clone(),
            desirable: row.desirable,
            mismatched: row
                .mismatched
                .map(|(policy_logp, reference_logp)| Scored { policy_logp, reference_logp }),
        };
        self.groups.iter().map(group).collect()
    }

    pub(crate) fn objective(&self) -> Objective {
        let settings = &self.objective;
        let term = |term: &TermText| Term { loss: loss(term), weight: term.weight };
        Objective {
            beta: settings.beta,
            label_smoothing: settings.label_smoothing,
            terms: settings.terms.iter().map(term).collect(),
            modifiers: modifiers(&settings.modifiers),
            gdpo: settings.gdpo.as_ref().map(|gdpo| Gdpo {
                size: gdpo.size,
                weight: gdpo.weight,
                term: group_term(&gdpo.term),
            }),
        }
    }
}

fn completion(text: &CompletionText) -> Completion {
    Completion {
        policy_logp: text.policy_logp,
        reference_logp: text.reference_logp,
        token_count: text.token_count,
        policy_tail_logp: text.policy_tail_logp,
        reference_tail_logp: text.reference_tail_logp,
        relative_logp: text.relative_logp,
        score: text.score,
        rank: text.rank,
        hallucinated: text.hallucinated,
    }
}

fn modifiers(text: &ModifiersText) -> Modifiers {
    Modifiers {
        delta: text.delta,
        f_divergence: match text.f_divergence_type.as_deref() {
            None => FDivergence::ReverseKl,
            Some("forward_kl") => FDivergence::ForwardKl,
            Some("js_divergence") => FDivergence::JsDivergence,
            Some("alpha_divergence") => {
                FDivergence::AlphaDivergence { coefficient: text.f_alpha_divergence_coef.unwrap() }
            }
            Some(other) => panic!("no divergence is named `{other}`"),
        },
        ld_alpha: text.ld_alpha,
        use_weighting: text.use_weighting,
        rpo_alpha: text.rpo_alpha,
        confidence: text.confidence_floor.map(|floor| Confidence { floor }),
        warmup_epochs: text.warmup_epochs,
        reliability: text
            .reliability
            .map(|initial| Reliability { initial, rate: text.reliability_rate.unwrap() }),
    }
}

fn group_term(name: &str) -> GroupTerm {
    match name {
        "listwise" => GroupTerm::Listwise,
        "lambda" => GroupTerm::Lambda,
        "pairs" => GroupTerm::Pairs,
        "pairwise_mean" => GroupTerm::PairwiseMean,
        "epo" => GroupTerm::Epo,
        "batch_variance" => GroupTerm::BatchVariance,
        other => panic!("no term over groups is named `{other}`"),
    }
}

fn loss(text: &TermText) -> Loss {
    let kto = || Kto {
        desirable_weight: text.desirable_weight.unwrap(),
        undesirable_weight: text.undesirable_weight.unwrap(),
    };
    match text.loss_type.as_str() {
        "sigmoid" => Loss::Sigmoid,
        "robust" => Loss::Robust,
        "hinge" => Loss::Hinge,
        "ipo" => Loss::Ipo,
        "exo_pair" => Loss::ExoPair,
        "nca_pair" => Loss::NcaPair,
        "bco_pair" => Loss::BcoPair(BcoPair { reward_shift: text.reward_shift.unwrap() }),
        "sppo_hard" => Loss::SppoHard,
        "aot" => Loss::Aot,
        "aot_unpaired" => Loss::AotUnpaired,
        "apo_zero" => Loss::ApoZero,
        "apo_down" => Loss::ApoDown,
        "discopop" => Loss::Discopop(Discopop { tau: text.tau.unwrap() }),
        "sft" => Loss::Sft,
        "sigmoid_norm" => Loss::SigmoidNorm,
        "dpop" => Loss::Dpop(Dpop { lambda: text.lambda.unwrap() }),
        "rpo" => Loss::Rpo(Rpo {
            distance: distance(text.distance.as_deref().unwrap()),
            gt_reward_scale: text.gt_reward_scale.unwrap(),
        }),
        "simpo" => Loss::Simpo(Simpo {
            gamma: text.gamma.unwrap(),
            cpo_alpha: text.cpo_alpha.unwrap(),
            alpha: text.alpha.unwrap(),
        }),
        "cpo" => Loss::Cpo(Cpo { cpo_alpha: text.cpo_alpha.unwrap(), alpha: text.alpha.unwrap() }),
        "orpo" => Loss::Orpo,
        "lmpo" => Loss::Lmpo(Lmpo { gamma_beta_ratio: text.gamma_beta_ratio.unwrap() }),
        "repo" => Loss::Repo(Repo { gamma: text.gamma.unwrap() }),
        "repo_pp" => Loss::RepoPp(RepoPp { gamma: text.gamma.unwrap() }),
        "kto" => Loss::Kto(kto()),
        "apo_zero_unpaired" => Loss::ApoZeroUnpaired(kto()),
        other => panic!("no loss is named `{other}`"),
    }
}

fn distance(name: &str) -> Distance {
    match name {
        "bwd_kl" => Distance::BackwardKl,
        "fwd_kl" => Distance::ForwardKl,
        "sq" => Distance::Squared,
        "ipo" => Distance::Ipo,
        other => panic!("no distance is named `{other}`"),
    }
}
