//! An endpoint of chat completions on loopback that answers as a script says, breaks off, stalls,
//! refuses and babbles on demand, and counts what it was paid for.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// What a request looked like.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method and the path.
    pub line: String,
    /// The JSON that was sent.
    pub body: Value,
    /// The key that came along.
    pub authorization: Option<String>,
    /// When it was whole.
    pub at: Instant,
    /// How often the same body came before.
    pub before: usize,
}

impl Seen {
    /// The text of the last message.
    pub fn text(&self) -> &str {
        let last = self.body["messages"].as_array().and_then(|all| all.last());
        last.and_then(|message| message["content"].as_str()).unwrap_or_default()
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Answers with this text: a completion, which costs.
    Say(String),
    /// The same after a while.
    SayAfter(Duration, String),
    /// Answers with a status, headers such as `retry-after: 1`, and a body.
    Status(u16, &'static str, String),
    /// Answers 200 with this body.
    Body(String),
    /// Closes the connection without a word.
    Drop,
    /// Breaks off in the middle of a completion.
    Tear,
    /// Never answers; waits until the other side has gone.
    Hold,
}

impl Turn {
    /// A status with the words of OpenAI's API.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"error": {"message": message, "type": "x", "code": code}});
        Self::Status(status, "", body.to_string())
    }
}

type Script = Box<dyn FnMut(&Seen) -> Turn + Send>;

struct State {
    script: Script,
    seen: Vec<Seen>,
    came: BTreeMap<String, usize>,
    /// How often a whole completion was sent for a body.
    paid: BTreeMap<String, usize>,
}

/// The server; it ends with the process.
#[derive(Clone)]
pub struct ChatServer {
    base_url: String,
    state: Arc<Mutex<State>>,
}

impl ChatServer {
    /// Starts to serve as a script says.
    ///
    /// # Panics
    ///
    /// If loopback has no free port.
    pub fn start(script: impl FnMut(&Seen) -> Turn + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0");
        let listener = listener.unwrap_or_else(|error| panic!("no server on loopback: {error}"));
        let address = listener.local_addr();
        let address = address.unwrap_or_else(|error| panic!("no server on loopback: {error}"));
        let state = Arc::new(Mutex::new(State {
            script: Box::new(script),
            seen: Vec::new(),
            came: BTreeMap::new(),
            paid: BTreeMap::new(),
        }));
        let server = Self { base_url: format!("http://{address}/v1"), state: state.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                thread::spawn(move || answer(&stream, &state));
            }
        });
        server
    }

    /// Its address, up to `/v1`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Does from now on what another script says.
    pub fn follow(&self, script: impl FnMut(&Seen) -> Turn + Send + 'static) {
        locked(&self.state).script = Box::new(script);
    }

    /// The requests in their order.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.state).seen.clone()
    }

    /// Completions that were sent whole, and the most that were sent for one and the same request.
    pub fn paid(&self) -> (usize, usize) {
        let paid = &locked(&self.state).paid;
        (paid.values().sum(), paid.values().copied().max().unwrap_or(0))
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request and closes the connection.
fn answer(stream: &TcpStream, state: &Mutex<State>) {
    let Some(seen) = read(stream, state) else { return };
    let turn = {
        let mut state = locked(state);
        let turn = (state.script)(&seen);
        state.seen.push(seen.clone());
        turn
    };
    let mut out = stream;
    let name = seen.body.to_string();
    let mut send = |head: &str, body: &str| {
        // A client that has left is no concern of the server.
        let head =
            format!("HTTP/1.1 {head}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let sent = out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes()));
        sent.and_then(|()| out.flush()).is_ok()
    };
    match turn {
        Turn::Say(text) => {
            *locked(state).paid.entry(name).or_default() += 1;
            send("200 OK\r\n", &completion(&text));
        }
        Turn::SayAfter(pause, text) => {
            thread::sleep(pause);
            if send("200 OK\r\n", &completion(&text)) {
                *locked(state).paid.entry(name).or_default() += 1;
            }
        }
        Turn::Status(status, headers, body) => {
            let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
            send(&format!("{status} Refused\r\n{headers}"), &body);
        }
        Turn::Body(body) => drop(send("200 OK\r\n", &body)),
        Turn::Drop => {}
        Turn::Tear => {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{\"choices\": [");
        }
        Turn::Hold => drop(out.read(&mut [0])),
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Reads a request with its body.
fn read(stream: &TcpStream, state: &Mutex<State>) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let mut state = locked(state);
    let came = state.came.entry(body.to_string()).or_default();
    let before = *came;
    *came += 1;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let authorization = headers.remove("authorization");
    Some(Seen { line, body, authorization, at: Instant::now(), before })
}

/// The JSON of a completion.
fn completion(text: &str) -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "judge",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    })
    .to_string()
}
