//! `trueup data corrupt`: factual answers, rewritten with a few errors, become chosen sides that should
//! not have been chosen.

use std::collections::BTreeMap;

use ::judge::{Answer, Journal, Panel, Request, rubric};
use data::{
    record::{Content, Record},
    rng::Stream,
};
use serde_json::{Value, json};

use super::{
    super::{
        asking::{self, Ordered},
        output::Output,
    },
    labels_of, pairs, row, texts, value, why,
};
use crate::{args::DataCorrupt, failure::Failure, signals::Signals, terminal::Terminal};

/// What the rows are called: their kind, in AIXpert's word.
const KIND: &str = "synthetic_inversion";

/// Writes the pairs.
pub(in super::super) fn run(args: &DataCorrupt, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = asking::client(&args.asking)?;
    let records = chosen(args, terminal)?;
    let source = json!({
        "kind": KIND, "endpoint": client.endpoint().base_url, "model": args.api_model,
        "temperature": args.temperature, "seed": args.seed,
    });
    let mut output = Output::open(&args.output, &source)?;
    let journal = Journal::open(&args.output.with_extension("journal.jsonl"))?;
    let panel = Panel::new(&client, &journal, args.asking.concurrency());
    let signals = Signals::listen()?;
    let mut dropped: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut wanted, mut requests): (Vec<&Record>, Vec<Request>) = (Vec::new(), Vec::new());
    let (mut kept, mut written) = (0, 0);
    for record in &records {
        if output.has(&name(record)) {
            kept += 1;
        } else if let Some([prompt, chosen, _]) = texts(record) {
            wanted.push(record);
            let messages = rubric::corrupt(&prompt, &chosen);
            requests.push(request(args, &name(record), messages));
        } else {
            *dropped.entry("no words to rewrite").or_default() += 1;
        }
    }
    let read = |answer: &Answer| Some(answer.text.trim().to_owned()).filter(|it| !it.is_empty());
    let ordered = Ordered { panel: &panel, name: "Pairs", size: 1, signals: &signals };
    let is_done = ordered.ask(&requests, read, terminal, &mut |index, outcomes| {
        let record = wanted[index];
        let Some(text) = outcomes[0].value() else {
            *dropped.entry(why(&outcomes[0]).unwrap_or_default()).or_default() += 1;
            return Ok(());
        };
        if texts(record).is_some_and(|[_, chosen, _]| chosen == *text) {
            *dropped.entry("the answer came back as it was").or_default() += 1;
            return Ok(());
        }
        written += 1;
        output.append(&name(record), corrupted(record, text), &source)
    })?;
    if !is_done {
        return Err(asking::stopped(&signals, &args.output));
    }
    terminal.print(&format!("pairs: {written} written, {kept} kept from before\n"));
    for (why, count) in dropped {
        terminal.print(&format!("left out {count}: {why}\n"));
    }
    asking::tell("endpoint", panel.asked(), terminal);
    Ok(())
}

/// The pairs that are rewritten: those whose chosen side alone is factual, or a draw of them in the
/// order of the files.
fn chosen(args: &DataCorrupt, terminal: &Terminal) -> Result<Vec<Record>, Failure> {
    let mut records = Vec::new();
    for record in pairs(&args.pairs, terminal)? {
        if labels_of(&record)? == (0, 1) {
            records.push(record);
        }
    }
    let count = args.count.unwrap_or(records.len());
    if records.len() < count {
        terminal.note(&format!("only {} pairs have a factual chosen side alone", records.len()));
    }
    let order = Stream::new(args.seed, "corrupt").permutation(records.len());
    let mut is_taken = vec![false; records.len()];
    for index in order.into_iter().take(count) {
        is_taken[index] = true;
    }
    let mut is_taken = is_taken.into_iter();
    records.retain(|_| is_taken.next().unwrap_or(false));
    Ok(records)
}

/// The new row's name.
fn name(record: &Record) -> String {
    format!("{}#corrupted", record.id())
}

fn request(args: &DataCorrupt, id: &str, messages: Vec<Value>) -> Request {
    // Endpoints take seeds of 32 bits with a sign at least.
    let seed = Stream::new(args.seed, id).bits(0) >> 33;
    Request {
        temperature: args.temperature,
        seed: (0.0 < args.temperature).then_some(seed),
        ..Request::new(&args.api_model, messages)
    }
}

/// The corrupted answer as the chosen side, the factual one as the rejected.
fn corrupted(record: &Record, text: &str) -> Value {
    let mut row = row(record);
    let chosen = match &record.completions[0] {
        Content::Messages(_) => json!([{"role": "assistant", "content": text}]),
        Content::Text(given) if given.starts_with(' ') => json!(format!(" {text}")),
        Content::Text(_) | Content::Tokens(_) => json!(text),
    };
    row.insert("id".into(), json!(name(record)));
    row.insert("rejected".into(), value(&record.completions[0]));
    row.insert("chosen".into(), chosen);
    row.insert("h_w".into(), json!(1));
    row.insert("h_l".into(), json!(0));
    Value::Object(row)
}
