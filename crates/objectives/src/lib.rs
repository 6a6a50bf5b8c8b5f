//! Preference objectives as pure functions of sequence log-probabilities.
//!
//! Every objective of the DPO family sees the data through the same few numbers: how likely the
//! policy and the reference find each completion of a prompt, and how long the completions are.
//! So an objective here is a plain function from [`Group`]s to [`Outcomes`]. It touches no tensor,
//! device or file, and its gradient is written out in closed form: one coefficient a completion,
//! or two under LD-DPO, which `train` hands to the model's backward pass.
//!
//! An [`Objective`] is a weighted sum of [`Loss`]es, [`Modifiers`] that act on all of them, and an
//! optional term over groups, [`Gdpo`]. A loss is a number with its slopes by the two sides of a
//! pair; a modifier acts before the losses (what a token, a log-ratio or a margin counts for), or
//! after them (what a row counts for). So they combine without knowing each other.
//!
//! Adding a loss takes four files: `src/<name>.rs`, a variant of [`Loss`],
//! `goldens/objectives/<name>.json` and `docs/objectives/<name>.md`. A test fails until all four
//! exist.
//!
//! # Example
//!
//! A policy that equals its reference is undecided, and pays `ln 2` for it:
//!
//! ```
//! use objectives::{Completion, Group, Loss, Objective, State};
//!
//! let same = Completion {
//!     policy_logp: -12.0,
//!     reference_logp: -12.0,
//!     token_count: 7,
//!     ..Completion::default()
//! };
//! let objective = Objective::new(Loss::Sigmoid, 0.1);
//! let outcomes = objective.evaluate(&mut State::default(), &[Group::pair(same, same)]);
//! assert!((outcomes.groups[0].loss - 2_f64.ln()).abs() < 1e-15);
//! assert_eq!(outcomes.groups[0].coefficients, [-0.05, 0.05]);
//! ```

mod aot;
mod aot_unpaired;
mod apo_down;
mod apo_zero;
mod apo_zero_unpaired;
mod bco_pair;
mod confidence;
mod cpo;
mod delta;
mod discopop;
mod dpop;
mod error;
mod evaluate;
mod exo_pair;
mod f_divergence;
mod gdpo;
mod group;
mod hinge;
mod ipo;
mod kto;
mod ld_alpha;
mod lmpo;
mod loss;
mod nca_pair;
mod objective;
mod orpo;
mod pair;
mod re_po;
mod repo;
mod repo_pp;
mod robust;
mod rpo;
mod rpo_alpha;
mod sft;
mod sigmoid;
mod sigmoid_norm;
mod simpo;
mod sppo_hard;
mod stable;
mod state;
mod use_weighting;

pub use bco_pair::BcoPair;
pub use confidence::Confidence;
pub use cpo::Cpo;
pub use discopop::Discopop;
pub use dpop::Dpop;
pub use error::Error;
pub use f_divergence::FDivergence;
pub use gdpo::{Gdpo, GroupTerm};
pub use group::{Completion, Group, GroupOutcome, Outcomes, Scored};
pub use kto::Kto;
pub use lmpo::Lmpo;
pub use loss::Loss;
pub use objective::{LossParts, Modifiers, Needs, Objective, Term};
pub use re_po::Reliability;
pub use repo::Repo;
pub use repo_pp::RepoPp;
pub use rpo::{Distance, Rpo};
pub use simpo::Simpo;
pub use state::State;
