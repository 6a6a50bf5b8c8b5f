//! Win, tie, loss: one judgment, two of them with positions swapped, and many counted.

use crate::interval::{Share, share};

/// What is said of two answers, from the first one's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first is better.
    Win,
    /// Neither is.
    Tie,
    /// The second is.
    Loss,
}

impl Verdict {
    /// The same from the other side.
    #[must_use]
    pub fn swapped(self) -> Self {
        match self {
            Self::Win => Self::Loss,
            Self::Tie => Self::Tie,
            Self::Loss => Self::Win,
        }
    }

    /// Of two judgments of the same answers, both from the first one's side: what they agree on. Where
    /// they do not, the judge has no opinion that survives a change of places, which is a tie.
    #[must_use]
    pub fn agreed(self, other: Self) -> Self {
        if self == other { self } else { Self::Tie }
    }
}

/// How often each was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Wins.
    pub wins: u64,
    /// Ties.
    pub ties: u64,
    /// Losses.
    pub losses: u64,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Win => self.wins += 1,
            Verdict::Tie => self.ties += 1,
            Verdict::Loss => self.losses += 1,
        }
    }

    /// All.
    pub fn count(self) -> u64 {
        self.wins + self.ties + self.losses
    }

    /// Wins among what is no tie, with its interval; `None` where all are ties.
    pub fn win_rate(self) -> Option<Share> {
        share(self.wins, self.wins + self.losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_survives_a_swap_counts() {
        use Verdict::{Loss, Tie, Win};
        for (straight, swapped, agreed) in [
            (Win, Loss, Win),
            (Loss, Win, Loss),
            (Tie, Tie, Tie),
            // The same place both times.
            (Win, Win, Tie),
            (Loss, Loss, Tie),
            (Win, Tie, Tie),
            (Tie, Win, Tie),
        ] {
            assert_eq!(straight.agreed(swapped.swapped()), agreed, "{straight:?} {swapped:?}");
        }
        let mut tally = Tally::default();
        for verdict in [Win, Win, Win, Loss, Tie] {
            tally.add(verdict);
        }
        assert_eq!((tally.wins, tally.ties, tally.losses, tally.count()), (3, 1, 1, 5));
        let rate = tally.win_rate().unwrap();
        assert!((rate.value - 0.75).abs() < 1e-15);
        assert_eq!(Tally::default().win_rate(), None);
    }
}
