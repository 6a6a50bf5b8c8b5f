//! What the clock says of a step.

use std::time::Duration;

use model::Spent;
use run::{Event, Value};

/// How long a step took, and its parts.
#[derive(Clone, Debug)]
pub struct Timing {
    /// All of it.
    pub whole: Duration,
    /// From the whole gradient to new weights.
    pub update: Duration,
    /// What the model's passes consist of.
    pub parts: Vec<Spent>,
}

impl Timing {
    /// A line of the timings of a run: seconds of the whole, of the optimizer and of each part as
    /// `<pass>/<part>_secs`, and the operations of those that have products as `<pass>/<part>_flops`.
    pub(crate) fn event(&self, step: u64, tokens: u64) -> Event {
        let secs = self.whole.as_secs_f64();
        let mut event = Event::new(step)
            .with("step_secs", secs)
            .with("tokens_per_sec", Value::Real(tokens as f64 / secs))
            .with("optimizer_secs", self.update.as_secs_f64());
        for Spent { pass, part, seconds, flops } in &self.parts {
            let name = format!("{}/{}", pass.name(), part.name());
            event = event.with(&format!("{name}_secs"), *seconds);
            if 0.0 < *flops {
                event = event.with(&format!("{name}_flops"), *flops);
            }
        }
        event
    }
}
