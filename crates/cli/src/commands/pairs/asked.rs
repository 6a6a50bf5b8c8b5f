//! Pairs whose other side an OpenAI-compatible endpoint writes.
//!
//! Answers are paid for, so each is in a journal beside the pairs before it counts; rows follow in the
//! order of the questions.

use std::path::PathBuf;

use ::judge::{Answer, Journal, Panel, Request};
use data::rng::Stream;
use serde_json::{Value, json};

use super::{
    super::asking::{self, Ordered},
    gap,
    keep::Keeper,
    question::Question,
    questions,
};
use crate::{
    args::{DataPairs, Form},
    failure::Failure,
    signals::Signals,
    terminal::Terminal,
};

/// The text of an answer, and whether it was cut.
type Text = (String, bool);

/// Writes the pairs.
pub(super) fn run(args: &DataPairs, model: &str, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = asking::client(&args.asking)?;
    let form = args.form.unwrap_or(Form::Chat);
    let records = questions(args, terminal)?;
    let mut keeper = Keeper::open(args, source(args, form, (&client.endpoint().base_url, model)))?;
    let journal = Journal::open(&journal_path(args))?;
    let panel = Panel::new(&client, &journal, args.asking.concurrency());
    let signals = Signals::listen()?;
    let wanted: Vec<Question> =
        records.iter().filter_map(|record| keeper.wanted(record, form)).collect();
    let requests: Vec<Request> =
        wanted.iter().flat_map(|question| requests(args, model, question)).collect();
    let ordered =
        Ordered { panel: &panel, name: "Pairs", size: args.samples.into(), signals: &signals };
    let is_done = ordered.ask(&requests, read, terminal, &mut |index, outcomes| {
        let texts = outcomes.iter().filter_map(|outcome| outcome.value().cloned());
        keeper.keep(&wanted[index], texts.collect())
    })?;
    if !is_done {
        return Err(asking::stopped(&signals, &args.output));
    }
    keeper.counts.tell("the endpoint gave no answer", terminal);
    asking::tell("endpoint", panel.asked(), terminal);
    gap::tell_lengths(&args.output, terminal);
    Ok(())
}

/// The journal beside the pairs.
fn journal_path(args: &DataPairs) -> PathBuf {
    args.output.with_extension("journal.jsonl")
}

#[expect(clippy::unnecessary_wraps, reason = "every answer can be read")]
fn read(answer: &Answer) -> Option<Text> {
    Some((answer.text.clone(), answer.finish_reason.as_deref() == Some("length")))
}

/// What is asked for one question: each sample has a seed of its own, where there is something to draw.
fn requests(args: &DataPairs, model: &str, question: &Question) -> Vec<Request> {
    let writing = &args.writing;
    let of_row = Stream::new(writing.seed, &question.id);
    let request = |sample: u16| Request {
        temperature: writing.temperature,
        top_p: (writing.top_p < 1.0).then_some(writing.top_p),
        max_tokens: Some(writing.max_new_tokens),
        stop: writing.stop.clone(),
        // Endpoints take seeds of 32 bits with a sign at least.
        seed: (0.0 < writing.temperature).then(|| of_row.bits(u64::from(sample)) >> 33),
        ..Request::new(model, question.messages(args.system.as_deref()))
    };
    (0..args.samples).map(request).collect()
}

/// What made the rows: kept in each of them, and the same for all of a file.
fn source(args: &DataPairs, form: Form, (endpoint, model): (&str, &str)) -> Value {
    let writing = &args.writing;
    json!({
        "endpoint": endpoint,
        "model": model,
        "side": args.write.to_string(),
        "form": form.to_string(),
        "system": args.system,
        "samples": args.samples,
        "max_new_tokens": writing.max_new_tokens,
        "temperature": writing.temperature,
        "top_p": writing.top_p,
        "stop": writing.stop,
        "seed": writing.seed,
    })
}
