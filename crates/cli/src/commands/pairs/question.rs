//! A question with its answer, in the form in which the model sees it.

use data::record::{Content, Record};
use serde_json::{Value, json};
use train::prepare::ModelFiles;

use super::super::generate::chat_prompt;
use crate::{args::Form, failure::Failure};

/// Before the answer in plain text; the answer's leading space belongs to the answer.
const ANSWER: &str = "\nAnswer:";

/// A question with its answer.
#[derive(Debug, PartialEq)]
pub(super) struct Question {
    pub(super) id: String,
    /// The answer that the file gives, as text.
    pub(super) given: String,
    asked: Asked,
}

#[derive(Debug, PartialEq)]
enum Asked {
    Messages(Vec<Value>),
    /// The question alone, and as it is put.
    Text {
        question: String,
        prompt: String,
        has_space: bool,
    },
}

impl Question {
    /// The question of a record; `None` for a text that has no `Answer:` in it, or for messages in a
    /// form of plain text.
    pub(super) fn new(record: &Record, form: Form) -> Option<Self> {
        let id = record.id();
        let [given] = &record.completions[..] else { return None };
        let given = text_of(given)?;
        if let (Content::Text(prompt), true) = (&record.prompt, form == Form::Plain) {
            let has_space = given.starts_with(' ');
            let asked = Asked::Text { question: prompt.clone(), prompt: prompt.clone(), has_space };
            return (!prompt.is_empty()).then_some(Self { id, given, asked });
        }
        let (question, given) = match &record.prompt {
            Content::Text(prompt) if prompt.is_empty() => split(&given)?,
            Content::Text(prompt) => (prompt.clone(), given),
            Content::Messages(messages) if form == Form::Chat => {
                return Some(Self { id, given, asked: Asked::Messages(messages.clone()) });
            }
            Content::Messages(messages) => match &messages[..] {
                [only] => (only["content"].as_str()?.to_owned(), given),
                _ => return None,
            },
            Content::Tokens(_) => return None,
        };
        let asked = match form {
            Form::Chat => Asked::Messages(vec![json!({"role": "user", "content": question})]),
            Form::QuestionAnswer => {
                let prompt = format!("Question: {question}{ANSWER}");
                Asked::Text { question, prompt, has_space: true }
            }
            Form::Plain => {
                let has_space = given.starts_with(' ');
                Asked::Text { prompt: question.clone(), question, has_space }
            }
        };
        Some(Self { id, given, asked })
    }

    /// The prompt as the model reads it.
    pub(super) fn tokens(
        &self,
        files: &ModelFiles,
        system: Option<&str>,
    ) -> Result<Vec<u32>, Failure> {
        match &self.asked {
            Asked::Messages(messages) => {
                let system = system.map(|text| json!({"role": "system", "content": text}));
                chat_prompt(files, &system.into_iter().chain(messages.clone()).collect::<Vec<_>>())
            }
            Asked::Text { prompt, .. } => Ok(files.tokenizer.encode(prompt, true)?),
        }
    }

    /// The question as messages, whatever its form.
    pub(super) fn messages(&self, system: Option<&str>) -> Vec<Value> {
        let system = system.map(|text| json!({"role": "system", "content": text}));
        let messages = match &self.asked {
            Asked::Messages(messages) => messages.clone(),
            Asked::Text { question, .. } => vec![json!({"role": "user", "content": question})],
        };
        system.into_iter().chain(messages).collect()
    }

    /// An answer as it stands in a row.
    pub(super) fn completion(&self, text: &str) -> Value {
        match self.asked {
            Asked::Messages(_) => json!([{"role": "assistant", "content": text.trim()}]),
            Asked::Text { has_space: true, .. } => json!(format!(" {}", text.trim())),
            Asked::Text { has_space: false, .. } => json!(text.trim()),
        }
    }

    /// A row of a preference file.
    pub(super) fn row(&self, chosen: &Value, rejected: &Value) -> Value {
        let prompt = match &self.asked {
            Asked::Messages(messages) => json!(messages),
            Asked::Text { prompt, .. } => json!(prompt),
        };
        json!({"id": self.id, "prompt": prompt, "chosen": chosen, "rejected": rejected})
    }
}

/// `Question: ...\nAnswer: ...` in its two parts.
fn split(text: &str) -> Option<(String, String)> {
    let (question, answer) = text.split_once(ANSWER)?;
    let question = question.trim_start().strip_prefix("Question:").unwrap_or(question).trim();
    (!question.is_empty()).then(|| (question.to_owned(), answer.to_owned()))
}

fn text_of(content: &Content) -> Option<String> {
    match content {
        Content::Text(text) => Some(text.clone()),
        Content::Messages(messages) => match &messages[..] {
            [only] => only["content"].as_str().map(str::to_owned),
            _ => None,
        },
        Content::Tokens(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use data::record::Origin;
    use serde_json::Map;

    use super::*;

    fn record(prompt: &str, answer: &str) -> Record {
        Record {
            origin: Origin::line("q.jsonl", 3),
            prompt: Content::Text(prompt.into()),
            completions: vec![Content::Text(answer.into())],
            tools: None,
            template_kwargs: Map::new(),
            extras: Map::new(),
        }
    }

    #[test]
    fn plain_text_keeps_the_space_before_the_answer() {
        for (prompt, answer) in
            [("Why?", "So."), ("", "Question: Why?\nAnswer: So."), ("", "Why?\nAnswer: So.")]
        {
            let question = Question::new(&record(prompt, answer), Form::QuestionAnswer).unwrap();
            assert_eq!(
                question.row(&question.completion(&question.given), &question.completion("No.\n")),
                json!({"id": "q.jsonl:3", "prompt": "Question: Why?\nAnswer:",
                       "chosen": " So.", "rejected": " No."})
            );
        }
        assert_eq!(Question::new(&record("", "Why? So."), Form::QuestionAnswer), None);
    }

    #[test]
    fn a_conversation_stays_one_and_text_becomes_one() {
        let messages = vec![json!({"role": "user", "content": "Why?"})];
        let talk = Record { prompt: Content::Messages(messages.clone()), ..record("", "So.") };
        for record in [talk, record("Why?", " So."), record("", "Question: Why?\nAnswer: So.")] {
            let question = Question::new(&record, Form::Chat).unwrap();
            assert_eq!(question.asked, Asked::Messages(messages.clone()));
            let answer = json!([{"role": "assistant", "content": "So."}]);
            assert_eq!(question.completion(&question.given), answer);
        }
        let plain = Question::new(&record("Once", " upon"), Form::Plain).unwrap();
        assert_eq!(plain.completion("again "), json!(" again"));
    }
}
