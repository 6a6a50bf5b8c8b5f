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
    /// A line of the timings of a run: its seconds, and with `profile` those of the optimizer and of
    /// each part as `<pass>/<part>_secs`, and the operations of those that have products as
    /// `<pass>/<part>_flops`.
    pub(crate) fn event(&self, step: u64, tokens: u64, profile: bool) -> Event {
        let secs = self.whole.as_secs_f64();
        let mut event = Event::new(step)
            .with("step_secs", secs)
            .with("tokens_per_sec", Value::Real(tokens as f64 / secs));
        if !profile {
            return event;
        }
        event = event.with("optimizer_secs", self.update.as_secs_f64());
        for Spent { pass, part, seconds, flops } in &self.parts {
            let name = format!("{}/{}", pass.name(), part.name());
            event = event.with(&format!("{name}_secs"), *seconds);
            if 0 < *flops {
                event = event.with(&format!("{name}_flops"), *flops);
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use model::{Part, Pass};

    use super::*;

    #[test]
    fn a_line_names_pass_and_part_and_counts_where_there_are_products() {
        let spent = |pass, part, flops| Spent { pass, part, seconds: 0.25, flops };
        let timing = Timing {
            whole: Duration::from_secs(2),
            update: Duration::from_millis(125),
            parts: vec![spent(Pass::Forward, Part::GateUp, 7), spent(Pass::Again, Part::Norm, 0)],
        };
        assert_eq!(timing.event(3, 100, false).values.len(), 2);
        let told = timing.event(3, 100, true);
        let told: Vec<_> = told.values.iter().map(|(name, value)| (&**name, *value)).collect();
        let real = Value::Real;
        assert_eq!(
            told,
            [
                ("step_secs", real(2.0)),
                ("tokens_per_sec", real(50.0)),
                ("optimizer_secs", real(0.125)),
                ("forward/gate_up_secs", real(0.25)),
                ("forward/gate_up_flops", Value::Count(7)),
                ("again/norm_secs", real(0.25)),
            ]
        );
    }
}
