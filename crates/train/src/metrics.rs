//! The numbers of a step or an evaluation, under TRL's names.

use data::tokenize::Example;
use model::CompletionScore;
use objectives::{GroupOutcome, Objective};
use run::Value;

/// Sums over pairs, from which the means of a step or an evaluation come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Rows seen.
    pub rows: usize,
    /// Rows with a chosen and a rejected completion.
    pub pairs: usize,
    /// KTO's distance from the reference in the last call.
    pub kl: Option<f64>,
    /// Sum of the losses.
    pub loss: f64,
    /// Sum of their parts over pairs.
    pub pair_loss: f64,
    /// Sum of their parts over groups.
    pub group_loss: f64,
    /// Sum of their parts over likelihoods.
    pub nll_loss: f64,
    /// Sum of what the preference parts count for.
    pub weight: f64,
    /// Sums for the chosen completions.
    pub chosen: SideSums,
    /// Sums for the rejected completions.
    pub rejected: SideSums,
    /// Pairs whose chosen reward is the larger one.
    pub wins: usize,
    /// Pairs whose rewards are equal.
    pub ties: usize,
    /// Pairs whose chosen completion is likelier a token than the rejected one.
    pub likelier: f64,
    /// Tokens attended to, the prompt once a completion, as TRL counts them.
    pub tokens: u64,
}

/// Sums over the completions of one side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SideSums {
    /// Completions seen.
    pub completions: usize,
    /// Sum of the implicit rewards.
    pub reward: f64,
    /// Sum of the log-probabilities.
    pub logp: f64,
    /// Sum of the mean logits, token by token.
    pub logits: f64,
    /// Sum of the entropies, token by token.
    pub entropy: f64,
    /// Tokens that were the unique most likely one.
    pub hits: u64,
    /// Scored tokens.
    pub tokens: u64,
}

impl SideSums {
    /// Adds one completion.
    pub fn add(&mut self, score: &CompletionScore, reward: f64) {
        self.completions += 1;
        self.reward += reward;
        self.logp += score.logp;
        self.logits += score.logits;
        self.entropy += score.entropy;
        self.hits += u64::from(score.hits);
        self.tokens += u64::from(score.token_count);
    }

    /// A sum over its completions as their mean; 0 without any.
    fn mean(&self, sum: f64) -> f64 {
        sum / self.completions.max(1) as f64
    }
}

impl Sums {
    /// Adds one row: the objective's word on it, and the scores of its completions.
    ///
    /// The first completion is the chosen one, the last that takes part the rejected one; a lone
    /// completion is of the side that its label says.
    pub fn add(&mut self, example: &Example, scores: &[CompletionScore], outcome: &GroupOutcome) {
        self.loss += outcome.loss;
        self.pair_loss += outcome.pair_loss;
        self.group_loss += outcome.group_loss;
        self.nll_loss += outcome.nll_loss;
        self.weight += outcome.preference_weight;
        self.rows += 1;
        let tokens = example.completions.iter().map(|ids| example.prompt.len() + ids.len());
        self.tokens += tokens.sum::<usize>() as u64;
        match outcome.rewards[..] {
            [reward] => {
                let label = example.extras.get("label").and_then(serde_json::Value::as_bool);
                let is_chosen = label.unwrap_or(true);
                let side = if is_chosen { &mut self.chosen } else { &mut self.rejected };
                side.add(&scores[0], reward);
            }
            [first, .., last] => {
                let rejected = &scores[outcome.rewards.len() - 1];
                self.add_pair((&scores[0], first), (rejected, last));
            }
            [] => {}
        }
    }

    fn add_pair(&mut self, chosen: (&CompletionScore, f64), rejected: (&CompletionScore, f64)) {
        self.pairs += 1;
        self.chosen.add(chosen.0, chosen.1);
        self.rejected.add(rejected.0, rejected.1);
        if chosen.1 > rejected.1 {
            self.wins += 1;
        } else if chosen.1 >= rejected.1 {
            self.ties += 1;
        }
        let mean = |score: &CompletionScore| score.logp / f64::from(score.token_count.max(1));
        let (chosen, rejected) = (mean(chosen.0), mean(rejected.0));
        self.likelier += match chosen.partial_cmp(&rejected) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Equal) => 0.5,
            _ => 0.0,
        };
    }

    /// Mean loss over the rows.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.count()
    }

    /// Mean of the losses' parts over pairs.
    pub fn mean_pair_loss(&self) -> f64 {
        self.pair_loss / self.count()
    }

    /// Mean chosen reward minus mean rejected reward.
    pub fn mean_margin(&self) -> f64 {
        self.chosen.mean(self.chosen.reward) - self.rejected.mean(self.rejected.reward)
    }

    /// Share of pairs whose chosen reward is the larger one, ties as one half.
    pub fn accuracy_half_ties(&self) -> f64 {
        self.of_pairs(self.wins as f64 + 0.5 * self.ties as f64)
    }

    /// Share of pairs whose chosen reward is strictly larger, as TRL counts.
    pub fn accuracy(&self) -> f64 {
        self.of_pairs(self.wins as f64)
    }

    /// Share of pairs whose chosen completion is likelier a token, ties as one half.
    pub fn likelier_share(&self) -> f64 {
        self.of_pairs(self.likelier)
    }

    /// Share of the chosen completions' tokens that were the unique most likely one.
    pub fn token_accuracy(&self) -> f64 {
        self.chosen.hits as f64 / self.chosen.tokens.max(1) as f64
    }

    fn of_pairs(&self, sum: f64) -> f64 {
        sum / self.pairs.max(1) as f64
    }

    fn count(&self) -> f64 {
        self.rows.max(1) as f64
    }

    /// All means under TRL's names, each with `prefix` before it, and those parts of the loss that
    /// the objective has.
    ///
    /// Losses are means over rows, rewards and log-probabilities over the completions of a side;
    /// entropies, logits and token accuracies are means over tokens. Unpaired rows have no pairs
    /// to compare.
    // DIFFERENCE(trl): there `logits/*` and `entropy` are averaged within each micro-batch and then
    // over micro-batches, so a token's weight depends on its neighbours' lengths.
    pub fn metrics(&self, prefix: &str, objective: &Objective) -> Vec<(String, Value)> {
        let n = self.count();
        let (chosen, rejected) = (&self.chosen, &self.rejected);
        let tokens = |side: &SideSums| side.tokens.max(1) as f64;
        let entropy = (chosen.entropy + rejected.entropy) / (tokens(chosen) + tokens(rejected));
        let parts = objective.loss_parts();
        // Completions that are learned as they are have no sides and no rewards.
        let has_sides = 0 < self.pairs || objective.needs().desirable;
        let metrics = [
            (true, "loss", self.mean_loss()),
            (has_sides, "policy_loss", self.mean_pair_loss()),
            (parts.group, "group_loss", self.group_loss / n),
            (has_sides && parts.likelihood, "nll_loss", self.nll_loss / n),
            (parts.weight, "preference_weight", self.weight / n),
            (self.kl.is_some(), "kl", self.kl.unwrap_or(0.0)),
            (has_sides, "rewards/chosen", chosen.mean(chosen.reward)),
            (has_sides, "rewards/rejected", rejected.mean(rejected.reward)),
            (0 < self.pairs, "rewards/accuracies", self.accuracy()),
            (0 < self.pairs, "accuracy_half_ties", self.accuracy_half_ties()),
            (has_sides, "rewards/margins", self.mean_margin()),
            (has_sides, "logps/chosen", chosen.mean(chosen.logp)),
            (has_sides, "logps/rejected", rejected.mean(rejected.logp)),
            (has_sides, "logits/chosen", chosen.logits / tokens(chosen)),
            (has_sides, "logits/rejected", rejected.logits / tokens(rejected)),
            (true, "entropy", entropy),
            (true, "mean_token_accuracy", self.token_accuracy()),
            (0 < self.pairs, "likelier", self.likelier_share()),
        ];
        metrics
            .into_iter()
            .filter(|(is_told, ..)| *is_told)
            .map(|(_, name, value)| (format!("{prefix}{name}"), Value::Real(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use objectives::Loss;

    use super::*;

    #[test]
    fn ties_are_strict_in_trls_name_and_half_in_ours() {
        let score = CompletionScore { logp: -2.0, token_count: 2, ..Default::default() };
        let example = Example {
            id: "x".into(),
            prompt: vec![1],
            completions: vec![vec![2], vec![3, 4]],
            unscored: vec![0, 0],
            spans: Vec::new(),
            extras: serde_json::Map::new(),
        };
        let mut sums = Sums::default();
        for (loss, rewards) in [(0.7, vec![0.0, 0.0]), (0.5, vec![1.0, 0.5])] {
            let outcome = GroupOutcome { loss, rewards, ..GroupOutcome::default() };
            sums.add(&example, &[score, score], &outcome);
        }
        assert_eq!((sums.wins, sums.ties, sums.tokens), (1, 1, 10));
        let metrics = sums.metrics("eval_", &Objective::new(Loss::Sigmoid, 0.1));
        for (name, want) in [("accuracies", 0.5), ("margins", 0.25)] {
            let name = format!("eval_rewards/{name}");
            assert!(metrics.contains(&(name, Value::Real(want))), "{metrics:?}");
        }
        assert!(metrics.contains(&("eval_accuracy_half_ties".into(), Value::Real(0.75))));
    }
}
