//! Every layout of preference rows, recognised from the rows and turned into one kind of record.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use data::check::Problem;
use data::dataset::{Dataset, Options, load};
use data::layout::{Fields, Layout, Shape};
use data::read::Source;
use data::record::{Content, Record};
use data::report::Action;
use serde_json::{Value, json};

fn read(lines: &[Value], source: impl FnOnce(&mut Source), shape: Shape) -> Dataset {
    try_read(lines, source, shape).expect("rows are usable")
}

fn try_read(
    lines: &[Value],
    source: impl FnOnce(&mut Source),
    shape: Shape,
) -> Result<Dataset, data::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs_err::write(&path, text.join("\n")).unwrap();
    let mut it = Source::new(path);
    source(&mut it);
    load(&[it], &Options::new(shape))
}

fn content(content: &Content) -> Value {
    match content {
        Content::Text(text) => json!(text),
        Content::Messages(all) => json!(
            all.iter()
                .map(|it| {
                    let mut it = it.as_object().unwrap().clone();
                    let role = it.shift_remove("role").unwrap();
                    let content = it.shift_remove("content").unwrap();
                    if it.is_empty() { json!([role, content]) } else { json!([role, content, it]) }
                })
                .collect::<Vec<_>>()
        ),
        Content::Tokens(ids) => json!(ids),
    }
}

fn shown(record: &Record) -> Value {
    let mut all = vec![content(&record.prompt)];
    all.extend(record.completions.iter().map(content));
    Value::Array(all)
}

/// Checks one row: its layout, and its prompt and completions, messages as `[role, content]`.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "cases read best with `json!` in place")]
fn check(row: Value, layout: Layout, wanted: Value) -> Record {
    let shape = layout.shape(row.as_object().unwrap());
    let mut data = read(&[row], |_| {}, shape);
    assert_eq!(data.report.files[0].layout, layout.name());
    assert_eq!(data.records.len(), 1);
    let record = data.records.remove(0);
    assert_eq!(shown(&record), wanted);
    record
}

/// Checks that a row is dropped for a problem; a good row beside it decides the layout.
#[track_caller]
fn check_dropped(good: Value, bad: Value, problem: Problem, detail: &str) {
    let data = read(&[good, bad], |_| {}, Shape::Pairs);
    assert_eq!(data.records.len(), 1);
    assert_eq!(data.report.count(problem, Action::Dropped), 1, "{}", data.report.render());
    assert!(data.report.render().contains(detail), "{}", data.report.render());
}

#[test]
fn trl_text_with_prompt() {
    let record = check(
        json!({"prompt": "2+2=", "chosen": "4", "rejected": "5", "h_w": 0, "h_l": 1, "id": "a", "nested": {"x": 1}}),
        Layout::Preference,
        json!(["2+2=", "4", "5"]),
    );
    assert_eq!(Value::Object(record.extras), json!({"h_w": 0, "h_l": 1, "id": "a"}));
}

#[test]
fn trl_text_without_prompt() {
    check(
        json!({"chosen": "The sky is blue.", "rejected": "The sky is green."}),
        Layout::Preference,
        json!(["The sky is", " blue.", " green."]),
    );
}

#[test]
fn trl_messages_with_prompt() {
    check(
        json!({
            "prompt": [{"role": "user", "content": "Q"}],
            "chosen": [{"role": "assistant", "content": "A"}],
            "rejected": [{"role": "assistant", "content": "B"}],
        }),
        Layout::Preference,
        json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]),
    );
}

#[test]
fn trl_messages_without_prompt() {
    let row = json!({
        "chosen": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
        "rejected": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}],
    });
    check(
        row,
        Layout::Preference,
        json!([[["system", "S"], ["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]),
    );
}

#[test]
fn dialogues_that_part_at_an_answer_keep_the_turns_after_it() {
    let row = json!({
        "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "R"}, {"role": "assistant", "content": "C"}],
        "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}],
    });
    check(
        row,
        Layout::Preference,
        json!([
            [["user", "Q"]],
            [["assistant", "A"], ["user", "R"], ["assistant", "C"]],
            [["assistant", "B"]]
        ]),
    );
}

#[test]
fn ultrafeedback_has_a_text_prompt_beside_whole_dialogues() {
    let record = check(
        json!({
            "prompt": "Q", "prompt_id": "7",
            "chosen": [{"content": "Q", "role": "user"}, {"content": "A", "role": "assistant"}],
            "rejected": [{"content": "Q", "role": "user"}, {"content": "B", "role": "assistant"}],
            "messages": [{"content": "Q", "role": "user"}, {"content": "A", "role": "assistant"}],
            "score_chosen": 9.5, "score_rejected": 4.0,
        }),
        Layout::Preference,
        json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]),
    );
    let extras = json!({"prompt_id": "7", "score_chosen": 9.5, "score_rejected": 4.0});
    assert_eq!(Value::Object(record.extras), extras);
}

#[test]
fn prompt_messages_beside_whole_dialogues_and_beside_texts() {
    let prompt = json!([{"role": "user", "content": "Q"}]);
    check(
        json!({
            "prompt": prompt,
            "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
            "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}],
        }),
        Layout::Preference,
        json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]),
    );
    check(
        json!({"prompt": prompt, "chosen": "A", "rejected": "B"}),
        Layout::Preference,
        json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]),
    );
}

#[test]
fn mlx_rows_have_a_system_column() {
    let row = json!({"prompt": "Q", "chosen": "A", "rejected": "B", "system": "S"});
    let wanted =
        json!([[["system", "S"], ["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]);
    check(row, Layout::Preference, wanted);
    // One row with a system message makes messages of the whole file.
    let rows = [
        json!({"prompt": "P", "chosen": "A", "rejected": "B"}),
        json!({"prompt": "Q", "chosen": "A", "rejected": "B", "system": "S"}),
    ];
    let data = read(&rows, |_| {}, Shape::Pairs);
    let wanted = json!([[["user", "P"]], [["assistant", "A"]], [["assistant", "B"]]]);
    assert_eq!(shown(&data.records[0]), wanted);
}

#[test]
fn hh_rlhf_dialogues_become_messages() {
    let row = json!({
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye?\n\nAssistant: See you.",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye?\n\nAssistant: No.",
    });
    let prompt = json!([["user", "Hi"], ["assistant", "Hello."], ["user", "Bye?"]]);
    let wanted = json!([prompt, [["assistant", "See you."]], [["assistant", "No."]]]);
    check(row.clone(), Layout::HhRlhf, wanted);
    // Named `preference`, the same row stays text, as TRL has it.
    let data = read(&[row], |it| it.layout = Some(Layout::Preference), Shape::Pairs);
    assert_eq!(
        shown(&data.records[0]),
        json!([
            "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye?\n\nAssistant:",
            " See you.",
            " No."
        ])
    );
}

#[test]
fn alpaca_joins_instruction_and_input_and_unrolls_history() {
    let row = json!({
        "instruction": "Translate.", "input": "cat", "system": "S", "history": [["Hi", "Hello"]],
        "chosen": "chat", "rejected": "chien",
    });
    let prompt = json!([
        ["system", "S"],
        ["user", "Hi"],
        ["assistant", "Hello"],
        ["user", "Translate.\ncat"]
    ]);
    check(row, Layout::Alpaca, json!([prompt, [["assistant", "chat"]], [["assistant", "chien"]]]));
    check(
        json!({"instruction": "Q", "input": "", "output": ["A", "B"]}),
        Layout::Alpaca,
        json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]),
    );
}

#[test]
fn sharegpt_turns_have_other_names() {
    let row = json!({
        "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"},
    });
    let wanted =
        json!([[["system", "S"], ["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]);
    check(row, Layout::ShareGpt, wanted);
}

#[test]
fn orca_argilla_and_stack_exchange_rows() {
    let wanted =
        json!([[["system", "S"], ["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]);
    for question in ["question", "input"] {
        let row = json!({"system": "S", question: "Q", "chosen": "A", "rejected": "B"});
        check(row, Layout::Orca, wanted.clone());
    }
    let plain = json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]);
    let row = json!({"question": "Q", "response_j": "A", "response_k": "B"});
    check(row, Layout::Orca, plain.clone());
    let row = json!({"instruction": "Q", "chosen_response": "A", "rejected_response": "B", "chosen_avg_rating": 4.5});
    let record = check(row, Layout::Argilla, plain);
    assert_eq!(record.extras["chosen_avg_rating"], json!(4.5));
}

#[test]
fn openai_rows_bring_their_tools() {
    let record = check(
        json!({
            "input": {"messages": [{"role": "user", "content": "Q"}], "tools": [{"type": "function"}]},
            "preferred_output": [{"role": "assistant", "content": "A"}],
            "non_preferred_output": [{"role": "assistant", "content": "B"}],
        }),
        Layout::OpenAi,
        json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]),
    );
    assert_eq!(record.tools, Some(json!([{"type": "function"}])));
}

#[test]
fn nemo_rl_rows_are_pairs_or_groups_by_rank() {
    let completion = |rank: u32, text: &str| json!({"rank": rank, "completion": [{"role": "assistant", "content": text}]});
    let context = json!([{"role": "user", "content": "Q"}]);
    let row = json!({"context": context, "completions": [completion(1, "B"), completion(0, "A")]});
    let wanted = json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]);
    check(row, Layout::NemoRl, wanted);
    let row = json!({"context": context, "completions": [completion(1, "B"), completion(0, "A"), completion(2, "C")]});
    let error = try_read(std::slice::from_ref(&row), |_| {}, Shape::Pairs).unwrap_err();
    assert!(error.to_string().contains("is a row of groups with scores or ranks (nemo-rl)"));
    let record = read(&[row], |_| {}, Shape::Groups).records.remove(0);
    assert_eq!(record.extras["scores"], json!([0.0, -1.0, -2.0]));
    assert_eq!(record.completions.len(), 3);
}

#[test]
fn ms_swift_rows_end_with_the_chosen_answer() {
    let messages = json!([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]);
    let wanted = json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]);
    check(json!({"messages": messages, "rejected_response": "B"}), Layout::MsSwift, wanted.clone());
    let rejected = json!([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]);
    check(json!({"messages": messages, "rejected_messages": rejected}), Layout::MsSwift, wanted);
}

#[test]
fn typed_content_becomes_text() {
    let part = |text: &str| json!([{"type": "text", "text": text}]);
    let row = json!({
        "prompt": [{"role": "user", "content": [{"type": "text", "text": "Q"}, {"type": "text", "text": "!"}]}],
        "chosen": [{"role": "assistant", "content": part("A")}],
        "rejected": [{"role": "assistant", "content": part("B")}],
    });
    let wanted = json!([[["user", "Q!"]], [["assistant", "A"]], [["assistant", "B"]]]);
    check(row.clone(), Layout::Preference, wanted);
    let mut image = row.clone();
    image["prompt"][0]["content"][0] = json!({"type": "image", "image": "a.png"});
    check_dropped(row, image, Problem::Unsupported, "a part of type \"image\"");
}

#[test]
fn llama_factory_v1_rows_are_two_dialogues_of_typed_parts() {
    let message = |role: &str, text: &str, weight: f64| json!({"role": role, "content": [{"type": "text", "value": text}], "loss_weight": weight});
    let side = |text: &str| json!([message("user", "Q", 0.0), message("assistant", text, 1.0)]);
    let row = json!({"chosen_messages": side("A"), "rejected_messages": side("B")});
    let wanted = json!([[["user", "Q"]], [["assistant", "A"]], [["assistant", "B"]]]);
    check(row.clone(), Layout::LlamaFactoryV1, wanted);
    let masked = json!({"chosen_messages": [message("user", "Q", 0.0), message("assistant", "A", 0.0)], "rejected_messages": side("B")});
    check_dropped(row, masked, Problem::Unsupported, "`loss_weight` below 1");
    let reasoned = json!([
        {"role": "user", "content": [{"type": "text", "value": "Q"}]},
        {"role": "assistant", "content": [
            {"type": "reasoning", "value": "hm"},
            {"type": "tool_call", "value": "{\"name\": \"f\", \"arguments\": {}}"},
            {"type": "text", "value": "A"},
        ]},
    ]);
    let row = json!({"chosen_messages": reasoned, "rejected_messages": side("B")});
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": {}}}]);
    let answer = json!([["assistant", "A", {"tool_calls": call, "reasoning_content": "hm"}]]);
    check(row, Layout::LlamaFactoryV1, json!([[["user", "Q"]], answer, [["assistant", "B"]]]));
}

#[test]
fn token_ids_are_taken_as_they_are() {
    let wanted = json!([[1, 2], [3], [4, 5]]);
    let row = json!({"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]});
    check(row.clone(), Layout::Tokens, wanted.clone());
    let other =
        json!({"prompt_input_ids": [1, 2], "chosen_input_ids": [3], "rejected_input_ids": [4, 5]});
    check(other, Layout::Tokens, wanted);
    let bad = json!({"prompt_ids": [1, -2], "chosen_ids": [3], "rejected_ids": [4]});
    check_dropped(row, bad, Problem::WrongType, "`prompt_ids` holds something that is no token id");
}

#[test]
fn tools_and_template_variables_are_kept() {
    let mut row = json!({"prompt": "Q", "chosen": "A", "rejected": "B", "tools": "[{\"name\": \"f\"}]", "chat_template_kwargs": {"enable_thinking": false, "other": null}});
    let record = check(row.clone(), Layout::Preference, json!(["Q", "A", "B"]));
    assert_eq!(record.tools, Some(json!([{"name": "f"}])));
    assert_eq!(Value::Object(record.template_kwargs), json!({"enable_thinking": false}));
    let good = row.clone();
    row["tools"] = json!("not json");
    check_dropped(good, row, Problem::WrongType, "`tools` is no JSON");
}

#[test]
fn columns_with_other_names() {
    let row = json!({"question": "Q", "good": "A", "bad": "B", "prompt": "unused"});
    let fields =
        Fields::default().with("prompt", "question").with("chosen", "good").with("rejected", "bad");
    let data = read(std::slice::from_ref(&row), |it| it.fields = fields.clone(), Shape::Pairs);
    assert_eq!(shown(&data.records[0]), json!(["Q", "A", "B"]));
    let wrong = fields.with("rejected", "worse");
    let error = try_read(&[row], |it| it.fields = wrong, Shape::Pairs).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("dataset missing required field \"worse\" at"), "{text}");
    assert!(text.ends_with("available fields: question, good, bad, prompt"), "{text}");
}

#[test]
fn seed_recipes_that_write_the_default_names_out_still_recognise_layouts() {
    let row = json!({"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}});
    let fields = Fields::default().with("prompt", "prompt").with("chosen", "chosen");
    let data = read(&[row], |it| it.fields = fields, Shape::Pairs);
    assert_eq!(data.report.files[0].layout, "sharegpt");
}

#[test]
fn rows_without_pairs_are_named_and_refused() {
    let talk = json!([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]);
    let cases = [
        (
            json!({"prompt": "Q", "completion": "A"}),
            "prompts with one completion (prompt-completion)",
        ),
        (
            json!({"question": "Q", "answer": "A"}),
            "prompts with one completion (prompt-completion)",
        ),
        (
            json!({"instruction": "Q", "input": "", "output": "A"}),
            "prompts with one completion (alpaca-sft)",
        ),
        (
            json!({"prompt": "Q", "completion": "A", "label": true}),
            "unpaired completions with a label (unpaired)",
        ),
        (json!({"messages": talk, "label": false}), "unpaired completions with a label (unpaired)"),
        (json!({"messages": talk}), "prompts with one completion (messages)"),
        (json!({"text": "T"}), "plain texts (text)"),
        (json!({"prompt": "Q"}), "prompts without completion (prompts)"),
        (
            json!({"prompt": "Q", "responses": ["A", "B"], "scores": [1, 0]}),
            "groups with scores or ranks (groups)",
        ),
        (
            json!({"prompt": "Q", "completions": ["A", "B"], "labels": [true, false]}),
            "feedback on single steps (stepwise)",
        ),
    ];
    for (row, found) in cases {
        let error = try_read(std::slice::from_ref(&row), |_| {}, Shape::Pairs).unwrap_err();
        let wanted = format!("is a row of {found}, where \"chosen\"/\"rejected\" pairs are needed");
        assert!(error.to_string().contains(&wanted), "{row}: {error}");
        assert_eq!(
            error.hint().as_deref(),
            Some("expected format: {prompt: str, chosen: str, rejected: str}")
        );
    }
}

#[test]
fn single_completions_are_read_where_they_are_wanted() {
    check(json!({"prompt": "Q", "completion": "A"}), Layout::PromptCompletion, json!(["Q", "A"]));
    check(
        json!({"instruction": "Q", "input": "I", "output": "A"}),
        Layout::AlpacaSingle,
        json!([[["user", "Q\nI"]], [["assistant", "A"]]]),
    );
    let record = check(
        json!({"prompt": "Q", "completion": "A", "label": 0}),
        Layout::Unpaired,
        json!(["Q", "A"]),
    );
    assert_eq!(record.extras["label"], json!(false));
    check(json!({"text": "T"}), Layout::Text, json!(["", "T"]));
    check(json!({"prompt": "Q"}), Layout::Prompts, json!(["Q"]));
}

#[test]
fn groups_keep_the_order_of_the_file_and_have_one_score_each() {
    let record = check(
        json!({"prompt": "Q", "responses": ["A", "B", "C"], "ranks": [1, 0, 2], "models": ["x", "y", "z"]}),
        Layout::Groups,
        json!(["Q", "A", "B", "C"]),
    );
    assert_eq!(
        Value::Object(record.extras),
        json!({"models": ["x", "y", "z"], "scores": [-1.0, 0.0, -2.0]})
    );
    let record = check(
        json!({"instruction": "Q", "completions": [{"response": "A", "overall_score": 3.5}, {"response": "B", "overall_score": 4}]}),
        Layout::Groups,
        json!(["Q", "A", "B"]),
    );
    assert_eq!(record.extras["scores"], json!([3.5, 4.0]));
    let rows = [
        json!({"prompt": "Q", "responses": ["A", "B"], "ranks": [0, 1]}),
        json!({"prompt": "R", "responses": ["A", "B"], "ranks": [0, null]}),
        json!({"prompt": "S", "responses": ["A", "B"], "scores": [0]}),
    ];
    let data = read(&rows, |_| {}, Shape::Groups);
    assert_eq!(data.report.count(Problem::Null, Action::Dropped), 1);
    assert_eq!(data.report.count(Problem::WrongType, Action::Dropped), 1);
}

#[test]
fn every_layout_has_its_name() {
    for layout in Layout::ALL {
        assert_eq!(layout.name().parse::<Layout>().unwrap(), layout);
        assert_eq!(serde_json::to_value(layout).unwrap(), json!(layout.name()));
    }
    let error = "nectar".parse::<Layout>().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("unknown dataset layout \"nectar\"\nknown layouts: preference, ")
    );
}
