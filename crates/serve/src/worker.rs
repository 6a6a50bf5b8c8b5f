//! The thread that computes: all answers in the making advance together, a token at a time.
//!
//! A round reads a part of some prompts, then gives every answer its next token in one pass over
//! the weights for each adapter. So a long prompt delays the others by a part of it, and no answer
//! waits for another to end. Whose client has gone is dropped before the next round; whose client is
//! slow pauses.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, mpsc},
    time::Duration,
};

use model::{Distribution, Past, Policy, part_of_prompt};
use rayon::prelude::*;

use crate::{
    job::{Event, Job},
    sequence::{Alternatives, Echo, Sequence},
    words::{Weights, Words},
};

/// Tokens of prompts that a round reads where answers wait for their next token.
const PROMPT_TOKENS: usize = 128;
/// Tokens of prompts that a round reads where none do.
const PROMPT_TOKENS_ALONE: usize = 512;
/// How long to wait where every client is slow.
const PAUSE: Duration = Duration::from_millis(2);

/// Everything that is being computed.
pub(crate) struct Worker<'a> {
    words: &'a Words,
    weights: Weights,
    jobs: mpsc::Receiver<Vec<Job>>,
    /// The most sequences at once.
    places: usize,
    /// What has no place yet, a queue for each request: they take turns, so that one that asks for
    /// much does not hold up those that ask for little.
    waiting: VecDeque<VecDeque<Task>>,
    reading: VecDeque<Reading>,
    writing: Vec<Sequence<'a>>,
}

/// What needs a place.
enum Task {
    /// A prompt to read.
    Read(Job),
    /// An answer to begin.
    Write(Read),
}

impl Task {
    /// Whether nobody wants it any more.
    fn is_forgotten(&self) -> bool {
        match self {
            Self::Read(job) => job.events.is_closed(),
            Self::Write(read) => read.job.events.is_closed(),
        }
    }
}

/// A prompt that is being read.
struct Reading {
    job: Job,
    past: Past,
    /// Of each token read so far, what the model says of the one that follows, if it is asked for.
    logps: Vec<Alternatives>,
}

/// A prompt that was read, and the answers that were begun.
struct Read {
    job: Arc<Job>,
    past: Past,
    logits: Vec<f32>,
    echo: Option<Echo>,
    begun: usize,
}

impl<'a> Worker<'a> {
    /// A worker without work.
    pub(crate) fn new(
        words: &'a Words,
        weights: Weights,
        jobs: mpsc::Receiver<Vec<Job>>,
        places: usize,
    ) -> Self {
        Self {
            words,
            weights,
            jobs,
            places,
            waiting: VecDeque::new(),
            reading: VecDeque::new(),
            writing: Vec::new(),
        }
    }

    /// Works until nobody can send jobs any more.
    pub(crate) fn run(mut self) {
        while self.receive() {
            self.forget();
            // Inside the pool: from outside, each operation would wake it and wait to be woken.
            rayon::scope(|_| {
                self.admit();
                self.read_on();
                self.write_on();
            });
            self.writing.retain_mut(Sequence::deliver);
        }
    }

    /// Takes new jobs, waiting for them if there is nothing to do; false where none can come.
    fn receive(&mut self) -> bool {
        let is_idle = self.reading.is_empty() && self.writing.is_empty();
        let is_stuck = self.reading.is_empty()
            && (self.waiting.is_empty() || self.writing.len() == self.places)
            && !self.writing.iter().any(Sequence::wants_more);
        let came = if is_idle && self.waiting.is_empty() {
            match self.jobs.recv() {
                Ok(jobs) => Some(jobs),
                Err(_) => return false,
            }
        } else if is_stuck {
            self.jobs.recv_timeout(PAUSE).ok()
        } else {
            None
        };
        for jobs in came.into_iter().chain(self.jobs.try_iter()) {
            self.waiting.push_back(jobs.into_iter().map(Task::Read).collect());
        }
        true
    }

    /// Drops what clients that have gone were waiting for.
    fn forget(&mut self) {
        for tasks in &mut self.waiting {
            tasks.retain(|task| !task.is_forgotten());
        }
        self.waiting.retain(|tasks| !tasks.is_empty());
        self.reading.retain(|reading| !reading.job.events.is_closed());
    }

    /// Gives free places away, to each request in its turn.
    fn admit(&mut self) {
        while self.reading.len() + self.writing.len() < self.places {
            let Some(mut tasks) = self.next() else { return };
            match tasks.pop_front() {
                Some(Task::Read(job)) => {
                    let past = self.weights.past();
                    self.reading.push_back(Reading { job, past, logps: Vec::new() });
                }
                Some(Task::Write(read)) => {
                    if let Some(read) = self.begin(read) {
                        tasks.push_front(Task::Write(read));
                    }
                }
                None => {}
            }
            if !tasks.is_empty() {
                self.waiting.push_back(tasks);
            }
        }
    }

    /// The queue whose turn it is. Prompts that were read take memory: where there are many, their
    /// answers come first.
    fn next(&mut self) -> Option<VecDeque<Task>> {
        let is_read = |tasks: &VecDeque<Task>| matches!(tasks.front(), Some(Task::Write(_)));
        if self.places <= self.waiting.iter().filter(|tasks| is_read(tasks)).count() {
            let place = self.waiting.iter().position(is_read)?;
            return self.waiting.remove(place);
        }
        self.waiting.pop_front()
    }

    /// Begins an answer; gives the prompt back if there are more to come.
    fn begin(&mut self, mut read: Read) -> Option<Read> {
        let is_last = read.begun + 1 == read.job.wish.choices;
        let past = if is_last {
            std::mem::replace(&mut read.past, self.weights.past())
        } else {
            read.past.clone()
        };
        let answer = (Arc::clone(&read.job), read.begun);
        let echo = read.echo.as_ref();
        self.writing.push(Sequence::begin(self.words, answer, past, &read.logits, echo));
        read.begun += 1;
        (!is_last).then_some(read)
    }

    /// Reads a part of the prompts, each in its turn.
    fn read_on(&mut self) {
        let is_alone = !self.writing.iter().any(Sequence::wants_more);
        let most = if is_alone { PROMPT_TOKENS_ALONE } else { PROMPT_TOKENS };
        let mut done = 0;
        while done < most
            && let Some(mut reading) = self.reading.pop_front()
        {
            let start = reading.past.length();
            let left = reading.job.prompt.tokens.len() - start;
            let part = part_of_prompt(self.weights.policy.config(), left, most);
            done += part;
            let logits = match self.weights.read(&mut reading, part) {
                Ok(logits) => logits,
                Err(error) => {
                    // If nobody listens, nobody needs to know.
                    let _ = reading.job.events.try_send(Event::Failed { what: error.to_string() });
                    continue;
                }
            };
            if part < left {
                self.reading.push_back(reading);
                continue;
            }
            let Reading { job, past, logps } = reading;
            let echo = job.wish.echo.then(|| Echo::new(self.words, &job, logps)).transpose();
            match echo {
                Ok(echo) => {
                    let read = Read { job: Arc::new(job), past, logits, echo, begun: 0 };
                    // The place that it leaves is for its first answer.
                    self.waiting.push_front([Task::Write(read)].into());
                }
                Err(what) => {
                    let _ = job.events.try_send(Event::Failed { what });
                }
            }
        }
        self.admit();
    }

    /// Gives every answer its next token.
    fn write_on(&mut self) {
        let adapters: BTreeSet<Option<usize>> =
            self.writing.iter().filter(|it| it.wants_more()).map(Sequence::adapter).collect();
        for adapter in adapters {
            let mut members: Vec<&mut Sequence<'_>> = self
                .writing
                .iter_mut()
                .filter(|it| it.wants_more() && it.adapter() == adapter)
                .collect();
            let (tokens, mut pasts): (Vec<u32>, Vec<&mut Past>) =
                members.iter_mut().map(|sequence| sequence.next()).unzip();
            let stepped =
                self.weights.with(adapter, |policy| policy.step(&mut pasts, &tokens, true));
            match stepped {
                Ok(logits) => members
                    .par_iter_mut()
                    .enumerate()
                    .for_each(|(row, sequence)| sequence.advance(logits.row(row))),
                Err(error) => {
                    for sequence in members {
                        sequence.fail(error.to_string());
                    }
                }
            }
        }
    }
}

impl Weights {
    /// The past of a sequence that was not read yet.
    fn past(&self) -> Past {
        Past::new(self.policy.config())
    }

    /// Computes with an adapter, or without one.
    fn with<T>(&mut self, adapter: Option<usize>, compute: impl FnOnce(&Policy) -> T) -> T {
        let spare = adapter.and_then(|index| self.adapters.get_mut(index));
        let Some(spare) = spare else { return compute(&self.policy) };
        self.policy.exchange(spare);
        let result = compute(&self.policy);
        self.policy.exchange(spare);
        result
    }

    /// Reads some tokens of a prompt; the logits are for what follows the last one.
    fn read(&mut self, reading: &mut Reading, count: usize) -> Result<Vec<f32>, model::Error> {
        let Reading { job, past, logps } = reading;
        let tokens = &job.prompt.tokens;
        let start = past.length();
        let part = &tokens[start..start + count];
        let Some(top) = job.wish.top_logps.filter(|_| job.wish.echo) else {
            return self.with(job.wish.adapter, |policy| policy.read(past, part, true));
        };
        let mut last = Vec::new();
        let mut followers = tokens[start + 1..].iter();
        let mut listen = |logits: &[f32]| match followers.next() {
            Some(follower) => {
                let distribution = Distribution::new(logits);
                let (logp, top) = (Some(distribution.logp(*follower)), distribution.top(top));
                logps.push(Alternatives { logp, top });
            }
            None => last = logits.to_vec(),
        };
        self.with(job.wish.adapter, |policy| policy.read_each(past, part, true, &mut listen))?;
        Ok(last)
    }
}
