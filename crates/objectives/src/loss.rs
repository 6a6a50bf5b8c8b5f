//! The losses by name, and what each takes and needs.

use crate::{
    BcoPair, Cpo, Discopop, Dpop, Error, Kto, Lmpo, Repo, RepoPp, Rpo, Simpo, State, aot,
    aot_unpaired, apo_down, apo_zero, apo_zero_unpaired,
    error::{above_zero, at_least_zero, check, finite},
    exo_pair, hinge, ipo, nca_pair, orpo,
    pair::{Dual, Pair},
    robust, sft, sigmoid, sigmoid_norm, sppo_hard,
};

/// The losses that a recipe can name as `loss_type`.
///
/// An enum and not a trait object: a recipe names one of a closed set, and the compiler then
/// points at every place that a new loss must be thought about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Direct preference optimization, with optional label smoothing.
    Sigmoid,
    /// DPO whose mean does not change when labels are flipped at random.
    Robust,
    /// A margin of one, and no more.
    Hinge,
    /// Identity preference optimization: a margin per token that is aimed at, not exceeded.
    Ipo,
    /// The divergence of the policy's preference from the label's.
    ExoPair,
    /// Noise contrastive alignment.
    NcaPair,
    /// Binary classifier optimization.
    BcoPair(BcoPair),
    /// Self-play preference optimization with hard labels.
    SppoHard,
    /// Alignment via optimal transport, paired.
    Aot,
    /// Alignment via optimal transport, unpaired.
    AotUnpaired,
    /// Anchored preference optimization around zero.
    ApoZero,
    /// Anchored preference optimization downwards.
    ApoDown,
    /// Discovered preference optimization.
    Discopop(Discopop),
    /// The likelihood of the chosen completions.
    Sft,
    /// DPO per token.
    SigmoidNorm,
    /// DPO-Positive.
    Dpop(Dpop),
    /// Reward-aware preference optimization.
    Rpo(Rpo),
    /// Simple preference optimization.
    Simpo(Simpo),
    /// Contrastive preference optimization.
    Cpo(Cpo),
    /// Odds ratio preference optimization.
    Orpo,
    /// Length-controlled margin-based preference optimization.
    Lmpo(Lmpo),
    /// ReLU-based preference optimization.
    Repo(Repo),
    /// The `ReLU` inside the logistic loss.
    RepoPp(RepoPp),
    /// Kahneman-Tversky optimization, on unpaired rows.
    Kto(Kto),
    /// Anchored preference optimization around zero, on unpaired rows.
    ApoZeroUnpaired(Kto),
}

/// What all losses of an objective share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    pub(crate) beta: f64,
    pub(crate) label_smoothing: f64,
}

impl Loss {
    /// The names that a recipe can use, in the order of the variants.
    pub const NAMES: [&str; 25] = [
        "sigmoid",
        "robust",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
        "apo_zero",
        "apo_down",
        "discopop",
        "sft",
        "sigmoid_norm",
        "dpop",
        "rpo",
        "simpo",
        "cpo",
        "orpo",
        "lmpo",
        "repo",
        "repo_pp",
        "kto",
        "apo_zero_unpaired",
    ];

    /// The name in recipes, TRL's name where TRL has the loss.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Robust => "robust",
            Self::Hinge => "hinge",
            Self::Ipo => "ipo",
            Self::ExoPair => "exo_pair",
            Self::NcaPair => "nca_pair",
            Self::BcoPair(_) => "bco_pair",
            Self::SppoHard => "sppo_hard",
            Self::Aot => "aot",
            Self::AotUnpaired => "aot_unpaired",
            Self::ApoZero => "apo_zero",
            Self::ApoDown => "apo_down",
            Self::Discopop(_) => "discopop",
            Self::Sft => "sft",
            Self::SigmoidNorm => "sigmoid_norm",
            Self::Dpop(_) => "dpop",
            Self::Rpo(_) => "rpo",
            Self::Simpo(_) => "simpo",
            Self::Cpo(_) => "cpo",
            Self::Orpo => "orpo",
            Self::Lmpo(_) => "lmpo",
            Self::Repo(_) => "repo",
            Self::RepoPp(_) => "repo_pp",
            Self::Kto(_) => "kto",
            Self::ApoZeroUnpaired(_) => "apo_zero_unpaired",
        }
    }

    /// Whether a reference takes part.
    pub fn needs_reference(&self) -> bool {
        !matches!(
            self,
            Self::Sft
                | Self::Simpo(_)
                | Self::Cpo(_)
                | Self::Orpo
                | Self::Lmpo(_)
                | Self::Repo(_)
                | Self::RepoPp(_)
        )
    }

    /// Whether a row is a lone completion, to be written or not.
    pub fn is_unpaired(&self) -> bool {
        matches!(self, Self::Kto(_) | Self::ApoZeroUnpaired(_))
    }

    /// Whether a row's loss depends on the rows beside it.
    pub fn is_batch_coupled(&self) -> bool {
        match self {
            Self::Aot | Self::AotUnpaired | Self::Sft | Self::Lmpo(_) | Self::Kto(_) => true,
            Self::BcoPair(bco_pair) => bco_pair.reward_shift,
            _ => false,
        }
    }

    /// Whether `label_smoothing` acts.
    pub fn smooths(&self) -> bool {
        matches!(
            self,
            Self::Sigmoid
                | Self::Robust
                | Self::ExoPair
                | Self::Aot
                | Self::AotUnpaired
                | Self::Simpo(_)
                | Self::Cpo(_)
        )
    }

    /// Whether a divergence other than the reverse one is defined.
    pub fn takes_divergence(&self) -> bool {
        matches!(
            self,
            Self::Sigmoid
                | Self::Robust
                | Self::Hinge
                | Self::Ipo
                | Self::ExoPair
                | Self::Discopop(_)
                | Self::Sft
                | Self::SigmoidNorm
        )
    }

    /// Whether a pair is judged by its own numbers alone, so that swapping it is defined.
    pub(crate) fn judges_a_pair(&self) -> bool {
        !self.is_batch_coupled() && !self.is_unpaired()
    }

    /// Whether rewards are log-probabilities per token where there is no reference.
    pub(crate) fn alpha(&self) -> f64 {
        match self {
            Self::Simpo(Simpo { alpha, .. }) | Self::Cpo(Cpo { alpha, .. }) => *alpha,
            _ => 0.0,
        }
    }

    /// What the likelihood of the chosen completion, per token of its own, counts for beside the
    /// loss.
    pub(crate) fn likelihood_weight(&self) -> f64 {
        match self {
            Self::Simpo(Simpo { cpo_alpha, .. }) | Self::Cpo(Cpo { cpo_alpha, .. }) => *cpo_alpha,
            Self::Orpo => 1.0,
            _ => 0.0,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match *self {
            Self::Discopop(Discopop { tau }) => {
                check("discopop_tau", tau, 0.0 < tau && tau <= 1.0, "above 0 and at most 1")
            }
            Self::Dpop(Dpop { lambda }) => at_least_zero("dpop_lambda", lambda),
            Self::Rpo(Rpo { gt_reward_scale, .. }) => {
                above_zero("gt_reward_scale", gt_reward_scale)
            }
            Self::Simpo(Simpo { gamma, cpo_alpha, alpha }) => {
                at_least_zero("simpo_gamma", gamma)?;
                at_least_zero("cpo_alpha", cpo_alpha)?;
                finite("alpha", alpha)
            }
            Self::Cpo(Cpo { cpo_alpha, alpha }) => {
                at_least_zero("cpo_alpha", cpo_alpha)?;
                finite("alpha", alpha)
            }
            Self::Lmpo(Lmpo { gamma_beta_ratio }) => {
                at_least_zero("gamma_beta_ratio", gamma_beta_ratio)
            }
            Self::Repo(Repo { gamma }) | Self::RepoPp(RepoPp { gamma }) => {
                at_least_zero("repo_gamma", gamma)
            }
            Self::Kto(weights) | Self::ApoZeroUnpaired(weights) => {
                at_least_zero("desirable_weight", weights.desirable_weight)?;
                at_least_zero("undesirable_weight", weights.undesirable_weight)
            }
            _ => Ok(()),
        }
    }

    /// Scores the pairs of a call.
    pub(crate) fn score_all(&self, pairs: &[Pair], shared: Shared, state: &mut State) -> Vec<Dual> {
        match self {
            Self::BcoPair(bco_pair) => bco_pair.score_all(pairs, shared, state),
            Self::Aot => aot::score_all(pairs, shared),
            Self::AotUnpaired => aot_unpaired::score_all(pairs, shared),
            Self::Sft => sft::score_all(pairs),
            Self::Lmpo(lmpo) => lmpo.score_all(pairs, shared, state),
            Self::Kto(kto) => kto.score_all(pairs, shared),
            _ => pairs.iter().map(|pair| self.score(pair, shared)).collect(),
        }
    }

    /// Scores one pair by its own numbers; those of the others need a call's.
    fn score(&self, pair: &Pair, shared: Shared) -> Dual {
        match self {
            Self::Sigmoid => sigmoid::score(pair, shared),
            Self::Robust => robust::score(pair, shared),
            Self::Hinge => hinge::score(pair, shared),
            Self::Ipo => ipo::score(pair, shared),
            Self::ExoPair => exo_pair::score(pair, shared),
            Self::NcaPair => nca_pair::score(pair, shared),
            Self::SppoHard => sppo_hard::score(pair, shared),
            Self::ApoZero => apo_zero::score(pair, shared),
            Self::ApoDown => apo_down::score(pair, shared),
            Self::Discopop(discopop) => discopop.score(pair, shared),
            Self::SigmoidNorm => sigmoid_norm::score(pair, shared),
            Self::Dpop(dpop) => dpop.score(pair, shared),
            Self::Rpo(rpo) => rpo.score(pair, shared),
            Self::Simpo(simpo) => simpo.score(pair, shared),
            Self::Cpo(cpo) => cpo.score(pair, shared),
            Self::Orpo => orpo::score(pair, shared),
            Self::Repo(repo) => repo.score(pair),
            Self::RepoPp(repo_pp) => repo_pp.score(pair, shared),
            Self::ApoZeroUnpaired(weights) => apo_zero_unpaired::score(*weights, pair, shared),
            Self::BcoPair(_)
            | Self::Aot
            | Self::AotUnpaired
            | Self::Sft
            | Self::Lmpo(_)
            | Self::Kto(_) => Dual::default(),
        }
    }
}
