//! From requests to answers: paths, methods, keys, limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{SystemTime, UNIX_EPOCH},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
    http::request::Parts,
};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    ApiKey, Limits,
    ask::Ask,
    body::{self, Reply, Stream},
    chat, completion,
    job::{self, Event, Job},
    problem::Problem,
    speech::Speech,
    words::Words,
};

/// What all connections share.
pub(crate) struct House {
    words: Arc<Words>,
    jobs: mpsc::Sender<Vec<Job>>,
    limits: Limits,
    key: Option<ApiKey>,
    /// A place for each request that may be in the house.
    places: Arc<Semaphore>,
    is_closing: AtomicBool,
    /// Seconds since 1970.
    opened: u64,
    /// The number of the next answer; starts at a moment, so that another start has others.
    number: AtomicU64,
}

/// Reads the body of a request.
type Parse = fn(&[u8], &Words) -> Result<Ask, Problem>;

impl House {
    /// A house without guests.
    pub(crate) fn new(
        words: Arc<Words>,
        jobs: mpsc::Sender<Vec<Job>>,
        limits: Limits,
        key: Option<ApiKey>,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            words,
            jobs,
            limits,
            key,
            places: Arc::new(Semaphore::new(limits.requests)),
            is_closing: AtomicBool::new(false),
            opened: now.as_secs(),
            number: AtomicU64::new(now.as_nanos() as u64),
        }
    }

    /// Requests that come from now on are turned away.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Reply> {
        let (parts, body) = request.into_parts();
        match self.route(&parts, body).await {
            Ok(response) => response,
            Err(problem) => refusal(&problem),
        }
    }

    async fn route(&self, parts: &Parts, body: Incoming) -> Result<Response<Reply>, Problem> {
        let path = parts.uri.path();
        if path == "/health" {
            allow(parts, &Method::GET)?;
            return Ok(whole(StatusCode::OK, &json!({"status": "ok"})));
        }
        if let Some(key) = &self.key {
            key.check(&parts.headers)?;
        }
        match path {
            "/v1/chat/completions" => self.generate(parts, body, chat::parse).await,
            "/v1/completions" => self.generate(parts, body, completion::parse).await,
            "/v1/models" => {
                allow(parts, &Method::GET)?;
                let list: Vec<Value> =
                    self.words.names.iter().map(|name| self.model(name)).collect();
                Ok(whole(StatusCode::OK, &json!({"object": "list", "data": list})))
            }
            _ => {
                let Some(name) = path.strip_prefix("/v1/models/") else {
                    return Err(Problem::path(parts.method.as_str(), path));
                };
                allow(parts, &Method::GET)?;
                let name = decoded(name);
                self.words.adapter(&name)?;
                Ok(whole(StatusCode::OK, &self.model(&name)))
            }
        }
    }

    /// A model as the interface describes it.
    fn model(&self, name: &str) -> Value {
        let base = &self.words.names[0];
        json!({
            "id": name,
            "object": "model",
            "created": self.opened,
            "owned_by": "trueup",
            "parent": Some(base).filter(|base| *base != name),
            "max_model_len": self.words.config.context,
        })
    }

    async fn generate(
        &self,
        parts: &Parts,
        body: Incoming,
        parse: Parse,
    ) -> Result<Response<Reply>, Problem> {
        allow(parts, &Method::POST)?;
        let media = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = media.and_then(|media| media.split(';').next()).map(str::trim);
        if !is_json.is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
            return Err(Problem::media());
        }
        let reading = body::read(body, &parts.headers, self.limits.body_bytes);
        let bytes = timeout(self.limits.body, reading).await.map_err(|_| Problem::slow())??;
        if self.is_closing.load(Ordering::Relaxed) {
            return Err(Problem::closing());
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Problem::busy())?;
        let deadline = (Instant::now() + self.limits.answer, self.limits.answer.as_secs());
        let words = Arc::clone(&self.words);
        // Templates and tokenizers may take their time, and must not hold up other connections.
        let parsed = spawn_blocking(move || parse(&bytes, &words)).await;
        let mut ask = parsed.map_err(|_| Problem::internal("the request could not be read."))??;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let speech = Speech::new(&ask, Arc::clone(&self.words), (number, now.as_secs()));
        let (jobs, events) = job::jobs(&mut ask, self.words.config.context);
        self.jobs.send(jobs).map_err(|_| Problem::closing())?;
        if ask.stream {
            return Ok(stream(Stream::new(events, speech, deadline, place)));
        }
        let answer = gather(events, speech, deadline).await?;
        Ok(whole(StatusCode::OK, &answer))
    }
}

/// Waits for all of an answer.
async fn gather(
    mut events: tokio::sync::mpsc::Receiver<Event>,
    mut speech: Speech,
    (deadline, secs): (Instant, u64),
) -> Result<Value, Problem> {
    while let Some(event) =
        timeout_at(deadline, events.recv()).await.map_err(|_| Problem::timeout(secs))?
    {
        speech.gather(event)?;
    }
    speech.whole()
}

/// Complains of another method.
fn allow(parts: &Parts, method: &Method) -> Result<(), Problem> {
    if parts.method == method {
        return Ok(());
    }
    let allowed = if *method == Method::GET { "GET" } else { "POST" };
    Err(Problem::method(parts.method.as_str(), parts.uri.path(), allowed))
}

/// A part of a path without its escapes.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped =
            after.split_at_checked(2).filter(|_| *first == b'%').and_then(|(hex, after)| {
                Some((u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?, after))
            });
        let (byte, after) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn whole(status: StatusCode, value: &Value) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(value.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn stream(stream: Stream) -> Response<Reply> {
    let mut response = Response::new(Reply::Stream(Box::new(stream)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn refusal(problem: &Problem) -> Response<Reply> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = whole(status, &problem.to_json());
    if let Some((name, value)) = problem.header {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn escapes_of_paths_are_undone() {
        for (given, wanted) in [
            ("org%2Fname", "org/name"),
            ("org/name", "org/name"),
            ("a%C3%A4", "a\u{e4}"),
            ("50%", "50%"),
            ("%zz%4", "%zz%4"),
            ("", ""),
        ] {
            assert_eq!(decoded(given), wanted);
        }
    }
}
