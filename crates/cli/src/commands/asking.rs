//! An OpenAI-compatible endpoint as flags and the environment name it, and what it was asked.

use std::{fmt::Write as _, path::Path, time::Duration};

use ::judge::{Answer, Asked, Client, Endpoint, Outcome, PUBLIC_URL, Panel, Request};

use crate::{
    args::{Asking, Reaching},
    counted::Counted,
    environment,
    failure::Failure,
    signals::{INTERRUPT, Signals},
    terminal::Terminal,
};

/// The variable that holds a key where no other is named.
const KEY: &str = "OPENAI_API_KEY";

/// The endpoint of flags, with its key from the environment.
pub(super) fn client(asking: &Asking) -> Result<Client, Failure> {
    let endpoint = endpoint(&asking.reaching);
    let key = match &asking.api_key_env {
        Some(name) => Some(variable(name)?),
        None => usual_key(&endpoint)?,
    };
    Ok(Client::new(Endpoint { key, ..endpoint })?)
}

/// The endpoint of flags, with a key of another place or the usual one.
pub(super) fn client_with(reaching: &Reaching, key: Option<String>) -> Result<Client, Failure> {
    let endpoint = endpoint(reaching);
    let key = match key {
        Some(key) => Some(key),
        None => usual_key(&endpoint)?,
    };
    Ok(Client::new(Endpoint { key, ..endpoint })?)
}

/// The key of the usual variable; an endpoint on this machine may need none.
fn usual_key(endpoint: &Endpoint) -> Result<Option<String>, Failure> {
    match variable(KEY) {
        Err(Failure::NoVariable { .. }) if endpoint.is_local() => Ok(None),
        key => key.map(Some),
    }
}

fn endpoint(reaching: &Reaching) -> Endpoint {
    let Reaching { base_url, retries, retry_delay, request_timeout } = reaching;
    let set = |name: &str| environment::lookup(name).filter(|value| !value.trim().is_empty());
    let base_url = base_url.clone().or_else(|| set("OPENAI_BASE_URL"));
    let usual = Endpoint::new(base_url.as_deref().unwrap_or(PUBLIC_URL));
    let certificates = set("SSL_CERT_FILE").or_else(|| set("REQUESTS_CA_BUNDLE"));
    Endpoint {
        certificates: certificates.map(Into::into),
        retries: retries.unwrap_or(usual.retries),
        retry_delay: retry_delay.map_or(usual.retry_delay, Duration::from_secs_f64),
        timeout: request_timeout.map_or(usual.timeout, |secs| Duration::from_secs(secs.into())),
        ..usual
    }
}

fn variable(name: &str) -> Result<String, Failure> {
    let value = environment::lookup(name).filter(|value| !value.trim().is_empty());
    let value = value.ok_or_else(|| Failure::NoVariable { name: name.to_owned() })?;
    Ok(value.trim().to_owned())
}

/// Asks all, with progress; `None` if a signal came on the way. What came is kept.
pub(super) fn ask_all<T: Clone + Send>(
    panel: &Panel<'_>,
    requests: &[Request],
    read: impl Fn(&Answer) -> Option<T> + Sync,
    (signals, name): (&Signals, &str),
    terminal: &mut Terminal,
) -> Result<Option<Vec<Outcome<T>>>, Failure> {
    let mut counted = Counted::new(terminal, name, requests.len());
    let mut done = 0;
    let outcomes = panel.ask_all(requests, read, &mut |outcome| {
        if outcome.is_some() {
            done += 1;
            counted.tell(done, done);
        }
        signals.received().is_none()
    });
    match outcomes {
        Err(::judge::Error::Stopped) => Ok(None),
        outcomes => Ok(Some(outcomes?)),
    }
}

/// What is made of a group: its number, and what became of its requests.
pub(super) type OnGroup<'a, T> = &'a mut dyn FnMut(usize, &[Outcome<T>]) -> Result<(), Failure>;

/// Requests that belong together, so many at a time, whose outcomes are handed on in their order.
pub(super) struct Ordered<'a> {
    /// Who asks.
    pub(super) panel: &'a Panel<'a>,
    /// What is counted.
    pub(super) name: &'a str,
    /// How many requests belong together.
    pub(super) size: usize,
    /// What stops it.
    pub(super) signals: &'a Signals,
}

impl Ordered<'_> {
    /// Asks all; `on_group` gets the number of each group with what became of its requests. False if a
    /// signal came on the way: what came is kept.
    pub(super) fn ask<T: Clone + Send>(
        &self,
        requests: &[Request],
        read: impl Fn(&Answer) -> Option<T> + Sync,
        terminal: &mut Terminal,
        on_group: OnGroup<'_, T>,
    ) -> Result<bool, Failure> {
        let mut counted = Counted::new(terminal, self.name, requests.len() / self.size);
        let mut outcomes: Vec<Option<Outcome<T>>> = requests.iter().map(|_| None).collect();
        let (mut next, mut failure) = (0, None);
        let asked = self.panel.ask_all(requests, read, &mut |outcome| {
            let Some((place, outcome)) = outcome else {
                return failure.is_none() && self.signals.received().is_none();
            };
            outcomes[place] = Some(outcome.clone());
            while let Some(group) = outcomes.get_mut(next * self.size..(next + 1) * self.size) {
                if failure.is_some() || group.is_empty() || group.iter().any(Option::is_none) {
                    break;
                }
                let group: Vec<Outcome<T>> = group.iter_mut().filter_map(Option::take).collect();
                failure = on_group(next, &group).err();
                next += 1;
            }
            counted.tell(next, next);
            failure.is_none() && self.signals.received().is_none()
        });
        match (failure, asked) {
            (Some(failure), _) => Err(failure),
            (None, Err(::judge::Error::Stopped)) => Ok(false),
            (None, asked) => Ok(asked.map(|_| true)?),
        }
    }
}

/// What is told where a signal came.
pub(super) fn stopped(signals: &Signals, output: &Path) -> Failure {
    let signal = signals.received().unwrap_or(INTERRUPT);
    Failure::WorkStopped { signal, output: output.into() }
}

/// What was paid for.
pub(super) fn tell(who: &str, asked: Asked, terminal: &Terminal) {
    let Asked { paid, kept, prompt_tokens, completion_tokens } = asked;
    let mut line = format!("{who}: {paid} answers paid, {kept} kept from before");
    if 0 < prompt_tokens {
        let _ = write!(line, "; {prompt_tokens} tokens read, {completion_tokens} written");
    }
    terminal.print(&format!("{line}\n"));
}
