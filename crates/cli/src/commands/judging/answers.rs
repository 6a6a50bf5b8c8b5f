//! The answers of a contestant, written by its model into a file of their own and kept there.
//!
//! Contestants of one base share its packed weights: one adapter after the other is attached to them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use data::{rng::Stream, template::Moment};
use formats::peft;
use fs_err as fs;
use kernels::Device;
use model::{Policy, StopReason, Training};
use serde_json::{Value, json};
use train::prepare::ModelFiles;

use super::{
    super::{
        asking,
        generate::{Speaker, model_path},
        output::Output,
    },
    prompts::Prompt,
};
use crate::{
    args::{Form, Writing},
    counted::Counted,
    environment,
    failure::Failure,
    signals::Signals,
    terminal::Terminal,
};

/// A model that answers.
pub(super) struct Contestant {
    /// What it is called, and its file.
    pub(super) name: String,
    /// The weights, as they are named.
    pub(super) model: Option<String>,
    /// The adapter on them.
    pub(super) adapter: Option<PathBuf>,
}

/// How all contestants answer.
pub(super) struct Manner<'a> {
    /// How a prompt is put; `chat` where the model has a template if absent.
    pub(super) form: Option<Form>,
    /// A system message before each prompt.
    pub(super) system: Option<&'a str>,
    /// How they write.
    pub(super) writing: &'a Writing,
    /// Answers that are written at once.
    pub(super) together: usize,
}

/// The weights that were used last.
#[derive(Default)]
pub(super) struct Weights {
    kept: Option<(PathBuf, Policy)>,
}

/// A prompt with its tokens.
type Draft<'a> = (&'a Prompt, Vec<u32>);

impl Contestant {
    /// A folder of an adapter, on a base if it is named, else on that which the adapter names; or a
    /// model.
    pub(super) fn open(name: &str, place: &str, base: Option<&str>) -> Self {
        let folder = Path::new(place);
        let name = name.to_owned();
        if folder.join("adapter_config.json").is_file() {
            return Self { name, model: base.map(str::to_owned), adapter: Some(folder.into()) };
        }
        Self { name, model: Some(place.to_owned()), adapter: None }
    }

    /// Writes the answers that are not there yet, and gives all of them, in the order of the prompts;
    /// `None` for prompts that cannot be put.
    pub(super) fn answer(
        &self,
        (prompts, manner): (&[Prompt], &Manner<'_>),
        folder: &Path,
        weights: &mut Weights,
        (signals, terminal): (&Signals, &mut Terminal),
    ) -> Result<Vec<Option<String>>, Failure> {
        let read = |folder: &PathBuf| peft::read(folder).map_err(train::Error::from);
        let adapter = self.adapter.as_ref().map(read).transpose()?;
        let place = model_path(self.model.as_deref(), adapter.as_ref())?;
        let today = Moment::from_unix_seconds(environment::unix_seconds()).ok_or(Failure::Clock)?;
        let files = ModelFiles::open(&place, None, today)?;
        let form = manner.form.unwrap_or(match files.templates.default_template() {
            Some(_) => Form::Chat,
            None => Form::Plain,
        });
        if manner.system.is_some() && form != Form::Chat {
            let (when, hint) = ("with prompts as plain text", "remove it, or set `--form chat`");
            return Err(Failure::Useless { flag: "--system", when, hint });
        }
        let path = folder.join("answers").join(format!("{}.jsonl", self.name));
        let source = self.source(&place, form, manner)?;
        let mut output = Output::open(&path, &source)?;
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        for prompt in prompts.iter().filter(|prompt| !output.has(&prompt.id)) {
            if let Some(tokens) = prompt.tokens(&files, (form, manner.system))? {
                drafts.push((prompt, tokens));
            }
        }
        if !drafts.is_empty() {
            let writer = Writer { files: &files, manner, source: &source, signals };
            let title = format!("Answers of {}", self.name);
            let mut counted = Counted::new(terminal, &title, drafts.len());
            let policy = weights.get(&place, &files, adapter.as_ref())?;
            let is_adapted = adapter.is_some();
            writer.write(&drafts, (policy, is_adapted), &mut output, &mut counted)?;
        }
        let answers = read_answers(&path)?;
        Ok(prompts.iter().map(|prompt| answers.get(&prompt.id).cloned()).collect())
    }

    /// What made the answers: kept in each row, and the same for all of a file.
    fn source(&self, place: &Path, form: Form, manner: &Manner<'_>) -> Result<Value, Failure> {
        let writing = manner.writing;
        let adapter = match &self.adapter {
            Some(folder) => {
                let bytes = fs::read(folder.join("adapter_model.safetensors"))?;
                json!({"folder": folder, "digest": blake3::hash(&bytes).to_hex().to_string()})
            }
            None => Value::Null,
        };
        Ok(writing.beside(json!({
            "model": self.model.clone().unwrap_or_else(|| place.display().to_string()),
            "adapter": adapter,
            "form": form.to_string(),
            "system": manner.system,
        })))
    }
}

impl Weights {
    /// A model with an adapter or without: its base is loaded once for all that share it.
    fn get(
        &mut self,
        place: &Path,
        files: &ModelFiles,
        adapter: Option<&peft::Adapter>,
    ) -> Result<&Policy, Failure> {
        let policy = match self.kept.take() {
            Some((kept, policy)) if kept == place => policy,
            other => {
                drop(other); // before the next one takes its memory
                let device = Device::cpu();
                let precision = device.preferred_precision();
                Policy::load(&files.checkpoint, &device, precision, &Training::Nothing)
                    .map_err(train::Error::from)?
            }
        };
        let policy = match adapter {
            Some(adapter) => policy.with_adapter(adapter, place).map_err(train::Error::from)?,
            None => policy,
        };
        Ok(&self.kept.insert((place.to_owned(), policy)).1)
    }
}

/// Lets a model write.
struct Writer<'a> {
    files: &'a ModelFiles,
    manner: &'a Manner<'a>,
    source: &'a Value,
    signals: &'a Signals,
}

impl Writer<'_> {
    fn write(
        &self,
        drafts: &[Draft<'_>],
        (policy, adapter): (&Policy, bool),
        output: &mut Output,
        counted: &mut Counted<'_>,
    ) -> Result<(), Failure> {
        let speaker = Speaker { policy, tokenizer: &self.files.tokenizer, adapter };
        let mut done = 0;
        for drafts in drafts.chunks(self.manner.together) {
            let asked: Vec<_> = drafts
                .iter()
                .map(|(prompt, tokens)| (&tokens[..], vec![self.writing(&prompt.id)]))
                .collect();
            let goes_on = || self.signals.received().is_none();
            // On a thread of the pool, for which each operation is no more than a call.
            let answers = rayon::scope(|_| speaker.answer_all(&asked, &goes_on))?;
            let Some(answers) = answers else {
                return Err(asking::stopped(self.signals, output.path()));
            };
            for ((prompt, _), (text, stop)) in drafts.iter().zip(answers) {
                let is_cut = stop == StopReason::Length;
                let row = json!({"id": prompt.id, "prompt": prompt.text, "answer": text.trim(), "cut": is_cut});
                output.append(&prompt.id, row, self.source)?;
            }
            done += drafts.len();
            counted.tell(done, done);
        }
        Ok(())
    }

    /// What is drawn depends on the seed and the prompt alone.
    fn writing(&self, id: &str) -> Writing {
        let seed = Stream::new(self.manner.writing.seed, id).bits(0);
        Writing { seed, ..self.manner.writing.clone() }
    }
}

fn read_answers(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut answers = BTreeMap::new();
    for line in fs::read_to_string(path)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        if let (Some(id), Some(answer)) = (row["id"].as_str(), row["answer"].as_str()) {
            answers.insert(id.to_owned(), answer.to_owned());
        }
    }
    Ok(answers)
}
