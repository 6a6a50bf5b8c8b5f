//! Many requests at once, no more than so many at a time; each answer is kept before it counts, and
//! asked for again where it cannot be read.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use crate::{Answer, Client, Error, Journal, Request};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// An answer that could be read.
    Read {
        /// What it says.
        value: T,
        /// Its text.
        text: String,
    },
    /// No answer could be read, however often it was asked for.
    Unreadable {
        /// The last one, or what was wrong with it where it was no answer at all.
        text: String,
    },
    /// The endpoint refuses this text.
    Refused {
        /// Why, in its words.
        why: String,
    },
}

impl<T> Outcome<T> {
    /// What was read.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Read { value, .. } => Some(value),
            Self::Unreadable { .. } | Self::Refused { .. } => None,
        }
    }
}

/// What was asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Answers that came from the endpoint.
    pub paid: u64,
    /// Answers that were there already.
    pub kept: u64,
    /// Tokens that the endpoint says it read.
    pub prompt_tokens: u64,
    /// Tokens that the endpoint says it wrote.
    pub completion_tokens: u64,
}

#[derive(Default)]
struct Counters {
    paid: AtomicU64,
    kept: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

/// What is told of each outcome, with its place, as it comes, and now and then of nothing; false ends
/// the work.
pub type Watch<'a, T> = &'a mut dyn FnMut(Option<(usize, &Outcome<T>)>) -> bool;

/// Those who ask.
pub struct Panel<'a> {
    client: &'a Client,
    journal: &'a Journal,
    concurrency: usize,
    /// How often an answer that cannot be read is asked for again.
    repeats: u32,
    /// What is said then.
    reminder: &'a str,
    counters: Counters,
}

/// What all workers share.
struct Work<'a, R> {
    /// Different requests with their places, in the order of the first.
    requests: Vec<(&'a Request, Vec<usize>)>,
    next: AtomicUsize,
    is_over: AtomicBool,
    failure: Mutex<Option<Error>>,
    read: R,
}

impl<R> Work<'_, R> {
    /// Ends the work; the first reason is the one that is told.
    fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_over.store(true, Ordering::Relaxed);
        if !matches!(&*failure, Some(first) if !matches!(first, Error::Stopped)) {
            *failure = Some(error);
        }
    }
}

impl<'a> Panel<'a> {
    /// A panel that asks `concurrency` requests at a time.
    pub fn new(client: &'a Client, journal: &'a Journal, concurrency: usize) -> Self {
        let counters = Counters::default();
        Self { client, journal, concurrency, repeats: 0, reminder: "", counters }
    }

    /// Lets answers that cannot be read be asked for again, so often: the conversation goes on with
    /// them and with a reminder of how they should look.
    #[must_use]
    pub fn reminding(mut self, repeats: u32, reminder: &'a str) -> Self {
        (self.repeats, self.reminder) = (repeats, reminder);
        self
    }

    /// What was asked so far.
    pub fn asked(&self) -> Asked {
        let Counters { paid, kept, prompt_tokens, completion_tokens } = &self.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Asked {
            paid: of(paid),
            kept: of(kept),
            prompt_tokens: of(prompt_tokens),
            completion_tokens: of(completion_tokens),
        }
    }

    /// Asks all, and gives what became of each, in the order of the requests. The same request is
    /// asked once, however often it is there.
    ///
    /// `read` makes something of an answer. `watch` is told of each outcome as it comes, with
    /// its place; `None` where nothing came for a moment. If it says false, requests that were sent
    /// are still waited for and kept, and no other is sent.
    ///
    /// # Errors
    ///
    /// What ends all work: an endpoint that refuses the key or the model, or that fails again and
    /// again; a journal that cannot be written; [`Error::Stopped`].
    pub fn ask_all<T, R>(
        &self,
        requests: &[Request],
        read: R,
        watch: Watch<'_, T>,
    ) -> Result<Vec<Outcome<T>>, Error>
    where
        T: Clone + Send,
        R: Fn(&Answer) -> Option<T> + Sync,
    {
        let work = Work {
            requests: self.different(requests),
            next: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            failure: Mutex::new(None),
            read,
        };
        let mut outcomes: Vec<Option<Outcome<T>>> = requests.iter().map(|_| None).collect();
        let workers = self.concurrency.min(work.requests.len());
        thread::scope(|scope| {
            let (send, outcome) = mpsc::channel();
            for _ in 0..workers {
                let (work, send) = (&work, send.clone());
                scope.spawn(move || self.work(work, &send));
            }
            drop(send);
            loop {
                let goes_on = match outcome.recv_timeout(crate::pause::LOOK_EVERY) {
                    Ok((index, outcome)) => {
                        let (_, places) = &work.requests[index];
                        let mut goes_on = true;
                        for &place in places {
                            goes_on &= watch(Some((place, &outcome)));
                            outcomes[place] = Some(Outcome::clone(&outcome));
                        }
                        goes_on
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => watch(None),
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                };
                if !goes_on {
                    work.fail(Error::Stopped);
                }
            }
        });
        match work.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(outcomes.into_iter().flatten().collect()),
        }
    }

    /// Equal requests, once.
    fn different<'r>(&self, requests: &'r [Request]) -> Vec<(&'r Request, Vec<usize>)> {
        let mut of_name: BTreeMap<String, usize> = BTreeMap::new();
        let mut all: Vec<(&Request, Vec<usize>)> = Vec::new();
        for (place, request) in requests.iter().enumerate() {
            let name = self.client.endpoint().name_of(request);
            let index = *of_name.entry(name).or_insert(all.len());
            match all.get_mut(index) {
                Some((_, places)) => places.push(place),
                None => all.push((request, vec![place])),
            }
        }
        all
    }

    /// Takes one request after the other.
    fn work<T, R: Fn(&Answer) -> Option<T>>(
        &self,
        work: &Work<'_, R>,
        send: &mpsc::Sender<(usize, Outcome<T>)>,
    ) {
        let goes_on = || !work.is_over.load(Ordering::Relaxed);
        while goes_on() {
            let index = work.next.fetch_add(1, Ordering::Relaxed);
            let Some((request, _)) = work.requests.get(index) else { return };
            match self.settle(request, &work.read, &goes_on) {
                // The receiver outlives the workers.
                Ok(outcome) => drop(send.send((index, outcome))),
                Err(error) => work.fail(error),
            }
        }
    }

    /// Asks until an answer can be read.
    fn settle<T>(
        &self,
        request: &Request,
        read: &dyn Fn(&Answer) -> Option<T>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Outcome<T>, Error> {
        let mut request = request.clone();
        let mut repeats = 0;
        loop {
            let answer = match self.answer(&request, goes_on) {
                Ok(answer) => answer,
                Err(error) if error.is_of_one_text() => {
                    return Ok(Outcome::Refused { why: error.to_string() });
                }
                Err(Error::GaveUp { source, .. }) if matches!(*source, Error::Answer { .. }) => {
                    return Ok(Outcome::Unreadable { text: source.to_string() });
                }
                Err(error) => return Err(error),
            };
            if let Some(value) = read(&answer) {
                return Ok(Outcome::Read { value, text: answer.text });
            }
            if repeats == self.repeats {
                return Ok(Outcome::Unreadable { text: answer.text });
            }
            repeats += 1;
            request = request.reminded(&answer.text, self.reminder);
        }
    }

    /// The answer that was paid for, or one from the endpoint, which is kept first.
    fn answer(&self, request: &Request, goes_on: &dyn Fn() -> bool) -> Result<Answer, Error> {
        let name = self.client.endpoint().name_of(request);
        if let Some(answer) = self.journal.find(&name) {
            self.counters.kept.fetch_add(1, Ordering::Relaxed);
            return Ok(answer);
        }
        let answer = self.client.ask(request, goes_on)?;
        self.journal.keep(&name, &answer)?;
        let Counters { paid, prompt_tokens, completion_tokens, .. } = &self.counters;
        paid.fetch_add(1, Ordering::Relaxed);
        prompt_tokens.fetch_add(answer.prompt_tokens, Ordering::Relaxed);
        completion_tokens.fetch_add(answer.completion_tokens, Ordering::Relaxed);
        Ok(answer)
    }
}
