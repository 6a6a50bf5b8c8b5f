//! `trueup data pairs`: from questions with answers to preference pairs, the other side written by
//! a model here or behind an endpoint.
//!
//! Several answers are written at once, each as it would be alone. Rows are named by their id, so
//! that a run that was stopped goes on where it was, and a row does not depend on those before it.

mod asked;
mod gap;
mod keep;
mod question;

use ::data::{
    dataset::{self, Options},
    layout::Shape,
    read::Source,
    record::Record,
    rng::Stream,
};
use model::StopReason;
use serde_json::{Value, json};

use self::{keep::Keeper, question::Question};
use super::generate::{Loaded, Speaker, load};
use crate::{
    args::{DataPairs, Form, Writing, Written},
    counted::Counted,
    failure::Failure,
    signals::Signals,
    terminal::Terminal,
};

/// What ends an answer where questions and answers are plain text.
const NEXT_QUESTION: &str = "\nQuestion:";

/// Answers that are written at once: enough for the weights to be read once for many, few enough to
/// lose little when a run is stopped.
const TOGETHER: usize = 16;

/// Writes the pairs.
pub(super) fn run(args: &DataPairs, terminal: &mut Terminal) -> Result<(), Failure> {
    if 1 < args.samples {
        check_samples(args)?;
    }
    match (&args.api_model, args.asking.first_given()) {
        (Some(model), _) => return asked::run(args, model, terminal),
        (None, Some(flag)) => {
            let (when, hint) =
                ("without `--api-model`", "remove it, or name a model of the endpoint");
            return Err(Failure::Useless { flag, when, hint });
        }
        (None, None) => {}
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
    let records = questions(args, terminal)?;
    let mut keeper = Keeper::open(args, source(args, form, &loaded))?;
    let signals = Signals::listen()?;
    let writer = Writer { args, form, loaded: &loaded };
    let total = records.len();
    let mut counted = Counted::new(terminal, "Pairs", total);
    let mut drafts: Vec<Draft> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        if let Some(question) = keeper.wanted(record, form) {
            drafts.push(writer.draft(question)?);
        }
        let is_last = index + 1 == total;
        if drafts.is_empty() || !is_last && drafts.len() * usize::from(args.samples) < TOGETHER {
            continue;
        }
        writer.write(&drafts, &signals, &mut keeper)?;
        drafts.clear();
        counted.tell(index + 1, index + 1 - keeper.counts.kept);
    }
    drop(counted);
    keeper.counts.tell("the model wrote nothing", terminal);
    gap::tell(&args.output, &loaded, terminal)
}

/// The questions, each with its answer.
fn questions(args: &DataPairs, terminal: &Terminal) -> Result<Vec<Record>, Failure> {
    let sources: Vec<Source> = args.questions.iter().map(Source::new).collect();
    let shapes = vec![Shape::Completions, Shape::Texts];
    let questions = dataset::load(&sources, &Options { shapes, ..Options::new(Shape::Texts) })?;
    terminal.print(&questions.report.render_problems());
    let mut records = questions.records;
    records.truncate(args.limit.unwrap_or(usize::MAX));
    Ok(records)
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
    args.writing.beside(json!({
        "model": args.model.clone().unwrap_or_else(|| loaded.files.checkpoint.path().display().to_string()),
        "adapter": args.adapter,
        "side": args.write.to_string(),
        "form": form.to_string(),
        "system": args.system,
        "samples": args.samples,
    }))
}

/// Writes rows with a model.
struct Writer<'a> {
    args: &'a DataPairs,
    form: Form,
    loaded: &'a Loaded,
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
        keeper: &mut Keeper<'_>,
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
            return Err(Failure::WorkStopped { signal, output: self.args.output.clone() });
        };
        for draft in drafts {
            let own = answers.drain(..usize::from(self.args.samples));
            let own = own.map(|(text, stop)| (text, stop == StopReason::Length));
            keeper.keep(&draft.question, own.collect())?;
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
}
