//! The progress of a run, as a line that is rewritten on a terminal, else as a line now and then.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use train::{
    Progress, Watch,
    watch::StepProgress,
    watching::{Kind, Warning},
};

use crate::{signals::Signals, terminal::Terminal};

/// Cells of the bar.
const BAR_CELLS: usize = 17;

/// How often a line is written where nothing can be rewritten.
pub(crate) const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Shows a run to people and passes on their wish to stop.
#[derive(Debug)]
pub struct Meter<'a> {
    terminal: &'a mut Terminal,
    signals: Signals,
    is_verbose: bool,
    /// When the current kind of work began, its name, and how much of it was done before.
    phase: Option<(Instant, &'static str, u64)>,
    last_plain: Option<Instant>,
    /// What is no surprise in this run.
    expected: &'static [Kind],
}

impl<'a> Meter<'a> {
    /// A meter; `is_verbose` writes a line for each step.
    pub fn new(terminal: &'a mut Terminal, signals: Signals, is_verbose: bool) -> Self {
        Self { terminal, signals, is_verbose, phase: None, last_plain: None, expected: &[] }
    }

    /// Tells no warnings of these kinds, for data that is known to lead to them.
    #[must_use]
    pub fn expecting(self, expected: &'static [Kind]) -> Self {
        Self { expected, ..self }
    }

    /// Ends the progress line.
    pub fn end(&mut self) {
        self.terminal.end_progress();
    }

    /// Seconds left, from the pace since the phase began; none before there is one.
    fn remaining(&mut self, name: &'static str, done: u64, total: u64) -> Option<Duration> {
        let (began, before) = match self.phase {
            Some((began, known, before)) if known == name => (began, before),
            _ => {
                self.phase = Some((Instant::now(), name, done));
                return None;
            }
        };
        let seen = done.saturating_sub(before);
        let left = total.saturating_sub(done) as f64;
        (0 < seen).then(|| began.elapsed().mul_f64(left / seen as f64))
    }

    fn show(&mut self, line: &str, plain: &str, is_last: bool) {
        if self.terminal.is_terminal() {
            self.terminal.progress_line(line);
            if !self.is_verbose {
                return;
            }
        }
        let is_due = self.last_plain.is_none_or(|last| PLAIN_EVERY <= last.elapsed());
        if self.is_verbose || is_due || is_last {
            self.last_plain = Some(Instant::now());
            self.terminal.print(&format!("{plain}\n"));
        }
    }

    fn counted(&mut self, name: &'static str, done: usize, total: usize) {
        let left = eta(self.remaining(name, done as u64, total as u64));
        let fraction = done as f64 / total.max(1) as f64;
        let line = format!("{name}: {} {done}/{total} rows | ETA: {left}", bar(fraction));
        let plain = format!("{name}: {done}/{total} rows | ETA: {left}");
        // The end of a short phase says nothing; a long one has told its way.
        self.show(&line, &plain, false);
    }

    fn step(&mut self, step: &StepProgress) {
        let left = eta(self.remaining("step", step.step, step.total_steps));
        let (line, mut plain) = step_lines(step, &left);
        if self.is_verbose {
            if step.token_accuracy.is_none() {
                let _ = write!(plain, " | Accuracy: {:.3}", step.accuracy);
            }
            let _ = write!(
                plain,
                " | Gradient: {:.3} | Rate: {:.3e} | Tokens: {}",
                step.gradient_norm, step.learning_rate, step.tokens
            );
        }
        self.show(&line, &plain, step.step == step.total_steps);
    }
}

impl Watch for Meter<'_> {
    fn note(&mut self, text: &str) {
        self.terminal.note(text);
    }

    fn warn(&mut self, warning: &Warning) {
        if !self.expected.contains(&warning.kind) {
            self.terminal.warn(&warning.to_string());
        }
    }

    fn progress(&mut self, progress: &Progress) {
        match progress {
            Progress::Reference { done, total } => self.counted("Reference", *done, *total),
            Progress::Evaluation { done, total } => self.counted("Evaluation", *done, *total),
            Progress::Step(step) => self.step(step),
        }
    }

    fn interrupted(&self) -> bool {
        self.signals.received().is_some()
    }
}

/// The line for a terminal, and the one for a file.
#[expect(clippy::cast_sign_loss, reason = "epochs count from 0")]
fn step_lines(step: &StepProgress, left: &str) -> (String, String) {
    // The last step of an epoch belongs to it, not to the next one.
    let epoch = (step.epoch.ceil() as u64).clamp(1, step.epochs.max(1));
    let fraction = (step.epoch - (epoch - 1) as f64).clamp(0.0, 1.0);
    let percent = (fraction * 100.0).floor();
    let numbers = match step.token_accuracy {
        Some(share) => format!("Loss: {:.3} | Token Accuracy: {share:.3} | ETA: {left}", step.loss),
        None => format!(
            "Loss: {:.3} | Policy Loss: {:.3} | Reward: {:.3} | ETA: {left}",
            step.loss, step.policy_loss, step.margin
        ),
    };
    let name = format!("Epoch {epoch}/{}", step.epochs);
    let counted = format!("step {}/{}", step.step, step.total_steps);
    (
        format!("{name}: {} {percent}% | {numbers}", bar(fraction)),
        format!("{name}: {percent}% ({counted}) | {numbers}"),
    )
}

/// A bar of which this fraction is full.
#[expect(clippy::cast_sign_loss, reason = "the fraction is clamped")]
pub(crate) fn bar(fraction: f64) -> String {
    let full = (fraction.clamp(0.0, 1.0) * BAR_CELLS as f64) as usize;
    format!("[{}{}]", "█".repeat(full), "░".repeat(BAR_CELLS - full))
}

/// A time left as `8m 15s`.
pub(crate) fn eta(left: Option<Duration>) -> String {
    let Some(left) = left else { return "?".into() };
    let seconds = left.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_as_lexalign_tells_it() {
        let mut step = StepProgress {
            step: 60,
            total_steps: 300,
            epoch: 0.6,
            epochs: 3,
            loss: 0.823,
            policy_loss: 0.651,
            margin: 0.172,
            accuracy: 0.75,
            token_accuracy: None,
            gradient_norm: 1.5,
            learning_rate: 1e-5,
            tokens: 4096,
        };
        let (line, plain) = step_lines(&step, "8m 15s");
        assert_eq!(
            line,
            "Epoch 1/3: [██████████░░░░░░░] 60% | Loss: 0.823 | Policy Loss: 0.651 | Reward: 0.172 | ETA: 8m 15s"
        );
        assert_eq!(
            plain,
            "Epoch 1/3: 60% (step 60/300) | Loss: 0.823 | Policy Loss: 0.651 | Reward: 0.172 | ETA: 8m 15s"
        );
        for (epoch, start) in
            [(1.0, "Epoch 1/3: 100%"), (1.01, "Epoch 2/3: 1%"), (3.0, "Epoch 3/3: 100%")]
        {
            step.epoch = epoch;
            assert!(step_lines(&step, "").1.starts_with(start), "{epoch}");
        }
        // Where completions are learned as they are, there are no rewards.
        step.token_accuracy = Some(0.4126);
        let (line, _) = step_lines(&step, "1s");
        assert!(line.ends_with("100% | Loss: 0.823 | Token Accuracy: 0.413 | ETA: 1s"), "{line}");
    }

    #[test]
    fn times_left_have_two_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (495, "8m 15s"), (3660, "1h 01m"), (90_000, "1d 01h")]
        {
            assert_eq!(eta(Some(Duration::from_secs(seconds))), text);
        }
        assert_eq!(eta(None), "?");
    }
}
