//! An objective: losses with their weights, and what changes them.

use crate::{
    Confidence, Error, FDivergence, Gdpo, Group, GroupTerm, Loss, Reliability, confidence, delta,
    error::{above_zero, at_least_zero, check, finite},
    ld_alpha,
    stable::sigmoid,
};

/// What is minimized: a weighted sum of losses, changed by modifiers, with an optional term over
/// groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// How strongly the policy is held to the reference; above 0, usually 0.1 to 0.5. Losses
    /// without a reference scale their margins by it, usually 2 to 10.
    pub beta: f64,
    /// Fraction of the labels taken to be flipped; at least 0 and below 0.5.
    pub label_smoothing: f64,
    /// The losses, at least one.
    pub terms: Vec<Term>,
    /// What changes them.
    pub modifiers: Modifiers,
    /// A term over groups of ranked completions.
    pub gdpo: Option<Gdpo>,
}

/// A loss with its weight in a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The loss.
    pub loss: Loss,
    /// What it counts for, one of TRL's `loss_weights`; at least 0.
    pub weight: f64,
}

/// What changes losses, each left alone by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Modifiers {
    /// F-DPO's shift for a rejected completion that alone is not factual, in nats; at least 0.
    /// Rows then need labels, also at 0.
    pub delta: Option<f64>,
    /// The divergence that holds the policy to the reference.
    pub f_divergence: FDivergence,
    /// Weight of the tokens past the shorter length, LD-DPO's; from 0 to 1.
    pub ld_alpha: Option<f64>,
    /// Whether pairs count for as much as the policy would write them, WPO.
    pub use_weighting: bool,
    /// Weight of the likelihood of the chosen completion, per token of its own; at least 0.
    pub rpo_alpha: f64,
    /// Whether rows count for as much as the policy shares their preference.
    pub confidence: Option<Confidence>,
    /// Passes over the data in which the preference part grows to its full weight; at least 0.
    pub warmup_epochs: f64,
    /// Whether labels are believed as far as their annotators are right, RE-PO.
    pub reliability: Option<Reliability>,
}

/// What an objective reads of its rows and of [`crate::State`], beside `policy_logp` and
/// `token_count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a checklist, read one by one")]
pub struct Needs {
    /// `reference_logp`.
    pub reference: bool,
    /// `policy_tail_logp`, and `reference_tail_logp` where `reference` is needed.
    pub tails: bool,
    /// `relative_logp`.
    pub relative: bool,
    /// `score`.
    pub scores: bool,
    /// `hallucinated`.
    pub factuality: bool,
    /// `desirable`, on rows of one completion.
    pub desirable: bool,
    /// `mismatched`.
    pub mismatched: bool,
    /// `annotator`; rows without one are taken to share one.
    pub annotator: bool,
    /// [`crate::State::epoch`].
    pub epoch: bool,
}

/// Which parts a loss has beside that over pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossParts {
    /// A term over groups.
    pub group: bool,
    /// The likelihood of the chosen completion.
    pub likelihood: bool,
    /// A weight other than 1 on the part that is about preferences.
    pub weight: bool,
}

impl Objective {
    /// The names that a recipe can use as `loss_type`, those of [`Loss::NAMES`].
    pub const NAMES: [&str; 25] = Loss::NAMES;

    /// The names of what is no loss by itself and has a golden and a page all the same.
    pub const MODIFIERS: [&str; 8] = [
        "delta",
        "f_divergence",
        "ld_alpha",
        "use_weighting",
        "rpo_alpha",
        "confidence",
        "re_po",
        "gdpo",
    ];

    /// A single loss with nothing around it.
    pub fn new(loss: Loss, beta: f64) -> Self {
        Self {
            beta,
            label_smoothing: 0.0,
            terms: vec![Term { loss, weight: 1.0 }],
            modifiers: Modifiers::default(),
            gdpo: None,
        }
    }

    /// What a pair whose rejected completion alone is not factual pulls with at the start, where
    /// other pairs pull with a half: `sigmoid(beta * delta)`. `None` without `delta`.
    pub fn contrast_weight(&self) -> Option<f64> {
        self.modifiers.delta.map(|delta| sigmoid(self.beta * delta))
    }

    /// The name of the first loss, TRL's name where TRL has it.
    pub fn name(&self) -> &'static str {
        self.terms.first().map_or("", |term| term.loss.name())
    }

    /// What must be filled in for [`Objective::evaluate`].
    pub fn needs(&self) -> Needs {
        let modifiers = &self.modifiers;
        Needs {
            reference: self.any(Loss::needs_reference),
            tails: modifiers.ld_alpha.is_some(),
            relative: modifiers.use_weighting,
            scores: self.any(|loss| matches!(loss, Loss::Rpo(_))),
            factuality: modifiers.delta.is_some(),
            desirable: self.any(Loss::is_unpaired),
            mismatched: self.any(|loss| matches!(loss, Loss::Kto(_))),
            annotator: modifiers.reliability.is_some(),
            epoch: 0.0 < modifiers.warmup_epochs,
        }
    }

    /// Which parts the loss has beside that over pairs.
    pub fn loss_parts(&self) -> LossParts {
        let modifiers = &self.modifiers;
        let has_likelihood = |loss: &Loss| 0.0 < loss.likelihood_weight() || *loss == Loss::Sft;
        LossParts {
            group: self.gdpo.is_some(),
            likelihood: 0.0 < modifiers.rpo_alpha || self.any(has_likelihood),
            weight: modifiers.use_weighting
                || modifiers.confidence.is_some()
                || 0.0 < modifiers.warmup_epochs,
        }
    }

    /// Whether [`crate::Completion::reference_logp`] takes part, so that `train` can skip the
    /// reference.
    pub fn needs_reference(&self) -> bool {
        self.any(Loss::needs_reference)
    }

    /// Whether a row's outcome, or what is remembered, depends on which rows share a call.
    ///
    /// Such an objective must see all rows of an optimizer step in one call, so that nothing
    /// depends on how the step is cut for memory: score first, then evaluate, then go backward.
    pub fn is_batch_coupled(&self) -> bool {
        let by_group = self.gdpo.is_some_and(|gdpo| gdpo.term == GroupTerm::BatchVariance);
        by_group || self.modifiers.reliability.is_some() || self.any(Loss::is_batch_coupled)
    }

    pub(crate) fn any(&self, holds: impl Fn(&Loss) -> bool) -> bool {
        self.terms.iter().any(|term| holds(&term.loss))
    }

    /// The first loss that something is not defined for.
    fn first(&self, holds: impl Fn(&Loss) -> bool) -> Option<&'static str> {
        self.terms.iter().find(|term| holds(&term.loss)).map(|term| term.loss.name())
    }

    /// Checks that the settings lie in their ranges and go together.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::NoLoss`] or [`Error::NotWith`] for the first that does not.
    pub fn check(&self) -> Result<(), Error> {
        above_zero("beta", self.beta)?;
        if self.terms.is_empty() {
            return Err(Error::NoLoss);
        }
        for term in &self.terms {
            at_least_zero("loss_weights", term.weight)?;
            term.loss.check()?;
        }
        self.check_smoothing()?;
        if self.any(Loss::is_unpaired) {
            self.check_unpaired()?;
        }
        if let Some(gdpo) = self.gdpo {
            gdpo.check()?;
        }
        self.check_modifiers()?;
        self.check_weights()
    }

    fn check_smoothing(&self) -> Result<(), Error> {
        let s = self.label_smoothing;
        check("label_smoothing", s, (0.0..0.5).contains(&s), "at least 0 and below 0.5")?;
        if self.any(|loss| matches!(loss, Loss::ExoPair)) {
            check("label_smoothing", s, 0.0 < s, "above 0 and below 0.5 with `exo_pair`")?;
        }
        if 0.0 < s && !self.any(Loss::smooths) {
            return Err(Error::NotWith { key: "label_smoothing", other: self.name() });
        }
        Ok(())
    }

    /// Unpaired rows have neither a margin nor a chosen completion.
    fn check_unpaired(&self) -> Result<(), Error> {
        let other = self.first(Loss::is_unpaired).unwrap_or_default();
        let modifiers = &self.modifiers;
        if let Some(key) = self.first(|loss| !loss.is_unpaired()) {
            return Err(Error::NotWith { key, other });
        }
        let refused = [
            ("method: gdpo", self.gdpo.is_some()),
            ("ld_alpha", modifiers.ld_alpha.is_some()),
            ("rpo_alpha", 0.0 < modifiers.rpo_alpha),
            ("confidence", modifiers.confidence.is_some()),
        ];
        refuse(&refused, other)
    }

    fn check_modifiers(&self) -> Result<(), Error> {
        let modifiers = &self.modifiers;
        at_least_zero("rpo_alpha", modifiers.rpo_alpha)?;
        if let Some(delta) = modifiers.delta {
            at_least_zero("delta", delta)?;
            let margin_alone = |loss: &Loss| matches!(loss, Loss::Sigmoid | Loss::Sft);
            self.refuse_with("delta", |loss| !margin_alone(loss))?;
        }
        if let FDivergence::AlphaDivergence { coefficient } = modifiers.f_divergence {
            finite("f_alpha_divergence_coef", coefficient)?;
        }
        if modifiers.f_divergence != FDivergence::ReverseKl {
            self.refuse_with("f_divergence_type", |loss| !loss.takes_divergence())?;
            refuse(&[("f_divergence_type", modifiers.delta.is_some())], "delta")?;
        }
        if let Some(alpha) = modifiers.ld_alpha {
            ld_alpha::check_setting(alpha)?;
            let is_free = |loss: &Loss| !loss.needs_reference() && *loss != Loss::Sft;
            self.refuse_with("ld_alpha", is_free)?;
        }
        Ok(())
    }

    fn check_weights(&self) -> Result<(), Error> {
        let modifiers = &self.modifiers;
        at_least_zero("preference_warmup_epochs", modifiers.warmup_epochs)?;
        if let Some(confidence) = modifiers.confidence {
            confidence.check()?;
        }
        if modifiers.use_weighting {
            let sorts = |loss: &Loss| {
                matches!(loss, Loss::Aot | Loss::AotUnpaired | Loss::Sft) || loss.is_unpaired()
            };
            self.refuse_with("use_weighting", sorts)?;
            refuse(&[("use_weighting", self.gdpo.is_some())], "method: gdpo")?;
        }
        if let Some(reliability) = modifiers.reliability {
            reliability.check()?;
            self.refuse_with("reliability", |loss| !loss.judges_a_pair())?;
            refuse(&[("reliability", self.gdpo.is_some())], "method: gdpo")?;
            refuse(&[("reliability", modifiers.delta.is_some())], "delta")?;
            refuse(&[("reliability", modifiers.confidence.is_some())], "confidence")?;
        }
        Ok(())
    }

    fn refuse_with(&self, key: &'static str, holds: impl Fn(&Loss) -> bool) -> Result<(), Error> {
        self.first(holds).map_or(Ok(()), |other| Err(Error::NotWith { key, other }))
    }

    /// Checks that a row has what the objective reads, before anything is trained on it.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::Missing`], [`Error::Row`], [`Error::Unflipped`] or
    /// [`Error::NoOrder`]. A row that is refused and evaluated all the same has a loss that is not
    /// a number, or one that means nothing.
    pub fn check_group(&self, group: &Group) -> Result<(), Error> {
        let inside = (0.0..f64::INFINITY).contains(&group.weight);
        if !inside {
            let range = "at least 0";
            return Err(Error::Row { what: "weight of the row", value: group.weight, range });
        }
        let needs = self.needs();
        self.check_shape(group, needs)?;
        if needs.desirable && group.desirable.is_none() {
            return Err(Error::Missing { what: "label of desirability", by: self.name() });
        }
        if needs.mismatched && group.mismatched.is_none() {
            return Err(Error::Missing { what: "completion of another prompt", by: self.name() });
        }
        if needs.scores && group.completions.iter().any(|c| c.score.is_none()) {
            return Err(Error::Missing { what: "score of each completion", by: "rpo" });
        }
        let scores = group.completions.iter().filter_map(|completion| completion.score);
        if let Some(value) = scores.into_iter().find(|score| !score.is_finite()) {
            return Err(Error::Row { what: "score", value, range: "finite" });
        }
        if needs.factuality {
            delta::check_row(group)?;
        }
        self.gdpo.map_or(Ok(()), |gdpo| gdpo.check_row(group))
    }

    fn check_shape(&self, group: &Group, needs: Needs) -> Result<(), Error> {
        let completions = group.completions.len();
        let (fits, by, wanted) = if needs.desirable {
            (completions == 1, self.name(), "1 completion")
        } else if self.gdpo.is_some() {
            (2 <= completions, "gdpo", "at least 2 completions")
        } else {
            (completions == 2, self.name(), "2 completions")
        };
        if fits { Ok(()) } else { Err(Error::Shape { by, completions, wanted }) }
    }

    /// What the preference part counts for at this point of the run.
    pub(crate) fn warm_up(&self, epoch: f64) -> f64 {
        confidence::warm_up(epoch, self.modifiers.warmup_epochs)
    }
}

/// An error for the first key that does not go with the other.
fn refuse(keys: &[(&'static str, bool)], other: &'static str) -> Result<(), Error> {
    let found = keys.iter().find(|(_, is_set)| *is_set);
    found.map_or(Ok(()), |(key, _)| Err(Error::NotWith { key, other }))
}
