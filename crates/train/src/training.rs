//! The training loop.

use std::time::Instant;

use crate::{
    Error, Watch,
    metrics::Sums,
    recipe::Evaluation,
    run_log::RunLog,
    trainer::Trainer,
    watch::{Progress, StepProgress},
};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All steps were done, or the evaluations stopped improving.
    Finished,
    /// Somebody asked it to stop; a checkpoint of this step was saved.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// Trains until the last step, until patience is out, or until the watcher asks to stop.
///
/// # Errors
///
/// A loss or gradient that is not finite, before it reaches the optimizer; a file that cannot be
/// written.
pub fn train(
    trainer: &mut Trainer,
    run: &mut RunLog<'_>,
    watch: &mut dyn Watch,
) -> Result<Ending, Error> {
    while run.step() < trainer.total_steps() {
        let step = run.step() + 1;
        let started = Instant::now();
        let Some((sums, gradient_norm)) = trainer.step(step, watch)? else {
            run.save(trainer)?;
            return Ok(Ending::Interrupted { step: run.step() });
        };
        let rate = trainer.learning_rate(step);
        run.record_step(
            step,
            trainer.epoch(step),
            &sums,
            (gradient_norm, rate),
            started.elapsed(),
        )?;
        watch.progress(&Progress::Step(step_progress(trainer, step, &sums, (gradient_norm, rate))));
        let is_over = when_due(trainer, run, watch)?;
        if is_over {
            break;
        }
    }
    run.finish(trainer)?;
    Ok(Ending::Finished)
}

/// Evaluates and saves where that is due; says whether patience is out.
fn when_due(
    trainer: &mut Trainer,
    run: &mut RunLog<'_>,
    watch: &mut dyn Watch,
) -> Result<bool, Error> {
    let step = run.step();
    let is_last = step == trainer.total_steps();
    let mut save = is_last || step % trainer.save_steps() == 0;
    let mut is_over = false;
    if let Some(evaluation) = trainer.evaluation().cloned() {
        if is_last || step % evaluation.eval_steps == 0 {
            let sums = trainer.evaluate(true, watch)?;
            run.record_evaluation(step, trainer.epoch(step), &sums)?;
            is_over = run.history().out_of_patience(&evaluation);
            save |= is_over || is_new_best(run, &evaluation);
        }
    }
    if save {
        run.save(trainer)?;
    }
    Ok(is_over)
}

/// Whether this step is the best so far and its weights will be asked for at the end.
fn is_new_best(run: &RunLog<'_>, evaluation: &Evaluation) -> bool {
    let best = run.history().best(evaluation.metric_for_best_model);
    evaluation.load_best_model_at_end && best.is_some_and(|(step, _)| step == run.step())
}

fn step_progress(
    trainer: &Trainer,
    step: u64,
    sums: &Sums,
    (gradient_norm, learning_rate): (f64, f64),
) -> StepProgress {
    StepProgress {
        step,
        total_steps: trainer.total_steps(),
        epoch: trainer.epoch(step),
        epochs: trainer.epoch(trainer.total_steps()).ceil() as u64,
        loss: sums.mean_loss(),
        policy_loss: sums.mean_loss(),
        margin: sums.mean_margin(),
        accuracy: sums.accuracy(),
        gradient_norm,
        learning_rate,
        tokens: sums.tokens,
    }
}
