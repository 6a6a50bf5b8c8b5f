//! What the loop writes into the run folder.

use std::path::Path;

use formats::{Dtype, peft, safetensors};
use objectives::{Objective, State};
use run::{Event, Events, RunFolder, Timings, TrainerState};

use crate::{
    Error, Watch, history::History, metrics::Sums, prepare::ModelFiles, reference::ReferenceStore,
    timing::Timing, trainer::Trainer,
};

/// The file of a checkpoint that holds AdamW's moments.
const OPTIMIZER: &str = "optimizer.safetensors";

/// The file of a checkpoint that holds what the objective remembers.
const OBJECTIVE: &str = "objective.json";

/// File of a reference that follows the policy: its values of what is trained.
const REFERENCE: &str = "reference.safetensors";

/// The file of a run folder that says how far each label is believed.
const POSTERIORS: &str = "posteriors.jsonl";

/// A run folder, open for a run that goes on.
pub struct RunLog<'a> {
    folder: RunFolder,
    events: Events,
    timings: Timings,
    history: History,
    step: u64,
    saved: Option<u64>,
    stopped_by: Option<String>,
    settings: LogSettings,
    files: &'a ModelFiles,
}

/// What a run writes beside its numbers.
pub struct LogSettings {
    /// Steps between entries of `log_history`.
    pub logging_steps: u64,
    /// Checkpoints kept; all if absent.
    pub save_total_limit: Option<usize>,
    /// Pairs a micro-batch in transformers' sense.
    pub batch_size: u64,
    /// Passes over the data.
    pub num_epochs: u64,
    /// Which parts the loss has.
    pub objective: Objective,
    /// What the adapter names as its base.
    pub base_model: String,
    /// Whether timings tell what the steps consist of.
    pub profile: bool,
}

/// What an optimizer step measured.
pub struct StepRecord {
    /// The step, from 1.
    pub step: u64,
    /// Passes over the data done after it.
    pub epoch: f64,
    /// Sums over its pairs.
    pub sums: Sums,
    /// L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// The learning rate it used.
    pub learning_rate: f64,
    /// How long it took.
    pub timing: Timing,
}

impl<'a> RunLog<'a> {
    /// A log before the first step.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn create(
        folder: RunFolder,
        settings: LogSettings,
        files: &'a ModelFiles,
    ) -> Result<Self, Error> {
        let events = Events::create(&folder.events_path())?;
        let timings = Timings::open(&folder.timings_path())?;
        let history = History::default();
        let (step, saved, stopped_by) = (0, None, None);
        Ok(Self { folder, events, timings, history, step, saved, stopped_by, settings, files })
    }

    /// A log that goes on after a checkpoint's step; later events are cut off.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written, or events that end before the step.
    pub fn resume(
        folder: RunFolder,
        step: u64,
        settings: LogSettings,
        files: &'a ModelFiles,
    ) -> Result<Self, Error> {
        let (events, kept) = Events::resume(&folder.events_path(), step)?;
        let timings = Timings::open(&folder.timings_path())?;
        let history = History::new(kept);
        let (saved, stopped_by) = (Some(step), None);
        Ok(Self { folder, events, timings, history, step, saved, stopped_by, settings, files })
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// All events so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The run folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Notes why the run ends before its last step.
    pub fn stopped_by(&mut self, told: String) {
        self.stopped_by = Some(told);
    }

    /// Records a step.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn record_step(&mut self, record: &StepRecord) -> Result<(), Error> {
        let mut event = Event::new(record.step).with("epoch", record.epoch);
        event.values.extend(record.sums.metrics("", &self.settings.objective));
        event = event
            .with("grad_norm", record.gradient_norm)
            .with("learning_rate", record.learning_rate)
            .with("num_tokens", self.history.tokens() + record.sums.tokens);
        self.events.append(&event)?;
        self.history.push(event);
        self.step = record.step;
        let timing = record.timing.event(record.step, record.sums.tokens, self.settings.profile);
        Ok(self.timings.append(&timing)?)
    }

    /// Records an evaluation.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn record_evaluation(&mut self, step: u64, epoch: f64, sums: &Sums) -> Result<(), Error> {
        let mut event = Event::new(step).with("epoch", epoch);
        event.values.extend(sums.metrics("eval_", &self.settings.objective));
        self.events.append(&event)?;
        self.history.push(event);
        Ok(())
    }

    /// Writes a checkpoint of the current step, unless there is one, and prunes old ones.
    ///
    /// # Errors
    ///
    /// A file that cannot be written; no half-written checkpoint is left.
    pub fn save(&mut self, trainer: &Trainer) -> Result<(), Error> {
        if self.saved == Some(self.step) {
            return Ok(());
        }
        self.events.sync()?;
        let state = self.state(trainer, false);
        self.folder.write_checkpoint(self.step, |at| {
            self.write_weights(at, trainer)?;
            state.write(at)?;
            let inside = run::checkpoint::state_folder(at);
            write_remembered(&inside.join(OBJECTIVE), &trainer.state)?;
            if let Some(moving) = &trainer.moving {
                write_numbers(&inside.join(REFERENCE), &[("values", &moving.values)])?;
            }
            write_moments(&inside.join(OPTIMIZER), trainer)
        })?;
        self.saved = Some(self.step);
        if let Some(limit) = self.settings.save_total_limit {
            let best = trainer.evaluation().and_then(|evaluation| {
                Some(self.history.best(evaluation.metric_for_best_model)?.0)
            });
            self.folder.prune_checkpoints(limit, best)?;
        }
        Ok(())
    }

    /// Ends the run: the adapter or the model, with tokenizer and template, in the run folder.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written.
    pub fn finish(&mut self, trainer: &mut Trainer, watch: &mut dyn Watch) -> Result<(), Error> {
        self.save(trainer)?;
        if let Some(evaluation) = trainer.evaluation().filter(|e| e.load_best_model_at_end)
            && let Some((best, _)) = self.history.best(evaluation.metric_for_best_model)
        {
            read_weights(&self.folder.checkpoint_path(best), trainer)?;
        }
        self.write_weights(self.folder.root(), trainer)?;
        self.files.write_tokenizer(self.folder.root())?;
        if trainer.objective.modifiers.reliability.is_some() {
            trainer.complete_visited(watch)?;
            write_posteriors(&self.folder.root().join(POSTERIORS), trainer)?;
        }
        self.events.sync()?;
        Ok(self.folder.finish(&self.state(trainer, true))?)
    }

    fn write_weights(&self, at: &Path, trainer: &Trainer) -> Result<(), Error> {
        match trainer.policy.adapter(&self.settings.base_model) {
            Some(adapter) => Ok(peft::write(at, &adapter)?),
            None => Ok(model::write_folder(&trainer.policy, &self.files.checkpoint, at)?),
        }
    }

    fn state(&self, trainer: &Trainer, is_finished: bool) -> TrainerState {
        let evaluation = trainer.evaluation();
        let best = evaluation.and_then(|e| self.history.best(e.metric_for_best_model));
        TrainerState {
            global_step: self.step,
            max_steps: trainer.total_steps(),
            epoch: trainer.epoch(self.step),
            num_train_epochs: self.settings.num_epochs,
            logging_steps: self.settings.logging_steps,
            eval_steps: evaluation.map_or(0, |evaluation| evaluation.eval_steps),
            save_steps: trainer.save_steps(),
            train_batch_size: self.settings.batch_size,
            num_input_tokens_seen: self.history.tokens(),
            total_flos: trainer.flops(self.history.tokens()),
            best_metric: best.map(|(_, value)| value),
            best_global_step: best.map(|(step, _)| step),
            best_model_checkpoint: best
                .map(|(step, _)| self.folder.checkpoint_path(step))
                .filter(|path| path.is_dir())
                .map(|path| path.display().to_string()),
            is_finished,
            stopped_by: self.stopped_by.clone().filter(|_| is_finished),
            log_history: self.history.logged(self.settings.logging_steps),
        }
    }
}

fn write_posteriors(path: &Path, trainer: &Trainer) -> Result<(), Error> {
    let mut text = String::new();
    for posterior in trainer.posteriors()? {
        text.push_str(&serde_json::to_string(&posterior).map_err(std::io::Error::other)?);
        text.push('\n');
    }
    Ok(run::atomic::write(path, text.as_bytes())?)
}

fn write_remembered(path: &Path, state: &State) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(&state.to_numbers()).map_err(std::io::Error::other)?;
    Ok(run::atomic::write(path, text.as_bytes())?)
}

fn read_remembered(path: &Path) -> Result<State, Error> {
    let numbers = serde_json::from_slice(&fs_err::read(path)?).map_err(std::io::Error::other)?;
    State::from_numbers(&numbers).map_err(Error::Objective)
}

fn write_moments(path: &Path, trainer: &Trainer) -> Result<(), Error> {
    let optimizer = &trainer.optimizer;
    write_numbers(path, &[("first", &optimizer.first), ("second", &optimizer.second)])
}

/// Writes lists of one length as a file of tensors.
fn write_numbers(path: &Path, lists: &[(&str, &Vec<f32>)]) -> Result<(), Error> {
    let shapes: Vec<[usize; 1]> = lists.iter().map(|(_, values)| [values.len()]).collect();
    let mut tensors = Vec::with_capacity(lists.len());
    for ((name, values), shape) in lists.iter().zip(&shapes) {
        let bytes = formats::convert::f32_bytes(values);
        tensors.push(safetensors::TensorData { name, dtype: Dtype::F32, shape, bytes });
    }
    Ok(safetensors::write(path, &tensors, &std::collections::BTreeMap::new())?)
}

/// Reads a list of numbers that is as long as what it replaces.
fn read_numbers(
    file: &safetensors::Checkpoint,
    name: &str,
    values: &mut Vec<f32>,
) -> Result<bool, Error> {
    let stored = file.tensor(name)?.to_f32()?;
    let fits = stored.len() == values.len();
    if fits {
        *values = stored;
    }
    Ok(fits)
}

/// Takes weights, moments and step from a checkpoint.
///
/// # Errors
///
/// A file that is missing, damaged, or of another model.
pub fn read_checkpoint(checkpoint: &run::Checkpoint, trainer: &mut Trainer) -> Result<(), Error> {
    read_weights(checkpoint.path(), trainer)?;
    let file = safetensors::Checkpoint::open(checkpoint.state().join(OPTIMIZER))?;
    let optimizer = &mut trainer.optimizer;
    let mut fits = read_numbers(&file, "first", &mut optimizer.first)?;
    fits &= read_numbers(&file, "second", &mut optimizer.second)?;
    optimizer.steps = checkpoint.step();
    trainer.state = read_remembered(&checkpoint.state().join(OBJECTIVE))?;
    if let Some(moving) = &mut trainer.moving {
        let file = safetensors::Checkpoint::open(checkpoint.state().join(REFERENCE))?;
        fits &= read_numbers(&file, "values", &mut moving.values)?;
        if moving.is_moved(checkpoint.step()) {
            trainer.reference = ReferenceStore::in_memory();
        }
    }
    if fits { Ok(()) } else { Err(Error::OtherModel { path: checkpoint.path().into() }) }
}

fn read_weights(at: &Path, trainer: &mut Trainer) -> Result<(), Error> {
    let file = match trainer.policy.adapter_config() {
        Some(_) => safetensors::Checkpoint::open(at.join(peft::MODEL_FILE))?,
        None => safetensors::Checkpoint::open(at)?,
    };
    let read = |name: &str| {
        let view = file.tensor(name)?;
        let values = view.to_f32()?;
        Ok((view.shape, values))
    };
    Ok(trainer.policy.restore(at, &read)?)
}
