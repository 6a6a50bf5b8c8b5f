//! The server as a program: what it serves, who may ask, how it ends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStderr, Command, Stdio},
};

use serde_json::{Value, json};

use crate::home::Home;

/// A server that runs until it is ended or dropped.
struct Running {
    child: Child,
    /// Kept open, so that the program can speak.
    told: BufReader<ChildStderr>,
    address: String,
    names: String,
}

impl Running {
    fn start(home: &Home, flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_trueup"))
            .args(["serve", "--port", "0"])
            .args(flags)
            .current_dir(home.path("."))
            .env("TRUEUP_HOME", home.path("caches"))
            .env("HF_HOME", home.path("caches"))
            .env("THE_KEY", "open-sesame")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut line = || {
            let mut line = String::new();
            told.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let (names, address) = (line(), line());
        let address = address.strip_prefix("listening on http://").unwrap_or_else(|| {
            panic!("it does not listen: {names} {address}");
        });
        let address = address.strip_suffix("/v1").unwrap().to_owned();
        Self { child, told, address, names }
    }

    fn ask(&self, path: &str, body: &Value, header: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n{header}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    fn say(&self, model: &str, more: &Value) -> String {
        let messages = json!([{"role": "user", "content": "2+1?"}]);
        let mut body = json!({"model": model, "messages": messages, "max_tokens": 12});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let (status, answer) = self.ask("/v1/chat/completions", &body, "");
        assert_eq!(status, 200, "{answer}");
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    /// Sends a signal; the exit code, and what was told.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let mut told = String::new();
        self.told.read_to_string(&mut told).unwrap();
        (self.child.wait().unwrap().code(), told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with two adapters.
fn home() -> Home {
    let home = Home::new(&[], "");
    let from = testkit::golden("trl/adapter");
    let config = fs_err::read_to_string(from.join("adapter_config.json")).unwrap();
    for (name, alpha) in [("tuned", "16"), ("half", "8")] {
        let config = config.replace("\"lora_alpha\": 8", &format!("\"lora_alpha\": {alpha}"));
        home.write(&format!("{name}/adapter_config.json"), &config);
        let weights = home.path(name).join("adapter_model.safetensors");
        fs_err::copy(from.join("adapter_model.safetensors"), weights).unwrap();
    }
    home
}

fn generate(home: &Home, flags: &[&str]) -> String {
    let model = testkit::golden("trl/chat").display().to_string();
    let usual = ["generate", "--model", &model, "--max-new-tokens", "12", "--prompt", "2+1?"];
    let output = home.program(&[&usual, flags].concat());
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn each_name_says_what_generate_says() {
    let home = home();
    let model = testkit::golden("trl/chat").display().to_string();
    let flags = ["--model", &model, "--adapter", "tuned=tuned", "--adapter", "half=half"];
    let server = Running::start(&home, &flags);
    assert_eq!(server.names, "serving `chat`, `tuned`, `half`");
    let draws = ["--temperature", "0.9", "--top-p", "0.8", "--seed", "5"];
    for (name, adapter) in [("chat", None), ("half", Some("half")), ("tuned", Some("tuned"))] {
        let flags: Vec<&str> = adapter.iter().flat_map(|dir| ["--adapter", dir]).collect();
        let greedy = server.say(name, &json!({"temperature": 0}));
        assert_eq!(greedy, generate(&home, &flags), "{name}");
        let drawn = server.say(name, &json!({"temperature": 0.9, "top_p": 0.8, "seed": 5}));
        assert_eq!(drawn, generate(&home, &[&flags[..], &draws].concat()), "{name}");
    }
    let [one, two] = ["chat", "tuned"].map(|name| server.say(name, &json!({"temperature": 0})));
    assert_ne!(one, two, "the adapter changes something");
    assert_eq!(server.end("-TERM"), (Some(0), String::new()), "asked to end, it ends well");
}

#[test]
fn a_key_comes_from_a_variable_or_a_file_and_is_never_shown() {
    let home = home();
    let model = testkit::golden("trl/chat").display().to_string();
    home.write("key", "open-sesame\n");
    for flags in [["--api-key-env", "THE_KEY"], ["--api-key-file", "key"]] {
        let server = Running::start(&home, &[&["--model", &model], &flags[..]].concat());
        let body = json!({"model": "chat", "prompt": "a", "max_tokens": 1});
        let (status, answer) = server.ask("/v1/completions", &body, "");
        assert_eq!((status, &answer["error"]["code"]), (401, &json!("invalid_api_key")));
        let header = "authorization: Bearer open-sesame\r\n";
        assert_eq!(server.ask("/v1/completions", &body, header).0, 200);
        let (code, told) = server.end("-INT");
        assert_eq!((code, told.contains("sesame")), (Some(0), false));
    }
}

#[test]
fn how_a_model_writes_by_default_is_its_own_business() {
    let home = home();
    let from = testkit::golden("trl/chat");
    for file in fs_err::read_dir(&from).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        home.write(&format!("model/{name}"), "");
        fs_err::copy(from.join(&name), home.path("model").join(&name)).unwrap();
    }
    home.write("model/generation_config.json", r#"{"eos_token_id": 2, "temperature": 0.0}"#);
    let server = Running::start(&home, &["--model", "model"]);
    let [one, two] = [(); 2].map(|()| server.say("model", &json!({})));
    assert_eq!((&one, &one), (&two, &server.say("model", &json!({"temperature": 0}))));
    drop(server);
    home.write("model/generation_config.json", r#"{"temperature": "warm"}"#);
    let output = home.program(&["serve", "--model", "model", "--port", "0"]);
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("`temperature` in `generation_config.json` must be"), "{told}");
}

#[test]
fn what_cannot_be_served_is_told_before_anything_listens() {
    let home = home();
    let model = testkit::golden("trl/chat").display().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (flags, code, words) in [
        (vec!["--host", "0.0.0.0"], 2, "can be reached from other machines"),
        (vec!["--without-api-key"], 2, "`--without-api-key` has no effect"),
        (vec!["--api-key-env", "NOT_SET"], 2, "`NOT_SET` is not set"),
        (vec!["--api-key-file", "empty"], 2, "the API key is empty"),
        (vec!["--adapter", "chat=tuned"], 2, "two models are named `chat`"),
        (vec!["--adapter", "tuned"], 2, "give the adapter a name"),
        (vec!["--port", &port], 6, "cannot listen on 127.0.0.1"),
        (vec!["--max-concurrent", "0"], 2, "--max-concurrent"),
    ] {
        home.write("empty", "");
        let output = home.program(&[&["serve", "--model", &model][..], &flags].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn the_program_asks_its_own_server() {
    let home = Home::new(&[], "");
    let rows: Vec<String> = (0..5)
        .map(|n| json!({"question": format!("What is {n}+1?"), "answer": (n + 1).to_string()}))
        .map(|row| row.to_string())
        .collect();
    home.write("questions.jsonl", &(rows.join("\n") + "\n"));
    let model = testkit::golden("trl/chat").display().to_string();
    let server = Running::start(&home, &["--model", &model, "--api-key-env", "THE_KEY"]);
    let url = format!("http://{}/v1", server.address);
    let run = |arguments: &[&str], key: &str| {
        home.any(arguments)
            .env("OPENAI_API_KEY", key)
            .env("OPENAI_BASE_URL", &url)
            .output()
            .unwrap()
    };
    let texts = |name: &str, side: &str| -> Vec<Value> {
        let text = fs_err::read_to_string(home.path(name)).unwrap();
        text.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()[side].clone()).collect()
    };
    // The rows that the server writes are those that the model writes here.
    let pairs = ["data", "pairs", "questions.jsonl", "--max-new-tokens", "8", "--output"];
    let asked = [&pairs[..], &["asked.jsonl", "--api-model", "chat"]].concat();
    let done = run(&asked, "open-sesame");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let here = home.program(&[&pairs[..], &["here.jsonl", "--model", &model]].concat());
    assert!(here.status.success());
    assert_eq!(texts("asked.jsonl", "rejected"), texts("here.jsonl", "rejected"));
    assert_eq!(texts("asked.jsonl", "prompt"), texts("here.jsonl", "prompt"));

    let told = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let other = [&pairs[..], &["other.jsonl", "--api-model", "chat"]].concat();
    let refused = run(&other, "guess");
    assert!(
        refused.status.code() == Some(2) && told(&refused).contains("status 401"),
        "{}",
        told(&refused)
    );
    let unknown = [&pairs[..], &["other.jsonl", "--api-model", "no-such-model"]].concat();
    let refused = run(&unknown, "open-sesame");
    assert!(
        refused.status.code() == Some(2) && told(&refused).contains("status 404"),
        "{}",
        told(&refused)
    );

    // As a judge it says nothing that can be read, and that is what is told.
    let compare = [
        "judge",
        "compare",
        "questions.jsonl",
        "--model",
        &model,
        "--against",
        "given",
        "--max-new-tokens",
        "4",
        "--judge",
        "chat",
        "--output",
        "contest",
        "--json",
    ];
    let done = run(&compare, "open-sesame");
    assert!(done.status.success(), "{}", told(&done));
    let results: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&results["count"], &results["unread"]), (&json!(0), &json!(5)));
    assert!(told(&done).contains("5 of 5 prompts are left out: no judgment could be read"));
}
