//! The prompts of a contest: as models see them, and as a judge reads them.

use std::{collections::BTreeSet, path::PathBuf};

use data::{
    dataset::{self, Options},
    layout::Shape,
    read::Source,
    record::{Content, Record},
};
use serde_json::{Value, json};
use train::prepare::ModelFiles;

use super::super::generate::chat_prompt;
use crate::{args::Form, failure::Failure, terminal::Terminal};

/// Rows that have a prompt of their own.
const SHAPES: [Shape; 5] =
    [Shape::Prompts, Shape::Completions, Shape::Pairs, Shape::Unpaired, Shape::Groups];

/// A prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompt {
    /// Its row's name and a digest of what it says: another text under the same name is another prompt.
    pub(super) id: String,
    /// What it says, for a judge.
    pub(super) text: String,
    /// The answer that the file gives: the completion, or the chosen one.
    pub(super) given: Option<String>,
    messages: Vec<Value>,
}

/// Reads files of prompts, each prompt once.
pub(super) fn load(
    paths: &[PathBuf],
    limit: Option<usize>,
    terminal: &Terminal,
) -> Result<Vec<Prompt>, Failure> {
    let sources: Vec<Source> = paths.iter().map(Source::new).collect();
    let options = Options { shapes: SHAPES.to_vec(), ..Options::new(Shape::Prompts) };
    let read = dataset::load(&sources, &options)?;
    terminal.print(&read.report.render_problems());
    let mut ids = BTreeSet::new();
    let count = read.records.len();
    let mut prompts: Vec<Prompt> = read.records.iter().filter_map(Prompt::new).collect();
    if prompts.len() < count {
        terminal.print(&format!("left out {}: no prompt in words\n", count - prompts.len()));
    }
    prompts.retain(|prompt| ids.insert(prompt.id.clone()));
    prompts.truncate(limit.unwrap_or(usize::MAX));
    Ok(prompts)
}

impl Prompt {
    fn new(record: &Record) -> Option<Self> {
        let text = prompt_in_words(&record.prompt)?;
        let messages = match &record.prompt {
            Content::Messages(messages) => messages.clone(),
            _ => vec![json!({"role": "user", "content": text})],
        };
        let given = record.completions.first().and_then(in_words);
        let digest = blake3::hash(json!(messages).to_string().as_bytes()).to_hex();
        let id = format!("{}#{}", record.id(), &digest[..8]);
        Some(Self { id, text, given, messages })
    }

    /// A prompt of a text.
    #[cfg(test)]
    pub(super) fn of_text(text: &str) -> Self {
        let messages = vec![json!({"role": "user", "content": text})];
        Self { id: "x".into(), text: text.to_owned(), given: None, messages }
    }

    /// The prompt as a model reads it; `None` for a conversation in plain text.
    pub(super) fn tokens(
        &self,
        files: &ModelFiles,
        (form, system): (Form, Option<&str>),
    ) -> Result<Option<Vec<u32>>, Failure> {
        let plain = match (form, &self.messages[..]) {
            (Form::Chat, messages) => {
                let system = system.map(|text| json!({"role": "system", "content": text}));
                let all: Vec<Value> = system.into_iter().chain(messages.iter().cloned()).collect();
                return Ok(Some(chat_prompt(files, &all)?));
            }
            (_, [_, _, ..]) => return Ok(None),
            (Form::QuestionAnswer, _) => format!("Question: {}\nAnswer:", self.text),
            (Form::Plain, _) => self.text.clone(),
        };
        Ok(Some(files.tokenizer.encode(&plain, true)?))
    }
}

/// A conversation, a paragraph for each turn.
fn in_lines(messages: &[Value]) -> Option<String> {
    let line = |message: &Value| {
        Some(format!("{}: {}", message["role"].as_str()?, message["content"].as_str()?))
    };
    Some(messages.iter().map(line).collect::<Option<Vec<_>>>()?.join("\n\n"))
}

/// A prompt in words; `None` where there are none.
pub(in super::super) fn prompt_in_words(prompt: &Content) -> Option<String> {
    let text = match prompt {
        Content::Text(text) => text.clone(),
        Content::Messages(messages) => match &messages[..] {
            [only] => only["content"].as_str()?.to_owned(),
            several => in_lines(several)?,
        },
        Content::Tokens(_) => return None,
    };
    Some(text).filter(|text| !text.trim().is_empty())
}

/// A completion in words.
pub(in super::super) fn in_words(content: &Content) -> Option<String> {
    match content {
        Content::Text(text) => Some(text.trim().to_owned()),
        Content::Messages(messages) => match &messages[..] {
            [only] => Some(only["content"].as_str()?.trim().to_owned()),
            several => in_lines(several),
        },
        Content::Tokens(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use data::record::Origin;
    use serde_json::Map;

    use super::*;

    fn record(prompt: Content, completions: Vec<Content>) -> Record {
        Record {
            origin: Origin::line("q.jsonl", 3),
            prompt,
            completions,
            tools: None,
            template_kwargs: Map::new(),
            extras: Map::new(),
        }
    }

    #[test]
    fn prompts_have_words_and_a_name_of_their_own() {
        let text = |text: &str| Content::Text(text.into());
        let talk = Content::Messages(vec![json!({"role": "user", "content": "Why?"})]);
        let asked = Prompt::new(&record(text("Why?"), vec![text(" So. "), text("No.")])).unwrap();
        let told = Prompt::new(&record(talk, vec![])).unwrap();
        assert_eq!((&asked.text[..], asked.given.as_deref()), ("Why?", Some("So.")));
        assert_eq!((&told.text, &told.id, &told.given), (&asked.text, &asked.id, &None));
        assert!(asked.id.starts_with("q.jsonl:3#"), "{}", asked.id);
        let other = Prompt::new(&record(text("How?"), vec![])).unwrap();
        assert_ne!(other.id, asked.id);
        let turns = vec![
            json!({"role": "user", "content": "Why?"}),
            json!({"role": "assistant", "content": "So."}),
            json!({"role": "user", "content": "Really?"}),
        ];
        let talk = Prompt::new(&record(Content::Messages(turns), vec![])).unwrap();
        assert_eq!(talk.text, "user: Why?\n\nassistant: So.\n\nuser: Really?");
        for nothing in [text(" "), Content::Messages(vec![]), Content::Tokens(vec![1])] {
            assert_eq!(Prompt::new(&record(nothing, vec![])), None);
        }
    }
}
