//! `trueup chat`: a conversation with a model.
//!
//! What the model has read stays in its key-value cache as long as the conversation only grows.

use std::io::{self, BufRead as _, IsTerminal as _};

use model::{Session, StopReason};
use serde_json::{Value, json};

use super::generate::{Loaded, Speaker, chat_prompt, load};
use crate::{args::Chat, failure::Failure, signals::Turns, terminal::Terminal};

const HELP: &str = "\
/adapter on|off   answer with or without the adapter from here on
/again            answer the last question again, as after switching the adapter
/system TEXT      a system message; the conversation begins anew
/reset            begin anew
/quit             end, as the end of the input does
Ctrl-C stops an answer; where no answer is being written, it ends the program.
";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Say(&'a str),
    Adapter(bool),
    Again,
    System(&'a str),
    Reset,
    Help,
    Quit,
    Unknown(&'a str),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        if !line.starts_with('/') {
            return if line.is_empty() { Self::Nothing } else { Self::Say(line) };
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("/adapter", "on") => Self::Adapter(true),
            ("/adapter", "off") => Self::Adapter(false),
            ("/again", "") => Self::Again,
            ("/system", text) if !text.is_empty() => Self::System(text),
            ("/reset", "") => Self::Reset,
            ("/help", "") => Self::Help,
            ("/quit" | "/exit", "") => Self::Quit,
            _ => Self::Unknown(line),
        }
    }
}

/// Talks until the input ends.
pub(super) fn run(args: &Chat, terminal: &Terminal) -> Result<(), Failure> {
    let loaded = load(args.model.as_deref(), args.adapter.as_deref())?;
    if loaded.files.templates.default_template().is_none() {
        terminal.note("the model has no chat template: it sees the lines as they are");
    }
    let turns = Turns::listen()?;
    let mut talk = Conversation::new(args, &loaded);
    let is_interactive = io::stdin().is_terminal();
    if is_interactive {
        terminal.print("Type a message, or /help.\n");
    }
    let mut line = String::new();
    loop {
        if is_interactive {
            terminal.print("> ");
        }
        line.clear();
        turns.wait();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(());
        }
        turns.begin();
        match Line::parse(&line) {
            Line::Nothing => {}
            Line::Say(text) => {
                talk.messages.push(json!({"role": "user", "content": text}));
                talk.answer(&turns, terminal)?;
            }
            Line::Again => talk.again(&turns, terminal)?,
            Line::Adapter(_) if args.adapter.is_none() => {
                terminal.note("there is no adapter; start with `--adapter DIR`");
            }
            Line::Adapter(adapter) => talk.speaker.adapter = adapter,
            Line::System(text) => talk.begin(Some(text)),
            Line::Reset => talk.begin(args.system.as_deref()),
            Line::Help => terminal.print(HELP),
            Line::Quit => return Ok(()),
            Line::Unknown(line) => terminal.note(&format!("`{line}` is no command; see /help")),
        }
    }
}

/// What was said, and what the model has read of it.
struct Conversation<'a> {
    args: &'a Chat,
    loaded: &'a Loaded,
    speaker: Speaker<'a>,
    messages: Vec<Value>,
    session: Session<'a>,
    /// Whether the session's answers are the adapter's.
    with_adapter: bool,
    /// The tokens in the session's cache.
    read: Vec<u32>,
}

impl<'a> Conversation<'a> {
    fn new(args: &'a Chat, loaded: &'a Loaded) -> Self {
        let Loaded { files, policy } = loaded;
        let speaker = Speaker { policy, tokenizer: &files.tokenizer, adapter: true };
        let session = Session::new(policy, true);
        let (messages, read) = (Vec::new(), Vec::new());
        let mut talk = Self { args, loaded, speaker, messages, session, with_adapter: true, read };
        talk.begin(args.system.as_deref());
        talk
    }

    /// Forgets what was said.
    fn begin(&mut self, system: Option<&str>) {
        self.messages.clear();
        self.messages.extend(system.map(|text| json!({"role": "system", "content": text})));
    }

    /// Answers the last question again.
    fn again(&mut self, turns: &Turns, terminal: &Terminal) -> Result<(), Failure> {
        if self.messages.last().is_some_and(|last| last["role"] == "assistant") {
            self.messages.pop();
        }
        if self.messages.last().is_none_or(|last| last["role"] != "user") {
            terminal.note("nothing was asked yet");
            return Ok(());
        }
        self.answer(turns, terminal)
    }

    /// Answers the last message, and keeps the answer as part of the conversation.
    fn answer(&mut self, turns: &Turns, terminal: &Terminal) -> Result<(), Failure> {
        let prompt = self.prompt(terminal)?;
        let next = self.unread(&prompt);
        let (mut answer, mut failure) = (String::new(), None);
        let said = self.speaker.go_on(&mut self.session, &next, &self.args.writing, &mut |text| {
            answer.push_str(text);
            failure = terminal.data(text).err();
            failure.is_none() && !turns.is_cancelled()
        });
        let said = said?;
        self.read = [prompt, said.tokens].concat();
        self.read.truncate(self.session.length());
        if let Some(failure) = failure {
            return Err(failure);
        }
        terminal.data("\n")?;
        if said.stop == StopReason::Length {
            terminal.note("stopped at the limit of new tokens, see `--max-new-tokens`");
        }
        self.messages.push(json!({"role": "assistant", "content": answer}));
        Ok(())
    }

    /// The conversation as tokens; its oldest turns are left out if the answer would not fit.
    fn prompt(&mut self, terminal: &Terminal) -> Result<Vec<u32>, Failure> {
        let context = self.loaded.policy.config().context;
        let room = self.args.writing.max_new_tokens.min(context / 4);
        loop {
            let prompt = chat_prompt(&self.loaded.files, &self.messages)?;
            let first = usize::from(self.messages[0]["role"] == "system");
            // The last question stays, even if only a part of an answer fits behind it.
            if prompt.len() + room <= context || self.messages.len() - first < 3 {
                return Ok(prompt);
            }
            self.messages.drain(first..first + 2);
            terminal.note("the conversation is longer than the model's context: its oldest turn is left out from here on");
        }
    }

    /// The part of a prompt that the session has not read; it begins anew if it read anything else.
    fn unread(&mut self, prompt: &[u32]) -> Vec<u32> {
        let is_same = self.with_adapter == self.speaker.adapter;
        // At least one token must be read for there to be logits.
        if is_same && self.read.len() < prompt.len() && prompt.starts_with(&self.read) {
            return prompt[self.read.len()..].to_vec();
        }
        self.with_adapter = self.speaker.adapter;
        self.session = Session::new(&self.loaded.policy, self.with_adapter);
        prompt.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn lines_are_words_for_the_model_or_commands() {
        for (line, wanted) in [
            (" \n", Line::Nothing),
            ("Hello there\n", Line::Say("Hello there")),
            ("/adapter off", Line::Adapter(false)),
            ("/adapter on ", Line::Adapter(true)),
            ("/adapter", Line::Unknown("/adapter")),
            ("/again", Line::Again),
            ("/system Be brief. ", Line::System("Be brief.")),
            ("/system", Line::Unknown("/system")),
            ("/reset", Line::Reset),
            ("/help", Line::Help),
            ("/exit", Line::Quit),
            ("/quit now", Line::Unknown("/quit now")),
        ] {
            assert_eq!(Line::parse(line), wanted, "{line:?}");
        }
    }
}
