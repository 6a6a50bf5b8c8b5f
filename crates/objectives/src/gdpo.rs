//! Group delay policy optimization: a term over a prompt's whole group beside the pair's loss.

mod batch_variance;
mod epo;
mod lambda;
mod listwise;
mod pairs;
mod pairwise_mean;

use crate::{Completion, Error, Group, error::at_least_zero};

pub(crate) use batch_variance::score_all as batch_variance;

/// Group delay policy optimization: the pair's loss of the best and the worst completion, plus a
/// term over the whole group.
///
/// ```text
/// loss = pair loss(best, worst) + weight * term(s_1 .. s_K)           s = rewards, best first
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gdpo {
    /// Completions that take part, `group_delay_size`; at least 2. Of more than that the best, the
    /// worst and evenly spaced ones between them do.
    pub size: usize,
    /// What the term counts for, `group_delay_weight`; at least 0.
    pub weight: f64,
    /// Which term it is.
    pub term: GroupTerm,
}

/// A term over a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupTerm {
    /// The Plackett-Luce likelihood of the ranking, over the number of its factors.
    Listwise,
    /// `LiPO`'s pairs, each weighted by what swapping it would do to the ranking.
    Lambda,
    /// The mean logistic loss over all pairs of the group.
    Pairs,
    /// The mean logistic loss of the best against each of the others.
    PairwiseMean,
    /// The logistic loss of the mean probability that the best beats one of the others.
    Epo,
    /// The variance of the policy's differences over the call; not a ranking at all.
    BatchVariance,
}

impl GroupTerm {
    /// The names that a recipe can use, in the order of the variants.
    pub const NAMES: [&str; 6] =
        ["listwise", "lambda", "pairs", "pairwise_mean", "epo", "batch_variance"];

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listwise => "listwise",
            Self::Lambda => "lambda",
            Self::Pairs => "pairs",
            Self::PairwiseMean => "pairwise_mean",
            Self::Epo => "epo",
            Self::BatchVariance => "batch_variance",
        }
    }
}

/// A member of a group as its term sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    /// The reward.
    pub(crate) score: f64,
    /// Lower is better.
    pub(crate) rank: u32,
    /// The row's number, where it has one.
    pub(crate) label: Option<f64>,
}

/// A group's term with its slopes by the rewards of the members.
pub(crate) type Term = (f64, Vec<f64>);

impl Gdpo {
    /// Which of `count` completions, best first, take part: `size` of them, evenly spaced, ends
    /// included.
    pub fn members(self, count: usize) -> Vec<usize> {
        let (size, last) = (self.size.min(count), count.saturating_sub(1));
        let steps = size.saturating_sub(1).max(1);
        // Rounded to the nearest, halves up.
        (0..size).map(|i| (2 * i * last + steps) / (2 * steps)).collect()
    }

    pub(crate) fn check(self) -> Result<(), Error> {
        let size = self.size as f64;
        crate::error::check("group_delay_size", size, 2.0 <= size, "at least 2")?;
        at_least_zero("group_delay_weight", self.weight)
    }

    /// Whether a row can be ranked: best first, with at least two places.
    pub(crate) fn check_row(self, group: &Group) -> Result<(), Error> {
        let completions = &group.completions;
        let ranked = completions.iter().filter(|c| c.rank.is_some()).count();
        if ranked != 0 && ranked != completions.len() {
            return Err(Error::Missing { what: "rank of some completions", by: "gdpo" });
        }
        let ranks = ranks(completions);
        let is_sorted = ranks.is_sorted();
        if !is_sorted || ranks.first() == ranks.last() {
            return Err(Error::NoOrder);
        }
        if self.term == GroupTerm::Lambda {
            lambda::check_row(completions)?;
        }
        Ok(())
    }

    /// Scores a group's members that take part, given all rewards; slopes by all rewards.
    pub(crate) fn score(self, completions: &[Completion], rewards: &[f64]) -> Term {
        let ranks = ranks(completions);
        let taking_part = self.members(completions.len());
        let ranked: Vec<Ranked> = taking_part
            .iter()
            .map(|i| Ranked { score: rewards[*i], rank: ranks[*i], label: completions[*i].score })
            .collect();
        let (loss, of_members) = match self.term {
            GroupTerm::Listwise => listwise::score(&ranked),
            GroupTerm::Lambda => lambda::score(&ranked),
            GroupTerm::Pairs => pairs::score(&ranked),
            GroupTerm::PairwiseMean => pairwise_mean::score(&ranked),
            GroupTerm::Epo => epo::score(&ranked),
            GroupTerm::BatchVariance => return (0.0, vec![0.0; completions.len()]),
        };
        let mut slopes = vec![0.0; completions.len()];
        for (index, slope) in taking_part.into_iter().zip(of_members) {
            slopes[index] = slope;
        }
        (loss, slopes)
    }
}

/// The places of completions: as the row says, else in order.
fn ranks(completions: &[Completion]) -> Vec<u32> {
    let places = (0..).zip(completions);
    places.map(|(place, completion)| completion.rank.unwrap_or(place)).collect()
}
