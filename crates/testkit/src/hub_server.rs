//! A hub on loopback that knows the tricks of real ones, and breaks off, stalls and lies on demand.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit of `main`.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Bytes that a slow file sends at a time.
const SLOW_BYTES: usize = 1 << 14;

/// One file, and how its server misbehaves.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Its content.
    pub bytes: Vec<u8>,
    /// It is named by its SHA-256, and its bytes come from another host.
    pub is_large: bool,
    /// The connection closes after so many bytes of a body.
    pub breaks_after: Option<usize>,
    /// What requests for its bytes are answered with first: a status, and seconds to wait.
    pub refusals: Vec<(u16, Option<u64>)>,
    /// Ranges are ignored: the whole file comes each time.
    pub ignores_ranges: bool,
    /// One bit of what is sent is wrong.
    pub is_wrong: bool,
    /// The wait before each part of a body.
    pub pause: Duration,
}

impl File {
    /// A small file, as Git keeps it.
    pub fn small(text: &str) -> Self {
        Self { bytes: text.into(), ..Self::default() }
    }

    /// A large file of so many bytes that repeat nowhere near each other.
    pub fn large(size: usize) -> Self {
        let bytes = (0..size).map(|i| i.wrapping_mul(i) % 251);
        let bytes = bytes.map(|byte| u8::try_from(byte).unwrap_or_default()).collect();
        Self { bytes, is_large: true, ..Self::default() }
    }

    /// The name of its content.
    pub fn etag(&self) -> String {
        if self.is_large {
            return hex(&Sha256::digest(&self.bytes));
        }
        let head = format!("blob {}\0", self.bytes.len());
        hex(&Sha1::new_with_prefix(head).chain_update(&self.bytes).finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// What a request looked like.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method, path and version.
    pub line: String,
    /// The range that was asked for.
    pub range: Option<String>,
    /// The token that came along.
    pub authorization: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    /// By `models/org/name` or `datasets/org/name`, then by the file's name.
    repos: BTreeMap<String, BTreeMap<String, File>>,
    seen: Vec<Seen>,
    /// Requests without this token are refused.
    token: Option<String>,
    is_gated: bool,
}

/// The server; it ends with the process.
#[derive(Clone, Debug)]
pub struct HubServer {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

/// What is sent back.
struct Reply {
    head: String,
    body: Vec<u8>,
    pause: Duration,
}

impl Reply {
    fn empty(status: &str, headers: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n");
        Self { head, body: Vec::new(), pause: Duration::ZERO }
    }
}

impl HubServer {
    /// Starts to serve.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0");
        let listener = listener.unwrap_or_else(|error| panic!("no server on loopback: {error}"));
        let address = listener.local_addr();
        let address = address.unwrap_or_else(|error| panic!("no server on loopback: {error}"));
        let server = Self { endpoint: format!("http://{address}"), state: Arc::default() };
        let state = server.state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                thread::spawn(move || answer(&stream, &state));
            }
        });
        server
    }

    /// Its address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Adds or replaces a repository such as `models/org/name`.
    pub fn put(&self, repo: &str, files: &[(&str, File)]) {
        let files = files.iter().map(|(name, file)| ((*name).to_owned(), file.clone())).collect();
        locked(&self.state).repos.insert(repo.to_owned(), files);
    }

    /// Asks for this token from now on.
    pub fn require(&self, token: &str) {
        locked(&self.state).token = Some(token.to_owned());
    }

    /// Refuses files until terms are accepted, which they never are.
    pub fn gate(&self) {
        locked(&self.state).is_gated = true;
    }

    /// The requests whose first line begins so, in their order.
    pub fn seen(&self, start: &str) -> Vec<Seen> {
        let seen = &locked(&self.state).seen;
        seen.iter().filter(|seen| seen.line.starts_with(start)).cloned().collect()
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request and closes the connection.
fn answer(stream: &TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(line) = lines.next() else { return };
    let headers: BTreeMap<String, String> = lines
        .take_while(|header| !header.is_empty())
        .filter_map(|header| {
            let (name, value) = header.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let header = |name: &str| headers.get(name).cloned();
    let seen = Seen { line, range: header("range"), authorization: header("authorization") };
    let port = stream.local_addr().map_or(0, |address| address.port());
    let reply = {
        let mut state = locked(state);
        state.seen.push(seen.clone());
        state.reply(&seen, port)
    };
    let mut stream = stream;
    // A client that has left is no concern of the server.
    let mut sent = stream.write_all(reply.head.as_bytes());
    let part = if reply.pause.is_zero() { reply.body.len().max(1) } else { SLOW_BYTES };
    for part in reply.body.chunks(part) {
        thread::sleep(reply.pause);
        sent = sent.and_then(|()| stream.write_all(part)).and_then(|()| stream.flush());
    }
    let _ = sent.and_then(|()| stream.shutdown(Shutdown::Both));
}

impl State {
    fn reply(&mut self, seen: &Seen, port: u16) -> Reply {
        let mut words = seen.line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some(path) = path.strip_prefix("/cdn/") {
            return self.content(path, seen.range.as_deref());
        }
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if bearer.is_some() && bearer != seen.authorization {
            return Reply::empty("401 Unauthorized", "x-error-code: RepoNotFound\r\n");
        }
        if let Some(rest) = path.strip_prefix("/api/") {
            return self.listing(rest);
        }
        if self.is_gated {
            return Reply::empty("403 Forbidden", "x-error-code: GatedRepo\r\n");
        }
        let Some((repo, rest)) = path.trim_start_matches('/').split_once("/resolve/") else {
            return Reply::empty("404 Not Found", "");
        };
        let is_dataset = repo.starts_with("datasets/");
        let repo = if is_dataset { repo.to_owned() } else { format!("models/{repo}") };
        let (revision, name) = rest.split_once('/').unwrap_or((rest, ""));
        if !["main", "v1", COMMIT].contains(&revision) {
            return Reply::empty("404 Not Found", "x-error-code: RevisionNotFound\r\n");
        }
        let place = format!("{repo}//{name}");
        let Some(file) = self.repos.get_mut(&repo).and_then(|files| files.get_mut(name)) else {
            return Reply::empty("404 Not Found", "x-error-code: EntryNotFound\r\n");
        };
        if method == "GET" && !file.refusals.is_empty() {
            let (status, secs) = file.refusals.remove(0);
            let header = secs.map(|secs| format!("retry-after: {secs}\r\n"));
            return Reply::empty(&format!("{status} Refused"), &header.unwrap_or_default());
        }
        let (etag, size) = (file.etag(), file.bytes.len());
        let head = format!("x-repo-commit: {COMMIT}\r\n");
        match (file.is_large, method) {
            // The same server under another name, as another host.
            (true, _) => Reply::empty(
                "302 Found",
                &format!(
                    "{head}x-linked-etag: \"{etag}\"\r\nx-linked-size: {size}\r\n\
                     location: http://localhost:{port}/cdn/{place}\r\n"
                ),
            ),
            (false, "HEAD") => Reply {
                head: format!(
                    "HTTP/1.1 200 OK\r\n{head}etag: \"{etag}\"\r\ncontent-length: {size}\r\n\r\n"
                ),
                body: Vec::new(),
                pause: Duration::ZERO,
            },
            (false, _) => self.content(&place, seen.range.as_deref()),
        }
    }

    /// `models/org/name/revision/main?blobs=true`.
    fn listing(&self, rest: &str) -> Reply {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (repo, revision) = path.split_once("/revision/").unwrap_or((path, "main"));
        let Some(files) = self.repos.get(repo) else {
            return Reply::empty("401 Unauthorized", "x-error-code: RepoNotFound\r\n");
        };
        if !["main", "v1", COMMIT].contains(&revision) {
            return Reply::empty("404 Not Found", "x-error-code: RevisionNotFound\r\n");
        }
        let told = files.iter().map(|(name, file)| {
            let (size, etag) = (file.bytes.len(), file.etag());
            let more = match (query, file.is_large) {
                ("blobs=true", true) => format!(
                    r#", "size": {size}, "blobId": "{}", "lfs": {{"sha256": "{etag}", "size": {size}, "pointerSize": 130}}"#,
                    &etag[..40]
                ),
                ("blobs=true", false) => format!(r#", "size": {size}, "blobId": "{etag}""#),
                _ => String::new(),
            };
            format!(r#"{{"rfilename": "{name}"{more}}}"#)
        });
        let told = told.collect::<Vec<_>>().join(", ");
        let body = format!(r#"{{"sha": "{COMMIT}", "siblings": [{told}]}}"#).into_bytes();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Reply { head, body, pause: Duration::ZERO }
    }

    /// `models/org/name//file`.
    fn content(&self, place: &str, range: Option<&str>) -> Reply {
        let file = place.split_once("//");
        let file = file.and_then(|(repo, name)| self.repos.get(repo)?.get(name));
        let Some(file) = file else { return Reply::empty("404 Not Found", "") };
        let size = file.bytes.len();
        let wanted = range
            .and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok());
        let start: usize = wanted.filter(|_| !file.ignores_ranges).unwrap_or(0);
        if size < start || (size == start && start > 0) {
            return Reply::empty("416 Range Not Satisfiable", "");
        }
        let mut body = file.bytes[start..].to_vec();
        if let Some(byte) = body.first_mut().filter(|_| file.is_wrong) {
            *byte ^= 1;
        }
        let status = match start {
            0 => "200 OK\r\n".to_owned(),
            _ => format!("206 Partial\r\ncontent-range: bytes {start}-{}/{size}\r\n", size - 1),
        };
        let head = format!("HTTP/1.1 {status}content-length: {}\r\n\r\n", body.len());
        body.truncate(file.breaks_after.unwrap_or(usize::MAX));
        Reply { head, body, pause: file.pause }
    }
}
