//! The numbers of a step or an evaluation, under TRL's names.

use run::Value;

/// Sums over pairs, from which the means of a step or an evaluation come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Pairs seen.
    pub pairs: usize,
    /// Sum of the losses.
    pub loss: f64,
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
    pub fn add(&mut self, score: &model::CompletionScore, reward: f64) {
        self.reward += reward;
        self.logp += score.logp;
        self.logits += score.logits;
        self.entropy += score.entropy;
        self.hits += u64::from(score.hits);
        self.tokens += u64::from(score.token_count);
    }
}

impl Sums {
    /// Adds one pair: its loss, and both completions with their rewards.
    pub fn add(
        &mut self,
        loss: f64,
        chosen: (&model::CompletionScore, f64),
        rejected: (&model::CompletionScore, f64),
    ) {
        self.pairs += 1;
        self.loss += loss;
        self.chosen.add(chosen.0, chosen.1);
        self.rejected.add(rejected.0, rejected.1);
        if chosen.1 > rejected.1 {
            self.wins += 1;
        } else if chosen.1 >= rejected.1 {
            self.ties += 1;
        }
        let mean =
            |score: &model::CompletionScore| score.logp / f64::from(score.token_count.max(1));
        let (chosen, rejected) = (mean(chosen.0), mean(rejected.0));
        self.likelier += match chosen.partial_cmp(&rejected) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Equal) => 0.5,
            _ => 0.0,
        };
    }

    /// Mean loss over the pairs.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.count()
    }

    /// Mean of chosen minus rejected reward.
    pub fn mean_margin(&self) -> f64 {
        (self.chosen.reward - self.rejected.reward) / self.count()
    }

    /// Share of pairs whose chosen reward is the larger one, ties as one half.
    pub fn accuracy_half_ties(&self) -> f64 {
        (self.wins as f64 + 0.5 * self.ties as f64) / self.count()
    }

    /// Share of pairs whose chosen reward is strictly larger, as TRL counts.
    pub fn accuracy(&self) -> f64 {
        self.wins as f64 / self.count()
    }

    /// Share of pairs whose chosen completion is likelier a token, ties as one half.
    pub fn likelier_share(&self) -> f64 {
        self.likelier / self.count()
    }

    fn count(&self) -> f64 {
        self.pairs.max(1) as f64
    }

    /// All means under TRL's names, each with `prefix` before it.
    ///
    /// Rewards, losses and log-probabilities are means over pairs; entropies, logits and token
    /// accuracies are means over tokens.
    // DIFFERENCE(trl): there `logits/*` and `entropy` are averaged within each micro-batch and then
    // over micro-batches, so a token's weight depends on its neighbours' lengths.
    pub fn metrics(&self, prefix: &str) -> Vec<(String, Value)> {
        let n = self.count();
        let (chosen, rejected) = (&self.chosen, &self.rejected);
        let tokens = |side: &SideSums| side.tokens.max(1) as f64;
        let entropy = (chosen.entropy + rejected.entropy) / (tokens(chosen) + tokens(rejected));
        let metrics = [
            ("loss", self.mean_loss()),
            ("policy_loss", self.mean_loss()),
            ("rewards/chosen", chosen.reward / n),
            ("rewards/rejected", rejected.reward / n),
            ("rewards/accuracies", self.accuracy()),
            ("accuracy_half_ties", self.accuracy_half_ties()),
            ("rewards/margins", self.mean_margin()),
            ("logps/chosen", chosen.logp / n),
            ("logps/rejected", rejected.logp / n),
            ("logits/chosen", chosen.logits / tokens(chosen)),
            ("logits/rejected", rejected.logits / tokens(rejected)),
            ("entropy", entropy),
            ("mean_token_accuracy", chosen.hits as f64 / tokens(chosen)),
            ("likelier", self.likelier_share()),
        ];
        metrics
            .into_iter()
            .map(|(name, value)| (format!("{prefix}{name}"), Value::Real(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_strict_in_trls_name_and_half_in_ours() {
        let score = model::CompletionScore { logp: -2.0, token_count: 2, ..Default::default() };
        let mut sums = Sums::default();
        sums.add(0.7, (&score, 0.0), (&score, 0.0));
        sums.add(0.5, (&score, 1.0), (&score, 0.5));
        assert_eq!((sums.wins, sums.ties), (1, 1));
        let metrics = sums.metrics("eval_");
        for (name, want) in [("accuracies", 0.5), ("margins", 0.25)] {
            let name = format!("eval_rewards/{name}");
            assert!(metrics.contains(&(name, Value::Real(want))), "{metrics:?}");
        }
        assert!(metrics.contains(&("eval_accuracy_half_ties".into(), Value::Real(0.75))));
    }
}
