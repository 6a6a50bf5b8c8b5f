//! Length desensitization, LD-DPO (Liu et al. 2024, arXiv:2409.06411).
//!
//! ```text
//! logp = logp of the first l tokens + ld_alpha * logp of the others
//! ```
//!
//! for the policy and the reference, where `l` is the length of the group's shortest completion:
//! what a completion says past the length of the other counts for less.

use crate::{Completion, Error, error::check};

impl Completion {
    /// The log-probabilities of policy and reference, with their tails weighted.
    pub(crate) fn weighted(&self, ld_alpha: Option<f64>) -> (f64, f64) {
        let weigh = |all: f64, tail: f64| match ld_alpha {
            Some(alpha) => (all - tail) + alpha * tail,
            None => all,
        };
        (
            weigh(self.policy_logp, self.policy_tail_logp),
            weigh(self.reference_logp, self.reference_tail_logp),
        )
    }
}

pub(crate) fn check_setting(ld_alpha: f64) -> Result<(), Error> {
    check("ld_alpha", ld_alpha, (0.0..=1.0).contains(&ld_alpha), "from 0 to 1")
}
