//! From groups to outcomes: how losses, modifiers and the group's term come together.

use crate::{
    Completion, Group, GroupOutcome, Loss, Objective, Outcomes, State, delta, gdpo,
    gdpo::GroupTerm,
    kto,
    loss::Shared,
    pair::{Dual, Pair, Side},
    rpo_alpha,
    stable::power,
    use_weighting,
};

/// What the parts of an objective say about each group of a call, before they are put together.
struct Parts {
    /// Losses over pairs, weighted and summed.
    pairs: Vec<Dual>,
    /// Likelihoods of the chosen completions, weighted and summed; by log-probabilities without
    /// the weights of LD-DPO.
    likelihoods: Vec<Dual>,
    /// RE-PO's, or none.
    posteriors: Option<Vec<f64>>,
}

impl Objective {
    /// Scores the groups of one call: of a micro-batch, or of a whole optimizer step where
    /// [`Objective::is_batch_coupled`] says so.
    ///
    /// Coefficients are the derivatives of the **sum** of the groups' losses; who wants the mean
    /// over a step divides both. Rewards are for reports only. A group without completions costs
    /// nothing.
    pub fn evaluate(&self, state: &mut State, groups: &[Group]) -> Outcomes {
        let (places, pairs): (Vec<usize>, Vec<Pair>) = groups
            .iter()
            .enumerate()
            .filter_map(|(place, group)| Some((place, self.pair(group)?)))
            .unzip();
        let present: Vec<&Group> = places.iter().map(|place| &groups[*place]).collect();
        let parts = self.parts(&pairs, &present, state);
        let terms = self.group_terms(&pairs, &present);
        let mut outcomes = vec![GroupOutcome::default(); groups.len()];
        for (index, term) in terms.into_iter().enumerate() {
            let warm_up = self.warm_up(state.epoch);
            outcomes[places[index]] = self.outcome(present[index], (&parts, index), term, warm_up);
        }
        let kl = self.any(|loss| matches!(loss, Loss::Kto(_))).then(|| kto::divergence(&pairs));
        Outcomes { groups: outcomes, kl }
    }

    fn pair(&self, group: &Group) -> Option<Pair> {
        let modifiers = &self.modifiers;
        let shift = modifiers.delta.map_or(0.0, |delta| delta::shift(group, delta));
        Pair::of(group, modifiers.f_divergence, modifiers.ld_alpha, shift)
    }

    fn parts(&self, pairs: &[Pair], groups: &[&Group], state: &mut State) -> Parts {
        let mut parts = Parts {
            pairs: vec![Dual::default(); pairs.len()],
            likelihoods: pairs
                .iter()
                .map(|pair| rpo_alpha::score(pair).times(self.likelihood_weight()))
                .collect(),
            posteriors: None,
        };
        self.add_terms(&mut parts, pairs, state);
        if let Some(reliability) = self.modifiers.reliability {
            let swapped: Vec<Pair> = pairs.iter().map(|pair| pair.swapped()).collect();
            let mut against = Parts {
                pairs: vec![Dual::default(); pairs.len()],
                likelihoods: vec![Dual::default(); pairs.len()],
                posteriors: None,
            };
            self.add_terms(&mut against, &swapped, state);
            let both = (&parts.pairs[..], &against.pairs[..]);
            let (losses, posteriors) =
                reliability.score_all(both, groups, &mut state.reliabilities);
            parts.pairs = losses;
            parts.posteriors = Some(posteriors);
        }
        parts
    }

    fn add_terms(&self, parts: &mut Parts, pairs: &[Pair], state: &mut State) {
        let shared = Shared { beta: self.beta, label_smoothing: self.label_smoothing };
        for term in &self.terms {
            let losses = term.loss.score_all(pairs, shared, state);
            let sums =
                if term.loss == Loss::Sft { &mut parts.likelihoods } else { &mut parts.pairs };
            for (sum, loss) in sums.iter_mut().zip(losses) {
                *sum = sum.plus(loss.times(term.weight));
            }
        }
    }

    /// What the likelihood of a chosen completion, per token of its own, counts for.
    fn likelihood_weight(&self) -> f64 {
        let of_terms = self.terms.iter().map(|term| term.weight * term.loss.likelihood_weight());
        self.modifiers.rpo_alpha + of_terms.sum::<f64>()
    }

    /// The group's term, with its slopes by the log-probabilities of all completions.
    fn group_terms(&self, pairs: &[Pair], groups: &[&Group]) -> Vec<(f64, Vec<f64>)> {
        let Some(gdpo) = self.gdpo else {
            return groups.iter().map(|group| (0.0, vec![0.0; group.completions.len()])).collect();
        };
        if gdpo.term == GroupTerm::BatchVariance {
            let terms = gdpo::batch_variance(pairs).into_iter().zip(groups);
            return terms.map(|(term, group)| spread(term, group.completions.len())).collect();
        }
        let score = |group: &&Group| {
            let rewards: Vec<_> = group.completions.iter().map(|c| self.reward(c)).collect();
            let values: Vec<f64> = rewards.iter().map(|reward| reward.0).collect();
            let (loss, slopes) = gdpo.score(&group.completions, &values);
            let chained = slopes.iter().zip(&rewards).map(|(slope, reward)| slope * reward.1);
            (loss, chained.collect())
        };
        groups.iter().map(score).collect()
    }

    /// A completion's implicit reward, with its slope by the log-probability.
    fn reward(&self, completion: &Completion) -> (f64, f64) {
        let side = Side::new(completion, self.modifiers.ld_alpha);
        if self.needs_reference() {
            return (self.beta * side.log_ratio(), self.beta);
        }
        // DIFFERENCE(trl): for `sft` alone TRL runs a reference all the same, for these rewards.
        let loss = self.terms.first().map_or(Loss::Sft, |term| term.loss);
        let tokens = if matches!(loss, Loss::Cpo(_)) { 1.0 } else { side.tokens };
        let (value, slope) = power(side.policy / tokens, -loss.alpha());
        (self.beta * value, self.beta * slope / tokens)
    }

    /// Puts the parts of one group together.
    fn outcome(
        &self,
        group: &Group,
        (parts, index): (&Parts, usize),
        (group_loss, mut slopes): (f64, Vec<f64>),
        warm_up: f64,
    ) -> GroupOutcome {
        let rewards: Vec<f64> = group.completions.iter().map(|c| self.reward(c).0).collect();
        let (pair, likelihood) = (parts.pairs[index], parts.likelihoods[index]);
        let group_weight = self.gdpo.map_or(0.0, |gdpo| gdpo.weight);
        let mut weight = warm_up;
        if self.modifiers.use_weighting {
            weight *= use_weighting::weight(group);
        }
        if let Some(confidence) = self.modifiers.confidence {
            weight *= confidence.weight(&rewards);
        }
        for slope in &mut slopes {
            *slope *= group_weight;
        }
        let last = slopes.len() - 1;
        slopes[0] += pair.chosen;
        slopes[last] += pair.rejected;
        // `likelihood` is by plain log-probabilities, the slopes by those with weighted tails.
        let with_tail = |share: f64| {
            let weights = slopes.iter().map(|slope| slope * weight * share);
            let mut all: Vec<f64> = weights.collect();
            all[0] += likelihood.chosen;
            all.into_iter().map(|slope| slope * group.weight).collect()
        };
        let preference = (pair.value + group_weight * group_loss) * weight;
        GroupOutcome {
            loss: (preference + likelihood.value) * group.weight,
            coefficients: with_tail(1.0),
            tail_coefficients: self.modifiers.ld_alpha.map_or_else(Vec::new, with_tail),
            rewards,
            pair_loss: pair.value,
            group_loss,
            nll_loss: likelihood.value,
            preference_weight: weight,
            posterior: parts.posteriors.as_ref().map(|posteriors| posteriors[index]),
        }
    }
}

/// The slopes of a pair as those of a group's completions.
fn spread(pair: Dual, completions: usize) -> (f64, Vec<f64>) {
    let mut slopes = vec![0.0; completions];
    slopes[0] += pair.chosen;
    slopes[completions - 1] += pair.rejected;
    (pair.value, slopes)
}
