//! `trueup fuse`: an adapter put into the weights of its base.

use std::path::Path;

use data::template::Moment;
use formats::{Dtype, peft};
use fs_err as fs;
use kernels::{Device, Precision};
use model::{Checkpoint, FuseOptions, Fused, Policy, Session, Training};
use serde_json::json;
use train::prepare::ModelFiles;

use super::generate::{chat_prompt, model_path};
use crate::{args::Fuse, environment, failure::Failure, signals::Signals, terminal::Terminal};

/// Below this share of the update the user is warned.
const KEPT_MIN: f64 = 0.9;

/// What a check lets models say: questions with answers.
const SAYINGS: [(&str, &str); 4] = [
    ("Why is the sky blue?", "Air scatters short waves of light more than long ones."),
    ("How do I boil an egg?", "Put it into boiling water for seven minutes, then cool it."),
    ("Name three rivers.", "The Nile, the Danube and the Mekong."),
    ("Is it safe to look into the Sun?", "No, it can hurt your eyes within seconds."),
];

/// Most tokens of a saying, its question with them.
const TOKENS_MAX: usize = 96;

/// Writes the fused model, and checks it if asked to.
pub(super) fn run(args: &Fuse, terminal: &Terminal) -> Result<(), Failure> {
    let adapter = peft::read(&args.adapter).map_err(|error| Failure::Fuse(error.into()))?;
    let path = model_path(args.model.as_deref(), Some(&adapter))?;
    expect_free(&args.output)?;
    let base = Base::open(&path, args.check)?;
    let before = match &base {
        Base::Whole(files) if args.check => Some(says(files, Some(&adapter))?),
        _ => None,
    };
    let fused = write(args, &base, &adapter)?;
    tell(args, &fused, terminal)?;
    match before {
        Some(before) => check(args, &before, &fused, terminal),
        None => Ok(()),
    }
}

/// The base model: its tokenizer is opened only where it is needed.
enum Base {
    Whole(Box<ModelFiles>),
    Bare(Box<Checkpoint>),
}

impl Base {
    fn open(path: &Path, needs_tokenizer: bool) -> Result<Self, Failure> {
        if needs_tokenizer || !path.is_dir() {
            return Ok(Self::Whole(Box::new(open_files(path)?)));
        }
        let bare = Checkpoint::open(path).map_err(Failure::Fuse)?;
        Ok(Self::Bare(Box::new(bare)))
    }

    fn checkpoint(&self) -> &Checkpoint {
        match self {
            Self::Whole(files) => &files.checkpoint,
            Self::Bare(checkpoint) => checkpoint,
        }
    }
}

fn open_files(path: &Path) -> Result<ModelFiles, Failure> {
    let now = environment::unix_seconds();
    let today = Moment::from_unix_seconds(now).ok_or(Failure::Clock)?;
    Ok(ModelFiles::open(path, None, today)?)
}

/// Refuses a place where something is.
fn expect_free(output: &Path) -> Result<(), Failure> {
    if let Some(file) = output.ancestors().find(|part| part.is_file()) {
        return Err(Failure::UnderFile { path: output.into(), file: file.into() });
    }
    if output.is_dir() && fs::read_dir(output)?.next().is_some() {
        return Err(Failure::Occupied { path: output.into() });
    }
    Ok(())
}

/// Writes the model beside its place and then gives it its name.
fn write(args: &Fuse, base: &Base, adapter: &peft::Adapter) -> Result<Fused, Failure> {
    let signals = Signals::listen()?;
    let options = FuseOptions {
        dtype: args.dtype,
        shard_bytes: args.max_shard_size,
        stop: &|| signals.received().is_some(),
    };
    if let Some(parent) = args.output.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    run::atomic::folder(&args.output, |folder| {
        let done = model::fuse(base.checkpoint(), adapter, &args.adapter, &options, folder);
        if let Some(signal) = signals.received() {
            return Err(Failure::Unfinished { signal });
        }
        let fused = done.map_err(Failure::Fuse)?;
        if let Base::Whole(files) = base
            && files.checkpoint.gguf().is_some()
        {
            files.write_tokenizer(folder)?;
        }
        expect_free(&args.output)?;
        Ok(fused)
    })
}

/// Says what was written, and what rounding did.
fn tell(args: &Fuse, fused: &Fused, terminal: &Terminal) -> Result<(), Failure> {
    let types = fused.dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ");
    let plural = if fused.files == 1 { "file" } else { "files" };
    terminal.data(&format!(
        "fused {} linears as {types} into `{}`: {} {plural}, {}\n",
        fused.modules,
        args.output.display(),
        fused.files,
        super::size(fused.bytes),
    ))?;
    let rounding = fused.rounding;
    if rounding.asked <= 0.0 {
        terminal.warn("the adapter changes nothing: its product is zero everywhere");
        return Ok(());
    }
    terminal.data(&format!(
        "rounding kept {:.1} % of the update: {:.1} % of its norm, at a cosine of {:.4}\n",
        100.0 * rounding.kept(),
        100.0 * rounding.norm_share(),
        rounding.cosine(),
    ))?;
    if rounding.kept() < KEPT_MIN {
        terminal.print(&format!(
            "warning: rounding to {types} erased {:.1} % of the adapter's update\n\
             \x20 because: changes below half a unit in a weight's last place are lost\n\
             hint: write wider weights with `--dtype f32`\n",
            100.0 * (1.0 - rounding.kept()),
        ));
    }
    Ok(())
}

/// Natural-log probabilities of the answers' tokens.
struct Said {
    logps: Vec<f64>,
    /// Without the adapter; the same where there is none.
    alone: Vec<f64>,
}

/// What a model says to the built-in texts, in f32.
fn says(files: &ModelFiles, adapter: Option<&peft::Adapter>) -> Result<Said, Failure> {
    let training = adapter.map_or(Training::Nothing, |it| Training::Lora(Box::new(it.clone())));
    let policy = Policy::load(&files.checkpoint, &Device::cpu(), Precision::F32, &training)
        .map_err(Failure::Fuse)?;
    let mut said = Said { logps: Vec::new(), alone: Vec::new() };
    for (question, answer) in SAYINGS {
        let mut tokens = chat_prompt(files, &[json!({"role": "user", "content": question})])?;
        let most = TOKENS_MAX.min(policy.config().context);
        tokens.truncate(most.saturating_sub(1));
        let start = tokens.len().max(1);
        tokens.extend(files.tokenizer.encode(answer, false)?);
        tokens.truncate(most);
        said.logps.extend(logps(&policy, true, &tokens, start)?);
        if adapter.is_some() {
            said.alone.extend(logps(&policy, false, &tokens, start)?);
        }
    }
    Ok(said)
}

/// The log-probability of each token from `start` on.
fn logps(
    policy: &Policy,
    adapter: bool,
    tokens: &[u32],
    start: usize,
) -> Result<Vec<f64>, Failure> {
    let mut session = Session::new(policy, adapter);
    let mut logits = session.feed(&tokens[..start.min(tokens.len())]).map_err(Failure::Fuse)?;
    let mut found = Vec::new();
    for token in tokens.iter().skip(start) {
        let top = logits.iter().fold(f32::NEG_INFINITY, |most, logit| most.max(*logit));
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
        let own = logits.get(*token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        found.push(f64::from(own - top) - sum.ln());
        logits = session.feed(&[*token]).map_err(Failure::Fuse)?;
    }
    Ok(found)
}

/// The most that a token's log-probability may differ, in nats.
fn tolerance(dtypes: &[Dtype]) -> f64 {
    dtypes.iter().fold(1e-3, |most: f64, dtype| {
        most.max(match dtype {
            Dtype::F32 => 1e-3,
            Dtype::F16 => 0.05,
            _ => 0.25,
        })
    })
}

/// Compares what was written with base and adapter.
fn check(args: &Fuse, before: &Said, fused: &Fused, terminal: &Terminal) -> Result<(), Failure> {
    let after = says(&open_files(&args.output)?, None)?;
    let largest = |others: &[f64]| {
        let pairs = before.logps.iter().zip(others);
        // NaN counts as the largest difference there is.
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |most: f64, off| {
            if off <= most {
                most
            } else if off.is_nan() {
                f64::INFINITY
            } else {
                off
            }
        })
    };
    let (found, limit) = (largest(&after.logps), tolerance(&fused.dtypes));
    terminal.data(&format!(
        "checked {} tokens: log-probabilities differ by up to {found:.1e} nats from those of base and \
         adapter, at most {limit} is allowed; the adapter moves them by up to {:.1e}\n",
        after.logps.len(),
        largest(&before.alone),
    ))?;
    if found <= limit { Ok(()) } else { Err(Failure::Differs { found, limit }) }
}
