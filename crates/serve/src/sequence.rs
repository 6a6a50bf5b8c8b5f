//! One answer in the making: from logits to tokens, from tokens to text, from text to events.

use std::{collections::VecDeque, sync::Arc};

use data::tokenizer::{Cut, TextStream};
use model::{Distribution, Past, Sampler, Sampling};
use tokio::sync::mpsc::error::TrySendError;

use crate::{
    job::{Event, Job, Reason, Said},
    words::Words,
};

/// One answer in the making.
pub(crate) struct Sequence<'a> {
    words: &'a Words,
    job: Arc<Job>,
    choice: usize,
    past: Past,
    sampler: Sampler,
    /// `None` when the answer is over.
    stream: Option<TextStream<'a>>,
    cut: Cut,
    /// The last token, which the model has not read yet.
    last: u32,
    written: usize,
    /// Characters of the answer, with those that may yet become a stop string.
    characters: usize,
    /// Characters that were passed on.
    passed: usize,
    /// Tokens whose text was not passed on yet.
    unsaid: VecDeque<Said>,
    /// What the client was not sent yet.
    outbox: VecDeque<Event>,
}

impl<'a> Sequence<'a> {
    /// Begins an answer to a prompt that was read; `logits` are for its first token, and `echo` are
    /// the prompt's own tokens, where they are wanted.
    pub(crate) fn begin(
        words: &'a Words,
        (job, choice): (Arc<Job>, usize),
        past: Past,
        logits: &[f32],
        echo: Option<&Echo>,
    ) -> Self {
        let prompt = &job.prompt.tokens;
        let seed = job.wish.sampling.seed.wrapping_add(choice as u64);
        let mut sampler = Sampler::new(Sampling { seed, ..job.wish.sampling });
        sampler.read(prompt);
        let mut sequence = Self {
            words,
            choice: job.first_choice + choice,
            past,
            sampler,
            stream: Some(words.tokenizer.stream(prompt)),
            cut: Cut::new(&job.wish.stops),
            last: prompt.last().copied().unwrap_or_default(),
            written: 0,
            characters: 0,
            passed: 0,
            unsaid: VecDeque::new(),
            outbox: VecDeque::new(),
            job,
        };
        if let Some(echo) = echo {
            sequence.characters = echo.text.chars().count();
            sequence.passed = sequence.characters;
            sequence.tell(echo.text.clone(), echo.said.clone());
        }
        if sequence.job.wish.tokens_max == 0 {
            sequence.end(Reason::Length);
        } else {
            sequence.advance(logits);
        }
        sequence
    }

    /// The adapter that it is written with.
    pub(crate) fn adapter(&self) -> Option<usize> {
        self.job.wish.adapter
    }

    /// Whether it wants its next token now: it is not over, and its client keeps up.
    pub(crate) fn wants_more(&self) -> bool {
        self.stream.is_some() && self.outbox.is_empty()
    }

    /// The token to read next, and what was read before it.
    pub(crate) fn next(&mut self) -> (u32, &mut Past) {
        (self.last, &mut self.past)
    }

    /// Sends what is to be sent; says whether there is still something to do for it.
    pub(crate) fn deliver(&mut self) -> bool {
        if self.job.events.is_closed() {
            return false;
        }
        while let Some(event) = self.outbox.pop_front() {
            match self.job.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.outbox.push_front(event);
                    return true;
                }
                Err(TrySendError::Closed(_)) => return false,
            }
        }
        self.stream.is_some()
    }

    /// Ends it without an answer.
    pub(crate) fn fail(&mut self, what: String) {
        self.stream = None;
        self.outbox.push_back(Event::Failed { what });
    }

    /// Draws the next token.
    pub(crate) fn advance(&mut self, logits: &[f32]) {
        let token = self.sampler.next(logits);
        if self.words.config.eos.contains(&token) {
            return self.end(Reason::Stop);
        }
        if let Some(count) = self.job.wish.top_logps {
            let distribution = Distribution::new(logits);
            self.unsaid.push_back(Said {
                token,
                before: Some(self.last),
                logp: Some(distribution.logp(token)),
                top: distribution.top(count),
                offset: self.characters,
            });
        }
        (self.last, self.written) = (token, self.written + 1);
        let piece = match self.stream.as_mut().map(|stream| stream.push(token)) {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return self.fail(error.to_string()),
            None => return,
        };
        let text = self.take(&piece);
        let said = self.said();
        self.tell(text, said);
        if self.cut.is_over() {
            self.end(Reason::Stop);
        } else if self.written == self.job.wish.tokens_max {
            self.end(Reason::Length);
        }
    }

    /// Passes on what is certain, and says that the answer is whole.
    fn end(&mut self, reason: Reason) {
        let mut text = match self.stream.take().map(TextStream::finish) {
            Some(Ok(rest)) => self.take(&rest),
            Some(Err(error)) => return self.fail(error.to_string()),
            None => return,
        };
        self.cut.finish(&mut |rest| {
            text.push_str(rest);
            true
        });
        let mut said = self.said();
        let mut reason = reason;
        if self.cut.is_over() {
            // What was cut off was not said.
            reason = Reason::Stop;
        } else {
            said.extend(self.unsaid.drain(..));
        }
        self.tell(text, said);
        let (choice, tokens) = (self.choice, self.written);
        self.outbox.push_back(Event::Over { choice, reason, tokens });
    }

    /// Takes a piece of text, and gives what is surely before any stop string.
    fn take(&mut self, piece: &str) -> String {
        self.characters += piece.chars().count();
        let mut text = String::new();
        self.cut.push(piece, &mut |sure| {
            text.push_str(sure);
            true
        });
        self.passed += text.chars().count();
        text
    }

    /// The tokens whose text, or its beginning, was passed on.
    fn said(&mut self) -> Vec<Said> {
        let count = self.unsaid.iter().take_while(|said| said.offset < self.passed).count();
        self.unsaid.drain(..count).collect()
    }

    fn tell(&mut self, text: String, said: Vec<Said>) {
        if !text.is_empty() || !said.is_empty() {
            self.outbox.push_back(Event::Text { choice: self.choice, text, said });
        }
    }
}

/// A prompt as the beginning of its answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo {
    pub(crate) text: String,
    /// Its tokens, if they are wanted.
    pub(crate) said: Vec<Said>,
}

impl Echo {
    /// A prompt's text, and its tokens with their log-probabilities, which are `logps` from the
    /// second token on.
    pub(crate) fn new(words: &Words, job: &Job, logps: Vec<Alternatives>) -> Result<Self, String> {
        let tokens = &job.prompt.tokens;
        let mut stream = words.tokenizer.stream(&[]);
        let (mut text, mut said) = (String::new(), Vec::new());
        let mut characters = 0;
        let first = Alternatives { logp: None, top: Vec::new() };
        let mut of_token = std::iter::once(first).chain(logps);
        for (index, token) in tokens.iter().enumerate() {
            let before = index.checked_sub(1).map(|index| tokens[index]);
            if let Some(Alternatives { logp, top }) =
                of_token.next().filter(|_| job.wish.top_logps.is_some())
            {
                said.push(Said { token: *token, before, logp, top, offset: characters });
            }
            let piece = stream.push(*token).map_err(|error| error.to_string())?;
            characters += piece.chars().count();
            text.push_str(&piece);
        }
        text.push_str(&stream.finish().map_err(|error| error.to_string())?);
        Ok(Self { text: job.prompt.text.clone().unwrap_or(text), said })
    }
}

/// The log-probability of a token of the prompt, and the most likely tokens in its place.
#[derive(Clone, Debug)]
pub(crate) struct Alternatives {
    pub(crate) logp: Option<f64>,
    pub(crate) top: Vec<(u32, f64)>,
}
