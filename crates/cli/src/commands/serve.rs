//! `trueup serve`: a model and its adapters behind OpenAI's interface.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use data::template::Moment;
use formats::peft;
use kernels::Device;
use model::{Policy, Training};
use serde_json::Value;
use serve::{ApiKey, Defaults, Limits, Served, Server, Settings};
use train::prepare::ModelFiles;

use super::generate::model_path;
use crate::{args::Serve, environment, failure::Failure, signals::Signals, terminal::Terminal};

/// Serves until a signal asks for the end.
pub(super) fn run(args: &Serve, terminal: &Terminal) -> Result<(), Failure> {
    let settings = settings(args)?;
    let signals = Signals::listen()?;
    let served = load(args, terminal)?;
    let names: Vec<String> = std::iter::once(&served.name)
        .chain(served.adapters.iter().map(|(name, _)| name))
        .map(|name| format!("`{name}`"))
        .collect();
    let server = Server::start(served, settings)?;
    terminal.print(&format!("serving {}\n", names.join(", ")));
    terminal.print(&format!("listening on http://{}/v1\n", server.address()));
    let ended = server.run(&|| signals.received().is_some())?;
    match signals.received() {
        Some(signal) if 0 < ended.cut_off => {
            Err(Failure::CutOff { signal, answers: ended.cut_off })
        }
        _ => Ok(()),
    }
}

fn settings(args: &Serve) -> Result<Settings, Failure> {
    let address = SocketAddr::new(args.host, args.port);
    if args.without_api_key && address.ip().is_loopback() {
        return Err(Failure::Useless {
            flag: "--without-api-key",
            when: "where only this machine can ask",
            hint: "leave it away, or name an address of this machine with `--host`",
        });
    }
    let usual = Limits::default();
    let (places, queue) = (usize::from(args.max_concurrent), usize::from(args.max_queue));
    let limits = Limits {
        sequences: places,
        requests: places + queue,
        body_bytes: usize::try_from(args.max_body).unwrap_or(usize::MAX),
        answer: Duration::from_secs(args.timeout.into()),
        ..usual
    };
    Ok(Settings { address, key: key(args)?, is_open: args.without_api_key, limits })
}

/// The key that requests must send.
fn key(args: &Serve) -> Result<Option<ApiKey>, Failure> {
    let text = match (&args.api_key_env, &args.api_key_file) {
        (Some(name), _) => {
            environment::lookup(name).ok_or_else(|| Failure::NoVariable { name: name.clone() })?
        }
        (None, Some(path)) => fs_err::read_to_string(path)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(ApiKey::new(&text)?))
}

fn load(args: &Serve, terminal: &Terminal) -> Result<Served, Failure> {
    let read = |(name, folder): &(String, PathBuf)| -> Result<_, Failure> {
        Ok((name.clone(), folder.clone(), peft::read(folder).map_err(train::Error::from)?))
    };
    let adapters = args.adapter.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let first = adapters.first().map(|(_, _, adapter)| adapter);
    let path = model_path(args.model.as_deref(), first)?;
    let base = first.and_then(|adapter| adapter.config.base_model_name_or_path.as_deref());
    let name = name(args.model.as_deref().or(base).unwrap_or_default());
    let today = Moment::from_unix_seconds(environment::unix_seconds()).ok_or(Failure::Clock)?;
    let ModelFiles { checkpoint, tokenizer, templates } = ModelFiles::open(&path, None, today)?;
    if templates.default_template().is_none() {
        terminal.note("the model has no chat template: it sees messages as lines of text");
    }
    let device = Device::cpu();
    let precision = device.preferred_precision();
    let mut policy = Policy::load(&checkpoint, &device, precision, &Training::Nothing)
        .map_err(train::Error::from)?;
    let mut spares = Vec::new();
    for (name, folder, adapter) in adapters {
        let spare = policy.spare(&adapter, &folder).map_err(train::Error::from)?;
        spares.push((name, spare));
    }
    let defaults = defaults(&path)?;
    Ok(Served { name, tokenizer, templates, policy, adapters: spares, defaults })
}

/// What a model is called: a hub id as it is, a folder or a file by the last part of its path.
fn name(model: &str) -> String {
    let path = Path::new(model);
    if !path.exists() {
        return model.to_owned();
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let last = if path.is_file() { path.file_stem() } else { path.file_name() };
    last.map_or_else(|| model.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// How the model writes where requests do not say.
fn defaults(model: &Path) -> Result<Defaults, Failure> {
    let path = model.join("generation_config.json");
    if !path.is_file() {
        return Ok(Defaults::default());
    }
    let text = fs_err::read_to_string(&path)?;
    let config: Value = serde_json::from_str(&text)
        .map_err(|source| train::Error::from(model::Error::Json { path, source }))?;
    Ok(Defaults::of_config(&config)?)
}
