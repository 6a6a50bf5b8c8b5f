//! Log-probabilities: of written tokens, of their alternatives, and of prompts.

use model::{MicroBatch, Sequence};
use serde_json::{Value, json};
use testkit::tolerance;

use crate::house::{House, MODEL, chat, completion, policy, question, tokenizer};

/// The interface's name for a log-probability.
const LOGP: &str = concat!("log", "prob");

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
}

/// What scoring says of a completion, which shares no code with generation.
fn score(name: &str, prompt: &[u32], completion: &[u32]) -> f64 {
    let sequence = Sequence { prompt, completions: vec![(completion, 0)], spans: &[] };
    let scores = policy(name).score(&MicroBatch::new(&[sequence]), true).unwrap();
    scores.completions[0].logp
}

#[test]
fn chat_tells_tokens_with_what_else_might_have_been() {
    let house = House::open();
    for name in [MODEL, "tuned"] {
        let fields = json!({"model": name, "max_tokens": 10, "logprobs": true, "top_logprobs": 3});
        let answer = house.chat(&fields);
        let choice = &answer["choices"][0];
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(tokens.len(), 10);
        assert_eq!(choice["logprobs"]["refusal"], Value::Null);
        let mut sum = 0.0;
        for token in tokens {
            sum += token[LOGP].as_f64().unwrap();
            let top = token["top_logprobs"].as_array().unwrap();
            assert_eq!(top.len(), 3);
            // Greedy: what was said is the most likely.
            assert_eq!((&top[0]["token"], &top[0][LOGP]), (&token["token"], &token[LOGP]));
            assert!(top[2][LOGP].as_f64().unwrap() <= top[1][LOGP].as_f64().unwrap());
            let text = token["token"].as_str().unwrap();
            let bytes =
                if text.contains('\u{fffd}') { Value::Null } else { json!(text.as_bytes()) };
            assert_eq!(token["bytes"], bytes);
        }
        // The same tokens again, scored as training scores them.
        let mut ids = Vec::new();
        let model = policy(name);
        let mut session = model::Session::new(&model, true);
        let mut sampler = model::Sampler::new(model::Sampling::GREEDY);
        session
            .generate(&question("2+1?"), &mut sampler, 10, &mut |id| {
                ids.push(id);
                true
            })
            .unwrap();
        let wanted = score(name, &question("2+1?"), &ids);
        assert!((sum / wanted - 1.0).abs() < tolerance::MODEL_F32_LOGP, "{sum} {wanted}");

        let mut request = chat(&fields);
        request["stream"] = json!(true);
        let mut streamed = Vec::new();
        for piece in house.post("/v1/chat/completions", &request).pieces() {
            if let Some(said) = piece["choices"][0]["logprobs"]["content"].as_array() {
                streamed.extend(said.clone());
            }
        }
        assert_eq!(streamed, *tokens);
    }
}

#[test]
fn completions_tell_their_prompts_too() {
    let house = House::open();
    let text = "it is 3, as everybody knows";
    let ids = tokenizer().encode(text, true).unwrap();
    let fields =
        json!({"prompt": text, "echo": true, "logprobs": 2, "max_tokens": 0, "model": "half"});
    let answer = house.complete(&fields);
    let choice = &answer["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(text), &json!("length")));
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let told = &choice["logprobs"];
    let words: Vec<&str> =
        told["tokens"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(words.concat(), text, "the tokens spell the text");
    let logps = told["token_logprobs"].as_array().unwrap();
    assert_eq!((logps.len(), &logps[0]), (ids.len(), &Value::Null));
    assert_eq!(told["top_logprobs"][0], Value::Null);
    assert_eq!(told["top_logprobs"][1].as_object().unwrap().len(), 2);
    let mut offset = 0.0;
    for (word, told) in words.iter().zip(numbers(&told["text_offset"])) {
        assert!((told - offset).abs() < 0.5, "{word}");
        offset += word.chars().count() as f64;
    }
    let sum: f64 = logps[1..].iter().map(|it| it.as_f64().unwrap()).sum();
    let wanted = score("half", &ids[..1], &ids[1..]);
    assert!((sum / wanted - 1.0).abs() < tolerance::MODEL_F32_LOGP, "{sum} {wanted}");

    // With an answer behind it, whole and as a stream.
    let mut fields = fields;
    fields["max_tokens"] = json!(5);
    let whole = house.complete(&fields)["choices"][0].clone();
    let logps = &whole["logprobs"];
    assert_eq!(logps["tokens"].as_array().unwrap().len(), ids.len() + 5);
    assert_eq!(logps["text_offset"][ids.len()], text.chars().count());
    fields["stream"] = json!(true);
    let (mut streamed, mut all) = (String::new(), Vec::new());
    for piece in house.post("/v1/completions", &completion(&fields)).pieces() {
        let choice = &piece["choices"][0];
        streamed += choice["text"].as_str().unwrap();
        if choice["logprobs"].is_object() {
            all.extend(choice["logprobs"]["token_logprobs"].as_array().unwrap().clone());
        }
    }
    assert_eq!(whole["text"], streamed);
    assert_eq!(logps["token_logprobs"], json!(all));
}

#[test]
fn a_long_prompt_in_parts_has_the_numbers_of_one_read_at_once() {
    let house = House::open();
    let text = "What is 1+1? It is 2. ".repeat(40);
    let mut ids = tokenizer().encode(&text, true).unwrap();
    ids.truncate(240);
    assert_eq!(ids.len(), 240, "more than a part");
    let fields = json!({"prompt": ids, "echo": true, "logprobs": 0, "max_tokens": 0});
    let alone = house.complete(&fields);
    let logps = alone["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    let sum: f64 = logps[1..].iter().map(|it| it.as_f64().unwrap()).sum();
    let wanted = score(MODEL, &ids[..1], &ids[1..]);
    assert!((sum / wanted - 1.0).abs() < tolerance::MODEL_F32_LOGP, "{sum} {wanted}");
    // While others write, prompts are read in smaller parts.
    let numbers = |answer: &Value| answer["choices"][0]["logprobs"]["token_logprobs"].clone();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| house.complete(&json!({"max_tokens": 200})));
        }
        for _ in 0..8 {
            assert_eq!(numbers(&house.complete(&fields)), numbers(&alone));
        }
    });
}

#[test]
fn what_a_stop_string_cut_off_was_not_said() {
    let house = House::open();
    let usual = json!({"max_tokens": 40, "temperature": 1.0, "seed": 7, "logprobs": true});
    let whole = house.chat(&usual)["choices"][0].clone();
    let text = whole["message"]["content"].as_str().unwrap();
    let stop: String = text.chars().skip(9).take(3).collect();
    let at = text.find(&stop).unwrap();
    let mut fields = usual;
    fields["stop"] = json!(stop);
    let cut = house.chat(&fields)["choices"][0].clone();
    assert_eq!(cut["message"]["content"], text[..at]);
    let [told, all] =
        [&cut, &whole].map(|it| it["logprobs"]["content"].as_array().unwrap().clone());
    assert!(told.len() < all.len() && all.starts_with(&told));
    let spelled: String = told.iter().map(|it| it["token"].as_str().unwrap()).collect();
    let characters = text[..at].chars().count();
    assert!(characters <= spelled.chars().count(), "{spelled:?} is {:?} or more", &text[..at]);
}
