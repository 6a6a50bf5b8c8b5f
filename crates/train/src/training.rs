//! The training loop.

use std::time::Instant;

use crate::{
    Error, Watch,
    recipe::Evaluation,
    run_log::{RunLog, StepRecord},
    stopping,
    timing::Timing,
    trainer::{Stepped, Trainer},
    watch::{Progress, StepProgress},
    watching::Watching,
};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All steps were done, the evaluations stopped improving, or a guard fired.
    Finished,
    /// Somebody asked it to stop; a checkpoint of this step was saved.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// Trains until the last step, until patience is out, until a guard fires, or until the watcher
/// asks to stop. Warns of what the numbers say on the way.
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
    let mut watching = Watching::new(trainer);
    // What happened before a resumed run was told when it happened.
    let _ = watching.catch_up(run.history());
    let mut is_over = stops(trainer, run, watch);
    while !is_over && run.step() < trainer.total_steps() {
        let step = run.step() + 1;
        // What the reference or an evaluation took is no part of the step.
        let _ = trainer.policy.take_spent();
        let started = Instant::now();
        let Some(Stepped { sums, gradient_norm, update }) = trainer.step(step, watch)? else {
            run.save(trainer)?;
            return Ok(Ending::Interrupted { step: run.step() });
        };
        let record = StepRecord {
            step,
            epoch: trainer.epoch(step),
            sums,
            gradient_norm,
            learning_rate: trainer.learning_rate(step),
            timing: Timing { whole: started.elapsed(), update, parts: trainer.policy.take_spent() },
        };
        run.record_step(&record)?;
        trainer.move_reference(step);
        watch.progress(&Progress::Step(step_progress(trainer, &record)));
        is_over = when_due(trainer, run, watch)?;
        // The signs are those of preferences.
        if trainer.finetuning.is_none() {
            for warning in watching.catch_up(run.history()) {
                watch.warn(&warning);
            }
        }
        is_over |= stops(trainer, run, watch);
    }
    run.finish(trainer, watch)?;
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
    let mut save = is_last || step.is_multiple_of(trainer.save_steps());
    let mut is_over = false;
    if let Some(evaluation) = trainer.evaluation().copied()
        && (is_last || step.is_multiple_of(evaluation.eval_steps))
    {
        trainer.complete_held_out(watch)?;
        let sums = trainer.evaluate(true, watch)?;
        run.record_evaluation(step, trainer.epoch(step), &sums)?;
        is_over = run.history().out_of_patience(&evaluation);
        save |= is_over || is_new_best(run, &evaluation);
    }
    if save {
        run.save(trainer)?;
    }
    Ok(is_over)
}

/// Whether a guard fires; says so.
fn stops(trainer: &Trainer, run: &mut RunLog<'_>, watch: &mut dyn Watch) -> bool {
    // The last step ends the run by itself.
    if run.step() == trainer.total_steps() {
        return false;
    }
    let has_evaluation = trainer.evaluation().is_some();
    let stop = stopping::judge(&trainer.routine.stop_when, run.history(), has_evaluation);
    if let Some(stop) = stop {
        let told = stop.to_string();
        watch.note(&told);
        run.stopped_by(told);
    }
    stop.is_some()
}

/// Whether this step is the best so far and its weights will be asked for at the end.
fn is_new_best(run: &RunLog<'_>, evaluation: &Evaluation) -> bool {
    let best = run.history().best(evaluation.metric_for_best_model);
    evaluation.load_best_model_at_end && best.is_some_and(|(step, _)| step == run.step())
}

fn step_progress(trainer: &Trainer, record: &StepRecord) -> StepProgress {
    let sums = &record.sums;
    StepProgress {
        step: record.step,
        total_steps: trainer.total_steps(),
        epoch: record.epoch,
        epochs: trainer.epochs(),
        loss: sums.mean_loss(),
        policy_loss: sums.mean_pair_loss(),
        margin: sums.mean_margin(),
        accuracy: sums.accuracy(),
        token_accuracy: trainer.finetuning.map(|_| sums.token_accuracy()),
        gradient_norm: record.gradient_norm,
        learning_rate: record.learning_rate,
        tokens: sums.tokens,
    }
}
