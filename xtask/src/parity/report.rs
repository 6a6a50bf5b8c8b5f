//! How close two programs must be, and how close they are.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::run::say;

/// Metrics that must agree at every step; each has a limit below.
pub(super) const METRICS: [&str; 8] = [
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
];

/// Losses from given log-probabilities: their means, slopes by each token and rewards.
pub(super) const LOSS_KINDS: [&str; 3] = ["loss alone", "slope alone", "rewards alone"];

/// The same where TRL computes in f32.
pub(super) const LOSS_KINDS_F32: [&str; 3] =
    ["loss alone in f32", "slope alone in f32", "rewards alone in f32"];

/// What a difference is divided by.
#[derive(Clone, Copy, Debug)]
enum To {
    /// The size of the other program's value.
    Value,
    /// Nothing.
    One,
}

/// How far each kind of value may lie apart in f32.
///
/// TRL's own runs in f32 stray from f64 by about 1e-5 of these values: Adam scales the rounding of
/// small gradients up.
const LIMITS: [(&str, To, f64); 23] = [
    ("loss alone", To::Value, 1e-6),
    ("slope alone", To::Value, 1e-6),
    ("rewards alone", To::Value, 1e-6),
    ("loss alone in f32", To::Value, 1e-6),
    // The slope of an exponential in f32 is as far off as its exponent, which divides by `tau`.
    ("slope alone in f32", To::Value, 1e-4),
    ("rewards alone in f32", To::Value, 1e-6),
    ("loss", To::Value, 1e-4),
    ("grad_norm", To::Value, 1e-4),
    // The same closed formula in f64.
    ("learning_rate", To::Value, 1e-12),
    ("rewards/margins", To::One, 1e-3),
    ("rewards/chosen", To::One, 1e-3),
    ("rewards/rejected", To::One, 1e-3),
    ("logps/chosen", To::Value, 1e-4),
    ("logps/rejected", To::Value, 1e-4),
    ("logps of the base", To::Value, 1e-4),
    ("logps", To::Value, 1e-4),
    ("logps of TRL's weights", To::Value, 1e-4),
    ("logps when trained", To::Value, 1e-4),
    ("logps reloaded", To::One, 1e-3),
    ("gradient of A: cosine", To::One, 1e-5),
    ("gradient of B: cosine", To::One, 1e-5),
    ("gradient of A: norm", To::Value, 1e-3),
    ("gradient of B: norm", To::Value, 1e-3),
];

impl To {
    fn name(self) -> &'static str {
        match self {
            Self::Value => "relative",
            Self::One => "absolute",
        }
    }
}

/// Every kind of value, how its difference is taken, and what is allowed.
pub(super) fn limits() -> impl Iterator<Item = (&'static str, &'static str, f64)> {
    LIMITS.iter().map(|(kind, to, allowed)| (*kind, to.name(), *allowed))
}

/// How far runs in bf16 lie from their f32 runs, ours and TRL's: the largest absolute difference of
/// each metric over all steps of all models.
///
/// Several models are judged together, because the worst of ten steps of one tiny model is mostly
/// luck.
#[derive(Debug, Default)]
pub(super) struct Rounding(BTreeMap<String, [f64; 2]>);

impl Rounding {
    /// Takes in a model's differences.
    pub(super) fn add(&mut self, metric: &str, ours: f64, theirs: f64) {
        let largest = self.0.entry(metric.into()).or_insert([0.0; 2]);
        for (largest, new) in largest.iter_mut().zip([ours, theirs]) {
            // A value that is no number stays.
            let is_smaller = new <= *largest || largest.is_nan();
            if !is_smaller {
                *largest = new;
            }
        }
    }

    /// Where ours lies further away than TRL's.
    pub(super) fn complaints(&self) -> Vec<String> {
        let far = self.0.iter().filter(|(_, [ours, theirs])| {
            let is_near = ours <= theirs;
            !is_near
        });
        far.map(|(metric, pair)| format!("{metric}: {}", apart(*pair))).collect()
    }
}

/// Both distances from f32, for people.
pub(super) fn apart([ours, theirs]: [f64; 2]) -> String {
    format!("bf16 from f32 {ours:.1e} here, {theirs:.1e} in TRL")
}

/// The largest difference of each kind in one case, and those that are too large.
#[derive(Debug)]
pub(super) struct Report {
    case: String,
    largest: BTreeMap<String, f64>,
    lines: Vec<String>,
    pub(super) complaints: Vec<String>,
}

impl Report {
    pub(super) fn new(case: &str) -> Self {
        Self {
            case: case.into(),
            largest: BTreeMap::new(),
            lines: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Holds a value against the other program's.
    pub(super) fn compare(
        &mut self,
        kind: &str,
        place: &str,
        ours: f64,
        theirs: f64,
    ) -> anyhow::Result<()> {
        let limit = LIMITS.iter().find(|limit| limit.0 == kind);
        let (_, to, allowed) = limit.with_context(|| format!("`{kind}` has no limit"))?;
        let difference = (ours - theirs).abs();
        let apart = match to {
            // Equal values are not apart, zeros among them.
            To::Value if difference > 0.0 => difference / theirs.abs(),
            _ => difference,
        };
        // Written so that a value that is no number is the largest, and complains.
        let largest = self.largest.entry(kind.into()).or_insert(0.0);
        let is_smaller = apart <= *largest || largest.is_nan();
        if !is_smaller {
            *largest = apart;
        }
        let is_near = apart <= *allowed;
        if !is_near {
            let case = &self.case;
            self.complaints.push(format!("{case}: {place} {kind}: {ours} here, {theirs} there"));
        }
        Ok(())
    }

    /// Adds a line for people.
    pub(super) fn note(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Prints what was found.
    pub(super) fn say(&self) {
        say(&format!("{}:", self.case));
        for (kind, how, allowed) in limits() {
            if let Some(largest) = self.largest.get(kind) {
                say(&format!("  {kind}: {largest:.1e} {how}, at most {allowed:.0e}"));
            }
        }
        for line in &self.lines {
            say(&format!("  {line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_limit() {
        let mut report = Report::new("case");
        for metric in METRICS {
            report.compare(metric, "step 1", 1.0, 1.0).unwrap();
        }
        assert!(report.complaints.is_empty());
        assert!(report.compare("another", "step 1", 1.0, 1.0).is_err());
    }

    #[test]
    fn values_that_are_far_or_missing_are_reported() {
        let mut report = Report::new("case");
        for (kind, ours, theirs, is_near) in [
            ("loss", 0.01, 0.010_000_9, true),
            ("loss", 0.01, 0.010_001_1, false),
            ("loss", 0.0, 0.0, true),
            ("loss", 1e-9, 0.0, false),
            ("loss", f64::NAN, 1.0, false),
            ("rewards/margins", 10.000_9, 10.0, true),
            ("rewards/margins", 10.001_1, 10.0, false),
            ("gradient of A: cosine", 0.999_991, 1.0, true),
            ("gradient of A: cosine", 0.999_989, 1.0, false),
            ("gradient of B: norm", 1.000_9, 1.0, true),
            ("gradient of B: norm", 1.001_1, 1.0, false),
        ] {
            report.complaints.clear();
            report.compare(kind, "", ours, theirs).unwrap();
            assert_eq!(report.complaints.is_empty(), is_near, "{kind} {ours} {theirs}");
        }
        assert!(report.largest["loss"].is_nan());
    }

    #[test]
    fn bf16_may_be_as_far_as_trl_and_no_further() {
        let complaints = |added: &[[f64; 2]]| {
            let mut rounding = Rounding::default();
            for [ours, theirs] in added {
                rounding.add("loss", *ours, *theirs);
            }
            rounding.complaints().len()
        };
        assert_eq!(complaints(&[[0.1, 0.1]]), 0);
        assert_eq!(complaints(&[[0.1, 0.09]]), 1);
        assert_eq!(complaints(&[[0.1, 0.09], [0.1, 0.11]]), 0);
        assert_eq!(complaints(&[[f64::NAN, 0.09], [0.01, 0.09]]), 1);
    }
}
