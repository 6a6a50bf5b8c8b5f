//! Answers: their shapes, and that they are what the model says by itself.

use std::thread;

use model::Sampling;
use serde_json::{Value, json};

use crate::house::{ADAPTERS, House, MODEL, alone, chat, completion, policy, question, tokenizer};

const DRAWN: Sampling = Sampling { temperature: 1.0, top_p: 0.9, seed: 7, ..Sampling::GREEDY };

fn drawn(more: &Value) -> Value {
    let mut request = json!({"temperature": 1.0, "top_p": 0.9, "seed": 7, "max_tokens": 40});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[test]
fn a_chat_answer_has_its_shape() {
    let house = House::open();
    let answer = house.chat(&json!({"max_tokens": 12, "user": "me", "store": false}));
    let text = alone(&policy(MODEL), &question("2+1?"), (Sampling::GREEDY, 12), &[]);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(answer["created"].is_u64());
    let prompt = question("2+1?").len();
    let shape = json!({
        "id": answer["id"], "object": "chat.completion", "created": answer["created"],
        "model": MODEL,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": "length",
        }],
        "usage": {"prompt_tokens": prompt, "completion_tokens": 12, "total_tokens": prompt + 12},
    });
    assert_eq!(answer, shape);
}

#[test]
fn a_chat_stream_has_its_shape_and_says_the_same() {
    let house = House::open();
    let usual = house.chat(&drawn(&json!({})));
    let options = json!({"include_usage": true});
    let request = chat(&drawn(&json!({"stream": true, "stream_options": options})));
    let pieces = house.post("/v1/chat/completions", &request).pieces();
    let (usage, pieces) = pieces.split_last().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &usual["usage"]));
    let mut text = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        assert_eq!(piece["object"], "chat.completion.chunk");
        assert_eq!((&piece["id"], &piece["usage"]), (&pieces[0]["id"], &Value::Null));
        let choice = &piece["choices"][0];
        let is_last = index + 1 == pieces.len();
        assert_eq!(choice["finish_reason"].is_string(), is_last, "{piece}");
        assert_eq!(choice["delta"]["role"] == "assistant", index == 0, "{piece}");
        text += choice["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(pieces[pieces.len() - 1]["choices"][0]["delta"], json!({}));
    assert_eq!(text, content(&usual));
    assert_eq!(text, alone(&policy(MODEL), &question("2+1?"), (DRAWN, 40), &[]));
    let other = content(&house.chat(&drawn(&json!({"seed": 8})))).to_owned();
    assert_ne!(text, other, "another seed draws others");
    let [one, two] = [(); 2]
        .map(|()| content(&house.chat(&json!({"temperature": 2.0, "max_tokens": 40}))).to_owned());
    assert_ne!(one, two, "without a seed every request has its own");
}

#[test]
fn completions_take_texts_and_tokens_and_many_of_them() {
    let house = House::open();
    let model = policy(MODEL);
    let ids = tokenizer().encode("it is ", true).unwrap();
    let text = alone(&model, &ids, (Sampling::GREEDY, 5), &[]);
    let answer = house.complete(&json!({"max_tokens": 5}));
    let usage = json!({"prompt_tokens": ids.len(), "completion_tokens": 5,
                       "total_tokens": ids.len() + 5});
    let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": "length"});
    assert_eq!(answer["object"], "text_completion");
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!((&answer["choices"], &answer["usage"]), (&json!([choice]), &usage));
    for prompt in [json!(ids), json!([ids]), json!(["it is "])] {
        let answer = house.complete(&json!({"prompt": prompt, "max_tokens": 5}));
        assert_eq!(answer["choices"], json!([choice]));
    }
    let drawn_long = json!({"temperature": 2.0, "seed": 2});
    let told = &house.complete(&drawn_long)["usage"]["completion_tokens"];
    assert!(told.as_u64().unwrap() <= 16, "the interface's own limit");
    let echoed = house.complete(&json!({"echo": true, "max_tokens": 3}));
    let short = alone(&model, &ids, (Sampling::GREEDY, 3), &[]);
    assert_eq!(echoed["choices"][0]["text"], format!("it is {short}"));

    // Each prompt and each of its answers is what it would be alone.
    let many = house.complete(&drawn(&json!({"prompt": ["it is ", "no"], "n": 3})));
    let choices = many["choices"].as_array().unwrap();
    for (index, choice) in choices.iter().enumerate() {
        let prompt = tokenizer().encode(["it is ", "no"][index / 3], true).unwrap();
        let sampling = Sampling { seed: 7 + index as u64 % 3, ..DRAWN };
        assert_eq!(choice["index"], index);
        assert_eq!(choice["text"], alone(&model, &prompt, (sampling, 40), &[]), "{index}");
    }
    assert_eq!(choices.len(), 6);
    let mut texts = vec![String::new(); 6];
    let request = completion(&drawn(&json!({"prompt": ["it is ", "no"], "n": 3, "stream": true})));
    for piece in house.post("/v1/completions", &request).pieces() {
        assert_eq!(piece["object"], "text_completion");
        let choice = &piece["choices"][0];
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    for (text, choice) in texts.iter().zip(choices) {
        assert_eq!(choice["text"], *text);
    }
}

#[test]
fn answers_end_before_a_stop_string() {
    let house = House::open();
    let whole = alone(&policy(MODEL), &question("2+1?"), (DRAWN, 40), &[]);
    let stop: String = whole.chars().skip(9).take(3).collect();
    let wanted = &whole[..whole.find(&stop).unwrap()];
    for stop in [json!(stop), json!(["never to be seen", stop])] {
        let answer = house.chat(&drawn(&json!({ "stop": stop })));
        assert_eq!(content(&answer), wanted);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        let request = chat(&drawn(&json!({"stop": stop, "stream": true})));
        let pieces = house.post("/v1/chat/completions", &request).pieces();
        let text = pieces.iter().filter_map(|it| it["choices"][0]["delta"]["content"].as_str());
        assert_eq!(text.collect::<String>(), wanted);
    }
}

#[test]
fn an_end_token_ends_an_answer_and_the_context_does() {
    let house = House::open();
    let model = policy(MODEL);
    let tokenizer = tokenizer();
    // A draw that comes upon the end: the first seed whose answer is short.
    let prompt = question("2+1?");
    let seed = (0..200).find(|seed| {
        let sampling = Sampling { temperature: 2.0, seed: *seed, ..Sampling::GREEDY };
        let text = alone(&model, &prompt, (sampling, 200), &[]);
        tokenizer.encode(&text, false).unwrap().len() < 40
    });
    let request = json!({"temperature": 2.0, "seed": seed.unwrap(), "max_tokens": 200});
    let answer = house.chat(&request);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() < 200);

    let answer = house.chat(&json!({}));
    if answer["choices"][0]["finish_reason"] == "length" {
        assert_eq!(answer["usage"]["total_tokens"], crate::house::CONTEXT);
    }
    let greedy = (Sampling::GREEDY, usize::MAX);
    assert_eq!(content(&answer), alone(&model, &prompt, greedy, &[]));
}

#[test]
fn adapters_by_name_say_what_each_says_in_a_process_of_its_own() {
    let house = House::open();
    let names: Vec<&str> = [MODEL].into_iter().chain(ADAPTERS.map(|(name, _)| name)).collect();
    let listed = house.get("/v1/models").json();
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids, names);
    let prompt = question("2+1?");
    let alone: Vec<String> =
        names.iter().map(|name| alone(&policy(name), &prompt, (DRAWN, 40), &[])).collect();
    assert!(alone[0] != alone[1] && alone[1] != alone[2], "they are different models");
    // All at the same time, and over and over.
    thread::scope(|scope| {
        for turn in 0..12 {
            let (house, name, wanted) = (&house, names[turn % 3], &alone[turn % 3]);
            scope.spawn(move || {
                let answer = house.chat(&drawn(&json!({ "model": name })));
                assert_eq!((content(&answer), &answer["model"]), (wanted.as_str(), &json!(name)));
            });
        }
    });
}

#[test]
fn two_hundred_at_once_are_each_answered_as_alone() {
    let house = House::open();
    let model = policy(MODEL);
    thread::scope(|scope| {
        for index in 0..200_u64 {
            let (house, model) = (&house, &model);
            scope.spawn(move || {
                // Long and short prompts, some in pieces.
                let text = "What is 1+1? ".repeat(index as usize % 9 + 1);
                let sampling = Sampling { seed: index, ..DRAWN };
                let messages = json!([{"role": "user", "content": text}]);
                let stream = index.is_multiple_of(2);
                let fields = json!({"messages": messages, "seed": index, "max_tokens": 20,
                                    "stream": stream});
                let answer = house.post("/v1/chat/completions", &chat(&drawn(&fields)));
                assert_eq!(answer.status, 200, "{answer:?}");
                let said = if stream {
                    let pieces = answer.pieces();
                    let texts = pieces
                        .iter()
                        .filter_map(|it| it["choices"][0]["delta"]["content"].as_str());
                    texts.collect()
                } else {
                    content(&answer.json()).to_owned()
                };
                assert_eq!(said, alone(model, &question(&text), (sampling, 20), &[]), "{index}");
            });
        }
    });
}
