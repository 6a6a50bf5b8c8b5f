//! Limits: the queue, clients that leave, clients that do not read, time, the end.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    client::Client,
    house::{House, chat},
};

/// Longer than any of these tests should wait.
const PATIENCE: Duration = Duration::from_mins(1);

/// More than the system keeps of an answer that nobody reads: tens of megabytes.
fn flood(house: &House) -> Client {
    let body = chat(&json!({
        "stream": true, "n": 128, "logprobs": true, "top_logprobs": 20,
        "temperature": 2.0, "seed": 1,
    }));
    let mut client = house.client();
    client.post("/v1/chat/completions", &body.to_string(), &[]);
    // It has its place.
    assert_eq!(client.line(), "HTTP/1.1 200 OK");
    client
}

/// Asks until there is room.
fn until_answered(house: &House) {
    let began = Instant::now();
    loop {
        let answer = house.post("/v1/chat/completions", &chat(&json!({"max_tokens": 2})));
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.status, 429);
        assert!(began.elapsed() < PATIENCE, "the place never became free");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_comes_when_the_house_is_full_is_told_when_to_come_again() {
    let house = House::with(|settings| settings.limits.requests = 1);
    let client = flood(&house);
    for _ in 0..3 {
        let answer = house.post("/v1/chat/completions", &chat(&json!({})));
        assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (429, "1"));
        assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
        assert_eq!(house.get("/health").status, 200);
    }
    // The place of a client that has gone is free, although it was never told all.
    drop(client);
    until_answered(&house);
}

#[test]
fn who_leaves_while_waiting_gives_the_place_back() {
    let house = House::with(|settings| {
        (settings.limits.requests, settings.limits.sequences) = (2, 1);
    });
    let blocking = flood(&house);
    let mut waiting = house.client();
    waiting.post("/v1/chat/completions", &chat(&json!({"stream": true})).to_string(), &[]);
    // A stream's head comes at once where there is room: from here on the house is full.
    assert_eq!(waiting.line(), "HTTP/1.1 200 OK");
    assert_eq!(house.post("/v1/chat/completions", &chat(&json!({}))).status, 429);
    let began = Instant::now();
    drop(waiting);
    let mut third = house.client();
    loop {
        third.post("/v1/chat/completions", &chat(&json!({"stream": true})).to_string(), &[]);
        if third.line() == "HTTP/1.1 200 OK" {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the place never became free");
        third = house.client();
    }
    drop(blocking);
    assert!(String::from_utf8(third.rest_until("[DONE]")).is_ok());
}

#[test]
fn who_does_not_read_is_cut_off() {
    let house = House::with(|settings| {
        settings.limits.requests = 1;
        settings.limits.write = Duration::from_millis(300);
    });
    let mut client = flood(&house);
    until_answered(&house);
    let text = client.rest();
    assert!(!text.ends_with(b"[DONE]\n\n\r\n0\r\n\r\n"), "the answer did not come to its end");
    assert!(!text.is_empty());
}

#[test]
fn who_reads_slowly_gets_everything() {
    let house = House::open();
    let body = chat(&json!({"stream": true, "n": 2, "temperature": 1.0, "seed": 3}));
    let whole = house.post("/v1/chat/completions", &body).pieces();
    let mut client = house.client();
    client.post("/v1/chat/completions", &body.to_string(), &[]);
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "data: [DONE]") {
        thread::sleep(Duration::from_micros(300));
        lines.push(client.line());
    }
    let pieces = lines.iter().filter(|line| line.starts_with("data: {")).count();
    assert_eq!(pieces, whole.len());
}

#[test]
fn answers_and_bodies_must_come_in_time() {
    let house = House::with(|settings| {
        settings.limits.sequences = 1;
        settings.limits.answer = Duration::from_millis(1500);
        settings.limits.body = Duration::from_millis(200);
    });
    let mut blocking = flood(&house);
    let answer = house.post("/v1/chat/completions", &chat(&json!({})));
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (504, json!("timeout")));
    // The stream is told the same, in place of its end.
    let text = String::from_utf8(blocking.rest_until("\"timeout\"")).unwrap();
    assert!(!text.contains("[DONE]"));
    until_answered(&house);

    let mut client = house.client();
    client.send(
        "POST /v1/completions HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{",
    );
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["error"]["code"], "request_timeout");
}

#[test]
fn a_connection_serves_several_requests() {
    let house = House::open();
    let mut client = house.client();
    let body = chat(&json!({"max_tokens": 3})).to_string();
    for _ in 0..3 {
        client.post("/v1/chat/completions", &body, &[]);
        assert_eq!(client.answer().status, 200);
        client.post("/v1/chat/completions", "{", &[]);
        assert_eq!(client.answer().status, 400);
    }
}

#[test]
fn at_the_end_answers_are_finished_for_a_while() {
    let house = House::open();
    let mut client = house.client();
    let body = chat(&json!({"stream": true, "n": 20, "temperature": 1.0, "seed": 3}));
    client.post("/v1/chat/completions", &body.to_string(), &[]);
    assert_eq!(client.line(), "HTTP/1.1 200 OK");
    house.ask_to_end();
    let text = String::from_utf8(client.rest()).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "the answer is whole");
    assert_eq!(house.end().cut_off, 0);

    let house = House::with(|settings| settings.limits.grace = Duration::from_millis(50));
    let client = flood(&house);
    assert_eq!(house.end().cut_off, 1);
    drop(client);
}

#[test]
fn who_asks_for_little_does_not_wait_for_who_asks_for_much() {
    let house = House::with(|settings| settings.limits.sequences = 2);
    let (has_begun, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let fields = json!({"n": 128, "stream": true, "temperature": 2.0, "seed": 1});
            let mut client = house.client();
            client.post("/v1/chat/completions", &chat(&fields).to_string(), &[]);
            let mut finished = 0;
            while finished < 128 {
                let line = client.line();
                has_begun.store(
                    has_begun.load(Ordering::Relaxed) || line.contains("delta"),
                    Ordering::Relaxed,
                );
                finished += usize::from(line.contains("\"finish_reason\":\""));
            }
            is_done.store(true, Ordering::Relaxed);
        });
        while !has_begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        for _ in 0..3 {
            house.chat(&json!({"max_tokens": 2}));
            assert!(!is_done.load(Ordering::Relaxed), "the other one is not done yet");
        }
    });
}
