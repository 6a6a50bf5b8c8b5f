//! A whole alignment run: from a recipe to an adapter, fresh or resumed.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use data::{pack::PackSettings, template::Moment, tokenize::Example};
use formats::peft::{self, Adapter};
use kernels::{Device, Precision};
use model::{MemoryPlan, Policy, TrainedSize, Training, Weights};
use objectives::State;
use run::RunFolder;

use crate::{
    Error, Session, Watch,
    batches::{Batches, Length},
    memory::Sizes,
    metrics::Sums,
    moving::MovingReference,
    optimizer::Optimizer,
    prepare::{self, ModelFiles, Pairs},
    recipe::{self, Recipe, Reference, Tuning},
    reference::{ReferenceStore, StoreKey},
    run_log::{LogSettings, RunLog, read_checkpoint},
    schedule::Schedule,
    trainer::{Judged, Routine, Trainer, complete_reference},
    training::{Ending, train},
};

/// What a run needs beside its recipe.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Where it computes.
    pub device: Device,
    /// The model's folder or file, found.
    pub model: PathBuf,
    /// The folder of `model.base_model`, if it lies on this machine.
    pub tokenizer: Option<PathBuf>,
    /// Folders of the datasets that the recipe names by hub ids.
    pub datasets: BTreeMap<String, PathBuf>,
    /// Folder of caches; none keeps nothing.
    pub caches: Option<PathBuf>,
    /// Bytes of memory that the run may use.
    pub memory: u64,
    /// The date that templates see if the recipe does not say.
    pub today: Moment,
    /// Whether timings tell what the steps consist of.
    pub profile: bool,
}

/// A recipe that was held against its model and its data, before anything is trained.
pub struct Prepared {
    recipe: Recipe,
    setting: Setting,
    files: Arc<ModelFiles>,
    pairs: Pairs,
    given: Option<Adapter>,
    trained: TrainedSize,
    batches: Batches,
    memory: MemoryPlan,
    weights: Weights,
}

/// How a run begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// From nothing, in a new folder.
    Fresh,
    /// From this checkpoint.
    Checkpoint(run::Checkpoint),
    /// From nothing, in a folder whose earlier run left no checkpoint.
    Over,
}

impl Prepared {
    /// Opens the model, reads and tokenizes the data, and plans the run.
    ///
    /// `session` has the files of the run before, if it was of the same model.
    ///
    /// Whatever the recipe leaves open is resolved, so that [`Prepared::recipe`] repeats the run.
    ///
    /// # Errors
    ///
    /// A model or data that cannot be used, or a run that does not fit the memory there is.
    pub fn new(mut recipe: Recipe, setting: Setting, session: &mut Session) -> Result<Self, Error> {
        let date = recipe.dataset.template_date;
        let today = date.unwrap_or_else(|| setting.today.at_midnight());
        let (files, loaded) = rayon::join(
            || session.files(&setting.model, setting.tokenizer.as_deref(), today),
            || prepare::load(&recipe, &setting.datasets),
        );
        let (files, loaded) = (files?, loaded?);
        let asks_for_date = files.templates.iter().any(|(_, template)| template.asks_for_date());
        if date.is_some() && !asks_for_date {
            return Err(Error::UnusedDate);
        }
        recipe.dataset.template_date = asks_for_date.then_some(today);
        let config = files.checkpoint.config();
        let tokens = setting.caches.as_ref().map(|caches| caches.join("tokens"));
        let pairs = prepare::pairs(&recipe, &files, loaded, tokens.as_deref())?;
        let precision = resolve(&mut recipe.model.precision, &setting.device);
        // A limit that is given stays as it is, whatever the context: the recipe must read back.
        let max_length = prepare::max_length(&recipe.dataset, config.context);
        recipe.dataset.lengths.max_length.get_or_insert(max_length);
        let alignment = &recipe.alignment;
        let given = match (&alignment.tuning, &recipe.model.adapter) {
            (Tuning::Adapter, Some(folder)) => Some(peft::read(folder)?),
            _ => None,
        };
        let trained = match (&alignment.tuning, &given) {
            (Tuning::Full, _) => TrainedSize::of(config, &Training::Full),
            (Tuning::Lora(settings), _) => TrainedSize::of_fresh(config, settings)?,
            (Tuning::Adapter, Some(adapter)) => TrainedSize::of_adapter(adapter),
            (Tuning::Adapter, None) => TrainedSize::of(config, &Training::Nothing),
        };
        let pack = PackSettings {
            examples_per_step: alignment.batch_size * alignment.gradient_accumulation_steps,
            shuffled: alignment.shuffle_dataset,
            seed: alignment.seed,
        };
        let length = Length {
            epochs: alignment.num_epochs,
            max_steps: alignment.max_steps,
            max_epochs: alignment.max_epochs,
        };
        let packing = alignment.finetuning.is_some_and(|finetuning| finetuning.packing);
        let batches = if packing {
            let longest = prepare::max_length(&recipe.dataset, config.context);
            let packs = data::pack::best_fit(&pairs.train, longest);
            Batches::of_packs(pack, packs, alignment.batch_size, length)
        } else {
            Batches::new(pack, pairs.train.len(), alignment.batch_size, length)
        };
        let available = setting.memory.saturating_add(session.held());
        let sizes = Sizes { files: &files, pairs: &pairs, trained };
        let (memory, recompute, weights) = sizes.choose(precision, &recipe, available)?;
        recipe.alignment.gradient_checkpointing = Some(recompute);
        Ok(Self { recipe, setting, files, pairs, given, trained, batches, memory, weights })
    }

    /// The recipe, everything resolved.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The model's files.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// The pairs.
    pub fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// The steps.
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// The memory that it takes.
    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    /// The memory that it would take with blocks kept or run again (`gradient_checkpointing`), and
    /// other micro-batches.
    pub fn memory_if(&self, recompute: bool, tokens_per_micro_batch: usize) -> MemoryPlan {
        let sizes = Sizes { files: &self.files, pairs: &self.pairs, trained: self.trained };
        sizes.plan(self.weights, recompute, tokens_per_micro_batch)
    }

    /// How its weights are kept.
    pub fn weights(&self) -> Weights {
        self.weights
    }

    /// The precision of its products.
    pub fn precision(&self) -> Precision {
        self.weights.precision
    }

    /// Number of numbers that are trained.
    pub fn trained_count(&self) -> usize {
        self.trained.numbers
    }

    /// What the policy is held to, in words.
    pub fn reference_in_words(&self) -> String {
        let start = self.first_reference_in_words();
        match self.recipe.alignment.sync {
            Some(sync) if sync.mixup_alpha < 1.0 => {
                let (share, steps) = (sync.mixup_alpha, sync.steps);
                format!("{start}; it follows the policy by {share} of the way every {steps} steps")
            }
            Some(sync) => format!("{start}; it becomes the policy every {} steps", sync.steps),
            None => start,
        }
    }

    fn first_reference_in_words(&self) -> String {
        match &self.recipe.model.reference {
            Reference::Base if self.trained.is_full => "the model as it is now".into(),
            Reference::Base => "the model without any adapter".into(),
            Reference::Adapter => "the given adapter as it is now".into(),
            Reference::Path(path) => format!("the adapter `{path}`"),
        }
    }

    /// What the objective found in the rows, and what a setting of it amounts to.
    pub fn remarks(&self) -> Vec<String> {
        let tally = self.pairs.reports.objective.iter();
        let mut remarks: Vec<String> =
            tally.map(|(what, count)| format!("rows: {count} {what}")).collect();
        let objective = &self.recipe.alignment.objective;
        let delta = objective.modifiers.delta.zip(objective.contrast_weight());
        if let Some((delta, weight)) = delta {
            remarks.push(format!(
                "delta {delta}: a pair whose rejected completion alone is not factual pulls with {weight:.4}, others with 0.5"
            ));
        }
        if self.weights.packed {
            remarks.push("weights of few bits stay so, and are widened where they are used".into());
        }
        remarks
    }

    /// Trains in a run folder.
    ///
    /// # Errors
    ///
    /// As [`train`], and files that cannot be read or written.
    pub fn run(
        &self,
        folder: RunFolder,
        start: &Start,
        session: &mut Session,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, Error> {
        if *start == Start::Over {
            folder.start_over()?;
        }
        let Some(mut trainer) = self.trainer(session, watch)? else {
            return Ok(Outcome { ending: Ending::Interrupted { step: 0 }, trainer: None });
        };
        let settings = self.log_settings();
        let mut log = match start {
            Start::Fresh | Start::Over => {
                folder.write_recipe(&self.recipe.render())?;
                folder.write_data_report(&self.pairs.reports)?;
                RunLog::create(folder, settings, &self.files)?
            }
            Start::Checkpoint(checkpoint) => {
                read_checkpoint(checkpoint, &mut trainer)?;
                folder.write_recipe(&self.recipe.render())?;
                RunLog::resume(folder, checkpoint.step(), settings, &self.files)?
            }
        };
        let ending = train(&mut trainer, &mut log, watch)?;
        Ok(Outcome { ending, trainer: Some(trainer) })
    }

    /// Evaluates on the rows that a run would train on, without training; `None` if the watcher
    /// asked to stop on the way.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn evaluate(
        &self,
        session: &mut Session,
        watch: &mut dyn Watch,
    ) -> Result<Option<(Sums, Vec<Judged>)>, Error> {
        let Some(mut trainer) = self.trainer(session, watch)? else { return Ok(None) };
        trainer.held_out = std::mem::take(&mut trainer.train);
        trainer.judge(true, watch).map(Some)
    }

    /// Loads the model and completes the reference; `None` if the watcher asked to stop.
    ///
    /// # Errors
    ///
    /// Weights that are damaged, or a store that cannot be written.
    fn trainer(
        &self,
        session: &mut Session,
        watch: &mut dyn Watch,
    ) -> Result<Option<Trainer>, Error> {
        let alignment = &self.recipe.alignment;
        let training = self.training()?;
        let mut policy =
            session.policy(&self.files, &self.setting.device, self.weights, &training)?;
        policy.set_recompute(alignment.gradient_checkpointing == Some(true));
        let Some(reference) = self.reference(&policy, watch)? else { return Ok(None) };
        // Everything is packed and hashed; the mapped files would only fill memory.
        self.files.checkpoint.release();
        let total = self.batches.total_steps();
        let rates = &alignment.rates;
        let moving = alignment.sync.map(|settings| MovingReference::new(settings, &policy));
        Ok(Some(Trainer {
            optimizer: Optimizer::new(alignment.optimizer, policy.arena().values.len()),
            policy,
            objective: alignment.objective.clone(),
            finetuning: alignment.finetuning,
            seed: alignment.seed,
            state: State::default(),
            schedule: Schedule::new(
                rates.lr_scheduler_type,
                rates.learning_rate,
                rates.warmup,
                total,
            ),
            train: self.pairs.train.clone(),
            held_out: self.pairs.held_out.clone(),
            batches: self.batches.clone(),
            reference,
            moving,
            routine: Routine {
                save_steps: alignment.save_steps,
                evaluation: alignment.evaluation.filter(|_| !self.pairs.held_out.is_empty()),
                tokens_per_micro_batch: alignment.tokens_per_micro_batch,
                stop_when: alignment.stop_when.clone(),
            },
        }))
    }

    /// What is trained, from its first values on.
    fn training(&self) -> Result<Training, Error> {
        let alignment = &self.recipe.alignment;
        let mut adapter = match (&alignment.tuning, &self.given) {
            (Tuning::Full, _) => return Ok(Training::Full),
            (Tuning::Lora(settings), _) => {
                settings.fresh(self.files.checkpoint.config(), alignment.seed)?
            }
            (Tuning::Adapter, Some(adapter)) => adapter.clone(),
            (Tuning::Adapter, None) => return Ok(Training::Nothing),
        };
        if let Some(finetuning) = alignment.finetuning {
            adapter.config.lora_dropout = finetuning.lora_dropout;
        }
        Ok(Training::Lora(Box::new(adapter)))
    }

    /// What the reference says of every pair that the run needs.
    fn reference(
        &self,
        policy: &Policy,
        watch: &mut dyn Watch,
    ) -> Result<Option<ReferenceStore>, Error> {
        let alignment = &self.recipe.alignment;
        let mut store = match &self.setting.caches {
            Some(caches) => {
                ReferenceStore::open(&caches.join("reference").join(self.store_key()?.folder()))?
            }
            None => ReferenceStore::in_memory(),
        };
        // A reference that moves says nothing about rows that come after.
        let visited = match alignment.sync {
            Some(sync) => (1..=sync.steps.min(self.batches.total_steps()))
                .flat_map(|step| self.batches.of_step(step))
                .collect(),
            None => self.batches.visited(),
        };
        let visited = visited.into_iter().map(|index| &self.pairs.train[index]);
        let needs = alignment.objective.needs();
        if !needs.reference {
            return Ok(Some(ReferenceStore::in_memory()));
        }
        let needed: Vec<Example> = visited.chain(&self.pairs.held_out).cloned().collect();
        let budget = alignment.tokens_per_micro_batch;
        let other;
        let scorer = match &self.recipe.model.reference {
            Reference::Base => (policy, false),
            Reference::Adapter => (policy, true),
            Reference::Path(folder) => {
                let training = Training::Lora(Box::new(peft::read(folder)?));
                other = Policy::load(
                    &self.files.checkpoint,
                    &self.setting.device,
                    self.weights,
                    &training,
                )?;
                (&other, true)
            }
        };
        let is_whole =
            complete_reference(&mut store, scorer, (&needed, needs.tails), budget, watch)?;
        Ok(is_whole.then_some(store))
    }

    fn store_key(&self) -> Result<StoreKey, Error> {
        let adapter = match &self.recipe.model.reference {
            Reference::Base => None,
            Reference::Adapter => self.given.as_ref().map(fingerprint),
            Reference::Path(folder) => Some(fingerprint(&peft::read(folder)?)),
        };
        let precision = match self.weights.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        // A model that is trained in full leaves its stored type, so its products differ.
        let stored = match (self.trained.is_full, self.weights.load_in_4bit) {
            (true, _) => "widened",
            (false, true) => "nf4",
            (false, false) => "stored",
        };
        Ok(StoreKey {
            weights: self.files.checkpoint.fingerprint().to_owned(),
            path: format!("{precision}/{stored}/{}", self.setting.device.kernel_path()),
            adapter,
        })
    }

    fn log_settings(&self) -> LogSettings {
        let alignment = &self.recipe.alignment;
        let base = self.recipe.model.base_model.as_ref().unwrap_or(&self.recipe.model.path);
        LogSettings {
            logging_steps: alignment.logging_steps,
            save_total_limit: alignment.save_total_limit,
            batch_size: alignment.batch_size as u64,
            num_epochs: alignment.num_epochs,
            objective: alignment.objective.clone(),
            base_model: base.clone(),
            profile: self.setting.profile,
        }
    }
}

/// How a run ended, and what it ended with.
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The trained model; absent if the run stopped before its first step.
    pub trainer: Option<Trainer>,
}

/// The precision of products, which the recipe says from here on.
fn resolve(wanted: &mut recipe::Precision, device: &Device) -> Precision {
    let precision = match wanted {
        recipe::Precision::Auto => device.preferred_precision(),
        recipe::Precision::F32 => Precision::F32,
        recipe::Precision::Bf16 => Precision::Bf16,
    };
    *wanted = match precision {
        Precision::F32 => recipe::Precision::F32,
        Precision::Bf16 => recipe::Precision::Bf16,
    };
    precision
}

fn fingerprint(adapter: &Adapter) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?}", adapter.config).as_bytes());
    for (name, (shape, values)) in &adapter.tensors {
        hasher.update(format!("{name} {shape:?}").as_bytes());
        for value in values {
            hasher.update(&value.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}
