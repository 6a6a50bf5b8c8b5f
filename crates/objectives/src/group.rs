//! What goes into an objective and what comes out.

/// A prompt's completions, best first, with what the row says about them.
///
/// Losses over pairs compare the first completion, the chosen one, with the last, the rejected
/// one; completions between them take part in a group's term alone. An unpaired row is a lone
/// completion; a loss over pairs compares it with itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The completions, in order of preference.
    pub completions: Vec<Completion>,
    /// What the row counts for; at least 0, usually 1. Everything about the row is multiplied by it.
    pub weight: f64,
    /// Who ranked the completions; empty where all rows come from one. For RE-PO.
    pub annotator: String,
    /// Whether a lone completion is one to write. For losses over unpaired rows.
    pub desirable: Option<bool>,
    /// A completion of another prompt after this one. For KTO.
    pub mismatched: Option<Scored>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            completions: Vec::new(),
            weight: 1.0,
            annotator: String::new(),
            desirable: None,
            mismatched: None,
        }
    }
}

impl Group {
    /// A pair.
    pub fn pair(chosen: Completion, rejected: Completion) -> Self {
        Self::ranked(vec![chosen, rejected])
    }

    /// Completions, best first.
    pub fn ranked(completions: Vec<Completion>) -> Self {
        Self { completions, ..Self::default() }
    }

    /// A lone completion, to be written or not.
    pub fn unpaired(completion: Completion, desirable: bool) -> Self {
        Self { desirable: Some(desirable), ..Self::ranked(vec![completion]) }
    }
}

/// One completion, scored by both models; what an objective does not need may stay at its default.
///
/// Which fields that are is told by [`crate::Objective::needs`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Completion {
    /// Summed log-probability of the completion's tokens under the policy, in nats.
    pub policy_logp: f64,
    /// The same sum under the frozen reference. Ignored by reference-free objectives.
    pub reference_logp: f64,
    /// Number of completion tokens, the prompt left out. Objectives per token count at least one.
    pub token_count: u32,
    /// The part of `policy_logp` from tokens past the length of the group's shortest completion.
    /// For LD-DPO.
    pub policy_tail_logp: f64,
    /// The part of `reference_logp` from the same tokens. For LD-DPO.
    pub reference_tail_logp: f64,
    /// Mean over the tokens of `logp - ln(sum of p^2 over the vocabulary)` under the policy, in
    /// nats. For WPO.
    pub relative_logp: f64,
    /// The row's number for the completion, higher is better: the reward for reward-aware
    /// preference optimization, the label in 0 to 1 for the group term `lambda`.
    pub score: Option<f64>,
    /// The completion's place, lower is better; equal places are ties. Where no completion of a
    /// group has one, their order is strict.
    pub rank: Option<u32>,
    /// 1 for a completion that is not factual, 0 for one that is. For F-DPO.
    pub hallucinated: Option<f64>,
}

impl Completion {
    /// How much likelier the policy finds the completion than the reference does, in nats.
    pub fn log_ratio(&self) -> f64 {
        self.policy_logp - self.reference_logp
    }

    /// The number of tokens to divide by.
    pub(crate) fn tokens(&self) -> f64 {
        f64::from(self.token_count.max(1))
    }
}

/// A completion that is scored and never trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// Summed log-probability under the policy, in nats.
    pub policy_logp: f64,
    /// The same sum under the frozen reference.
    pub reference_logp: f64,
}

/// What an objective says about the groups of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// One outcome for each group, in order.
    pub groups: Vec<GroupOutcome>,
    /// KTO's estimate of the policy's distance from the reference, in nats; at least 0.
    pub kl: Option<f64>,
}

/// What an objective says about one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupOutcome {
    /// The loss, in nats: `(pair_loss + group_loss) * preference_weight + nll_loss`, times the
    /// group's own weight.
    pub loss: f64,
    /// Derivative of the sum of all groups' losses by each completion's log-probability; under
    /// LD-DPO by that of its head, the tokens up to the group's shortest length.
    pub coefficients: Vec<f64>,
    /// The same by the log-probability of each completion's tail; empty without LD-DPO.
    pub tail_coefficients: Vec<f64>,
    /// Implicit reward of each completion, `beta * log_ratio`; `beta` times the log-probability,
    /// a token where the loss divides by tokens, for reference-free objectives. For the report
    /// only.
    pub rewards: Vec<f64>,
    /// The losses over the pair, before weights.
    pub pair_loss: f64,
    /// The group's term, before weights.
    pub group_loss: f64,
    /// The negative log-likelihood of the chosen completion, with its weights.
    pub nll_loss: f64,
    /// What the preference part was multiplied by: WPO, confidence and warm-up. No gradient flows
    /// into it.
    pub preference_weight: f64,
    /// How likely it is that the label is right, by RE-PO.
    pub posterior: Option<f64>,
}

impl GroupOutcome {
    /// Reward of the first completion minus reward of the last; 0 without completions.
    pub fn margin(&self) -> f64 {
        match (self.rewards.first(), self.rewards.last()) {
            (Some(first), Some(last)) => first - last,
            _ => 0.0,
        }
    }
}
