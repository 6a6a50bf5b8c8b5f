//! What runs one after the other share: the files of the last model, and its packed weights.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use data::template::Moment;
use kernels::Device;
use model::{Policy, Training, Weights};

use crate::{Error, align::Prepared, prepare::ModelFiles, trainer::Trainer};

/// Keeps what the next run of the same model need not read again.
///
/// A run in a session ends with the bytes of the same run alone: frozen weights do not change.
#[derive(Default)]
pub struct Session {
    files: Option<(FilesKey, Arc<ModelFiles>)>,
    weights: Option<(WeightsKey, Policy)>,
    /// Bytes that the kept weights take.
    held: u64,
}

#[derive(PartialEq)]
struct FilesKey {
    model: PathBuf,
    tokenizer: Option<PathBuf>,
    today: Moment,
}

#[derive(PartialEq)]
struct WeightsKey {
    model: PathBuf,
    weights: Weights,
}

impl Session {
    /// A model's files, opened unless they are the last ones.
    ///
    /// # Errors
    ///
    /// As [`ModelFiles::open`].
    pub(crate) fn files(
        &mut self,
        model: &Path,
        tokenizer: Option<&Path>,
        today: Moment,
    ) -> Result<Arc<ModelFiles>, Error> {
        let key = FilesKey { model: model.into(), tokenizer: tokenizer.map(Into::into), today };
        if let Some((kept, files)) = &self.files
            && *kept == key
        {
            return Ok(Arc::clone(files));
        }
        let files = Arc::new(ModelFiles::open(model, tokenizer, today)?);
        self.files = Some((key, Arc::clone(&files)));
        Ok(files)
    }

    /// Bytes that are in use now and that the next run uses itself, or gives back.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// A policy with what it trains, on the weights of the last run if they are the same.
    ///
    /// # Errors
    ///
    /// As [`Policy::load`].
    pub(crate) fn policy(
        &mut self,
        files: &ModelFiles,
        device: &Device,
        weights: Weights,
        training: &Training,
    ) -> Result<Policy, Error> {
        self.held = 0;
        let origin = files.checkpoint.path();
        let key = WeightsKey { model: origin.into(), weights };
        // Taken in any case: two models are never in memory at once.
        if let (Some((kept, policy)), Training::Lora(adapter)) = (self.weights.take(), training)
            && kept == key
        {
            return Ok(policy.with_adapter(adapter, origin)?);
        }
        Ok(Policy::load(&files.checkpoint, device, weights, training)?)
    }

    /// Takes back the weights of a run that is over, if they were frozen, for the next run.
    pub fn keep(&mut self, prepared: &Prepared, trainer: Trainer) {
        if trainer.policy.is_adapted() {
            let model = prepared.files().checkpoint.path().into();
            let key = WeightsKey { model, weights: prepared.weights() };
            self.weights = Some((key, trainer.policy));
            self.held = prepared.memory().weights;
        }
    }
}
