//! What a run's events say about it: the best evaluation, patience, tokens seen.
//!
//! All of it is computed from the events, so that a resumed run needs no copy of it.

use run::Event;

use crate::recipe::{Evaluation, Metric};

/// The events of a run so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// The events that a resumed run starts from.
    pub fn new(events: Vec<Event>) -> Self {
        Self { events }
    }

    /// Adds an event.
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Tokens attended to so far.
    pub fn tokens(&self) -> u64 {
        self.events.iter().rev().find_map(|event| event.count("num_tokens")).unwrap_or(0)
    }

    /// The best value of a metric, and the first step that reached it.
    pub fn best(&self, metric: Metric) -> Option<(u64, f64)> {
        let values =
            self.events.iter().filter_map(|event| Some((event.step, event.get(metric.name())?)));
        values.filter(|(_, value)| value.is_finite()).fold(None, |best, (step, value)| match best {
            Some((_, old)) if !metric.improves(value, old) => best,
            _ => Some((step, value)),
        })
    }

    /// Whether as many evaluations as the recipe's patience went by without improvement.
    pub fn out_of_patience(&self, evaluation: &Evaluation) -> bool {
        let Some(patience) = evaluation.early_stopping_patience else { return false };
        let Some((best, _)) = self.best(evaluation.metric_for_best_model) else { return false };
        let since = self.events.iter().filter(|event| event.is_evaluation() && event.step > best);
        since.count() as u64 >= patience
    }

    /// What `trainer_state.json` keeps: every `logging_steps`-th step, and the evaluations.
    pub fn logged(&self, logging_steps: u64) -> Vec<Event> {
        let every = logging_steps.max(1);
        let kept = |event: &&Event| event.is_evaluation() || event.step.is_multiple_of(every);
        self.events.iter().filter(kept).cloned().collect()
    }

    /// All events.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let loss = |step, value: f64| Event::new(step).with("eval_loss", value);
        History::new(vec![
            Event::new(1).with("loss", 0.7).with("num_tokens", 10_u64),
            loss(1, 0.6),
            Event::new(2).with("loss", 0.5).with("num_tokens", 30_u64),
            loss(2, 0.4),
            loss(3, 0.5),
            loss(4, 0.4),
        ])
    }

    #[test]
    fn the_first_of_equal_evaluations_is_the_best() {
        assert_eq!(history().best(Metric::Loss), Some((2, 0.4)));
        assert_eq!(history().tokens(), 30);
    }

    #[test]
    fn patience_counts_evaluations_after_the_best() {
        let evaluation = |patience| Evaluation {
            eval_steps: 1,
            load_best_model_at_end: false,
            metric_for_best_model: Metric::Loss,
            early_stopping_patience: patience,
        };
        assert!(history().out_of_patience(&evaluation(Some(2))));
        assert!(!history().out_of_patience(&evaluation(Some(3))));
        assert!(!history().out_of_patience(&evaluation(None)));
    }
}
