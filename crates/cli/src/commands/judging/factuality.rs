//! `trueup judge factuality`: AIXpert's evaluation. Original-DPO and models with margins answer the same
//! prompts, and a judge grades every answer from 0 to 10.

use std::{fmt::Write as _, path::Path};

use ::judge::{
    Answer, Contestant as Trained, Evaluation, Journal, Outcome, Panel, Request, Tally, Verdict,
    interval::share, rubric,
};
use fs_err as fs;
use serde_json::{Map, Value, json};

use super::{
    super::asking,
    JOURNAL,
    answers::{Contestant, Manner, Weights},
    prompts::{self, Prompt},
    write_json, write_lines,
};
use crate::{
    args::{Factuality, Form, Writing},
    environment,
    failure::Failure,
    signals::Signals,
    terminal::Terminal,
};

/// A grade below this is a hallucination.
const FACTUAL_FROM: f64 = 5.0;

/// How often a judgment without a grade is asked for again.
const REPEATS: u32 = 2;

/// The file that AIXpert's programs write.
const RESULTS: &str = "eval_results.json";

/// The grades of a contestant, one a prompt; `None` where none could be read.
type Grades = Vec<Option<f64>>;

/// What comes of a model with a margin (B) beside Original-DPO (A).
#[derive(Debug, PartialEq)]
struct Outcomes {
    /// The mean grade of each.
    factuality: [f64; 2],
    /// Hallucinations of each.
    hallucinations: [u64; 2],
    /// B against A.
    tally: Tally,
    /// Prompts without a grade for both.
    left_out: usize,
}

/// Evaluates.
pub(in super::super) fn run(args: &Factuality, terminal: &mut Terminal) -> Result<(), Failure> {
    let evaluation = Evaluation::parse(&args.config, &fs::read_to_string(&args.config)?)?;
    let key = evaluation.key(&environment::lookup)?;
    let client = asking::client_with(&args.reaching, key)?;
    let trained = evaluation.models.iter().flat_map(|(a, others)| std::iter::once(a).chain(others));
    for Trained { folder, .. } in trained {
        if !folder.is_dir() {
            return Err(Failure::NotTrained { folder: folder.clone() });
        }
    }
    if let Some(given) = evaluation.judge_temperature.filter(|given| 0.0 < *given) {
        terminal.note(&format!(
            "the judge is asked at temperature 0, as AIXpert's program does; `llm-as-judge.temperature: {given}` is not used there either"
        ));
    }
    let prompts = prompts::load(std::slice::from_ref(&evaluation.data_file), args.limit, terminal)?;
    let journal = Journal::open(&args.output.join(JOURNAL))?;
    let panel = Panel::new(&client, &journal, evaluation.judge_concurrency)
        .reminding(REPEATS, rubric::SCORE_REMINDER);
    let signals = Signals::listen()?;
    let house =
        House { args, evaluation: &evaluation, prompts: &prompts, panel, signals: &signals };
    let mut weights = Weights::default();
    let (mut results, mut table, mut rows) = (Map::new(), heading(), Vec::new());
    let mut left_out = 0;
    for (original, others) in &evaluation.models {
        let a = house.grades(original, &mut weights, &mut rows, terminal)?;
        for other in others {
            let b = house.grades(other, &mut weights, &mut rows, terminal)?;
            let Some(outcomes) = outcomes(&a, &b) else {
                return Err(Failure::NoBouts);
            };
            left_out += outcomes.left_out;
            results.insert(other.name.clone(), outcomes.json());
            table += &outcomes.line(&other.name);
            // After each, so that a run that is stopped has its first results.
            write_json(&args.output.join(RESULTS), &Value::Object(results.clone()))?;
            write_lines(&args.output.join("scores.jsonl"), &rows)?;
        }
    }
    asking::tell("judge", house.panel.asked(), terminal);
    if 0 < left_out {
        terminal.warn(&format!(
            "{left_out} prompts are left out of the results, counted for each model: no grade could be read\nhint: `scores.jsonl` in `{}` has what the judge said",
            args.output.display()
        ));
    }
    terminal.data(&table)
}

/// What all contestants share.
struct House<'a> {
    args: &'a Factuality,
    evaluation: &'a Evaluation,
    prompts: &'a [Prompt],
    panel: Panel<'a>,
    signals: &'a Signals,
}

impl House<'_> {
    /// Lets a model answer, and the answers be graded.
    fn grades(
        &self,
        trained: &Trained,
        weights: &mut Weights,
        rows: &mut Vec<Value>,
        terminal: &mut Terminal,
    ) -> Result<Grades, Failure> {
        let answers = self.answers(trained, weights, terminal)?;
        let asked = self.prompts.iter().zip(&answers).filter_map(|(prompt, answer)| {
            Some(Request::new(
                &self.evaluation.judge,
                rubric::score(&prompt.text, answer.as_ref()?),
            ))
        });
        let requests: Vec<Request> = asked.collect();
        let title = format!("Grades of {}", trained.name);
        let how = (self.signals, &title[..]);
        let read = |answer: &Answer| rubric::read_score(&answer.text);
        let outcomes = asking::ask_all(&self.panel, &requests, read, how, terminal)?;
        let Some(outcomes) = outcomes else {
            return Err(asking::stopped(self.signals, &self.args.output));
        };
        let mut outcomes = outcomes.into_iter();
        let mut grades = Grades::new();
        for (prompt, answer) in self.prompts.iter().zip(answers) {
            let outcome = answer.is_some().then(|| outcomes.next()).flatten();
            let grade = outcome.as_ref().and_then(|outcome| outcome.value().copied());
            let words = match outcome {
                Some(Outcome::Read { text, .. } | Outcome::Unreadable { text }) => Some(text),
                Some(Outcome::Refused { why }) => Some(why),
                None => None,
            };
            rows.push(json!({
                "id": prompt.id, "model": trained.name, "answer": answer, "score": grade, "words": words,
            }));
            grades.push(grade);
        }
        Ok(grades)
    }

    /// Greedy answers to the prompts as they stand, without a chat template.
    fn answers(
        &self,
        trained: &Trained,
        weights: &mut Weights,
        terminal: &mut Terminal,
    ) -> Result<Vec<Option<String>>, Failure> {
        let writing =
            Writing { max_new_tokens: self.evaluation.max_new_tokens, ..Writing::default() };
        let manner = Manner {
            form: Some(Form::Plain),
            system: None,
            writing: &writing,
            together: self.evaluation.batch_size,
        };
        let place = trained.folder.display().to_string();
        let contestant = Contestant::open(&trained.name, &place, trained.base.as_deref());
        let output: &Path = &self.args.output;
        contestant.answer((self.prompts, &manner), output, weights, (self.signals, terminal))
    }
}

/// What two contestants' grades say, over the prompts for which both have one; `None` if there is none.
// DIFFERENCE(AIXpert): a judgment without a grade counts there as a grade of 0, which is a hallucination
// and a loss; here the prompt is left out for both sides and counted.
fn outcomes(a: &Grades, b: &Grades) -> Option<Outcomes> {
    let both: Vec<[f64; 2]> = a.iter().zip(b).filter_map(|(a, b)| Some([(*a)?, (*b)?])).collect();
    let mut tally = Tally::default();
    let (mut sums, mut hallucinations) = ([0.0; 2], [0; 2]);
    for pair in &both {
        for side in 0..2 {
            sums[side] += pair[side];
            hallucinations[side] += u64::from(pair[side] < FACTUAL_FROM);
        }
        tally.add(match pair[1].total_cmp(&pair[0]) {
            std::cmp::Ordering::Greater => Verdict::Win,
            std::cmp::Ordering::Equal => Verdict::Tie,
            std::cmp::Ordering::Less => Verdict::Loss,
        });
    }
    let count = both.len() as f64;
    let factuality = sums.map(|sum| sum / count);
    let left_out = a.len() - both.len();
    (!both.is_empty()).then_some(Outcomes { factuality, hallucinations, tally, left_out })
}

impl Outcomes {
    /// The keys that AIXpert publishes, and no others.
    fn json(&self) -> Value {
        let count = self.tally.count();
        let rate = |side: usize| self.hallucinations[side] as f64 / count as f64;
        json!({
            "factuality_A": self.factuality[0],
            "factuality_B": self.factuality[1],
            "halluc_rate_A": rate(0),
            "halluc_rate_B": rate(1),
            // Without a winner there, it is 0 too.
            "win_rate": self.tally.win_rate().map_or(0.0, |rate| rate.value),
            "count": count,
        })
    }

    fn line(&self, name: &str) -> String {
        let count = self.tally.count();
        let mut line = format!("{name:24}  {count:>6}");
        for side in 0..2 {
            let _ = write!(line, "  {:>6.3}", self.factuality[side]);
            if let Some(it) = share(self.hallucinations[side], count) {
                let _ = write!(line, "  {:.3} [{:.3}, {:.3}]", it.value, it.low, it.high);
            }
        }
        match self.tally.win_rate() {
            Some(it) => {
                let _ = write!(line, "  {:.3} [{:.3}, {:.3}]", it.value, it.low, it.high);
            }
            None => line.push_str("  all ties"),
        }
        line + "\n"
    }
}

fn heading() -> String {
    format!(
        "{:24}  {:>6}  {:>6}  {:<20}  {:>6}  {:<20}  {}\n",
        "B", "count", "fact A", "hallucinates", "fact B", "hallucinates", "B wins, without ties"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_those_that_are_published() {
        let a = [Some(4.0), Some(8.0), Some(5.0), None, Some(6.0), Some(9.0)];
        let b = [Some(9.0), Some(8.0), Some(4.5), Some(1.0), None, Some(10.0)];
        let found = outcomes(&a.to_vec(), &b.to_vec()).unwrap();
        assert_eq!(found.left_out, 2);
        let json = found.json();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        let published =
            ["factuality_A", "factuality_B", "halluc_rate_A", "halluc_rate_B", "win_rate", "count"];
        assert_eq!(keys, published);
        assert_eq!(json["factuality_A"], 6.5);
        assert_eq!(json["factuality_B"], 7.875);
        assert_eq!((&json["halluc_rate_A"], &json["halluc_rate_B"]), (&json!(0.25), &json!(0.25)));
        assert_eq!((&json["win_rate"], &json["count"]), (&json!(2.0 / 3.0), &json!(4)));
        // Only ties.
        let ties = outcomes(&vec![Some(5.0)], &vec![Some(5.0)]).unwrap();
        assert_eq!(ties.json()["win_rate"], 0.0);
        assert!(ties.line("x").ends_with("all ties\n"));
        assert_eq!(outcomes(&vec![None], &vec![Some(1.0)]), None);
    }
}
