//! Preference objectives as pure functions of sequence log-probabilities.
//!
//! Every objective of the DPO family sees the data through the same few numbers: how likely the
//! policy and the reference find each completion of a prompt, and how long the completions are.
//! So an objective here is a plain function from [`Group`]s to [`Outcomes`]. It touches no tensor,
//! device or file, and its gradient is written out in closed form: one coefficient a completion,
//! which `train` hands to the model's backward pass.
//!
//! Adding an objective takes four files: `src/<name>.rs`, a variant of [`Objective`],
//! `goldens/objectives/<name>.json` and `docs/objectives/<name>.md`. A test fails until all four
//! exist.
//!
//! # Example
//!
//! A policy that equals its reference is undecided, and pays `ln 2` for it:
//!
//! ```
//! use objectives::{Completion, Group, Objective, Sigmoid, State};
//!
//! let same = Completion { policy_logp: -12.0, reference_logp: -12.0, token_count: 7 };
//! let objective = Objective::Sigmoid(Sigmoid { beta: 0.1, label_smoothing: 0.0 });
//! let outcomes = objective.evaluate(&mut State::default(), &[Group::pair(same, same)]);
//! assert!((outcomes.groups[0].loss - 2_f64.ln()).abs() < 1e-15);
//! assert_eq!(outcomes.groups[0].coefficients, [-0.05, 0.05]);
//! ```

mod error;
mod group;
mod hinge;
mod ipo;
mod sigmoid;
mod stable;

pub use error::Error;
pub use group::{Completion, Group, GroupOutcome, Outcomes, State};
pub use hinge::Hinge;
pub use ipo::Ipo;
pub use sigmoid::Sigmoid;

/// The objectives a recipe can name as `loss_type`.
///
/// An enum and not a trait object: a recipe names one of a closed set, and the compiler then
/// points at every place that a new objective must be thought about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// Direct preference optimization, with optional label smoothing.
    Sigmoid(Sigmoid),
    /// A margin of one, and no more.
    Hinge(Hinge),
    /// Identity preference optimization: a margin per token that is aimed at, not exceeded.
    Ipo(Ipo),
}

impl Objective {
    /// The names a recipe can use, in the order of the documentation.
    pub const NAMES: [&str; 3] = ["sigmoid", "hinge", "ipo"];

    /// The name in recipes, TRL's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sigmoid(_) => "sigmoid",
            Self::Hinge(_) => "hinge",
            Self::Ipo(_) => "ipo",
        }
    }

    /// Checks that the settings lie in their ranges.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] for the first that does not.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Sigmoid(sigmoid) => sigmoid.check(),
            Self::Hinge(hinge) => hinge.check(),
            Self::Ipo(ipo) => ipo.check(),
        }
    }

    /// Scores the groups of one micro-batch.
    ///
    /// Coefficients are the derivatives of the **sum** of the groups' losses; who wants the mean
    /// over a step divides both. Rewards are for reports only.
    pub fn evaluate(&self, _state: &mut State, groups: &[Group]) -> Outcomes {
        let score = |group| match self {
            Self::Sigmoid(sigmoid) => sigmoid.score(group),
            Self::Hinge(hinge) => hinge.score(group),
            Self::Ipo(ipo) => ipo.score(group),
        };
        Outcomes { groups: groups.iter().map(score).collect() }
    }

    /// Whether [`Completion::reference_logp`] takes part, so that `train` can skip the reference.
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Sigmoid(_) | Self::Hinge(_) | Self::Ipo(_) => true,
        }
    }
}
