//! A server in this process, and what it should say.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use data::{
    conversation,
    template::{Moment, Templates},
    tokenizer::{Cut, Tokenizer},
};
use formats::peft;
use kernels::{Device, Precision};
use model::{Checkpoint, Policy, Sampler, Sampling, Session, Training};
use serde_json::{Map, Value, json};
use serve::{Defaults, Ended, Error, Limits, Served, Server, Settings};

use crate::client::{Answer, Client};

/// The name of the tiny model.
pub(crate) const MODEL: &str = "tiny";
/// Its adapters, and by how much their effect is scaled.
pub(crate) const ADAPTERS: [(&str, f64); 2] = [("tuned", 4.0), ("half", 2.0)];
/// Tokens that it can read and write.
pub(crate) const CONTEXT: usize = 256;

/// A server that runs until it is dropped.
pub(crate) struct House {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    server: Option<JoinHandle<Result<Ended, Error>>>,
}

impl House {
    pub(crate) fn open() -> Self {
        Self::with(|_| {})
    }

    /// With other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let server = Server::start(served(), settings(change)).unwrap();
        let address = server.address();
        let is_over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_over);
        let server = thread::spawn(move || server.run(&|| asked.load(Ordering::Relaxed)));
        Self { address, is_over, server: Some(server) }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        let mut client = self.client();
        client.post(path, &body.to_string(), &[]);
        client.answer()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let mut client = self.client();
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n"));
        client.answer()
    }

    pub(crate) fn chat(&self, more: &Value) -> Value {
        let answer = self.post("/v1/chat/completions", &chat(more));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub(crate) fn complete(&self, more: &Value) -> Value {
        let answer = self.post("/v1/completions", &completion(more));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Asks for the end.
    pub(crate) fn ask_to_end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Asks for the end, and waits for it.
    pub(crate) fn end(mut self) -> Ended {
        self.ask_to_end();
        self.server.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.ask_to_end();
        if let Some(server) = self.server.take()
            && !thread::panicking()
        {
            server.join().unwrap().unwrap();
        }
    }
}

pub(crate) fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let address = "127.0.0.1:0".parse().unwrap();
    let limits = Limits { requests: 256, ..Limits::default() };
    let mut settings = Settings { address, key: None, is_open: false, limits };
    change(&mut settings);
    settings
}

/// A request with these fields and the usual others.
fn request(usual: Value, more: &Value) -> Value {
    let mut request = usual;
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

pub(crate) fn chat(more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "2+1?"}]);
    request(json!({"model": MODEL, "messages": messages, "temperature": 0}), more)
}

pub(crate) fn completion(more: &Value) -> Value {
    request(json!({"model": MODEL, "prompt": "it is ", "temperature": 0}), more)
}

fn folder() -> std::path::PathBuf {
    testkit::golden("trl/chat")
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::open(&folder()).unwrap()
}

fn templates() -> Templates {
    Templates::open(&folder(), Moment::from_unix_seconds(0).unwrap()).unwrap()
}

fn adapter(scale: f64) -> peft::Adapter {
    let mut adapter = peft::read(testkit::golden("trl/adapter")).unwrap();
    adapter.config.lora_alpha = scale * adapter.config.r as f64;
    adapter
}

/// The model with one adapter, or without one, as another process would load it.
pub(crate) fn policy(name: &str) -> Policy {
    let training = ADAPTERS
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(Training::Nothing, |(_, scale)| Training::Lora(Box::new(adapter(*scale))));
    let checkpoint = Checkpoint::open(&folder()).unwrap();
    Policy::load(&checkpoint, &Device::cpu(), Precision::F32, &training).unwrap()
}

pub(crate) fn served() -> Served {
    let mut policy = policy(MODEL);
    let spares = ADAPTERS.map(|(name, scale)| {
        let spare = policy.spare(&adapter(scale), Path::new(name)).unwrap();
        (name.to_owned(), spare)
    });
    Served {
        name: MODEL.to_owned(),
        tokenizer: tokenizer(),
        templates: templates(),
        policy,
        adapters: spares.into(),
        defaults: Defaults::default(),
    }
}

/// The tokens of a question.
pub(crate) fn question(text: &str) -> Vec<u32> {
    let messages = [json!({"role": "user", "content": text})];
    conversation::tokens(&templates(), &tokenizer(), &messages, &Map::new()).unwrap()
}

/// What a model says by itself to a prompt: `trueup generate` in a few lines.
pub(crate) fn alone(
    policy: &Policy,
    prompt: &[u32],
    (sampling, tokens_max): (Sampling, usize),
    stops: &[String],
) -> String {
    let tokenizer = tokenizer();
    let (mut stream, mut cut) = (tokenizer.stream(prompt), Cut::new(stops));
    let mut text = String::new();
    let mut listen = |piece: &str| {
        text.push_str(piece);
        true
    };
    let mut session = Session::new(policy, true);
    session
        .generate(prompt, &mut Sampler::new(sampling), tokens_max, &mut |token| {
            cut.push(&stream.push(token).unwrap(), &mut listen);
            !cut.is_over()
        })
        .unwrap();
    cut.push(&stream.finish().unwrap(), &mut listen);
    cut.finish(&mut listen);
    text
}
