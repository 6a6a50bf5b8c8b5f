//! Requests that are refused: with the status, the shape and the name that clients look for.

use serde_json::{Value, json};
use serve::{ApiKey, Server};

use crate::house::{CONTEXT, House, chat, completion, settings};

/// A refusal has its shape; its `code` and `param`.
#[track_caller]
fn refused(answer: &crate::client::Answer, status: u16) -> (Value, Value) {
    assert_eq!(answer.status, status, "{answer:?}");
    let json = answer.json();
    let error = json["error"].as_object().unwrap();
    let names: Vec<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(names, ["message", "type", "param", "code"]);
    assert!(error["message"].is_string());
    (error["code"].clone(), error["param"].clone())
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let house = House::open();
    let path = "/v1/chat/completions";
    for (fields, code, param) in [
        (json!({"response_format": {"type": "json_object"}}), "unsupported", "response_format"),
        (json!({"tools": []}), "unsupported", "tools"),
        (json!({"tool_choice": "auto"}), "unsupported", "tool_choice"),
        (json!({"frequency_penalty": 0.5}), "unsupported", "frequency_penalty"),
        (json!({"presence_penalty": -1}), "unsupported", "presence_penalty"),
        (json!({"logit_bias": {"50": 1}}), "unsupported", "logit_bias"),
        (json!({"store": true}), "unsupported", "store"),
        (json!({"reasoning_effort": "low"}), "unsupported", "reasoning_effort"),
        (json!({"service_tier": "flex"}), "unsupported", "service_tier"),
        (json!({"best_of": 2}), "unknown", "best_of"),
        (json!({"temprature": 0}), "unknown", "temprature"),
        (json!({"top_logprobs": 2}), "invalid", "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "invalid", "top_logprobs"),
        (json!({"temperature": 2.5}), "invalid", "temperature"),
        (json!({"temperature": "hot"}), "invalid", "temperature"),
        (json!({"top_p": -0.1}), "invalid", "top_p"),
        (json!({"n": 0}), "invalid", "n"),
        (json!({"n": 1000}), "invalid", "n"),
        (json!({"stop": [""]}), "invalid", "stop"),
        (json!({"max_tokens": 0}), "invalid", "max_tokens"),
        (json!({"max_tokens": 3, "max_completion_tokens": 4}), "invalid", "max_tokens"),
        (json!({"stream_options": {"include_usage": true}}), "invalid", "stream_options"),
        (json!({"stream": true, "stream_options": {"a": 1}}), "unknown", "stream_options.a"),
        (json!({"messages": []}), "invalid", "messages"),
        (json!({"messages": [{"role": "user"}]}), "missing", "messages[0].content"),
        (json!({"messages": null}), "missing", "messages"),
        (json!({"model": null}), "missing", "model"),
        (json!({"chat_template_kwargs": 1}), "invalid", "chat_template_kwargs"),
    ] {
        let (found, at) = refused(&house.post(path, &chat(&fields)), 400);
        assert!(found.as_str().unwrap().starts_with(code), "{fields}: {found}");
        assert_eq!(at, param, "{fields}");
    }
    for (fields, code, param) in [
        (json!({"suffix": "end"}), "unsupported", "suffix"),
        (json!({"best_of": 3}), "unsupported", "best_of"),
        (json!({"prompt": null}), "missing", "prompt"),
        (json!({"prompt": []}), "invalid", "prompt"),
        (json!({"prompt": ["a", 1]}), "invalid", "prompt"),
        (json!({"prompt": [1, -1]}), "invalid", "prompt"),
        (json!({"prompt": [100_000]}), "invalid", "prompt"),
        (json!({"prompt": [[1], [2]], "n": 100}), "invalid", "prompt"),
        (json!({"max_tokens": 0}), "invalid", "max_tokens"),
        (json!({"logprobs": true}), "invalid", "logprobs"),
    ] {
        let (found, at) = refused(&house.post("/v1/completions", &completion(&fields)), 400);
        assert!(found.as_str().unwrap().starts_with(code), "{fields}: {found}");
        assert_eq!(at, param, "{fields}");
    }
    // What says only what happens anyway is taken.
    house.chat(&json!({
        "max_tokens": 1, "response_format": {"type": "text"}, "frequency_penalty": 0,
        "presence_penalty": 0.0, "logit_bias": {}, "tool_choice": "none", "store": false,
        "metadata": {"a": "b"}, "user": "me", "service_tier": "auto", "tools": null,
        "max_completion_tokens": 1,
    }));
}

#[test]
fn prompts_must_leave_room_in_the_context() {
    let house = House::open();
    let prompt = |tokens: usize| json!({"prompt": vec![9; tokens], "max_tokens": 8});
    let answer = house.post("/v1/completions", &completion(&prompt(CONTEXT)));
    assert_eq!(refused(&answer, 400), (json!("context_length_exceeded"), json!("prompt")));
    let answer = house.complete(&prompt(CONTEXT - 1));
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() <= 1);
    let long = json!({"messages": [{"role": "user", "content": "a".repeat(5000)}]});
    let answer = house.post("/v1/chat/completions", &chat(&long));
    assert_eq!(refused(&answer, 400), (json!("context_length_exceeded"), json!("messages")));
}

#[test]
fn models_that_are_not_served_and_paths_that_mean_nothing() {
    let house = House::open();
    let answer = house.post("/v1/chat/completions", &chat(&json!({"model": "other"})));
    assert_eq!(refused(&answer, 404), (json!("model_not_found"), json!("model")));
    assert_eq!(refused(&house.get("/v1/models/other"), 404).0, "model_not_found");
    assert_eq!(house.get("/v1/models/%74uned").json()["parent"], "tiny");
    assert_eq!(house.get("/health").json(), json!({"status": "ok"}));
    for path in ["/", "/v1", "/v1/chat", "/v1/embeddings"] {
        assert_eq!(refused(&house.get(path), 404).0, "unknown_url", "{path}");
    }
    let answer = house.get("/v1/chat/completions");
    assert_eq!(refused(&answer, 405).0, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "POST");
    let answer = house.post("/v1/models", &json!({}));
    assert_eq!(
        (refused(&answer, 405).0, answer.headers["allow"].as_str()),
        (json!("method_not_allowed"), "GET")
    );
}

#[test]
fn bodies_must_be_json_and_not_too_large() {
    let house = House::with(|settings| settings.limits.body_bytes = 1000);
    let path = "/v1/chat/completions";
    let raw = |body: &str, header: &str| {
        let mut client = house.client();
        client.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: here\r\n{header}content-length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.answer()
    };
    let json = "content-type: application/json; charset=utf-8\r\n";
    for bad in ["", "{", "[1]", "{\"model\": \"tiny\",}", "\u{fffd}", &"[".repeat(900)] {
        refused(&raw(bad, json), 400);
    }
    let good = chat(&json!({"max_tokens": 1})).to_string();
    assert_eq!(raw(&good, json).status, 200);
    assert_eq!(refused(&raw(&good, ""), 415).0, "unsupported_media_type");
    assert_eq!(
        refused(&raw(&good, "content-type: text/plain\r\n"), 415).0,
        "unsupported_media_type"
    );
    let large = good + &" ".repeat(3_000_000);
    assert_eq!(refused(&raw(&large, json), 413).0, "request_too_large");
    // The same without saying how much will come.
    let mut client = house.client();
    client.send(&format!(
        "POST {path} HTTP/1.1\r\nhost: here\r\n{json}transfer-encoding: chunked\r\n\r\n"
    ));
    for _ in 0..3 {
        client.send(&format!("{:x}\r\n{}\r\n", 5000, " ".repeat(5000)));
    }
    client.send("0\r\n\r\n");
    assert_eq!(refused(&client.answer(), 413).0, "request_too_large");
}

#[test]
fn with_a_key_nobody_else_is_let_in() {
    let house = House::with(|settings| settings.key = Some(ApiKey::new("open-sesame").unwrap()));
    let path = "/v1/chat/completions";
    let body = chat(&json!({"max_tokens": 1})).to_string();
    for header in [None, Some("authorization: Bearer open"), Some("authorization: open-sesame")] {
        let mut client = house.client();
        client.post(path, &body, header.as_slice());
        let answer = client.answer();
        assert_eq!(refused(&answer, 401).0, "invalid_api_key");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(!answer.body.contains("sesame"));
    }
    refused(&house.get("/v1/models"), 401);
    assert_eq!(house.get("/health").status, 200, "what watches a server needs no key");
    let mut client = house.client();
    client.post(path, &body, &["authorization: Bearer open-sesame"]);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn other_machines_need_a_key_or_an_express_word() {
    let start = |is_open: bool, key: Option<ApiKey>| {
        let settings = settings(|settings| {
            settings.address = "0.0.0.0:0".parse().unwrap();
            (settings.is_open, settings.key) = (is_open, key);
        });
        Server::start(crate::house::served(), settings).map(|_| ())
    };
    let error = start(false, None).unwrap_err();
    assert!(matches!(error, serve::Error::Open { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--api-key-env"));
    start(true, None).unwrap();
    start(false, Some(ApiKey::new("open-sesame").unwrap())).unwrap();
}
