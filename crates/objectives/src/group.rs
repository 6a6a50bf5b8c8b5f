//! What goes into an objective and what comes out.

/// A prompt's completions, best first.
///
/// Objectives over pairs compare the first completion, the chosen one, with the last, the rejected
/// one; completions between them get no gradient. A lone completion is compared with itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The completions, in order of preference.
    pub completions: Vec<Completion>,
}

impl Group {
    /// A pair.
    pub fn pair(chosen: Completion, rejected: Completion) -> Self {
        Self { completions: vec![chosen, rejected] }
    }
}

/// One completion, scored by both models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Completion {
    /// Summed log-probability of the completion's tokens under the policy, in nats.
    pub policy_logp: f64,
    /// The same sum under the frozen reference. Ignored by reference-free objectives.
    pub reference_logp: f64,
    /// Number of completion tokens, the prompt left out. Objectives per token count at least one.
    pub token_count: u32,
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

/// What an objective remembers from one micro-batch to the next; part of every checkpoint.
///
/// No objective remembers anything so far.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct State {}

/// What an objective says about the groups of a micro-batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// One outcome for each group, in order.
    pub groups: Vec<GroupOutcome>,
}

/// What an objective says about one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupOutcome {
    /// The loss, in nats.
    pub loss: f64,
    /// Derivative of the loss by each completion's `policy_logp`.
    pub coefficients: Vec<f64>,
    /// Implicit reward of each completion, `beta * log_ratio`; for the report only.
    pub rewards: Vec<f64>,
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

/// The loss of a pair with its slopes by the log-ratios of both completions.
pub(crate) struct PairLoss {
    pub(crate) loss: f64,
    pub(crate) chosen_slope: f64,
    pub(crate) rejected_slope: f64,
}

/// Scores the pair of a group: its first and its last completion.
pub(crate) fn score_pair(
    group: &Group,
    beta: f64,
    loss: impl Fn(&Completion, &Completion) -> PairLoss,
) -> GroupOutcome {
    let completions = &group.completions;
    let (Some(chosen), Some(rejected)) = (completions.first(), completions.last()) else {
        return GroupOutcome::default();
    };
    let PairLoss { loss, chosen_slope, rejected_slope } = loss(chosen, rejected);
    let mut coefficients = vec![0.0; completions.len()];
    coefficients[0] += chosen_slope;
    coefficients[completions.len() - 1] += rejected_slope;
    let rewards = completions.iter().map(|completion| beta * completion.log_ratio()).collect();
    GroupOutcome { loss, coefficients, rewards }
}
