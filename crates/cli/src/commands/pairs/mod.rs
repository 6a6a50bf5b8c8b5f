//! `trueup data pairs`: from questions with answers to preference pairs, the other side written by
//! a model.
//!
//! Several answers are written at once, each as it would be alone. Rows are named by their id, so
//! that a run that was stopped goes on where it was, and a row does not depend on those before it.

mod gap;
mod output;
mod question;

use std::time::{Duration, Instant};

use ::data::{
    dataset::{self, Options},
    layout::Shape,
    read::Source,
    rng::Stream,
};
use model::StopReason;
use serde_json::{Value, json};

use self::{output::Output, question::Question};
use super::generate::{Loaded, Speaker, load};
use crate::{
    args::{DataPairs, Form, Writing, Written},
    failure::Failure,
    progress::eta,
    signals::Signals,
    terminal::Terminal,
};

/// What ends an answer where questions and answers are plain text.
const NEXT_QUESTION: &str = "\nQuestion:";

/// Answers that are written at once: enough for the weights to be read once for many, few enough to
/// lose little when a run is stopped.
const TOGETHER: usize = 16;

/// How often progress is told where no line can be rewritten.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// How many rows there are of each kind.
#[derive(Default)]
struct Counts {
    written: usize,
    kept: usize,
    /// Answers that the limit of new tokens ended.
    cut: usize,
    empty: usize,
    equal: usize,
    unusable: usize,
}

/// Writes the pairs.
pub(super) fn run(args: &DataPairs, terminal: &mut Terminal) -> Result<(), Failure> {
    if 1 < args.samples {
        check_samples(args)?;
    }
    let loaded = load(args.model.as_deref(), args.adapter.as_deref())?;
    let form = args.form.unwrap_or(match loaded.files.templates.default_template() {
        Some(_) => Form::Chat,
        None => Form::QuestionAnswer,
    });
    if args.system.is_some() && form != Form::Chat {
        let (when, hint) = ("with questions as plain text", "remove it, or set `--form chat`");
        return Err(Failure::Useless { flag: "--system", when, hint });
    }
    let sources: Vec<Source> = args.questions.iter().map(Source::new).collect();
    let shapes = vec![Shape::Completions, Shape::Texts];
    let questions = dataset::load(&sources, &Options { shapes, ..Options::new(Shape::Texts) })?;
    terminal.print(&questions.report.render_problems());
    let mut records = questions.records;
    records.truncate(args.limit.unwrap_or(usize::MAX));
    let source = source(args, form, &loaded);
    let mut output = Output::open(&args.output, &source)?;
    let signals = Signals::listen()?;
    let writer = Writer { args, form, loaded: &loaded, source };
    let (mut counts, began) = (Counts::default(), Instant::now());
    let (mut told, total) = (Instant::now(), records.len());
    let mut drafts: Vec<Draft> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        if output.has(&record.id()) {
            counts.kept += 1;
        } else {
            match Question::new(record, form) {
                Some(question) => drafts.push(writer.draft(question)?),
                None => counts.unusable += 1,
            }
        }
        let is_last = index + 1 == total;
        if drafts.is_empty() || !is_last && drafts.len() * usize::from(args.samples) < TOGETHER {
            continue;
        }
        writer.write(&drafts, &signals, &mut output, &mut counts).inspect_err(|_| {
            terminal.end_progress();
        })?;
        drafts.clear();
        let done = (index + 1 - counts.kept).max(1);
        let left = began.elapsed().mul_f64((total - index - 1) as f64 / done as f64);
        let line = format!("Pairs: {}/{total} | ETA: {}", index + 1, eta(Some(left)));
        if terminal.is_terminal() {
            terminal.progress_line(&line);
        } else if PLAIN_EVERY <= told.elapsed() {
            told = Instant::now();
            terminal.print(&format!("{line}\n"));
        }
    }
    terminal.end_progress();
    say_counts(&counts, terminal);
    gap::tell(&args.output, &loaded, terminal)
}

/// Refuses samples that would all be the same, or of which one alone is used.
fn check_samples(args: &DataPairs) -> Result<(), Failure> {
    let (when, hint) = if args.writing.temperature <= 0.0 {
        (
            "without `--temperature`: the most likely answer is one",
            "set `--temperature`, such as to 0.8",
        )
    } else if args.write == Written::Chosen {
        ("with `--write chosen`: a pair has one chosen completion", "remove one of the two")
    } else {
        return Ok(());
    };
    Err(Failure::Useless { flag: "--samples", when, hint })
}

/// What made the rows: kept in each of them, and the same for all of a file.
fn source(args: &DataPairs, form: Form, loaded: &Loaded) -> Value {
    let writing = &args.writing;
    json!({
        "model": args.model.clone().unwrap_or_else(|| loaded.files.checkpoint.path().display().to_string()),
        "adapter": args.adapter,
        "side": args.write.to_string(),
        "form": form.to_string(),
        "system": args.system,
        "samples": args.samples,
        "max_new_tokens": writing.max_new_tokens,
        "temperature": writing.temperature,
        "top_k": writing.top_k,
        "top_p": writing.top_p,
        "min_p": writing.min_p,
        "repetition_penalty": writing.repetition_penalty,
        "stop": writing.stop,
        "seed": writing.seed,
    })
}

fn say_counts(counts: &Counts, terminal: &Terminal) {
    let Counts { written, kept, cut, empty, equal, unusable } = counts;
    terminal.print(&format!("pairs: {written} written, {kept} kept from before\n"));
    if 0 < *cut {
        terminal.note(&format!("{cut} answers were cut by `--max-new-tokens`"));
    }
    for (count, why) in [
        (empty, "the model wrote nothing"),
        (equal, "the model wrote the given answer"),
        (unusable, "no question and answer in the row"),
    ] {
        if 0 < *count {
            terminal.print(&format!("dropped {count}: {why}\n"));
        }
    }
}

/// Writes rows with a model.
struct Writer<'a> {
    args: &'a DataPairs,
    form: Form,
    loaded: &'a Loaded,
    source: Value,
}

/// A question that waits for its answers.
struct Draft {
    question: Question,
    prompt: Vec<u32>,
}

impl Writer<'_> {
    fn draft(&self, question: Question) -> Result<Draft, Failure> {
        let prompt = question.tokens(&self.loaded.files, self.args.system.as_deref())?;
        Ok(Draft { question, prompt })
    }

    /// Lets the model answer, and appends the rows in order.
    fn write(
        &self,
        drafts: &[Draft],
        signals: &Signals,
        output: &mut Output,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        let Loaded { files, policy } = self.loaded;
        let speaker = Speaker { policy, tokenizer: &files.tokenizer, adapter: true };
        let asked: Vec<_> =
            drafts.iter().map(|it| (&it.prompt[..], self.writings(&it.question.id))).collect();
        let goes_on = || signals.received().is_none();
        // On a thread of the pool, for which each operation is no more than a call.
        let answers = rayon::scope(|_| speaker.answer_all(&asked, &goes_on))?;
        let Some(mut answers) = answers else {
            let signal = signals.received().unwrap_or(crate::signals::INTERRUPT);
            return Err(Failure::PairsStopped { signal, output: self.args.output.clone() });
        };
        for draft in drafts {
            let own: Vec<_> = answers.drain(..usize::from(self.args.samples)).collect();
            self.keep(&draft.question, own, output, counts)?;
        }
        Ok(())
    }

    /// How each answer to a question is written; what is drawn depends on the seed, the row's id and
    /// the answer's number alone.
    fn writings(&self, id: &str) -> Vec<Writing> {
        let of_row = Stream::new(self.args.writing.seed, id);
        let writing = |sample: u16| {
            let seed = of_row.bits(u64::from(sample));
            let mut writing = Writing { seed, ..self.args.writing.clone() };
            if self.form == Form::QuestionAnswer {
                writing.stop.push(NEXT_QUESTION.to_owned());
            }
            writing
        };
        (0..self.args.samples).map(writing).collect()
    }

    /// Appends a question's row, if its answers are good for one.
    fn keep(
        &self,
        question: &Question,
        answers: Vec<(String, StopReason)>,
        output: &mut Output,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        let mut texts: Vec<String> = Vec::new();
        for (text, stop) in answers {
            counts.cut += usize::from(stop == StopReason::Length);
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
        output.append(&question.id, row, &self.source)?;
        counts.written += 1;
        Ok(())
    }
}
