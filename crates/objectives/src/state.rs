//! What an objective remembers from one call to the next.

use std::collections::BTreeMap;

use crate::Error;

/// What an objective remembers from one call to the next; part of every checkpoint.
///
/// [`State::to_numbers`] gives it as a table that any format can hold.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct State {
    /// Passes over the data done by the end of the coming call, with the fraction of the current
    /// one; set by `train` before each call where [`crate::Needs::epoch`] says so. Not remembered.
    pub epoch: f64,
    /// All rewards so far. For BCO.
    pub(crate) rewards: RunningMean,
    /// Moving average of the margins. For LMPO.
    pub(crate) margins: Option<Moments>,
    /// How often each annotator is right. For RE-PO.
    pub(crate) reliabilities: BTreeMap<String, f64>,
}

const REWARDS_COUNT: &str = "bco/count";
const REWARDS_MEAN: &str = "bco/mean";
const MARGINS_MEAN: &str = "lmpo/mean";
const MARGINS_DEVIATION: &str = "lmpo/deviation";
const RELIABILITY: &str = "re_po/";

impl State {
    /// How often each annotator is right, as estimated so far; annotators not met yet are left out.
    pub fn reliabilities(&self) -> &BTreeMap<String, f64> {
        &self.reliabilities
    }

    /// What is remembered, as names and numbers.
    pub fn to_numbers(&self) -> BTreeMap<String, f64> {
        let mut numbers = BTreeMap::new();
        if 0.0 < self.rewards.count {
            numbers.insert(REWARDS_COUNT.to_owned(), self.rewards.count);
            numbers.insert(REWARDS_MEAN.to_owned(), self.rewards.mean);
        }
        if let Some(margins) = self.margins {
            numbers.insert(MARGINS_MEAN.to_owned(), margins.mean);
            numbers.insert(MARGINS_DEVIATION.to_owned(), margins.deviation);
        }
        let reliabilities = self.reliabilities.iter();
        numbers.extend(reliabilities.map(|(name, value)| (format!("{RELIABILITY}{name}"), *value)));
        numbers
    }

    /// The state that gave these names and numbers.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownState`] for a name that no objective has written.
    pub fn from_numbers(numbers: &BTreeMap<String, f64>) -> Result<Self, Error> {
        let mut state = Self::default();
        let mut margins = Moments { mean: 0.0, deviation: 0.0 };
        for (name, value) in numbers {
            match name.as_str() {
                REWARDS_COUNT => state.rewards.count = *value,
                REWARDS_MEAN => state.rewards.mean = *value,
                MARGINS_MEAN => margins.mean = *value,
                MARGINS_DEVIATION => margins.deviation = *value,
                _ => {
                    let unknown = || Error::UnknownState { name: name.clone() };
                    let annotator = name.strip_prefix(RELIABILITY).ok_or_else(unknown)?;
                    state.reliabilities.insert(annotator.to_owned(), *value);
                }
            }
            if name == MARGINS_MEAN || name == MARGINS_DEVIATION {
                state.margins = Some(margins);
            }
        }
        Ok(state)
    }
}

/// The mean of all numbers so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RunningMean {
    pub(crate) count: f64,
    pub(crate) mean: f64,
}

impl RunningMean {
    pub(crate) fn add(&mut self, number: f64) {
        self.count += 1.0;
        self.mean += (number - self.mean) / self.count;
    }
}

/// A mean and a standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    pub(crate) mean: f64,
    /// Over n - 1; 0 for fewer than two numbers.
    pub(crate) deviation: f64,
}

impl Moments {
    /// Those of some numbers; nothing for none.
    pub(crate) fn of(numbers: &[f64]) -> Option<Self> {
        let count = numbers.len() as f64;
        if numbers.is_empty() {
            return None;
        }
        let mean = numbers.iter().sum::<f64>() / count;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        let deviation = if 1.0 < count { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        Some(Self { mean, deviation })
    }

    /// Moved towards others, of which `kept` is the part that stays.
    ///
    /// A deviation of 0 says that there was nothing to measure it by, and the other one counts.
    pub(crate) fn moved(self, now: Self, kept: f64) -> Self {
        let mix = |before: f64, now: f64| kept * before + (1.0 - kept) * now;
        let has_both = 0.0 < self.deviation && 0.0 < now.deviation;
        let deviation = if has_both {
            mix(self.deviation, now.deviation)
        } else {
            self.deviation + now.deviation
        };
        Self { mean: mix(self.mean, now.mean), deviation }
    }
}
