//! What passes between the threads that talk and the one that computes.

use std::sync::Arc;

use model::Sampling;
use tokio::sync::mpsc;

use crate::ask::{Ask, Prompt};

/// Pieces of answers that may wait for their client; a sequence pauses when there are more.
const EVENTS: usize = 64;

/// One prompt, to be continued one or several times.
pub(crate) struct Job {
    pub(crate) prompt: Prompt,
    pub(crate) wish: Wish,
    /// The number of its first answer in the request.
    pub(crate) first_choice: usize,
    /// Where its answers go; nobody wants them any more when it is closed.
    pub(crate) events: mpsc::Sender<Event>,
}

/// How a prompt is to be continued.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) adapter: Option<usize>,
    pub(crate) choices: usize,
    pub(crate) tokens_max: usize,
    pub(crate) sampling: Sampling,
    pub(crate) stops: Arc<[String]>,
    pub(crate) top_logps: Option<usize>,
    pub(crate) echo: bool,
}

/// What becomes of a job.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// An answer goes on.
    Text {
        /// The number of the answer.
        choice: usize,
        /// May be empty, where only tokens are told.
        text: String,
        /// Its tokens, if they are wanted.
        said: Vec<Said>,
    },
    /// An answer is whole.
    Over {
        /// The number of the answer.
        choice: usize,
        /// Why.
        reason: Reason,
        /// How many tokens were written.
        tokens: usize,
    },
    /// The program failed; no answer of the job will be whole.
    Failed {
        /// How.
        what: String,
    },
}

/// Why an answer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The model ended it, or a stop string came.
    Stop,
    /// The limit of tokens, or the model's context, was reached.
    Length,
}

/// A token that was said, and what else might have been.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) token: u32,
    /// The token before it.
    pub(crate) before: Option<u32>,
    /// Its log-probability; the first token of all has none.
    pub(crate) logp: Option<f64>,
    /// The most likely tokens in its place, if any are wanted.
    pub(crate) top: Vec<(u32, f64)>,
    /// Characters before it.
    pub(crate) offset: usize,
}

impl Reason {
    /// As answers name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// The jobs of a request, and where their events come out.
pub(crate) fn jobs(ask: &mut Ask, context: usize) -> (Vec<Job>, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel(EVENTS);
    let stops: Arc<[String]> = ask.stops.clone().into();
    let prompts = std::mem::take(&mut ask.prompts);
    let job = |(index, prompt): (usize, Prompt)| Job {
        wish: Wish {
            adapter: ask.adapter,
            choices: ask.choices,
            tokens_max: ask.tokens_max.unwrap_or(usize::MAX).min(context - prompt.tokens.len()),
            sampling: ask.sampling,
            stops: Arc::clone(&stops),
            top_logps: ask.top_logps,
            echo: ask.echo,
        },
        prompt,
        first_choice: index * ask.choices,
        events: sender.clone(),
    };
    (prompts.into_iter().enumerate().map(job).collect(), events)
}
