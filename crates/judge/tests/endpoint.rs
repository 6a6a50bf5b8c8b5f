//! The client against a real HTTP server that breaks off, refuses, stalls and babbles.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    error::Error as _,
    path::Path,
    time::{Duration, Instant},
};

use judge::{Answer, Client, Endpoint, Error, Journal, Outcome, Panel, Request, rubric};
use serde_json::json;
use testkit::chat_server::{ChatServer, Turn};

fn endpoint(server: &ChatServer) -> Endpoint {
    Endpoint {
        key: Some("sk-test".into()),
        retry_delay: Duration::from_millis(5),
        timeout: Duration::from_secs(20),
        retries: 3,
        ..Endpoint::new(server.base_url())
    }
}

fn requests(count: usize) -> Vec<Request> {
    let of = |n| rubric::score(&format!("Question {n}?"), &format!("Answer {n}."));
    (0..count).map(|n| Request::new("judge-1", of(n))).collect()
}

fn read(answer: &Answer) -> Option<f64> {
    rubric::read_score(&answer.text)
}

/// Asks for scores with a journal in a folder; what became of each request, and what was paid for.
fn ask(
    endpoint: Endpoint,
    folder: &Path,
    requests: &[Request],
) -> (Result<Vec<Outcome<f64>>, Error>, u64) {
    let journal = Journal::open(&folder.join("journal.jsonl")).unwrap();
    let client = Client::new(endpoint).unwrap();
    let panel = Panel::new(&client, &journal, 4).reminding(2, rubric::SCORE_REMINDER);
    let outcomes = panel.ask_all(requests, read, &mut |_| true);
    (outcomes, panel.asked().paid)
}

fn scores(outcomes: &[Outcome<f64>]) -> Vec<Option<f64>> {
    outcomes.iter().map(|outcome| outcome.value().copied()).collect()
}

#[test]
fn what_passes_is_tried_again_and_each_answer_is_paid_for_once() {
    let folder = tempfile::tempdir().unwrap();
    // Every request fails twice, each in its own way, and the third try is answered.
    let server = ChatServer::start(|seen| {
        let number: usize = seen
            .text()
            .split("Question ")
            .nth(1)
            .unwrap()
            .split('?')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        match (seen.before, number % 5) {
            (2.., _) => Turn::Say(format!("Fine.\n[[{}]]", number % 11)),
            (_, 0) => Turn::Drop,
            (_, 1) => Turn::Tear,
            (0, 2) => Turn::Status(500, "", "<html>".into()),
            (_, 2) => Turn::Status(503, "retry-after: 0", String::new()),
            (0, 3) => Turn::Body("{\"choices\": [{\"mess".into()),
            (_, 3) => Turn::Body("{\"choices\": []}".into()),
            (0, _) => Turn::Status(429, "retry-after-ms: 10", String::new()),
            (_, _) => Turn::error(408, "timeout", "slow"),
        }
    });
    let requests = requests(20);
    let (outcomes, paid) = ask(endpoint(&server), folder.path(), &requests);
    let want: Vec<Option<f64>> = (0..20_u8).map(|n| Some(f64::from(n % 11))).collect();
    assert_eq!(scores(&outcomes.unwrap()), want);
    assert_eq!((paid, server.paid()), (20, (20, 1)));
    assert_eq!(server.seen().len(), 60);
    for seen in server.seen() {
        assert_eq!(seen.line, "POST /v1/chat/completions");
        assert_eq!(seen.authorization.as_deref(), Some("Bearer sk-test"));
        assert_eq!(seen.body["temperature"], 0.0);
    }
    // Again: everything is there.
    let (outcomes, paid) = ask(endpoint(&server), folder.path(), &requests);
    assert_eq!((scores(&outcomes.unwrap()), paid, server.paid()), (want, 0, (20, 1)));
    // Asked of another address, it is another question.
    let other = Endpoint {
        base_url: server.base_url().replace("127.0.0.1", "localhost"),
        ..endpoint(&server)
    };
    assert_eq!(ask(other, folder.path(), &requests[..1]).1, 1);
}

#[test]
fn a_pause_that_is_asked_for_is_kept_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let server = ChatServer::start(|seen| match seen.before {
        0 if seen.text().contains("Question 0?") => {
            Turn::Status(429, "retry-after: 2", String::new())
        }
        _ => Turn::SayAfter(Duration::from_millis(50), "[[5]]".into()),
    });
    let (outcomes, _) = ask(endpoint(&server), folder.path(), &requests(40));
    assert_eq!(outcomes.unwrap().len(), 40);
    let seen = server.seen();
    let told = seen.iter().find(|seen| seen.text().contains("Question 0?")).unwrap().at;
    // What had left by then is no offence; a request is on its way for a moment.
    let on_its_way = told + Duration::from_secs(1);
    let end = told + Duration::from_millis(1900);
    let early = seen.iter().filter(|seen| on_its_way < seen.at && seen.at < end).count();
    assert_eq!(early, 0, "requests came during the pause");
    assert!(seen.iter().any(|seen| end <= seen.at));
}

#[test]
fn what_lasts_is_told_at_once() {
    for (turn, status, hint) in [
        (Turn::error(401, "invalid_api_key", "wrong key sk-test"), 401, "OPENAI_API_KEY"),
        (Turn::error(404, "model_not_found", "no such model"), 404, "model's name"),
        (Turn::error(400, "bad", "temperature is not supported"), 400, "refused"),
        (Turn::error(429, "insufficient_quota", "no credit"), 429, "credit"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let server = ChatServer::start(move |_| turn.clone());
        let error = ask(endpoint(&server), folder.path(), &requests(20)).0.unwrap_err();
        let told = error.to_string();
        assert!(told.contains(&format!("answered with status {status}: ")), "{told}");
        assert!(!told.contains("sk-test"), "{told}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        // One for each of the four that ask at the same time, and no try again.
        assert!(server.seen().len() <= 4, "{}", server.seen().len());
    }
}

#[test]
fn what_never_passes_is_given_up_after_all_tries() {
    let folder = tempfile::tempdir().unwrap();
    let server = ChatServer::start(|_| Turn::Status(500, "", String::new()));
    let error = ask(endpoint(&server), folder.path(), &requests(1)).0.unwrap_err();
    assert_eq!(error.to_string(), "gave up after 4 tries");
    assert!(error.source().unwrap().to_string().contains("status 500"));
    assert_eq!(server.seen().len(), 4);
    // A pause beyond all patience is not waited for, and not cut short either.
    server.follow(|_| Turn::Status(429, "retry-after: 86400", String::new()));
    let began = Instant::now();
    let error = ask(endpoint(&server), folder.path(), &requests(1)).0.unwrap_err();
    assert!(matches!(error, Error::Pause { secs: 86400, .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10) && server.seen().len() == 5);
    // Too slow is a failure like others.
    server.follow(|seen| match seen.before {
        5 => Turn::Hold,
        _ => Turn::Say("[[3]]".into()),
    });
    let hasty = Endpoint { timeout: Duration::from_secs(1), ..endpoint(&server) };
    let (outcomes, paid) = ask(hasty, folder.path(), &requests(1));
    assert_eq!((scores(&outcomes.unwrap()), paid), (vec![Some(3.0)], 1));
    // Nobody listens.
    let nobody = Endpoint::new("http://127.0.0.1:1/v1");
    let error = ask(nobody, folder.path(), &requests(2)).0.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn an_answer_that_says_nothing_is_asked_for_again_and_never_becomes_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let server = ChatServer::start(|seen| {
        let messages = seen.body["messages"].as_array().unwrap();
        let question = messages[1]["content"].as_str().unwrap();
        match messages.len() {
            _ if question.contains("Question 0?") => Turn::Say("I would rather not.".into()),
            _ if question.contains("Question 3?") => Turn::Body("<html>".into()),
            _ if question.contains("Question 4?") => {
                Turn::error(400, "context_length_exceeded", "too long")
            }
            2 if question.contains("Question 1?") => Turn::Say("Good, about 9 of 10".into()),
            _ => Turn::Say("[[9]]".into()),
        }
    });
    let requests = requests(5);
    let (outcomes, paid) = ask(endpoint(&server), folder.path(), &requests);
    let outcomes = outcomes.unwrap();
    assert_eq!(scores(&outcomes), [None, Some(9.0), Some(9.0), None, None]);
    assert_eq!(outcomes[0], Outcome::Unreadable { text: "I would rather not.".into() });
    assert!(matches!(&outcomes[3], Outcome::Unreadable { text } if text.contains("no JSON")));
    assert!(matches!(&outcomes[4], Outcome::Refused { why } if why.contains("too long")));
    // Three for the first, two for the second, one for the third.
    assert_eq!((paid, server.paid()), (6, (6, 1)));
    let reminded = server.seen().into_iter().find(|seen| seen.text() == rubric::SCORE_REMINDER);
    assert_eq!(reminded.unwrap().body["messages"].as_array().unwrap().len(), 4);
    // What was paid for and said nothing is not paid for again.
    let (again, paid) = ask(endpoint(&server), folder.path(), &requests);
    assert_eq!((scores(&again.unwrap()), paid), (scores(&outcomes), 0));
}

#[test]
fn the_same_request_is_asked_once_and_no_more_than_so_many_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = ChatServer::start(|_| Turn::SayAfter(Duration::from_millis(300), "[[4]]".into()));
    let journal = Journal::open(&folder.path().join("journal.jsonl")).unwrap();
    let client = Client::new(endpoint(&server)).unwrap();
    let panel = Panel::new(&client, &journal, 3);
    let all = [requests(6), requests(6)].concat();
    let mut order = Vec::new();
    let outcomes = panel.ask_all(&all, read, &mut |done| {
        order.extend(done.map(|(place, _)| place));
        true
    });
    assert_eq!(outcomes.unwrap().len(), 12);
    order.sort_unstable();
    assert_eq!(order, (0..12).collect::<Vec<_>>());
    assert_eq!(server.paid(), (6, 1));
    let asked = panel.asked();
    assert_eq!(
        (asked.paid, asked.kept, asked.prompt_tokens, asked.completion_tokens),
        (6, 0, 600, 60)
    );
    // A request is with the server for 300 milliseconds.
    let seen = server.seen();
    let together = seen.iter().map(|one| {
        let until = one.at + Duration::from_millis(300);
        seen.iter().filter(|other| one.at <= other.at && other.at < until).count()
    });
    assert_eq!(together.max(), Some(3));
}

#[test]
fn a_stop_waits_for_what_was_sent_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = ChatServer::start(|_| Turn::SayAfter(Duration::from_millis(100), "[[4]]".into()));
    let path = folder.path().join("journal.jsonl");
    let journal = Journal::open(&path).unwrap();
    let client = Client::new(endpoint(&server)).unwrap();
    let panel = Panel::new(&client, &journal, 4);
    let mut came = 0;
    let stopped = panel.ask_all(&requests(50), read, &mut |done| {
        came += usize::from(done.is_some());
        came < 5
    });
    assert!(matches!(stopped, Err(Error::Stopped)));
    let (paid, most) = server.paid();
    assert!(paid == journal.count() && most == 1 && paid < 20, "{paid} {}", journal.count());
    drop(journal);
    let (outcomes, again) = ask(endpoint(&server), folder.path(), &requests(50));
    assert_eq!((outcomes.unwrap().len(), server.paid()), (50, (50, 1)));
    assert_eq!(again as usize + paid, 50);
    let whole = fs_err::read_to_string(&path).unwrap();
    assert_eq!(whole.lines().count(), 50);
    assert!(whole.lines().all(|line| line.contains(&json!("[[4]]").to_string())));
}
