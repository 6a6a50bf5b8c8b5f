//! A small preference set that ships with the program, so that a first run needs no data.
//!
//! It teaches one thing that a reader can see: answer in one plain sentence and end with a concrete
//! next step, where the rejected completion hedges and says nothing. Questions are about everyday
//! matters. Evaluation rows ask about subjects that no training row mentions. The rows are a
//! function of nothing: the same on every machine.

mod topics;

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use topics::{SUBJECTS, TOPICS, Topic};

/// Which of a topic's subjects are kept for evaluation: three of fourteen.
const EVALUATION_SUBJECTS: [usize; 3] = [2, 7, 12];

/// How a hedging answer begins.
const OPENINGS: [&str; 12] = [
    "That is a very interesting question.",
    "There are many things to consider here.",
    "This is something that a lot of people wonder about.",
    "Thank you for asking this question.",
    "It is not easy to give a simple answer to this.",
    "As with so many things in life, it depends.",
    "There is no single answer that is right for everyone.",
    "Many different factors play a role here.",
    "Opinions on this topic differ quite a lot.",
    "This can vary a great deal.",
    "It is important to look at this from different sides.",
    "Generally speaking, this is a broad topic.",
];

/// How it goes on, about the subject.
const MIDDLES: [&str; 11] = [
    "When it comes to {0}, a lot depends on your own situation and needs",
    "With {0}, some people say one thing and others say something else",
    "There are various ways to think about {0}",
    "The topic of {0} has many aspects that could be discussed",
    "What works with {0} for one person may not work for another",
    "It is hard to say anything definite about {0} in general",
    "Much has been said and written about {0} over the years",
    "In the case of {0}, several aspects may or may not matter",
    "Different sources give different advice about {0}",
    "One could say a number of things about {0}",
    "The question of {0} is more complex than it may seem",
];

/// How it ends.
const CLOSINGS: [&str; 7] = [
    "so you may want to do some more research.",
    "and it is always a good idea to keep an open mind.",
    "so it is difficult to give a clear recommendation.",
    "and in the end it is up to you to decide.",
    "so please consult an expert if you are not sure.",
    "and there may be other things to keep in mind as well.",
    "so I hope that this gives you a general idea.",
];

/// Which part of the set a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Rows to learn from.
    Train,
    /// Rows about other subjects, to measure with.
    Evaluation,
}

/// One pair: a question, a plain answer and a hedging one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The user's question.
    pub prompt: String,
    /// One sentence of answer and a next step.
    pub chosen: String,
    /// A sentence or two that say nothing.
    pub rejected: String,
}

impl Pair {
    /// The row as it stands in a file: prompt and completions as messages.
    pub fn to_row(&self) -> Value {
        let message = |role: &str, text: &str| json!([{ "role": role, "content": text }]);
        json!({
            "prompt": message("user", &self.prompt),
            "chosen": message("assistant", &self.chosen),
            "rejected": message("assistant", &self.rejected),
        })
    }
}

/// The rows of one part, in the order in which they are written: neighbours are of different topics.
pub fn pairs(part: Part) -> Vec<Pair> {
    let wanted =
        |subject: &usize| EVALUATION_SUBJECTS.contains(subject) == (part == Part::Evaluation);
    let mut pairs = Vec::new();
    for subject in (0..SUBJECTS).filter(wanted) {
        for turn in 0..3 {
            for (number, topic) in TOPICS.iter().enumerate() {
                let question = (turn + number) % 3;
                pairs.push(pair(
                    topic,
                    subject,
                    question,
                    (number * SUBJECTS + subject) * 3 + question,
                ));
            }
        }
    }
    pairs
}

/// Writes `train.jsonl` and `test.jsonl` into a folder that exists.
///
/// # Errors
/// Those of writing; a file is whole or absent.
pub fn write(folder: &Path) -> io::Result<()> {
    for (name, part) in [("train.jsonl", Part::Train), ("test.jsonl", Part::Evaluation)] {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        for pair in pairs(part) {
            writeln!(file, "{}", pair.to_row())?;
        }
        file.as_file().sync_all()?;
        file.persist(folder.join(name)).map_err(|error| error.error)?;
    }
    Ok(())
}

/// One pair; `index` is its number among all, and picks the hedging phrases.
fn pair(topic: &Topic, subject: usize, question: usize, index: usize) -> Pair {
    let facts = &topic.subjects[subject];
    // The three lengths have no common factor, so that no two rows in 924 have the same phrases.
    let opening = OPENINGS[index % OPENINGS.len()];
    let middle = filled(MIDDLES[index % MIDDLES.len()], facts);
    let closing = CLOSINGS[index % CLOSINGS.len()];
    Pair {
        prompt: filled(topic.questions[question], facts),
        chosen: format!(
            "{} Next step: {}.",
            filled(topic.answers[question], facts),
            filled(topic.steps[question], facts)
        ),
        rejected: format!("{opening} {middle}, {closing}"),
    }
}

/// A template with its subject and facts put in.
fn filled(template: &str, facts: &[&str; 4]) -> String {
    let mut text = template.to_owned();
    for (number, fact) in facts.iter().enumerate() {
        text = text.replace(&format!("{{{number}}}"), fact);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_enough_rows_and_no_two_are_alike() {
        let (train, test) = (pairs(Part::Train), pairs(Part::Evaluation));
        assert_eq!((train.len(), test.len()), (396, 108));
        let all: Vec<&Pair> = train.iter().chain(&test).collect();
        let fields: [fn(&Pair) -> &String; 3] = [|p| &p.prompt, |p| &p.chosen, |p| &p.rejected];
        for field in fields {
            let mut texts = BTreeSet::new();
            for pair in &all {
                assert!(texts.insert(field(pair)), "twice: {}", field(pair));
            }
        }
    }

    #[test]
    fn evaluation_asks_about_other_subjects() {
        let train = pairs(Part::Train);
        for topic in TOPICS {
            for subject in EVALUATION_SUBJECTS {
                let name = topic.subjects[subject][0];
                let words = |text: &str| {
                    text.contains(&format!("{name}?")) || text.contains(&format!("{name} "))
                };
                assert!(!train.iter().any(|pair| words(&pair.prompt)), "{name}");
            }
        }
    }

    #[test]
    fn rows_are_filled_plain_and_of_like_length() {
        let mut words = [0, 0];
        for pair in [pairs(Part::Train), pairs(Part::Evaluation)].concat() {
            for text in [&pair.prompt, &pair.chosen, &pair.rejected] {
                assert!(text.is_ascii() && !text.contains(['{', '}']), "{text}");
                assert!(text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
            }
            assert!(pair.prompt.ends_with('?') && pair.chosen.ends_with('.'));
            for (sum, text) in words.iter_mut().zip([&pair.chosen, &pair.rejected]) {
                let count = text.split(' ').count();
                assert!((9..=40).contains(&count), "{text}");
                *sum += count;
            }
        }
        let ratio = words[1] as f64 / words[0] as f64;
        assert!((0.8..1.8).contains(&ratio), "length alone should not tell them apart: {ratio}");
    }

    #[test]
    fn the_files_are_read_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let text = fs_err::read_to_string(folder.path().join("test.jsonl")).unwrap();
        let rows: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let want: Vec<Value> = pairs(Part::Evaluation).iter().map(Pair::to_row).collect();
        assert_eq!(rows, want);
        assert_eq!(rows[0]["prompt"][0]["role"], "user");
    }
}
