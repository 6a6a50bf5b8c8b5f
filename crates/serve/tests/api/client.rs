//! A client that speaks plain HTTP and hides nothing.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Longer than any answer here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The pieces of a stream; its last line is checked.
    pub(crate) fn pieces(&self) -> Vec<Value> {
        assert_eq!(self.headers["content-type"], "text/event-stream; charset=utf-8");
        let lines: Vec<&str> =
            self.body.split("\n\n").filter_map(|line| line.strip_prefix("data: ")).collect();
        let (last, pieces) = lines.split_last().unwrap();
        assert_eq!(*last, "[DONE]");
        pieces.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect()
    }
}

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn post(&mut self, path: &str, body: &str, headers: &[&str]) {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: here\r\n");
        for header in headers.iter().chain(&["content-type: application/json"]) {
            head += header;
            head += "\r\n";
        }
        self.send(&format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
    }

    /// One line, without its end; empty at the end of the connection.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let first = self.line();
        let status = first.split(' ').nth(1).and_then(|it| it.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {first:?}"));
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_owned(), value.to_owned());
        }
        let mut bytes = Vec::new();
        if let Some(length) = headers.get("content-length") {
            bytes.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut bytes).unwrap();
        } else {
            assert_eq!(headers["transfer-encoding"], "chunked");
            loop {
                let size = usize::from_str_radix(&self.line(), 16).unwrap();
                let start = bytes.len();
                bytes.resize(start + size, 0);
                self.stream.read_exact(&mut bytes[start..]).unwrap();
                self.line();
                if size == 0 {
                    break;
                }
            }
        }
        Answer { status, headers, body: String::from_utf8(bytes).unwrap() }
    }

    /// All that comes until the connection ends, however it does.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A connection that was cut may end with an error.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// All that comes until a text does.
    pub(crate) fn rest_until(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(text.as_bytes()) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        bytes
    }
}
