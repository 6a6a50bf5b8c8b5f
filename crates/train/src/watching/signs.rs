//! The signs by which each warning is recognised; bounds and what is said of them.

use std::collections::{BTreeSet, VecDeque};

use run::Event;

use super::{Kind, Rows, Setting, Warning};

/// Steps over which values are averaged.
const WINDOW: usize = 10;
/// Steps over which a margin is averaged that may explode.
const SHORT_WINDOW: usize = 5;
/// Steps over which margins are held against lengths.
const LONG_WINDOW: usize = 32;
/// The margin, in units of reward, at which a pair pulls with sigmoid(-10) = 5e-5.
const MARGIN_MAX: f64 = 10.0;
/// The share of the first loss below which nothing is left: a margin of 4.3 for `sigmoid`.
const LOSS_LEFT: f64 = 0.02;
/// The multiple of the first loss above which the run makes things worse.
const LOSS_ROSE: f64 = 1.5;
/// How far the chosen reward may fall together with the rejected one.
const CHOSEN_FALL: f64 = 1.0;
/// A margin below which nothing was learnt: sigmoid(0.01) = 0.5025.
const MARGIN_NOISE: f64 = 0.01;
/// A reward below which the policy still is its reference.
const REWARD_NOISE: f64 = 0.05;
/// The least and most steps after the warm-up in which something should be learnt.
const PATIENCE: (u64, u64) = (10, 50);
/// The correlation from which on length explains half of the margin.
const LENGTH_CORRELATION: f64 = 0.7;
/// The least mean margin that is held against lengths.
const LENGTH_MARGIN: f64 = 0.1;
/// Pairs never seen before that must all be right to be suspicious.
const PAIRS_RIGHT: u64 = 64;
/// Held-out pairs that must all be right to be suspicious.
const PAIRS_RIGHT_EVALUATED: usize = 32;

/// The values of a step.
#[derive(Clone, Copy, Debug)]
struct Step {
    loss: f64,
    chosen: f64,
    rejected: f64,
    margin: f64,
    accuracy: Option<f64>,
    longer_by: f64,
}

/// What is remembered of the steps so far.
#[derive(Debug)]
pub struct State {
    setting: Setting,
    /// The first steps, until the start is known.
    early: Vec<Step>,
    /// The last steps, newest last.
    last: VecDeque<Step>,
    /// What was warned of and has not passed.
    active: BTreeSet<Kind>,
    /// Pairs in a row that were right when they were first seen.
    right: u64,
}

impl State {
    /// Nothing seen yet.
    pub fn new(setting: Setting) -> Self {
        Self {
            setting,
            early: Vec::new(),
            last: VecDeque::new(),
            active: BTreeSet::new(),
            right: 0,
        }
    }

    /// Looks at a step; `rows` says what its pairs are.
    pub fn step(&mut self, event: &Event, rows: Option<Rows>) -> Vec<Warning> {
        let get = |name: &str| event.get(name).unwrap_or(f64::NAN);
        let step = Step {
            loss: get("policy_loss"),
            chosen: get("rewards/chosen"),
            rejected: get("rewards/rejected"),
            margin: get("rewards/margins"),
            accuracy: event.get("rewards/accuracies"),
            longer_by: rows.map_or(f64::NAN, |rows| rows.longer_by),
        };
        if self.early.len() < WINDOW {
            self.early.push(step);
        }
        self.last.push_back(step);
        if LONG_WINDOW < self.last.len() {
            self.last.pop_front();
        }
        let is_new_to_it = get("epoch") <= 1.0;
        let is_right = is_new_to_it && step.accuracy.is_some_and(|share| 1.0 <= share);
        let count = rows.map_or(0, |rows| rows.count as u64);
        self.right = if is_right { self.right + count } else { 0 };

        let at = event.step;
        let mut warnings = Vec::new();
        warnings.extend(self.displaced(at));
        warnings.extend(self.margin_exploded(at));
        warnings.extend(self.saturated(at));
        warnings.extend(self.loss_rose(at));
        warnings.extend(self.follows_length(at));
        let pairs = self.right;
        warnings.extend(self.separable(at, PAIRS_RIGHT <= pairs, || {
            format!("all of the last {pairs} pairs were right when they were first seen")
        }));
        warnings.extend(self.learns_nothing(at, get("epoch")));
        warnings
    }

    /// Looks at an evaluation.
    pub fn evaluation(&mut self, event: &Event) -> Vec<Warning> {
        let pairs = self.setting.eval_pairs;
        let is_right = event.get("eval_rewards/accuracies").is_some_and(|share| 1.0 <= share);
        let found = self.separable(event.step, is_right && PAIRS_RIGHT_EVALUATED <= pairs, || {
            format!("all {pairs} held-out pairs are right")
        });
        found.into_iter().collect()
    }

    /// The mean of a value over `count` steps, those after it left out; `None` if there are fewer.
    fn mean_before(&self, after: usize, count: usize, value: fn(&Step) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.last.iter().rev().skip(after).map(value).collect();
        mean_of_last(&values, count)
    }

    fn mean(&self, count: usize, value: fn(&Step) -> f64) -> Option<f64> {
        self.mean_before(0, count, value)
    }

    /// What a value was before anything was learnt: that of the first step where the policy starts
    /// as its reference, else the mean of the first steps.
    fn start(&self, value: fn(&Step) -> f64) -> Option<f64> {
        if self.setting.has_reference {
            return self.early.first().map(value);
        }
        let values: Vec<f64> = self.early.iter().map(value).collect();
        mean_of_last(&values, WINDOW)
    }

    /// Whether this is the first time that something holds, or the first since it was over.
    fn begins(&mut self, kind: Kind, holds: bool, is_over: bool) -> bool {
        if holds {
            return self.active.insert(kind);
        }
        // Where the reference moves, rewards recover by that alone.
        if is_over && !self.setting.is_reference_moving {
            self.active.remove(&kind);
        }
        false
    }

    fn displaced(&mut self, step: u64) -> Option<Warning> {
        let kind = Kind::Displaced;
        let now = self.mean(WINDOW, |step| step.chosen)?;
        let fall = (self.start(|step| step.chosen)? - now) / self.setting.scale;
        let before = self.mean_before(WINDOW, WINDOW, |step| step.chosen)?;
        let rejected = self.mean(WINDOW, |step| step.rejected)?;
        let rejected_before = self.mean_before(WINDOW, WINDOW, |step| step.rejected)?;
        let holds = CHOSEN_FALL < fall && now < before && rejected < rejected_before;
        self.begins(kind, holds, fall < CHOSEN_FALL / 2.0).then(|| Warning {
            kind,
            step,
            what: format!(
                "the chosen completions lose likelihood together with the rejected ones: `rewards/chosen` is {now:.2}, `rewards/rejected` {rejected:.2} over the last {WINDOW} steps"
            ),
            why: "the loss looks at their difference alone, and pushing both down is one way to widen it; the likelihood goes to answers that nobody chose".into(),
            how: "lower `learning_rate`, raise `beta`, or hold the chosen ones up with `rpo_alpha` or `loss_type: dpop`".into(),
        })
    }

    fn margin_exploded(&mut self, step: u64) -> Option<Warning> {
        let kind = Kind::MarginExploded;
        let margin = self.mean(SHORT_WINDOW, |step| step.margin)?;
        let off = margin.abs() / self.setting.scale;
        self.begins(kind, MARGIN_MAX < off, off < MARGIN_MAX / 2.0).then(|| Warning {
            kind,
            step,
            what: format!("the margin exploded: {margin:.1} over the last {SHORT_WINDOW} steps"),
            why: "a margin of 10 leaves the loss 5e-5 of its pull; the policy is many nats from its reference, and answers degrade long before".into(),
            how: format!(
                "lower `learning_rate` (it is {:e}), or end such runs with `stop_when: {{reward_margin_above: 5}}`",
                self.setting.learning_rate
            ),
        })
    }

    fn saturated(&mut self, step: u64) -> Option<Warning> {
        let kind = Kind::Saturated;
        let (loss, first) = (self.mean(WINDOW, |step| step.loss)?, self.start(|step| step.loss)?);
        let accuracy = self.mean(WINDOW, |step| step.accuracy.unwrap_or(1.0))?;
        let is_low = 0.0 < first && loss < LOSS_LEFT * first;
        let is_over = 2.0 * LOSS_LEFT * first < loss;
        self.begins(kind, is_low && 0.99 <= accuracy, is_over).then(|| Warning {
            kind,
            step,
            what: format!(
                "next to nothing is left to learn: the loss is {loss:.1e} over the last {WINDOW} steps, {first:.3} at the start"
            ),
            why: "nearly all pairs are so far apart that they pull no more; further steps fit noise".into(),
            how: "end earlier (fewer `num_epochs`, or `stop_when`), or lower `learning_rate`".into(),
        })
    }

    fn loss_rose(&mut self, step: u64) -> Option<Warning> {
        let kind = Kind::LossRose;
        let (loss, first) = (self.mean(WINDOW, |step| step.loss)?, self.start(|step| step.loss)?);
        let rose = if 0.0 < first { loss / first } else { 0.0 };
        self.begins(kind, LOSS_ROSE < rose, rose < f64::midpoint(1.0, LOSS_ROSE)).then(|| Warning {
            kind,
            step,
            what: format!(
                "the loss is {loss:.2} over the last {WINDOW} steps, more than the {first:.2} of the start"
            ),
            why: "steps are so large that they miss what they aim at, or the labels contradict each other".into(),
            how: format!(
                "lower `learning_rate` (it is {:e}) by a factor of 10, or lengthen the warm-up",
                self.setting.learning_rate
            ),
        })
    }

    fn follows_length(&mut self, step: u64) -> Option<Warning> {
        let kind = Kind::FollowsLength;
        let margin = self.mean(LONG_WINDOW, |step| step.margin)?;
        let points: Vec<(f64, f64)> =
            self.last.iter().map(|step| (step.longer_by, step.margin)).collect();
        let strength = correlation(&points)?;
        let holds = LENGTH_CORRELATION <= strength.abs() && LENGTH_MARGIN <= margin;
        let side = if 0.0 < strength { "longer" } else { "shorter" };
        self.begins(kind, holds, strength.abs() < LENGTH_CORRELATION / 2.0).then(|| Warning {
            kind,
            step,
            what: format!(
                "the margin follows length: over the last {LONG_WINDOW} steps it is the larger, the {side} chosen completions are (correlation {strength:.2})"
            ),
            why: format!(
                "a reward is a sum over tokens, so that \"{side} is better\" is the easiest thing to learn; answers would grow {side}"
            ),
            how: "use a loss per token (`loss_type: sigmoid_norm` or `simpo`) or `ld_alpha`, or balance lengths in the data".into(),
        })
    }

    fn separable(
        &mut self,
        step: u64,
        holds: bool,
        what: impl FnOnce() -> String,
    ) -> Option<Warning> {
        let kind = Kind::Separable;
        // What the data is like does not change.
        let why = self.setting.cue.clone();
        self.begins(kind, holds, false).then(|| Warning {
            kind,
            step,
            what: what(),
            why: why.map_or_else(
                || "pairs are this easy where something gives the chosen side away: here neither lengths nor first or last tokens do; people agree with each other on 60 to 80 % of real pairs".into(),
                |cue| format!("{cue}, which is enough to tell the sides apart"),
            ),
            how: "look at some pairs side by side, take away what marks a side, and evaluate on pairs of another source".into(),
        })
    }

    fn learns_nothing(&mut self, step: u64, epoch: f64) -> Option<Warning> {
        let kind = Kind::LearnsNothing;
        let Setting { warmup_steps, total_steps, learning_rate, .. } = self.setting;
        let patience = (total_steps / 4).clamp(PATIENCE.0, PATIENCE.1);
        let is_due = warmup_steps + patience <= step && self.setting.warmup_epochs <= epoch;
        let margin = self.mean(WINDOW, |step| step.margin)?;
        let chosen = self.mean(WINDOW, |step| step.chosen)?;
        let rejected = self.mean(WINDOW, |step| step.rejected)?;
        // A policy that moved all the same has another trouble than its rate.
        let moved = chosen.abs().max(rejected.abs()) / self.setting.scale;
        let off = margin.abs() / self.setting.scale;
        let is_still = off < MARGIN_NOISE && moved < REWARD_NOISE;
        let is_measured = self.setting.has_reference && !self.setting.is_reference_moving;
        let holds = is_measured && is_due && is_still;
        let usual = if self.setting.has_adapter {
            "adapters mostly take 5e-6 to 1e-4"
        } else {
            "full fine-tuning mostly takes 5e-7 to 5e-6"
        };
        self.begins(kind, holds, 2.0 * MARGIN_NOISE < off).then(|| Warning {
            kind,
            step,
            what: format!(
                "nothing is learnt: the margin is {margin:.1e} over the last {WINDOW} steps, {} steps after the warm-up",
                step - warmup_steps
            ),
            why: "the policy still is its reference; the learning rate is too low for this many steps".into(),
            how: format!("raise `learning_rate` (it is {learning_rate:e}; {usual}) or train longer"),
        })
    }
}

/// The mean of the first `count` values of a list; `None` if it has fewer, or if the mean is not
/// finite.
pub(crate) fn mean_of_last(values: &[f64], count: usize) -> Option<f64> {
    let taken = values.get(..count)?;
    let mean = taken.iter().sum::<f64>() / count.max(1) as f64;
    mean.is_finite().then_some(mean)
}

/// Pearson's correlation; `None` where one of the two does not vary or is not finite.
fn correlation(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| {
        points.iter().map(|point| of(point.0 - x, point.1 - y)).sum::<f64>()
    };
    let (xx, yy, xy) = (sum(&|a, _| a * a), sum(&|_, b| b * b), sum(&|a, b| a * b));
    let strength = xy / (xx * yy).sqrt();
    strength.is_finite().then_some(strength)
}
