//! Judged contests: what they cost, what they say, and that nothing is paid for twice.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use fs_err as fs;
use serde_json::{Value, json};
use testkit::chat_server::{ChatServer, Seen, Turn};

use crate::home::Home;

/// Prompts with answers, and adapters of the tiny model that say different things.
fn home(adapters: &[&str]) -> Home {
    let pairs: Vec<String> = (0..12)
        .map(|n| {
            json!({"prompt": format!("What is {n}+1?"), "chosen": format!("It is {}.", n + 1),
                   "rejected": format!("No idea, perhaps {n}?"), "h_w": 0, "h_l": 1})
            .to_string()
        })
        .collect();
    let recipe = format!(
        "model: {{path: \"{}\"}}\ndataset: {{path: pairs.jsonl}}\n\
         alignment: {{max_steps: 4, batch_size: 2, lora_r: 4, lr_scheduler_type: constant}}\n",
        model()
    );
    let home = Home::new(&pairs, &recipe);
    for (number, adapter) in adapters.iter().enumerate() {
        let rate = format!("alignment.learning_rate=0.0{}", number + 2);
        assert!(home.finish(adapter, &["--set", &rate]).success());
    }
    home
}

fn model() -> String {
    testkit::golden("trl/chat").display().to_string()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn rows(home: &Home, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(home.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A part of what a judge is asked, between its two fences.
fn part(seen: &Seen, name: &str) -> String {
    let user = seen.body["messages"][1]["content"].as_str().unwrap();
    let (_, rest) = user.split_once(&format!("--- {name} ")).unwrap();
    let (_, rest) = rest.split_once("---\n").unwrap();
    rest.split_once(&format!("\n--- END OF {name} ")).unwrap().0.to_owned()
}

/// A judge that likes long answers.
fn likes_length(seen: &Seen) -> Turn {
    let [first, second] =
        ["FIRST ANSWER", "SECOND ANSWER"].map(|name| part(seen, name).chars().count());
    Turn::Say(match first.cmp(&second) {
        std::cmp::Ordering::Less => "[[second]]".into(),
        std::cmp::Ordering::Equal => "Alike.\n[[tie]]".into(),
        std::cmp::Ordering::Greater => "[[first]]".into(),
    })
}

/// Runs `judge compare` of an adapter and its base.
fn compare(home: &Home, output: &str, flags: &[&str]) -> Output {
    let base = ["judge", "compare", "pairs.jsonl", "--adapter", "tuned", "--max-new-tokens", "6"];
    home.program(&[&base[..], &["--output", output, "--json"], flags].concat())
}

fn results(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_judge_that_likes_length_is_the_rule_and_costs_nothing_twice() {
    let home = home(&["tuned"]);
    let by_rule = results(&compare(&home, "rule", &["--rule", "longer"]));
    let server = ChatServer::start(likes_length);
    let by = ["--judge", "judge-1", "--base-url", server.base_url()];
    let judged = compare(&home, "judged", &by);
    let by_judge = results(&judged);
    assert_eq!(by_judge, by_rule);
    assert_eq!((&by_judge["count"], &by_judge["unread"]), (&json!(12), &json!(0)));
    assert!(0 < by_judge["wins"].as_u64().unwrap() + by_judge["losses"].as_u64().unwrap());
    // Two orders of each pair of answers that differ.
    let rows = rows(&home, "judged/judgments.jsonl");
    let differing = rows.iter().filter(|row| row["a"] != row["b"]).count();
    assert_eq!(server.paid(), (2 * differing, 1));
    assert!(0 < differing, "the adapter says what its base says");
    assert!(told(&judged).contains(&format!("judge: {} answers paid", 2 * differing)));

    // Answers are those of the models alone; nobody answers or is asked again.
    let prompt = rows[3]["prompt"].as_str().unwrap();
    let alone = ["generate", "--max-new-tokens", "6", "--prompt", prompt];
    for (side, more) in [("a", ["--adapter", "tuned"]), ("b", ["--model", &model()])] {
        let alone = home.program(&[&alone[..], &more].concat());
        assert_eq!(String::from_utf8_lossy(&alone.stdout).trim(), rows[3][side].as_str().unwrap());
    }
    let again = compare(&home, "judged", &by);
    assert!(told(&again).contains("judge: 0 answers paid"), "{}", told(&again));
    assert_eq!((results(&again), server.paid()), (by_judge.clone(), (2 * differing, 1)));

    // Other answers under the same name are refused, and so is an adapter that has changed.
    let refused = compare(&home, "judged", &[&by[..], &["--temperature", "1"]].concat());
    assert!(refused.status.code() == Some(2) && told(&refused).contains("`temperature: 0.0`"));
    assert!(home.finish("tuned-again", &["--set", "alignment.learning_rate=0.5"]).success());
    let weights = "adapter_model.safetensors";
    fs::copy(home.path("tuned-again").join(weights), home.path("tuned").join(weights)).unwrap();
    let refused = compare(&home, "judged", &by);
    assert!(told(&refused).contains("was written with `adapter: "), "{}", told(&refused));

    // A judge that looks at places alone has no opinion.
    server.follow(|_| Turn::Say("[[first]]".into()));
    let other = ["--judge", "judge-2", "--base-url", server.base_url(), "--against", "given"];
    let swayed = results(&compare(&home, "given", &other));
    assert_eq!((&swayed["ties"], &swayed["swayed_by_order"]), (&json!(12), &json!(12)));
    assert_eq!(swayed["win_rate"], Value::Null);
    let given = self::rows(&home, "given/judgments.jsonl");
    assert_eq!(given[2]["b"], "It is 3.");
}

#[test]
fn a_killed_run_pays_for_nothing_twice() {
    let home = home(&["tuned"]);
    // Nine answers, and no more.
    let mut left = 9;
    let server = ChatServer::start(move |seen| {
        left -= 1;
        if left < 0 { Turn::Hold } else { likes_length(seen) }
    });
    let url = server.base_url().to_owned();
    let flags = [
        "judge",
        "compare",
        "pairs.jsonl",
        "--adapter",
        "tuned",
        "--max-new-tokens",
        "6",
        "--output",
        "out",
        "--against",
        "given",
        "--judge",
        "judge-1",
        "--base-url",
        &url,
    ];
    let mut child = home.any(&flags).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let lines = |home: &Home| {
        let text = fs::read_to_string(home.path("out/journal.jsonl")).unwrap_or_default();
        text.matches('\n').count()
    };
    assert!(home.wait_until(&mut child, |home| lines(home) == 9 && 9 < server.seen().len()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((server.paid(), lines(&home)), ((9, 1), 9));
    // A line that was torn by the kill.
    let journal = home.path("out/journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, format!("{text}{{\"request\": \"0123")).unwrap();

    // Stopped by hand while requests are on their way: those are waited for, and kept.
    server.follow(|seen| match likes_length(seen) {
        Turn::Say(text) => Turn::SayAfter(Duration::from_millis(600), text),
        turn => turn,
    });
    let child =
        home.any(&[&flags[..], &["--concurrency", "3"]].concat()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    assert!(home.wait_until(&mut child, |home| 9 < lines(home)));
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130));
    assert!(
        told(&stopped).contains("error: stopped; what was done so far is in `out`"),
        "{}",
        told(&stopped)
    );
    let (paid, most) = server.paid();
    assert!(paid == lines(&home) && most == 1 && paid < 24, "{paid} {}", lines(&home));

    let done = home.program(&flags);
    assert!(done.status.success(), "{}", told(&done));
    assert_eq!(server.paid(), (24, 1));
    assert!(told(&done).contains(&format!("judge: {} answers paid, {paid} kept", 24 - paid)));
    // The same as without any of that.
    server.follow(likes_length);
    let whole = [&flags[..8], &["whole"], &flags[9..]].concat();
    assert!(home.program(&whole).status.success());
    for name in ["judgments.jsonl", "results.json"] {
        let read = |folder: &str| fs::read(home.path(folder).join(name)).unwrap();
        assert!(read("out") == read("whole"), "{name}");
    }
}

#[test]
fn what_says_nothing_is_left_out_and_what_fails_is_told() {
    let home = home(&["tuned"]);
    let server = ChatServer::start(|seen| match part(seen, "REQUEST").as_str() {
        "What is 0+1?" => Turn::Say("Hard to say.".into()),
        "What is 1+1?" => Turn::error(400, "content_filter", "not this one"),
        _ => likes_length(seen),
    });
    let by = ["--judge", "judge-1", "--base-url", server.base_url(), "--against", "given"];
    let judged = compare(&home, "out", &by);
    let found = results(&judged);
    assert_eq!((&found["count"], &found["unread"]), (&json!(10), &json!(2)));
    assert!(told(&judged).contains("2 of 12 prompts are left out"), "{}", told(&judged));
    let rows = rows(&home, "out/judgments.jsonl");
    assert_eq!(rows[0]["verdict"], Value::Null);
    assert_eq!(rows[0]["words"], json!(["Hard to say.", "Hard to say."]));
    assert!(rows[1]["words"][0].as_str().unwrap().contains("not this one"));

    // What ends the command: the key, the model, the address, the wish for it.
    server.follow(|_| Turn::error(401, "invalid_api_key", "who are you"));
    let refused = compare(&home, "new", &by);
    let text = told(&refused);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text.contains("answered with status 401: who are you"), "{text}");
    assert!(text.contains("hint: check the key in `OPENAI_API_KEY`"), "{text}");
    server.follow(|_| Turn::Status(503, "", String::new()));
    let hasty = [&by[..], &["--retries", "1", "--retry-delay", "0.01"]].concat();
    let refused = compare(&home, "new", &hasty);
    assert_eq!(refused.status.code(), Some(6));
    let text = told(&refused);
    assert!(text.contains("error: gave up after 2 tries\n  because: `http://"), "{text}");
}

#[test]
fn flags_and_variables_say_who_judges() {
    let home = home(&["tuned"]);
    let server = ChatServer::start(likes_length);
    for (flags, words) in [
        (&["--judge", "x"][..], "the environment variable `OPENAI_API_KEY` is not set"),
        (&["--judge", "x", "--api-key-env", "NO_SUCH_KEY"], "`NO_SUCH_KEY` is not set"),
        (&["--judge", "x", "--base-url", "localhost:9/v1"], "`localhost:9/v1` is not the address"),
        (&["--rule", "longest"], "`longest` is no rule"),
        (&["--rule", "regex:("], "`regex:(` is no rule"),
        (&["--rule", "longer", "--retries", "2"], "`--retries` has no effect with `--rule`"),
        (&["--rule", "longer", "--system", "x", "--form", "plain"], "`--system` has no effect"),
        (&["--rule", "longer", "--judge", "x"], "cannot be used with"),
        (&[], "--judge <MODEL>|--rule <RULE>"),
    ] {
        let refused = compare(&home, "never", flags);
        let text = told(&refused);
        assert!(refused.status.code() == Some(2) && text.contains(words), "{flags:?}: {text}");
    }
    let same = [
        "judge",
        "compare",
        "pairs.jsonl",
        "--model",
        &model(),
        "--output",
        "x",
        "--rule",
        "longer",
    ];
    assert!(told(&home.program(&same)).contains("both sides are the same"));
    // The key of the environment goes to the address of the environment.
    let flags = [
        "judge",
        "compare",
        "pairs.jsonl",
        "--adapter",
        "tuned",
        "--output",
        "env",
        "--judge",
        "judge-3",
        "--max-new-tokens",
        "2",
        "--against",
        "given",
        "--limit",
        "1",
    ];
    let mut command = home.any(&flags);
    command.env("OPENAI_API_KEY", "sk-env").env("OPENAI_BASE_URL", server.base_url());
    assert!(command.output().unwrap().status.success());
    let last = server.seen().pop().unwrap();
    assert_eq!(last.authorization.as_deref(), Some("Bearer sk-env"));
    assert_eq!((&last.body["model"], &last.body["temperature"]), (&json!("judge-3"), &json!(0.0)));
}

/// The published file with other paths.
const EVALUATION: &str = r#"eval:
  data_file: "pairs.jsonl"
  batch_size: 5
  max_new_tokens: 6
  judge_concurrency: 3

paths:
  original_root: "original/Models"
  modified_root: "modified/Models"

models:
  - short: "tiny"

deltas: [0, 10]

llm-as-judge:
  name: "gpt-4o-mini"
  temperature: 0.8

openai_api_key: "${MY_KEY}"
"#;

/// A grade that is a function of the answer: its length, at most 10.
fn grade(answer: &str) -> f64 {
    u8::try_from(answer.chars().count().min(10)).map_or(0.0, f64::from)
}

/// What is published of the grades of A and B.
fn published(a: &[Option<f64>], b: &[Option<f64>]) -> Value {
    let both = a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
    let (a, b): (Vec<f64>, Vec<f64>) = both.unzip();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let low =
        |values: &[f64]| values.iter().filter(|it| **it < 5.0).count() as f64 / values.len() as f64;
    let count = |ahead: &[f64], behind: &[f64]| {
        ahead.iter().zip(behind).filter(|(ahead, behind)| behind < ahead).count() as f64
    };
    let (wins, losses) = (count(&b, &a), count(&a, &b));
    json!({
        "factuality_A": mean(&a), "factuality_B": mean(&b),
        "halluc_rate_A": low(&a), "halluc_rate_B": low(&b),
        "win_rate": if wins + losses > 0.0 { wins / (wins + losses) } else { 0.0 },
        "count": 11,
    })
}

#[test]
fn factuality_is_graded_from_the_published_file() {
    let home = home(&[
        "original/Models/tiny_OriginalDPO",
        "modified/Models/tiny_delta0",
        "modified/Models/tiny_delta10",
    ]);
    home.write("eval.yaml", EVALUATION);
    let server = ChatServer::start(|seen| match &part(seen, "REQUEST")[..] {
        "What is 5+1?" => Turn::Say("Who knows.".into()),
        _ => Turn::Say(format!("Well.\n[[{}]]", grade(&part(seen, "ANSWER")))),
    });
    let flags = ["judge", "factuality", "--config", "eval.yaml", "--output", "out", "--base-url"];
    let flags = [&flags[..], &[server.base_url()]].concat();
    let unset = told(&home.program(&flags));
    assert!(
        unset.contains("eval.yaml:20: `openai_api_key` needs the variable `MY_KEY`"),
        "{unset}"
    );
    let run = || home.any(&flags).env("MY_KEY", "sk-mine").output().unwrap();
    let done = run();
    assert!(done.status.success(), "{}", told(&done));
    assert!(told(&done).contains("note: the judge is asked at temperature 0"), "{}", told(&done));
    assert!(told(&done).contains("2 prompts are left out of the results"), "{}", told(&done));
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.authorization.as_deref() == Some("Bearer sk-mine")));
    assert!(seen.iter().all(|seen| seen.body["temperature"] == 0.0));
    assert_eq!(server.paid().1, 1);

    // The results are those of the rows, and the rows those of the models.
    let rows = rows(&home, "out/scores.jsonl");
    assert_eq!(rows.len(), 3 * 12);
    let of = |model: &str| -> Vec<Option<f64>> {
        let rows = rows.iter().filter(|row| row["model"] == model);
        rows.map(|row| row["score"].as_f64()).collect()
    };
    let text = fs::read_to_string(home.path("out/eval_results.json")).unwrap();
    let results: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(results.as_object().unwrap().len(), 2);
    for name in ["tiny_delta0", "tiny_delta10"] {
        assert_eq!(results[name], published(&of("tiny_OriginalDPO"), &of(name)));
    }
    let row = rows.iter().find(|row| row["model"] == "tiny_delta10").unwrap();
    let alone = ["generate", "--raw", "--max-new-tokens", "6", "--prompt", "What is 0+1?"];
    let alone =
        home.program(&[&alone[..], &["--adapter", "modified/Models/tiny_delta10"]].concat());
    assert_eq!(String::from_utf8_lossy(&alone.stdout).trim(), row["answer"].as_str().unwrap());

    // Again: nothing is paid for, and the results are the same.
    let paid = server.paid();
    let again = run();
    assert!(told(&again).contains("judge: 0 answers paid"), "{}", told(&again));
    assert_eq!(server.paid(), paid);
    assert_eq!(fs::read_to_string(home.path("out/eval_results.json")).unwrap(), text);
    home.write("eval.yaml", &EVALUATION.replace("[0, 10]", "[0, 10, 20]"));
    let missing = run();
    assert_eq!(missing.status.code(), Some(4));
    assert!(
        told(&missing).contains("there is no folder `modified/Models/tiny_delta20`"),
        "{}",
        told(&missing)
    );
}

/// Ten questions, and an endpoint that has something to say to most of them.
fn questions() -> (Home, ChatServer) {
    let home = home(&[]);
    let questions: Vec<String> = (0..10)
        .map(|n| json!({"question": format!("What is {n}+1?"), "answer": (n + 1).to_string()}))
        .map(|row| row.to_string())
        .collect();
    home.write("questions.jsonl", &(questions.join("\n") + "\n"));
    let server = ChatServer::start(|seen| {
        let (messages, seed) = (&seen.body["messages"], &seen.body["seed"]);
        let question = messages[1]["content"].as_str().unwrap();
        match question.chars().nth(8) {
            Some('3') => Turn::Say("4".into()),
            Some('4') => Turn::Say(" ".into()),
            Some('5') => Turn::error(400, "content_filter", "no"),
            // The later ones come first.
            Some('0') => {
                Turn::SayAfter(Duration::from_millis(200), format!("No: {question} {seed}"))
            }
            _ => Turn::Say(format!("No: {question} {seed}")),
        }
    });
    (home, server)
}

/// Runs `data pairs` with an endpoint.
fn pairs(home: &Home, server: &ChatServer, output: &str, flags: &[&str]) -> Output {
    let base = [
        "data",
        "pairs",
        "questions.jsonl",
        "--api-model",
        "writer-1",
        "--system",
        "Be wrong.",
        "--base-url",
        server.base_url(),
        "--max-new-tokens",
        "9",
        "--output",
        output,
    ];
    home.program(&[&base[..], flags].concat())
}

#[test]
fn an_endpoint_writes_pairs_and_is_paid_once() {
    let (home, server) = questions();
    let done = pairs(&home, &server, "made.jsonl", &[]);
    assert!(done.status.success(), "{}", told(&done));
    let text = told(&done);
    for words in [
        "pairs: 7 written, 0 kept from before",
        "dropped 2: the endpoint gave no answer",
        "dropped 1: the model wrote the given answer",
        "endpoint: 9 answers paid",
        "over 7 pairs: characters a completion: chosen 1.1, rejected 21.0",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let rows = rows(&home, "made.jsonl");
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    let want = [1, 2, 3, 7, 8, 9, 10].map(|line| format!("questions.jsonl:{line}"));
    assert_eq!(ids, want);
    assert_eq!(rows[0]["prompt"], json!([{"role": "user", "content": "What is 0+1?"}]));
    assert_eq!(rows[0]["rejected"][0]["content"], "No: What is 0+1? null");
    assert_eq!(
        (&rows[0]["source"]["model"], &rows[0]["source"]["side"]),
        (&json!("writer-1"), &json!("rejected"))
    );
    let body = &server.seen()[0].body;
    assert_eq!(
        (&body["max_tokens"], &body["seed"], &body["temperature"]),
        (&json!(9), &Value::Null, &json!(0.0))
    );
    assert_eq!(body["messages"][0], json!({"role": "system", "content": "Be wrong."}));

    // Rows that are lost are made again of what was paid for.
    let whole = fs::read(home.path("made.jsonl")).unwrap();
    fs::write(home.path("made.jsonl"), &whole[..whole.len() / 2]).unwrap();
    let again = pairs(&home, &server, "made.jsonl", &[]);
    assert!(told(&again).contains("endpoint: 0 answers paid"), "{}", told(&again));
    assert!(fs::read(home.path("made.jsonl")).unwrap() == whole);
    assert_eq!(server.paid(), (9, 1));
}

#[test]
fn an_endpoint_writes_either_side_and_several_samples() {
    let (home, server) = questions();
    // Samples draw with seeds of their own; the other side, and plain text.
    let flags = [
        "--samples",
        "3",
        "--temperature",
        "0.7",
        "--top-p",
        "0.9",
        "--limit",
        "2",
        "--form",
        "question-answer",
    ];
    assert!(pairs(&home, &server, "lists.jsonl", &flags).status.success());
    let lists = rows(&home, "lists.jsonl");
    assert_eq!(lists[1]["prompt"], "Question: What is 1+1?\nAnswer:");
    assert_eq!(lists[1]["chosen"], " 2");
    assert_eq!(lists[1]["rejected"].as_array().unwrap().len(), 3);
    let last = server.seen().pop().unwrap();
    assert_eq!((&last.body["top_p"], &last.body["temperature"]), (&json!(0.9), &json!(0.7)));
    assert!(
        pairs(&home, &server, "chosen.jsonl", &["--write", "chosen", "--limit", "1"])
            .status
            .success()
    );
    assert_eq!(rows(&home, "chosen.jsonl")[0]["rejected"][0]["content"], "1");
    for (flags, words) in [
        (&["--model", "x"][..], "cannot be used with"),
        (&["--temperature", "1", "--top-k", "5"], "cannot be used with"),
        (&["--samples", "2"], "`--samples` has no effect"),
    ] {
        let refused = pairs(&home, &server, "no.jsonl", flags);
        assert!(
            refused.status.code() == Some(2) && told(&refused).contains(words),
            "{}",
            told(&refused)
        );
    }
    let alone = ["data", "pairs", "questions.jsonl", "--output", "no.jsonl", "--concurrency", "2"];
    let text = told(&home.program(&alone));
    assert!(text.contains("`--concurrency` has no effect without `--api-model`"), "{text}");
}
