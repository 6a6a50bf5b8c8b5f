//! Learning-rate schedules with the values of transformers, to the last bit where arithmetic is
//! exact there too.

use std::f64::consts::PI;

/// The shape of a schedule. Names are those of transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerType {
    /// Up to the peak, then down to 0 along a line.
    Linear,
    /// Up to the peak, then down to 0 along half a cosine.
    Cosine,
    /// The peak, always.
    Constant,
    /// Up to the peak, and on.
    ConstantWithWarmup,
}

/// How long the rate grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// That many steps.
    Steps(u64),
    /// That share of all steps, rounded up; at least 0, at most 1.
    Ratio(f64),
}

impl Warmup {
    /// Steps of warm-up in a run of `total` steps.
    #[expect(clippy::cast_sign_loss, reason = "a ratio is checked not to be negative")]
    pub fn steps(self, total: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Ratio(ratio) => (total as f64 * ratio).ceil() as u64,
        }
    }
}

/// The learning rate of every step of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    kind: SchedulerType,
    peak: f64,
    warmup: u64,
    total: u64,
}

impl Schedule {
    /// A schedule over `total` steps that reaches `peak`.
    pub fn new(kind: SchedulerType, peak: f64, warmup: Warmup, total: u64) -> Self {
        Self { kind, peak, warmup: warmup.steps(total), total }
    }

    /// The largest rate.
    pub fn peak(&self) -> f64 {
        self.peak
    }

    /// Steps of warm-up.
    pub fn warmup_steps(&self) -> u64 {
        self.warmup
    }

    /// The rate of the step after `done` steps; the first step has `done = 0`.
    ///
    /// ```text
    /// warm-up   peak * done / warmup                       for done < warmup
    /// linear    peak * (total - done) / (total - warmup)
    /// cosine    peak * (1 + cos(pi * (done - warmup) / (total - warmup))) / 2
    /// ```
    pub fn rate(&self, done: u64) -> f64 {
        let is_warming = self.kind != SchedulerType::Constant && done < self.warmup;
        let factor = if is_warming {
            done as f64 / self.warmup as f64
        } else {
            self.factor_after_warmup(done)
        };
        self.peak * factor
    }

    fn factor_after_warmup(&self, done: u64) -> f64 {
        let length = self.total.saturating_sub(self.warmup).max(1) as f64;
        match self.kind {
            SchedulerType::Constant | SchedulerType::ConstantWithWarmup => 1.0,
            SchedulerType::Linear => self.total.saturating_sub(done) as f64 / length,
            SchedulerType::Cosine => {
                let progress = done.saturating_sub(self.warmup) as f64 / length;
                (0.5 * (1.0 + (PI * progress).cos())).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use testkit::tolerance::SAME_F64_ARITHMETIC;

    use super::*;

    #[derive(Deserialize)]
    struct Goldens {
        peak: f64,
        schedules: Vec<Case>,
        ratios: Vec<RatioCase>,
    }

    #[derive(Deserialize)]
    struct Case {
        kind: String,
        warmup: u64,
        total: u64,
        rates: Vec<f64>,
    }

    #[derive(Deserialize)]
    struct RatioCase {
        ratio: f64,
        total: u64,
        warmup: u64,
    }

    fn goldens() -> Goldens {
        let path = testkit::golden("train/schedules.json");
        serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
    }

    #[test]
    fn rates_are_those_of_transformers() {
        let goldens = goldens();
        assert_eq!(goldens.schedules.len(), 16);
        for case in goldens.schedules {
            let kind = match &*case.kind {
                "linear" => SchedulerType::Linear,
                "cosine" => SchedulerType::Cosine,
                "constant" => SchedulerType::Constant,
                "constant_with_warmup" => SchedulerType::ConstantWithWarmup,
                other => panic!("{other}"),
            };
            let schedule =
                Schedule::new(kind, goldens.peak, Warmup::Steps(case.warmup), case.total);
            for (done, golden) in case.rates.iter().enumerate() {
                let rate = schedule.rate(done as u64);
                let error = (rate - golden).abs() / goldens.peak;
                assert!(error < SAME_F64_ARITHMETIC, "{} {done}: {rate} {golden}", case.kind);
            }
        }
    }

    #[test]
    fn a_ratio_rounds_up_as_in_transformers() {
        let goldens = goldens();
        assert!(goldens.ratios.len() > 40);
        for case in goldens.ratios {
            let steps = Warmup::Ratio(case.ratio).steps(case.total);
            assert_eq!(steps, case.warmup, "{} of {}", case.ratio, case.total);
        }
    }

    #[test]
    fn the_first_step_of_a_warm_up_has_rate_0() {
        let schedule = Schedule::new(SchedulerType::Linear, 1e-5, Warmup::Ratio(0.1), 100);
        assert_eq!(schedule.warmup_steps(), 10);
        assert_eq!(schedule.rate(0).to_bits(), 0);
        assert_eq!(schedule.rate(10).to_bits(), 1e-5_f64.to_bits());
        assert_eq!(schedule.rate(100).to_bits(), 0);
    }
}
