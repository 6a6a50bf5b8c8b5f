//! One endpoint over HTTP: a request, patiently, and its answer.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use ureq::{
    Agent, Body,
    http::Response,
    tls::{PemItem, RootCerts, TlsConfig},
};

use crate::{
    Answer, Error, Request,
    pause::{asked, backoff, sleep_until},
};

/// The endpoint that is meant where no other is named.
pub const PUBLIC_URL: &str = "https://api.openai.com/v1";

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The longest pause that is waited for; whoever asks for more is left until another day.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// The most that is told of an endpoint's words.
const WORDS_MAX: usize = 300;

/// Where to ask, and how patiently.
#[derive(Clone)]
pub struct Endpoint {
    /// The address, up to and without `/chat/completions`.
    pub base_url: String,
    /// The key that is sent, to this address alone.
    pub key: Option<String>,
    /// A PEM file of certificates to trust instead of the built-in ones.
    pub certificates: Option<PathBuf>,
    /// The time for one try.
    pub timeout: Duration,
    /// Tries after the first one.
    pub retries: u32,
    /// The wait before the first of them; it doubles each time.
    pub retry_delay: Duration,
    /// Seed of how the waits are spread.
    pub seed: u64,
}

impl Endpoint {
    /// An endpoint without a key, asked with the usual patience.
    pub fn new(base_url: &str) -> Self {
        Self {
            base_url: base_url.trim().trim_end_matches('/').to_owned(),
            key: None,
            certificates: None,
            timeout: Duration::from_mins(2),
            retries: 5,
            retry_delay: Duration::from_secs(1),
            seed: 42,
        }
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        let host = self.base_url.split("://").last().unwrap_or_default();
        ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
    }

    /// The name of a request here: two have the same name if the same is asked of the same address.
    pub(crate) fn name_of(&self, request: &Request) -> String {
        let text = format!("{}\n{}", self.base_url, request.body());
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

/// A connection to one endpoint, for many threads.
pub struct Client {
    agent: Agent,
    endpoint: Endpoint,
    url: String,
    /// No request leaves before this moment: what one was told holds for all.
    earliest: Mutex<Instant>,
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// Proxies are those of the usual variables; an endpoint on this machine is reached without one.
    ///
    /// # Errors
    ///
    /// [`Error::Address`], [`Error::Key`] or [`Error::Certificates`] for settings that cannot be.
    pub fn new(endpoint: Endpoint) -> Result<Self, Error> {
        let url = format!("{}/chat/completions", endpoint.base_url);
        let has_host = |scheme: &str| {
            endpoint.base_url.strip_prefix(scheme).is_some_and(|rest| {
                !rest.is_empty() && !rest.starts_with('/') && url.parse::<ureq::http::Uri>().is_ok()
            })
        };
        if !has_host("https://") && !has_host("http://") {
            return Err(Error::Address { url: endpoint.base_url });
        }
        let is_sendable = |key: &String| key.bytes().all(|byte| byte.is_ascii_graphic());
        if !endpoint.key.as_ref().is_none_or(is_sendable) {
            return Err(Error::Key);
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("trueup/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(endpoint.timeout.min(Duration::from_secs(10))))
            .timeout_global(Some(endpoint.timeout))
            .tls_config(tls(endpoint.certificates.as_deref())?);
        if endpoint.is_local() {
            config = config.proxy(None);
        }
        let earliest = Mutex::new(Instant::now());
        Ok(Self { agent: config.build().into(), endpoint, url, earliest })
    }

    /// Where it asks.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks until there is an answer: what fails for a passing reason is tried again, with waits that
    /// grow, or as long as the endpoint says.
    ///
    /// # Errors
    ///
    /// What fails for good at once; [`Error::GaveUp`] after all tries, [`Error::Pause`] where the
    /// endpoint wants a pause beyond ten minutes, [`Error::Stopped`] if `goes_on` says false.
    pub fn ask(&self, request: &Request, goes_on: &dyn Fn() -> bool) -> Result<Answer, Error> {
        let name = self.endpoint.name_of(request);
        let draw = [&self.endpoint.seed.to_le_bytes(), name.as_bytes()].concat();
        let mut failures = 0;
        loop {
            if !self.wait(goes_on) {
                return Err(Error::Stopped);
            }
            let error = match self.once(request) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            if !error.is_passing() {
                return Err(error);
            }
            if let Some(pause) = error.pause() {
                self.hold(pause)?;
            }
            if self.endpoint.retries < failures {
                return Err(Error::GaveUp { tries: failures, source: Box::new(error) });
            }
            // After a pause that was asked for, too: those that were told together come back spread.
            let delay = backoff(self.endpoint.retry_delay, failures, &draw);
            let end = Instant::now() + error.pause().unwrap_or_default() + delay;
            if !sleep_until(end, goes_on) {
                return Err(Error::Stopped);
            }
        }
    }

    /// Waits until requests may leave.
    fn wait(&self, goes_on: &dyn Fn() -> bool) -> bool {
        loop {
            let earliest = *self.earliest.lock().unwrap_or_else(PoisonError::into_inner);
            if !sleep_until(earliest, goes_on) {
                return false;
            }
            // Another request may have been told to wait meanwhile.
            let now = *self.earliest.lock().unwrap_or_else(PoisonError::into_inner);
            if now <= earliest {
                return true;
            }
        }
    }

    /// Lets no request leave for so long.
    fn hold(&self, pause: Duration) -> Result<(), Error> {
        if PAUSE_MAX < pause {
            return Err(Error::Pause { url: self.url.clone(), secs: pause.as_secs() });
        }
        let mut earliest = self.earliest.lock().unwrap_or_else(PoisonError::into_inner);
        *earliest = (*earliest).max(Instant::now() + pause);
        Ok(())
    }

    /// One try.
    fn once(&self, request: &Request) -> Result<Answer, Error> {
        let unreachable =
            |error| Error::Unreachable { url: self.url.clone(), source: Box::new(error) };
        let mut post = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.endpoint.key {
            post = post.header("authorization", format!("Bearer {key}"));
        }
        let mut answer = post.send(request.body().to_string()).map_err(unreachable)?;
        let pause = {
            let header = |name: &str| header(&answer, name);
            asked(header("retry-after-ms").as_deref(), header("retry-after").as_deref())
        };
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        if status.is_success() {
            let parsed = match body {
                Ok(body) => Answer::parse(&body),
                Err(ureq::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    Err(error.to_string())
                }
                Err(ureq::Error::BodyExceedsLimit(limit)) => {
                    Err(format!("it is longer than {limit} bytes"))
                }
                Err(error) => return Err(unreachable(error)),
            };
            return parsed.map_err(|what| Error::Answer { url: self.url.clone(), what });
        }
        let (code, message) = self.words(&body.unwrap_or_default());
        let (url, status) = (self.url.clone(), status.as_u16());
        Err(Error::Status { url, status, code, message, pause })
    }

    /// What an endpoint says of a refusal, its code and its message; the key is kept out of it.
    fn words(&self, body: &str) -> (String, String) {
        let parsed: Value = serde_json::from_str(body).unwrap_or_default();
        let error = &parsed["error"];
        let code = error["code"].as_str().or_else(|| error["type"].as_str()).unwrap_or_default();
        let message = error["message"].as_str().or_else(|| error.as_str()).unwrap_or_default();
        let mut message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(key) = &self.endpoint.key {
            message = message.replace(key, "***");
        }
        (code.to_owned(), message.chars().take(WORDS_MAX).collect())
    }
}

fn header(answer: &Response<Body>, name: &str) -> Option<String> {
    Some(answer.headers().get(name)?.to_str().ok()?.to_owned())
}

/// Certificates of a file, else the built-in ones.
fn tls(path: Option<&Path>) -> Result<TlsConfig, Error> {
    let Some(path) = path else { return Ok(TlsConfig::default()) };
    let pem = fs_err::read(path)?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::Certificates { path: path.into() });
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(certificates))).build())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn client(key: &str) -> Client {
        let key = Some(key.to_owned());
        Client::new(Endpoint { key, ..Endpoint::new("http://127.0.0.1:9/v1/") }).unwrap()
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for url in
            ["", "api.openai.com/v1", "https://", "https:///v1", "ftp://x/v1", "http://a b/v1"]
        {
            let error = Client::new(Endpoint::new(url)).err().unwrap();
            assert!(matches!(error, Error::Address { .. }), "{url} {error}");
        }
        for key in ["two words", "line\n", "ümlaut"] {
            let endpoint = Endpoint { key: Some(key.into()), ..Endpoint::new(PUBLIC_URL) };
            assert!(matches!(Client::new(endpoint).err().unwrap(), Error::Key));
        }
        assert_eq!(client("k").url, "http://127.0.0.1:9/v1/chat/completions");
    }

    #[test]
    fn the_key_is_in_no_message() {
        let body = json!({"error": {"message": "no such key:  sk-1!", "type": "t", "code": null}});
        let words = client("sk-1").words(&body.to_string());
        assert_eq!(words, ("t".to_owned(), "no such key: ***!".to_owned()));
        let body = json!({"error": "plain"}).to_string();
        assert_eq!(client("sk-1").words(&body), (String::new(), "plain".to_owned()));
        assert_eq!(client("sk-1").words("<html>"), (String::new(), String::new()));
    }

    #[test]
    fn a_request_is_named_by_all_that_is_asked_and_by_where() {
        let messages = vec![json!({"role": "user", "content": "Why?"})];
        let request = Request::new("m", messages);
        let here = Endpoint::new("http://127.0.0.1:9/v1");
        let name = here.name_of(&request);
        assert_eq!(name, Endpoint { timeout: Duration::ZERO, ..here.clone() }.name_of(&request));
        let others = [
            Request { model: "n".into(), ..request.clone() },
            Request { messages: vec![], ..request.clone() },
            Request { temperature: 0.5, ..request.clone() },
            Request { seed: Some(1), ..request.clone() },
            Request { max_tokens: Some(1), ..request.clone() },
        ];
        for other in others {
            assert_ne!(name, here.name_of(&other), "{other:?}");
        }
        assert_ne!(name, Endpoint::new("http://127.0.0.1:8/v1").name_of(&request));
    }
}
