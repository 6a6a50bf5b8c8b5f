//! `trueup judge compare`: two contestants, the same prompts, wins and losses.

use std::fmt::Write as _;

use ::judge::{
    Answer, Journal, Outcome, Panel, Request, Rule, Tally, Verdict,
    interval::{Share, share},
    rubric,
};
use serde_json::{Value, json};

use super::{
    super::asking,
    JOURNAL, TOGETHER,
    answers::{Contestant, Manner, Weights},
    prompts::{self, Prompt},
    write_json, write_lines,
};
use crate::{args::JudgeCompare, failure::Failure, signals::Signals, terminal::Terminal};

/// How often a judgment without a mark is asked for again.
const REPEATS: u32 = 2;

/// The names of the sides: their files and their columns.
const SIDES: [&str; 2] = ["a", "b"];

/// A prompt with both answers.
struct Bout<'a> {
    prompt: &'a Prompt,
    answers: [String; 2],
}

/// What was said of a bout.
struct Judged {
    /// `None` where no judgment could be read.
    verdict: Option<Verdict>,
    /// Of both orders, from the side of a; none without a judge.
    orders: [Option<Verdict>; 2],
    /// The judge's words, or why there are none.
    words: Vec<String>,
}

/// What comes of all bouts.
#[derive(Default)]
struct Results {
    tally: Tally,
    /// Wins and losses where the answer of a is the longer one, and where it is the shorter one.
    by_length: [Tally; 2],
    /// Judgments that the other order turned around.
    swayed: u64,
    /// Bouts without a judgment.
    unread: u64,
    /// Characters of all answers of each side.
    characters: [u64; 2],
}

/// Compares.
pub(in super::super) fn run(args: &JudgeCompare, terminal: &mut Terminal) -> Result<(), Failure> {
    let rule = args.by.rule.as_deref().map(str::parse::<Rule>).transpose()?;
    if let (Some(_), Some(flag)) = (&rule, args.asking.first_given()) {
        let (when, hint) = ("with `--rule`: nobody is asked", "remove it, or name a `--judge`");
        return Err(Failure::Useless { flag, when, hint });
    }
    let contestants = contestants(args)?;
    let client = args.by.judge.as_ref().map(|_| asking::client(&args.asking)).transpose()?;
    let prompts = prompts::load(&args.prompts, args.limit, terminal)?;
    // Opened first, since it keeps other processes out of the folder.
    let journal = Journal::open(&args.output.join(JOURNAL))?;
    let signals = Signals::listen()?;
    let bouts = bouts(args, &contestants, &prompts, (&signals, terminal))?;
    let judged = match (&rule, &args.by.judge, &client) {
        (Some(rule), ..) => bouts.iter().map(|bout| by_rule(rule, bout)).collect(),
        (None, Some(judge), Some(client)) => {
            let panel = Panel::new(client, &journal, args.asking.concurrency())
                .reminding(REPEATS, rubric::COMPARE_REMINDER);
            let Some(judged) = by_judge(&panel, judge, &bouts, &signals, terminal)? else {
                return Err(asking::stopped(&signals, &args.output));
            };
            asking::tell("judge", panel.asked(), terminal);
            judged
        }
        // The arguments have one or the other.
        (None, ..) => Vec::new(),
    };
    let results = results(&bouts, &judged);
    write_lines(&args.output.join("judgments.jsonl"), &rows(&bouts, &judged))?;
    let object = results.json();
    write_json(&args.output.join("results.json"), &object)?;
    if 0 < results.unread {
        terminal.warn(&format!(
            "{} of {} prompts are left out: no judgment could be read\nhint: `judgments.jsonl` in `{}` has what the judge said",
            results.unread,
            bouts.len(),
            args.output.display()
        ));
    }
    terminal.data(&if args.json { format!("{object}\n") } else { results.table() })
}

/// Both sides; the second is `None` where the file's own answers stand in.
fn contestants(args: &JudgeCompare) -> Result<[Option<Contestant>; 2], Failure> {
    let (model, adapter) = (&args.model, &args.adapter);
    if model.is_none() && adapter.is_none() {
        return Err(Failure::NoModel);
    }
    let [a, b] = SIDES;
    let first = Contestant { name: a.into(), model: model.clone(), adapter: adapter.clone() };
    let second = match (&args.against[..], adapter) {
        ("given", _) => None,
        ("base", None) => {
            return Err(Failure::Useless {
                flag: "--against base",
                when: "without `--adapter`: both sides are the same",
                hint: "name the other side, `given`, an adapter or a model, with `--against`",
            });
        }
        ("base", Some(folder)) => {
            let config = formats::peft::read_config(folder).map_err(train::Error::from)?.0;
            let base = model.clone().or(config.base_model_name_or_path).ok_or(Failure::NoModel)?;
            Some(Contestant { name: b.into(), model: Some(base), adapter: None })
        }
        (place, _) => Some(Contestant::open(b, place, model.as_deref())),
    };
    Ok([Some(first), second])
}

/// Every prompt to which both sides have an answer.
fn bouts<'a>(
    args: &JudgeCompare,
    contestants: &[Option<Contestant>; 2],
    prompts: &'a [Prompt],
    (signals, terminal): (&Signals, &mut Terminal),
) -> Result<Vec<Bout<'a>>, Failure> {
    let manner = Manner {
        form: args.form,
        system: args.system.as_deref(),
        writing: &args.writing,
        together: TOGETHER,
    };
    let mut weights = Weights::default();
    let mut sides = Vec::new();
    for contestant in contestants {
        sides.push(match contestant {
            Some(contestant) => {
                let asked = (prompts, &manner);
                contestant.answer(asked, &args.output, &mut weights, (signals, terminal))?
            }
            None => prompts.iter().map(|prompt| prompt.given.clone()).collect(),
        });
    }
    let mut bouts = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        if let [Some(a), Some(b)] = [&sides[0][index], &sides[1][index]] {
            bouts.push(Bout { prompt, answers: [a.clone(), b.clone()] });
        }
    }
    let missing = prompts.len() - bouts.len();
    if 0 < missing {
        let why = match &contestants[1] {
            Some(_) => "a conversation cannot be put as plain text",
            None => "the file gives no answer",
        };
        terminal.print(&format!("left out {missing}: {why}\n"));
    }
    if bouts.is_empty() {
        return Err(Failure::NoBouts);
    }
    Ok(bouts)
}

fn by_rule(rule: &Rule, bout: &Bout<'_>) -> Judged {
    let [a, b] = &bout.answers;
    Judged { verdict: Some(rule.judge(a, b)), orders: [None; 2], words: Vec::new() }
}

/// Asks the judge about every bout in both orders; `None` if a signal came.
fn by_judge(
    panel: &Panel<'_>,
    judge: &str,
    bouts: &[Bout<'_>],
    signals: &Signals,
    terminal: &mut Terminal,
) -> Result<Option<Vec<Judged>>, Failure> {
    // Nobody has to be asked about two equal answers.
    let differs = |bout: &&Bout<'_>| bout.answers[0].trim() != bout.answers[1].trim();
    let requests: Vec<Request> = bouts
        .iter()
        .filter(differs)
        .flat_map(|bout| {
            let (prompt, [a, b]) = (&bout.prompt.text, &bout.answers);
            [(a, b), (b, a)]
                .map(|(first, second)| Request::new(judge, rubric::compare(prompt, first, second)))
        })
        .collect();
    let (how, read) =
        ((signals, "Judgments"), |answer: &Answer| rubric::read_comparison(&answer.text));
    let outcomes = asking::ask_all(panel, &requests, read, how, terminal)?;
    let Some(outcomes) = outcomes else { return Ok(None) };
    let mut outcomes = outcomes.chunks_exact(2);
    let judged = bouts.iter().map(|bout| match differs(&bout).then(|| outcomes.next()).flatten() {
        Some([straight, swapped]) => judged(straight, swapped),
        _ => Judged { verdict: Some(Verdict::Tie), orders: [None; 2], words: Vec::new() },
    });
    Ok(Some(judged.collect()))
}

/// Puts the judgments of both orders together; where one cannot be read there is none.
fn judged(straight: &Outcome<Verdict>, swapped: &Outcome<Verdict>) -> Judged {
    let orders = [straight.value().copied(), swapped.value().map(|verdict| verdict.swapped())];
    let verdict = match orders {
        [Some(straight), Some(swapped)] => Some(straight.agreed(swapped)),
        _ => None,
    };
    let words = [straight, swapped].map(|outcome| match outcome {
        Outcome::Read { text, .. } | Outcome::Unreadable { text } => text.clone(),
        Outcome::Refused { why } => why.clone(),
    });
    Judged { verdict, orders, words: words.into() }
}

fn results(bouts: &[Bout<'_>], judged: &[Judged]) -> Results {
    let mut results = Results::default();
    for (bout, judged) in bouts.iter().zip(judged) {
        let lengths = [0, 1].map(|side: usize| bout.answers[side].trim().chars().count() as u64);
        for (sum, length) in results.characters.iter_mut().zip(lengths) {
            *sum += length;
        }
        let Some(verdict) = judged.verdict else {
            results.unread += 1;
            continue;
        };
        results.tally.add(verdict);
        match lengths[0].cmp(&lengths[1]) {
            std::cmp::Ordering::Greater => results.by_length[0].add(verdict),
            std::cmp::Ordering::Less => results.by_length[1].add(verdict),
            std::cmp::Ordering::Equal => {}
        }
        let turned = [[Verdict::Win, Verdict::Loss], [Verdict::Loss, Verdict::Win]];
        if let [Some(straight), Some(swapped)] = judged.orders {
            results.swayed += u64::from(turned.contains(&[straight, swapped]));
        }
    }
    results
}

/// A line for each bout.
fn rows(bouts: &[Bout<'_>], judged: &[Judged]) -> Vec<Value> {
    let row = |(bout, judged): (&Bout<'_>, &Judged)| {
        let [a, b] = &bout.answers;
        json!({
            "id": bout.prompt.id, "prompt": bout.prompt.text, "a": a, "b": b,
            "verdict": judged.verdict, "orders": judged.orders, "words": judged.words,
        })
    };
    bouts.iter().zip(judged).map(row).collect()
}

impl Results {
    fn mean_characters(&self, side: usize) -> f64 {
        self.characters[side] as f64 / (self.tally.count() + self.unread).max(1) as f64
    }

    fn json(&self) -> Value {
        let Tally { wins, ties, losses } = self.tally;
        let count = self.tally.count();
        let ends = |share: Option<Share>| share.map(|it| [it.low, it.high]);
        let value = |share: Option<Share>| share.map(|it| it.value);
        let [longer, shorter] = self.by_length.map(Tally::win_rate);
        let rate = self.tally.win_rate();
        json!({
            "count": count, "wins": wins, "ties": ties, "losses": losses,
            "win_interval": ends(share(wins, count)),
            "tie_interval": ends(share(ties, count)),
            "loss_interval": ends(share(losses, count)),
            "win_rate": value(rate), "win_rate_interval": ends(rate),
            "win_rate_where_longer": value(longer), "win_rate_where_shorter": value(shorter),
            "swayed_by_order": self.swayed, "unread": self.unread,
            "mean_characters": [self.mean_characters(0), self.mean_characters(1)],
        })
    }

    fn table(&self) -> String {
        let Tally { wins, ties, losses } = self.tally;
        let count = self.tally.count();
        let mut text = format!("{:24}  {count:>6}\n", "prompts");
        let mut line = |name: &str, number: u64, share: Option<Share>| {
            let _ = write!(text, "{name:24}  {number:>6}");
            if let Some(Share { value, low, high }) = share {
                let _ = write!(text, "  {value:.3}  [{low:.3}, {high:.3}]");
            }
            text.push('\n');
        };
        line("wins", wins, share(wins, count));
        line("ties", ties, share(ties, count));
        line("losses", losses, share(losses, count));
        line("win rate without ties", wins + losses, self.tally.win_rate());
        for (name, tally) in
            ["  where a is longer", "  where a is shorter"].iter().zip(self.by_length)
        {
            line(name, tally.wins + tally.losses, tally.win_rate());
        }
        if 0 < self.swayed {
            line("ties by order", self.swayed, None);
        }
        if 0 < self.unread {
            line("not judged", self.unread, None);
        }
        let (a, b) = (self.mean_characters(0), self.mean_characters(1));
        let _ = writeln!(text, "characters of an answer: a {a:.0}, b {b:.0}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Verdict) -> Outcome<Verdict> {
        Outcome::Read { value, text: "t".into() }
    }

    #[test]
    fn both_orders_make_one_verdict() {
        use Verdict::{Loss, Tie, Win};
        let none = || Outcome::Unreadable { text: "?".into() };
        for (straight, swapped, verdict) in [
            (read(Win), read(Loss), Some(Win)),
            (read(Loss), read(Win), Some(Loss)),
            (read(Win), read(Win), Some(Tie)),
            (read(Win), read(Tie), Some(Tie)),
            (none(), read(Win), None),
            (read(Win), none(), None),
        ] {
            assert_eq!(judged(&straight, &swapped).verdict, verdict);
        }
    }

    #[test]
    fn what_is_not_read_is_in_no_share() {
        use Verdict::{Loss, Win};
        let prompt = Prompt::of_text("Why?");
        let bout = |a: &str, b: &str| Bout { prompt: &prompt, answers: [a.into(), b.into()] };
        let bouts = [
            bout("long", "x"),
            bout("long", "x"),
            bout("x", "long"),
            bout("x", "y"),
            bout("x", "y"),
        ];
        let judged = [
            judged(&read(Win), &read(Loss)),
            judged(&read(Win), &read(Win)),
            judged(&read(Loss), &read(Win)),
            judged(&read(Win), &read(Loss)),
            judged(&read(Win), &Outcome::Refused { why: "w".into() }),
        ];
        let results = results(&bouts, &judged);
        assert_eq!(results.tally, Tally { wins: 2, ties: 1, losses: 1 });
        assert_eq!(results.by_length[0], Tally { wins: 1, ties: 1, losses: 0 });
        assert_eq!(results.by_length[1], Tally { wins: 0, ties: 0, losses: 1 });
        assert_eq!((results.swayed, results.unread), (1, 1));
        let json = results.json();
        assert_eq!((&json["count"], &json["unread"]), (&json!(4), &json!(1)));
        assert!((json["win_rate"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!(json["mean_characters"], json!([2.2, 1.6]));
        assert!(results.table().contains("win rate without ties          3  0.667  ["));
    }
}
