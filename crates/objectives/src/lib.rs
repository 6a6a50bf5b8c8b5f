//! Preference objectives as pure functions of sequence log-probabilities.
