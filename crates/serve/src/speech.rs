//! Answers in the shape of OpenAI's interface: whole, or as pieces of a stream.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    ask::{Ask, Form},
    job::{Event, Reason, Said},
    problem::Problem,
    spelling,
    words::Words,
};

/// The interface's name of a log-probability; our sources say `logp`.
const LOGP: &str = concat!("log", "prob");

/// One answer to a request, with all its choices.
pub(crate) struct Speech {
    words: Arc<Words>,
    id: String,
    created: u64,
    model: String,
    form: Form,
    prompt_tokens: usize,
    /// Whether log-probabilities are told, and for how many alternatives.
    top_logps: Option<usize>,
    /// Whether a stream tells the number of tokens at its end.
    include_usage: bool,
    choices: Vec<Choice>,
}

/// What was told of a choice.
#[derive(Clone, Default)]
struct Choice {
    has_begun: bool,
    /// Kept where the answer is told whole.
    text: String,
    said: Vec<Said>,
    over: Option<(Reason, usize)>,
}

impl Speech {
    /// An answer of which nothing was told yet.
    pub(crate) fn new(ask: &Ask, words: Arc<Words>, (number, created): (u64, u64)) -> Self {
        let prefix = match ask.form {
            Form::Chat => "chatcmpl",
            Form::Text => "cmpl",
        };
        Self {
            words,
            id: format!("{prefix}-{number:016x}"),
            created,
            model: ask.model.clone(),
            form: ask.form,
            prompt_tokens: ask.prompts.iter().map(|prompt| prompt.tokens.len()).sum(),
            top_logps: ask.top_logps,
            include_usage: ask.include_usage,
            choices: vec![Choice::default(); ask.prompts.len() * ask.choices],
        }
    }

    /// Whether all choices are whole.
    fn is_whole(&self) -> bool {
        self.choices.iter().all(|choice| choice.over.is_some())
    }

    /// Takes an event for an answer that is told whole.
    pub(crate) fn gather(&mut self, event: Event) -> Result<(), Problem> {
        match event {
            Event::Text { choice, text, said } => {
                let choice = &mut self.choices[choice];
                choice.text.push_str(&text);
                choice.said.extend(said);
            }
            Event::Over { choice, reason, tokens } => {
                self.choices[choice].over = Some((reason, tokens));
            }
            Event::Failed { what } => return Err(Problem::internal(&what)),
        }
        Ok(())
    }

    /// The answer, told whole.
    pub(crate) fn whole(self) -> Result<Value, Problem> {
        if !self.is_whole() {
            return Err(Problem::internal("the answer was not finished."));
        }
        let choices = self.choices.iter().enumerate().map(|(index, choice)| {
            let logps = self.logps(&choice.said);
            let reason = choice.over.map(|(reason, _)| reason.name());
            match self.form {
                Form::Chat => json!({
                    "index": index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": null},
                    "logprobs": logps,
                    "finish_reason": reason,
                }),
                Form::Text => json!({
                    "index": index,
                    "text": choice.text,
                    "logprobs": logps,
                    "finish_reason": reason,
                }),
            }
        });
        let mut answer = self.envelope(choices.collect(), "");
        answer.insert("usage".into(), self.usage());
        Ok(answer.into())
    }

    /// Adds an event to a stream; a failure ends it.
    pub(crate) fn stream(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), Problem> {
        match event {
            Event::Text { choice: index, text, said } => {
                if !self.choices[index].has_begun && self.form == Form::Chat {
                    let opening = json!({"role": "assistant", "content": ""});
                    self.piece((index, opening), &Value::Null, None, out);
                }
                self.choices[index].has_begun = true;
                let text = match self.form {
                    Form::Chat => json!({ "content": text }),
                    Form::Text => json!(text),
                };
                self.piece((index, text), &self.logps(&said), None, out);
            }
            Event::Over { choice: index, reason, tokens } => {
                self.choices[index].over = Some((reason, tokens));
                let text = match (self.form, self.choices[index].has_begun) {
                    (Form::Chat, true) => json!({}),
                    // An empty answer is one, too.
                    (Form::Chat, false) => json!({"role": "assistant", "content": ""}),
                    (Form::Text, _) => json!(""),
                };
                self.piece((index, text), &Value::Null, Some(reason), out);
            }
            Event::Failed { what } => return Err(Problem::internal(&what)),
        }
        Ok(())
    }

    /// Adds the end of a stream.
    pub(crate) fn close(&self, out: &mut Vec<u8>) -> Result<(), Problem> {
        if !self.is_whole() {
            return Err(Problem::internal("the answer was not finished."));
        }
        if self.include_usage {
            let mut last = self.envelope(Vec::new(), ".chunk");
            last.insert("usage".into(), self.usage());
            send(&last.into(), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        Ok(())
    }

    /// A piece of a stream.
    fn piece(
        &self,
        (index, text): (usize, Value),
        logps: &Value,
        reason: Option<Reason>,
        out: &mut Vec<u8>,
    ) {
        let name = match self.form {
            Form::Chat => "delta",
            Form::Text => "text",
        };
        let choice = json!({
            "index": index,
            name: text,
            "logprobs": logps,
            "finish_reason": reason.map(Reason::name),
        });
        let mut piece = self.envelope(vec![choice], ".chunk");
        if self.include_usage {
            piece.insert("usage".into(), Value::Null);
        }
        send(&piece.into(), out);
    }

    /// What all answers have; `part` is added to the name of chat answers.
    fn envelope(&self, choices: Vec<Value>, part: &str) -> Map<String, Value> {
        let object = match self.form {
            Form::Chat => format!("chat.completion{part}"),
            // Whole or not, these have one name.
            Form::Text => "text_completion".to_owned(),
        };
        let mut envelope = Map::new();
        envelope.insert("id".into(), json!(self.id));
        envelope.insert("object".into(), json!(object));
        envelope.insert("created".into(), json!(self.created));
        envelope.insert("model".into(), json!(self.model));
        envelope.insert("choices".into(), choices.into());
        envelope
    }

    fn usage(&self) -> Value {
        let written = self.choices.iter().filter_map(|choice| choice.over);
        let written: usize = written.map(|(_, tokens)| tokens).sum();
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        })
    }

    /// Tokens with their log-probabilities; null where nobody asked.
    fn logps(&self, said: &[Said]) -> Value {
        let Some(top) = self.top_logps else { return Value::Null };
        let spell =
            |said: &Said, token: u32| spelling::text(&self.words.tokenizer, said.before, token);
        match self.form {
            Form::Chat => {
                let entry = |said: &Said, token: u32, logp: Option<f64>| {
                    let text = spell(said, token);
                    json!({"token": text, LOGP: logp, "bytes": spelling::bytes(&text)})
                };
                let content = said.iter().map(|said| {
                    let mut token = entry(said, said.token, said.logp);
                    let top = said.top.iter().map(|(id, logp)| entry(said, *id, Some(*logp)));
                    token["top_logprobs"] = top.collect::<Vec<_>>().into();
                    token
                });
                json!({"content": content.collect::<Vec<_>>(), "refusal": null})
            }
            Form::Text => {
                let alternatives = |said: &Said| -> Value {
                    if top == 0 || said.logp.is_none() {
                        return Value::Null;
                    }
                    let mut map = Map::new();
                    for (id, logp) in &said.top {
                        // Of tokens that look the same, the most likely one is told.
                        map.entry(spell(said, *id)).or_insert(json!(logp));
                    }
                    map.into()
                };
                let list = |of: &dyn Fn(&Said) -> Value| said.iter().map(of).collect::<Vec<_>>();
                json!({
                    "tokens": list(&|said| json!(spell(said, said.token))),
                    "token_logprobs": list(&|said| json!(said.logp)),
                    "top_logprobs": list(&alternatives),
                    "text_offset": list(&|said| json!(said.offset)),
                })
            }
        }
    }
}

/// Adds a value to a stream.
pub(crate) fn send(value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(value.to_string().as_bytes());
    out.extend_from_slice(b"\n\n");
}
