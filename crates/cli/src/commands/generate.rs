//! `trueup generate`: one answer from a model, with or without an adapter.

use std::path::{Path, PathBuf};

use data::{
    conversation,
    template::Moment,
    tokenizer::{Cut, Tokenizer},
};
use formats::peft;
use hub::Kind;
use kernels::Device;
use model::{Asked, Generation, Policy, Sampler, Sampling, Session, StopReason, Training};
use serde_json::{Map, Value, json};
use train::prepare::ModelFiles;

use crate::{
    args::{Generate, Writing},
    environment,
    failure::Failure,
    terminal::Terminal,
};

/// Generates, streaming to stdout.
pub(super) fn run(args: &Generate, terminal: &Terminal) -> Result<(), Failure> {
    let Loaded { files, policy } = load(args.model.as_deref(), args.adapter.as_deref())?;
    let prompt = prompt(&files, args)?;
    let speaker = Speaker { policy: &policy, tokenizer: &files.tokenizer, adapter: true };
    let mut failure = None;
    let stop = speaker.answer(&prompt, &args.writing, &mut |text| {
        failure = terminal.data(text).err();
        failure.is_none()
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    terminal.data("\n")?;
    if stop == StopReason::Length {
        terminal.note("stopped at the limit of new tokens, see `--max-new-tokens`");
    }
    Ok(())
}

/// The model's place: as given, or what the adapter names as its base.
pub(super) fn model_path(
    model: Option<&str>,
    adapter: Option<&peft::Adapter>,
) -> Result<PathBuf, Failure> {
    let base = adapter.and_then(|adapter| adapter.config.base_model_name_or_path.clone());
    let name = model.map(str::to_owned).or(base).ok_or(Failure::NoModel)?;
    Ok(hub::locate(Kind::Model, &name, None, &environment::caches()?)?.path)
}

/// A model in memory, with its files.
pub(super) struct Loaded {
    pub(super) files: ModelFiles,
    pub(super) policy: Policy,
}

/// Loads a model and an adapter; without a model, the one that the adapter names as its base.
pub(super) fn load(model: Option<&str>, adapter: Option<&Path>) -> Result<Loaded, Failure> {
    let adapter = adapter.map(peft::read).transpose().map_err(train::Error::from)?;
    let path = model_path(model, adapter.as_ref())?;
    let today = Moment::from_unix_seconds(environment::unix_seconds()).ok_or(Failure::Clock)?;
    let files = ModelFiles::open(&path, None, today)?;
    let device = Device::cpu();
    let training = adapter.map_or(Training::Nothing, |adapter| Training::Lora(Box::new(adapter)));
    let precision = device.preferred_precision();
    let policy = Policy::load(&files.checkpoint, &device, precision, &training)
        .map_err(train::Error::from)?;
    Ok(Loaded { files, policy })
}

fn prompt(files: &ModelFiles, args: &Generate) -> Result<Vec<u32>, Failure> {
    if args.raw {
        return Ok(files.tokenizer.encode(&args.prompt, true)?);
    }
    let system = args.system.iter().map(|text| json!({"role": "system", "content": text}));
    let user = json!({"role": "user", "content": args.prompt});
    chat_prompt(files, &system.chain([user]).collect::<Vec<_>>())
}

/// A conversation as tokens, up to where the assistant speaks; plain text without a template.
pub(super) fn chat_prompt(files: &ModelFiles, messages: &[Value]) -> Result<Vec<u32>, Failure> {
    Ok(conversation::tokens(&files.templates, &files.tokenizer, messages, &Map::new())?)
}

/// A model that answers.
pub(super) struct Speaker<'a> {
    pub(super) policy: &'a Policy,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) adapter: bool,
}

impl Speaker<'_> {
    /// Answers a prompt; `on_text` gets the pieces of the answer and may end it by saying false.
    pub(super) fn answer(
        &self,
        prompt: &[u32],
        writing: &Writing,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<StopReason, Failure> {
        let mut session = Session::new(self.policy, self.adapter);
        Ok(self.go_on(&mut session, prompt, writing, on_text)?.stop)
    }

    /// Reads what comes next in a session, and answers.
    pub(super) fn go_on(
        &self,
        session: &mut Session<'_>,
        next: &[u32],
        writing: &Writing,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generation, Failure> {
        let mut stream = self.tokenizer.stream(next);
        let mut cut = Cut::new(&writing.stop);
        let mut failure = None;
        let mut sampler = Sampler::new(sampling(writing));
        let generated =
            session.generate(next, &mut sampler, writing.max_new_tokens, &mut |token| match stream
                .push(token)
            {
                Ok(text) => {
                    let goes_on = cut.push(&text, on_text);
                    goes_on && !cut.is_over()
                }
                Err(error) => {
                    failure = Some(error);
                    false
                }
            });
        if let Some(error) = failure {
            return Err(error.into());
        }
        let mut generated = generated.map_err(train::Error::from)?;
        cut.push(&stream.finish()?, on_text);
        cut.finish(on_text);
        if cut.is_over() {
            generated.stop = StopReason::End;
        }
        Ok(generated)
    }

    /// Answers several prompts at once, each as its writings say and as it would alone; all texts,
    /// prompt by prompt, or none if `goes_on` says false on the way.
    pub(super) fn answer_all(
        &self,
        asked: &[(&[u32], Vec<Writing>)],
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<(String, StopReason)>>, Failure> {
        let each =
            || asked.iter().flat_map(|(prompt, writings)| writings.iter().map(|it| (*prompt, it)));
        let mut answers: Vec<_> = each()
            .map(|(prompt, writing)| {
                (self.tokenizer.stream(prompt), Cut::new(&writing.stop), String::new())
            })
            .collect();
        let tokens_max = each().map(|(_, writing)| writing.max_new_tokens).max().unwrap_or(0);
        let mut failure = None;
        let sampler = |writing: &Writing| Sampler::new(sampling(writing));
        let asked: Vec<Asked<'_>> = asked
            .iter()
            .map(|(prompt, writings)| Asked {
                prompt,
                samplers: writings.iter().map(sampler).collect(),
            })
            .collect();
        let how = (tokens_max, self.adapter);
        let generated = self.policy.generate_together(asked, how, &mut |index, token| {
            let (stream, cut, text) = &mut answers[index];
            match stream.push(token) {
                Ok(piece) => {
                    cut.push(&piece, &mut |piece| {
                        text.push_str(piece);
                        true
                    });
                    !cut.is_over() && failure.is_none() && goes_on()
                }
                Err(error) => {
                    failure = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
        let generated = generated.map_err(train::Error::from)?;
        if !goes_on() {
            return Ok(None);
        }
        let mut texts = Vec::with_capacity(answers.len());
        for ((stream, mut cut, mut text), generated) in answers.into_iter().zip(generated) {
            let mut keep = |piece: &str| {
                text.push_str(piece);
                true
            };
            cut.push(&stream.finish()?, &mut keep);
            cut.finish(&mut keep);
            let stop = if cut.is_over() { StopReason::End } else { generated.stop };
            texts.push((text, stop));
        }
        Ok(Some(texts))
    }

    /// The most likely answer, whole.
    pub(super) fn say(&self, prompt: &[u32], tokens_max: usize) -> Result<String, Failure> {
        let mut answer = String::new();
        let writing = Writing { max_new_tokens: tokens_max, ..Writing::default() };
        self.answer(prompt, &writing, &mut |text| {
            answer.push_str(text);
            true
        })?;
        Ok(answer)
    }
}

fn sampling(writing: &Writing) -> Sampling {
    Sampling {
        temperature: writing.temperature,
        top_k: writing.top_k,
        top_p: writing.top_p,
        min_p: writing.min_p,
        repetition_penalty: writing.repetition_penalty,
        seed: writing.seed,
    }
}

impl Writing {
    /// Adds the flags to what else made an answer.
    pub(super) fn beside(&self, mut made_by: Value) -> Value {
        let flags = json!({
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "stop": self.stop,
            "seed": self.seed,
        });
        if let (Value::Object(all), Value::Object(flags)) = (&mut made_by, flags) {
            all.extend(flags);
        }
        made_by
    }
}
