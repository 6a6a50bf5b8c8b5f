//! `trueup data judge`: each side of each pair is judged by itself, factual (0) or not (1).

use std::collections::BTreeMap;

use ::judge::{Answer, Journal, Panel, Request, rubric};
use data::record::Record;
use serde_json::{Value, json};

use super::{
    super::{
        asking::{self, Ordered},
        output::Output,
    },
    Labels, pairs, row, tell, texts, why,
};
use crate::{args::DataJudge, failure::Failure, signals::Signals, terminal::Terminal};

/// How often a judgment without a mark is asked for again.
const REPEATS: u32 = 2;

/// Labels the pairs.
pub(in super::super) fn run(args: &DataJudge, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = asking::client(&args.asking)?;
    let mut records = pairs(&args.pairs, terminal)?;
    records.truncate(args.limit.unwrap_or(usize::MAX));
    let source = json!({"endpoint": client.endpoint().base_url, "judge": args.judge});
    let mut output = Output::open(&args.output, &source)?;
    let journal = Journal::open(&args.output.with_extension("journal.jsonl"))?;
    let panel = Panel::new(&client, &journal, args.asking.concurrency())
        .reminding(REPEATS, rubric::FLAG_REMINDER);
    let signals = Signals::listen()?;
    let mut dropped: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wanted: Vec<&Record> = Vec::new();
    let mut requests: Vec<Request> = Vec::new();
    let mut kept = 0;
    for record in &records {
        if output.has(&record.id()) {
            kept += 1;
        } else if let Some([prompt, chosen, rejected]) = texts(record) {
            wanted.push(record);
            let request = |side: &str| Request::new(&args.judge, rubric::flag(&prompt, side));
            requests.extend([request(&chosen), request(&rejected)]);
        } else {
            *dropped.entry("no words to judge").or_default() += 1;
        }
    }
    let read = |answer: &Answer| rubric::read_flag(&answer.text);
    let mut counts: BTreeMap<Labels, usize> = BTreeMap::new();
    let ordered = Ordered { panel: &panel, name: "Pairs", size: 2, signals: &signals };
    let is_done = ordered.ask(&requests, read, terminal, &mut |index, outcomes| {
        if let Some(why) = outcomes.iter().find_map(why) {
            *dropped.entry(why).or_default() += 1;
            return Ok(());
        }
        let mut flags = outcomes.iter().filter_map(|outcome| outcome.value().copied());
        let mut flag = || u8::from(flags.next().unwrap_or(true));
        let labels = (flag(), flag());
        let mut row = row(wanted[index]);
        row.insert("h_w".into(), json!(labels.0));
        row.insert("h_l".into(), json!(labels.1));
        *counts.entry(labels).or_default() += 1;
        output.append(&wanted[index].id(), Value::Object(row), &source)
    })?;
    if !is_done {
        return Err(asking::stopped(&signals, &args.output));
    }
    terminal.print(&format!(
        "pairs: {} labelled, {kept} kept from before\n",
        counts.values().sum::<usize>()
    ));
    tell(&counts, terminal);
    for (why, count) in dropped {
        terminal.print(&format!("left out {count}: {why}\n"));
    }
    asking::tell("judge", panel.asked(), terminal);
    Ok(())
}
