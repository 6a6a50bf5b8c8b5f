//! `trueup generate`: one answer from a model, with or without an adapter.

use std::path::PathBuf;

use data::{
    template::{Moment, RenderOptions},
    tokenizer::Tokenizer,
};
use formats::peft;
use hub::Kind;
use kernels::Device;
use model::{Policy, Sampler, Sampling, Session, StopReason, Training};
use serde_json::{Map, Value, json};
use train::prepare::ModelFiles;

use crate::{args::Generate, environment, failure::Failure, terminal::Terminal};

/// Generates, streaming to stdout.
pub(super) fn run(args: &Generate, terminal: &Terminal) -> Result<(), Failure> {
    let adapter =
        args.adapter.as_deref().map(peft::read).transpose().map_err(train::Error::from)?;
    let path = model_path(args.model.as_ref(), adapter.as_ref())?;
    let now = environment::unix_seconds();
    let today = Moment::from_unix_seconds(now).ok_or(Failure::Clock)?;
    let files = ModelFiles::open(&path, None, today)?;
    let device = Device::cpu();
    let training = adapter.map_or(Training::Nothing, |adapter| Training::Lora(Box::new(adapter)));
    let precision = device.preferred_precision();
    let policy = Policy::load(&files.checkpoint, &device, precision, &training)
        .map_err(train::Error::from)?;
    let prompt = prompt(&files, args)?;
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    };
    let speaker = Speaker { policy: &policy, tokenizer: &files.tokenizer, adapter: true };
    let mut failure = None;
    let stop = speaker.answer(&prompt, sampling, args.max_new_tokens, &mut |text| {
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
    model: Option<&String>,
    adapter: Option<&peft::Adapter>,
) -> Result<PathBuf, Failure> {
    let base = adapter.and_then(|adapter| adapter.config.base_model_name_or_path.clone());
    let name = model.cloned().or(base).ok_or(Failure::NoModel)?;
    Ok(hub::locate(Kind::Model, &name, None, &environment::caches()?)?.path)
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
    let Some(template) = files.templates.default_template() else {
        let texts = messages.iter().filter_map(|message| message["content"].as_str());
        return Ok(files.tokenizer.encode(&texts.collect::<Vec<_>>().join("\n"), true)?);
    };
    let options = RenderOptions {
        tools: None,
        documents: None,
        add_generation_prompt: true,
        continue_final_message: false,
        special_tokens: files.tokenizer.special_tokens(),
        kwargs: &Map::new(),
    };
    let text = template.render(messages, &options)?;
    Ok(files.tokenizer.encode(&text, false)?)
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
        sampling: Sampling,
        tokens_max: usize,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<StopReason, Failure> {
        let mut session = Session::new(self.policy, self.adapter);
        let mut stream = self.tokenizer.stream(prompt);
        let mut failure = None;
        let mut sampler = Sampler::new(sampling);
        let generated = session.generate(
            prompt,
            &mut sampler,
            tokens_max,
            &mut |token| match stream.push(token) {
                Ok(text) => text.is_empty() || on_text(&text),
                Err(error) => {
                    failure = Some(error);
                    false
                }
            },
        );
        if let Some(error) = failure {
            return Err(error.into());
        }
        let generated = generated.map_err(train::Error::from)?;
        on_text(&stream.finish()?);
        Ok(generated.stop)
    }

    /// The most likely answer, whole.
    pub(super) fn say(&self, prompt: &[u32], tokens_max: usize) -> Result<String, Failure> {
        let mut answer = String::new();
        self.answer(prompt, Sampling::GREEDY, tokens_max, &mut |text| {
            answer.push_str(text);
            true
        })?;
        Ok(answer)
    }
}
