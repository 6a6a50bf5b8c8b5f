//! Rows out of questions and answers: what makes no pair is dropped and counted.

use data::record::Record;
use serde_json::{Value, json};

use super::{super::output::Output, question::Question};
use crate::{
    args::{DataPairs, Form, Written},
    failure::Failure,
    terminal::Terminal,
};

/// How many rows there are of each kind.
#[derive(Default)]
pub(super) struct Counts {
    written: usize,
    pub(super) kept: usize,
    /// Answers that the limit of new tokens ended.
    cut: usize,
    empty: usize,
    equal: usize,
    unusable: usize,
}

impl Counts {
    /// Tells them; `empty` says what it means that there is no answer.
    pub(super) fn tell(&self, no_answer: &str, terminal: &Terminal) {
        let Counts { written, kept, cut, empty, equal, unusable } = self;
        terminal.print(&format!("pairs: {written} written, {kept} kept from before\n"));
        if 0 < *cut {
            terminal.note(&format!("{cut} answers were cut by `--max-new-tokens`"));
        }
        for (count, why) in [
            (empty, no_answer),
            (equal, "the model wrote the given answer"),
            (unusable, "no question and answer in the row"),
        ] {
            if 0 < *count {
                terminal.print(&format!("dropped {count}: {why}\n"));
            }
        }
    }
}

/// The file of pairs, and what became of the questions.
pub(super) struct Keeper<'a> {
    args: &'a DataPairs,
    /// What made the rows.
    source: Value,
    output: Output,
    pub(super) counts: Counts,
}

impl<'a> Keeper<'a> {
    /// Opens the file, new or from an earlier run with the same settings.
    pub(super) fn open(args: &'a DataPairs, source: Value) -> Result<Self, Failure> {
        let output = Output::open(&args.output, &source)?;
        Ok(Self { args, source, output, counts: Counts::default() })
    }

    /// The question of a record that has no row yet.
    pub(super) fn wanted(&mut self, record: &Record, form: Form) -> Option<Question> {
        if self.output.has(&record.id()) {
            self.counts.kept += 1;
            return None;
        }
        let question = Question::new(record, form);
        self.counts.unusable += usize::from(question.is_none());
        question
    }

    /// Appends a question's row, if its answers are good for one; each comes with whether it was cut.
    pub(super) fn keep(
        &mut self,
        question: &Question,
        answers: Vec<(String, bool)>,
    ) -> Result<(), Failure> {
        let counts = &mut self.counts;
        let mut texts: Vec<String> = Vec::new();
        for (text, is_cut) in answers {
            counts.cut += usize::from(is_cut);
            let text = text.trim_end().to_owned();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let given = question.given.trim();
        let is_empty = |text: &String| text.trim().is_empty();
        if texts.iter().all(is_empty) {
            counts.empty += 1;
            return Ok(());
        }
        texts.retain(|text| !is_empty(text) && text.trim() != given);
        if texts.is_empty() {
            counts.equal += 1;
            return Ok(());
        }
        let others: Vec<Value> = texts.iter().map(|text| question.completion(text)).collect();
        let given = question.completion(given);
        let row = match (self.args.write, &others[..]) {
            (Written::Rejected, [one]) => question.row(&given, one),
            (Written::Rejected, _) => question.row(&given, &json!(others)),
            (Written::Chosen, _) => question.row(&others[0], &given),
        };
        self.output.append(&question.id, row, &self.source)?;
        counts.written += 1;
        Ok(())
    }
}
