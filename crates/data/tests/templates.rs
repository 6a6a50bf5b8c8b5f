//! Chat templates against the renderings of transformers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use data::template::{ChatTemplate, Moment, RenderOptions, Templates};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Golden {
    date: Moment,
    special_tokens: BTreeMap<String, String>,
    templates: BTreeMap<String, String>,
    conversations: BTreeMap<String, Conversation>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Value>,
    #[serde(default)]
    tools: Option<Value>,
    #[serde(default)]
    documents: Option<Value>,
    #[serde(default)]
    add_generation_prompt: bool,
    #[serde(default)]
    continue_final_message: bool,
    #[serde(default)]
    kwargs: Map<String, Value>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    text: Option<String>,
    message: Option<String>,
}

fn golden() -> Golden {
    let text = fs_err::read_to_string(testkit::golden("data/templates.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn render(golden: &Golden, template: &ChatTemplate, case: &Case) -> Result<String, data::Error> {
    let conversation = &golden.conversations[&case.conversation];
    let options = RenderOptions {
        tools: conversation.tools.as_ref(),
        documents: conversation.documents.as_ref(),
        add_generation_prompt: conversation.add_generation_prompt,
        continue_final_message: conversation.continue_final_message,
        special_tokens: &golden.special_tokens,
        kwargs: &conversation.kwargs,
    };
    template.render(&conversation.messages, &options)
}

#[test]
fn renderings_are_those_of_transformers() {
    let golden = golden();
    let mut failures = Vec::new();
    for case in &golden.cases {
        let source = &golden.templates[&case.template];
        let template = ChatTemplate::new(source, &case.template, golden.date).unwrap();
        let ours = render(&golden, &template, case);
        match (&case.text, ours) {
            (Some(text), Ok(ours)) if *text == ours => {}
            // What they refuse we refuse, and the template's own words are in the message.
            (None, Err(error)) => {
                let raised = matches!(
                    error,
                    data::Error::Tokens(data::TokensError::TemplateRefused { ref message, .. })
                        if Some(message) == case.message.as_ref()
                );
                let continues = golden.conversations[&case.conversation].continue_final_message;
                assert!(raised || continues, "{} {}: {error}", case.template, case.conversation);
            }
            (theirs, ours) => {
                let [theirs, ours] = [theirs.clone(), ours.ok()].map(Option::unwrap_or_default);
                let same = theirs.chars().zip(ours.chars()).take_while(|(a, b)| a == b).count();
                let rest = |text: &str| text.chars().skip(same).take(60).collect::<String>();
                failures.push(format!(
                    "{} / {} from character {same}\n theirs: {:?}\n ours:   {:?}",
                    case.template,
                    case.conversation,
                    rest(&theirs),
                    rest(&ours)
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{} differ\n{}", failures.len(), failures.join("\n"));
    assert!(50 < golden.cases.len());
}

#[test]
fn a_template_that_does_not_parse_names_its_line() {
    let date = golden().date;
    let error = ChatTemplate::new("one\n{% if %}", "chat_template.jinja", date).unwrap_err();
    assert_eq!(error.to_string(), "chat template (chat_template.jinja) has a mistake on line 2");
}

#[test]
fn an_endless_template_ends() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    let template = ChatTemplate::new(source, "test", golden().date).unwrap();
    let case =
        Case { template: String::new(), conversation: "user".into(), text: None, message: None };
    assert!(render(&golden(), &template, &case).is_err());
}

#[test]
fn templates_are_found_where_models_keep_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let date = golden().date;
    let origins = |templates: &Templates| {
        templates.iter().map(|(n, t)| format!("{n} {}", t.origin())).collect::<Vec<_>>()
    };
    assert!(Templates::open(path, date).unwrap().is_empty());
    let named = r#"{"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}"#;
    fs_err::write(path.join("tokenizer_config.json"), named).unwrap();
    let templates = Templates::open(path, date).unwrap();
    assert_eq!(
        origins(&templates),
        ["default tokenizer_config.json", "tool_use tokenizer_config.json"]
    );
    assert_eq!(templates.select(true).unwrap().source(), "b");
    assert_eq!(templates.select(false).unwrap().source(), "a");
    fs_err::write(path.join("chat_template.jinja"), "c").unwrap();
    assert_eq!(origins(&Templates::open(path, date).unwrap()), ["default chat_template.jinja"]);
    fs_err::create_dir(path.join("additional_chat_templates")).unwrap();
    fs_err::write(path.join("additional_chat_templates/rag.jinja"), "d").unwrap();
    assert_eq!(
        origins(&Templates::open(path, date).unwrap()),
        ["default chat_template.jinja", "rag additional_chat_templates/rag.jinja"]
    );
    assert_eq!(Templates::open(path, date).unwrap().select(true).unwrap().source(), "c");
}
