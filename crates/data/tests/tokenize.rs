//! Tokenization against TRL, and what it refuses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use data::check::Problem;
use data::record::{Content, Origin, Record};
use data::report::{Action, DataReport};
use data::template::{Moment, Templates};
use data::token_cache::TokenCache;
use data::tokenize::{Lengths, Settings, TemplateUse, Tokenization, Tokenized};
use data::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::{Map, Value, json};

static CHAT: LazyLock<(Tokenizer, Templates)> = LazyLock::new(|| {
    let folder = testkit::golden("trl/chat");
    let date = Moment::date(2026, 1, 2).unwrap();
    (Tokenizer::open(&folder).unwrap(), Templates::open(&folder, date).unwrap())
});

fn tokenization(settings: Settings) -> Tokenization<'static> {
    Tokenization { tokenizer: &CHAT.0, templates: &CHAT.1, settings, cache: None }
}

fn content(value: &Value) -> Content {
    match value {
        Value::String(text) => Content::Text(text.clone()),
        Value::Array(messages) => Content::Messages(messages.clone()),
        other => panic!("{other}"),
    }
}

fn record(line: u64, prompt: Content, completions: Vec<Content>) -> Record {
    Record {
        origin: Origin::line("pairs.jsonl", line),
        prompt,
        completions,
        tools: None,
        template_kwargs: Map::new(),
        extras: Map::new(),
    }
}

fn plain(prompt: &str, chosen: &str, rejected: &str) -> Record {
    let text = |text: &str| Content::Text(text.into());
    record(1, text(prompt), vec![text(chosen), text(rejected)])
}

fn records(rows: &[Value]) -> Vec<Record> {
    let row = |(index, row): (usize, &Value)| {
        record(
            index as u64,
            content(&row["prompt"]),
            vec![content(&row["chosen"]), content(&row["rejected"])],
        )
    };
    rows.iter().enumerate().map(row).collect()
}

fn run(settings: Settings, records: &[Record]) -> (Tokenized, DataReport) {
    let mut report = DataReport { records: records.len() as u64, ..DataReport::default() };
    let tokenized = tokenization(settings).run(records, &mut report).unwrap();
    (tokenized, report)
}

fn refusal(settings: Settings, record: Record) -> String {
    let error = tokenization(settings).run(&[record], &mut DataReport::default()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    format!("{error}: {source}")
}

/// Rows of the golden's plain part in which the seam lies inside a token.
const MOVED_ENDS: u64 = 1;

#[derive(Deserialize)]
struct Golden {
    plain: Vec<Value>,
    turns: Vec<Value>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    rows: String,
    max_length: usize,
    examples: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "row")]
    index: u64,
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    rejected: Vec<u32>,
}

fn golden() -> Golden {
    let text = fs_err::read_to_string(testkit::golden("data/tokenize.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn tokens_are_those_of_trl() {
    let golden = golden();
    let mut compared = 0;
    for run_of in &golden.runs {
        let rows = if run_of.rows == "plain" { &golden.plain } else { &golden.turns };
        let lengths = Lengths { max_length: Some(run_of.max_length), ..Lengths::default() };
        let (ours, report) = run(Settings { lengths, ..Settings::default() }, &records(rows));
        let ours: BTreeMap<&str, _> = ours.examples.iter().map(|e| (e.id.as_str(), e)).collect();
        for theirs in &run_of.examples {
            let id = format!("pairs.jsonl:{}", theirs.index);
            let Some(example) = ours.get(id.as_str()) else {
                // What TRL trains on without effect, we drop and count.
                assert_eq!(theirs.chosen, theirs.rejected, "{id} is missing");
                continue;
            };
            assert_eq!(example.prompt, theirs.prompt, "{id}");
            assert_eq!(
                example.completions,
                [theirs.chosen.clone(), theirs.rejected.clone()],
                "{id}"
            );
            compared += 1;
        }
        let long = report.count(Problem::PromptTooLong, Action::Dropped);
        assert_eq!(long as usize, rows.len() - run_of.examples.len());
    }
    assert!(20 < compared, "{compared}");
}

#[test]
fn moved_ends_and_cuts_are_reported_with_their_line() {
    let golden = golden();
    let lengths = Lengths { max_length: Some(80), ..Lengths::default() };
    let (_, report) = run(Settings { lengths, ..Settings::default() }, &records(&golden.turns));
    let text = report.render_problems();
    // The last row's rejected completion has 39 tokens behind a prompt of 66.
    assert_eq!(report.count(Problem::Truncated, Action::Kept), 1, "{text}");
    assert!(text.contains("`pairs.jsonl` line "), "{text}");
    let (_, report) = run(Settings::default(), &records(&golden.plain));
    assert_eq!(report.count(Problem::Truncated, Action::Kept), 0);
    let moved = report.render_problems();
    assert_eq!(report.count(Problem::PromptEndMoved, Action::Kept), MOVED_ENDS, "{moved}");
}

#[test]
fn templates_are_used_as_the_setting_says() {
    let pair = || plain("Hi", "Hello!", "Go.");
    let turns = || {
        let turn = |role: &str, text: &str| {
            Content::Messages(vec![json!({"role": role, "content": text})])
        };
        record(1, turn("user", "Hi"), vec![turn("assistant", "Hello!"), turn("assistant", "Go.")])
    };
    let with = |chat_template| Settings { chat_template, ..Settings::default() };
    let (always, _) = run(with(TemplateUse::Always), &[pair()]);
    let (auto, _) = run(with(TemplateUse::Auto), &[turns()]);
    assert_eq!(always.examples, auto.examples);
    assert_eq!(auto.decisions.template.as_deref(), Some("chat_template.jinja"));
    let (text, _) = run(with(TemplateUse::Auto), &[pair()]);
    assert!(text.decisions.plain_beside_template);
    assert_ne!(text.examples, auto.examples);
    let refused = refusal(with(TemplateUse::Never), turns());
    assert!(refused.contains("`pairs.jsonl` line 1") && refused.contains("`never`"), "{refused}");
    let (mixed, _) =
        run(with(TemplateUse::Auto), &[Record { completions: pair().completions, ..turns() }]);
    assert_eq!(mixed.examples, auto.examples);
}

#[test]
fn tokens_pass_through() {
    let ids = |ids: &[u32]| Content::Tokens(ids.to_vec());
    let rows = [
        record(1, ids(&[1, 2]), vec![ids(&[3]), ids(&[4, 5])]),
        record(2, ids(&[]), vec![ids(&[6, 7])]),
    ];
    let (tokenized, _) = run(Settings::default(), &rows);
    assert_eq!(tokenized.examples[0].prompt, [1, 2]);
    assert_eq!(tokenized.examples[0].completions, [vec![3], vec![4, 5]]);
    assert_eq!(tokenized.examples[1].unscored, [1], "nothing predicts the first token of all");
    assert_eq!(tokenized.decisions.tokens, 2);
    let refused =
        refusal(Settings::default(), record(1, ids(&[1]), vec![Content::Text("x".into())]));
    assert!(refused.contains("mixes"), "{refused}");
}

#[test]
fn what_would_train_on_the_wrong_tokens_is_refused() {
    let bos = CHAT.0.special_tokens().get("bos_token").cloned();
    if let Some(bos) = bos {
        let refused = refusal(Settings::default(), plain(&format!("{bos}{bos}Hi"), "a", "b"));
        assert!(refused.contains("twice"), "{refused}");
    }
    let date = Moment::date(2026, 1, 2).unwrap();
    let with = |source: &str| {
        let templates =
            Templates::from_sources([("default".into(), source.into())], "test", date).unwrap();
        let settings = Settings { chat_template: TemplateUse::Always, ..Settings::default() };
        let tokenization =
            Tokenization { tokenizer: &CHAT.0, templates: &templates, settings, cache: None };
        let error =
            tokenization.run(&[plain("Hi", "a", "b")], &mut DataReport::default()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        (source, error.hint())
    };
    let (endless, hint) = with("{% for m in messages %}{{ m.content }}\n{% endfor %}");
    assert!(endless.contains("without an end token"), "{endless}");
    assert!(hint.unwrap().contains("eos_token"));
    let (elsewhere, _) = with(
        "{% if not add_generation_prompt %}other {% endif %}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
    );
    assert!(elsewhere.starts_with("the prompt alone starts"), "{elsewhere}");
    let (refused, _) = with("{{ raise_exception('no ' + messages[0].role + 's here') }}");
    assert!(refused.ends_with("refuses these messages: no users here"), "{refused}");
    let settings = Settings {
        chat_template: TemplateUse::Always,
        drop_untokenizable: true,
        ..Settings::default()
    };
    let none = Templates::default();
    let tokenization = Tokenization { tokenizer: &CHAT.0, templates: &none, settings, cache: None };
    let mut report = DataReport { records: 1, ..DataReport::default() };
    let left = tokenization.run(&[plain("Hi", "a", "b")], &mut report).unwrap();
    assert_eq!((left.examples.len(), report.records), (0, 0));
    assert_eq!(report.count(Problem::Untokenizable, Action::Dropped), 1);
}

#[test]
fn a_preview_marks_what_is_scored() {
    let (tokenized, _) = run(Settings::default(), &[plain("Hi, ", "you 😀", "go")]);
    let preview = tokenization(Settings::default()).preview(&tokenized.examples[0]).unwrap();
    let text: String = preview.completions[0].iter().map(|token| token.text.as_str()).collect();
    assert_eq!(text, "you 😀<|im_end|>");
    assert!(preview.prompt.iter().all(|token| !token.scored));
    assert!(preview.completions.iter().flatten().all(|token| token.scored));
    assert!(preview.to_string().contains("rejected, "));
}

#[test]
fn cached_tokens_are_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(folder.path());
    let golden = golden();
    let rows = [records(&golden.plain), records(&golden.turns)].concat();
    let lengths = Lengths { max_length: Some(60), ..Lengths::default() };
    let cached = Tokenization {
        cache: Some(&cache),
        ..tokenization(Settings { lengths, ..Settings::default() })
    };
    let key = cache.key(&cached, &rows);
    let mut reports = [(); 3].map(|()| DataReport::default());
    let first = cached.run(&rows, &mut reports[0]).unwrap();
    assert!(cache.path(&key).is_file());
    assert_eq!(cached.run(&rows, &mut reports[1]).unwrap(), first);
    fs_err::write(cache.path(&key), b"broken").unwrap();
    let mut again = cached.run(&rows, &mut reports[2]).unwrap();
    assert!(std::mem::take(&mut again.decisions.cache_was_damaged) && again == first);
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[2]);
    assert_ne!(cache.key(&cached, &rows[1..]), key);
    let always = Settings { chat_template: TemplateUse::Always, ..Settings::default() };
    assert_ne!(cache.key(&tokenization(always), &rows), key);
    // Lengths are cut later, so they share an entry.
    assert_eq!(cache.key(&tokenization(Settings::default()), &rows), key);
}

/// A conversation as one completion, learned where the assistant speaks.
#[test]
fn answers_are_found_by_what_the_template_writes() {
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let talk = vec![
        turn("system", "Be brief."),
        turn("user", "Is ice cold?"),
        turn("assistant", "Yes."),
        turn("user", "And fire?"),
        turn("assistant", "It is hot."),
    ];
    let whole = record(1, Content::Messages(Vec::new()), vec![Content::Messages(talk)]);
    let settings = Settings { answers_only: true, ..Settings::default() };
    let (tokenized, _) = run(settings, std::slice::from_ref(&whole));
    let example = &tokenized.examples[0];
    let texts: Vec<String> = example
        .spans
        .iter()
        .map(|span| CHAT.0.decode(&example.completions[0][span.clone()], false).unwrap())
        .collect();
    assert_eq!(texts, ["Yes.<|im_end|>", "It is hot.<|im_end|>"]);

    // Cut within the second answer, the rest of it is learned; cut before any, nothing is.
    let second = example.spans[1].start;
    for (length, spans) in [(second + 2, 2), (second, 1), (4, 1)] {
        let lengths = Lengths { max_length: Some(length), ..Lengths::default() };
        let (cut, _) = run(Settings { lengths, ..settings }, std::slice::from_ref(&whole));
        assert_eq!(cut.examples[0].spans.len(), spans, "{length}");
        let is_scored = |index: &usize| cut.examples[0].is_scored(0, *index);
        assert_eq!((0..length).filter(is_scored).count() == 0, length == 4);
    }

    let text = record(1, Content::Text(String::new()), vec![Content::Text("No turns.".into())]);
    let told = refusal(settings, text);
    assert!(told.contains("plain text, which has no answers"), "{told}");
}

/// A template that writes earlier answers otherwise has no place where they are learned.
#[test]
fn answers_that_the_template_changes_later_are_refused() {
    let date = Moment::date(2026, 1, 2).unwrap();
    let forgets = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}\
        {% if message.role == 'user' or loop.last %}{{ message.content }}{% endif %}\
        {{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let sources = [("default".to_owned(), forgets.to_owned())].into_iter();
    let templates = Templates::from_sources(sources, "here", date).unwrap();
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let talk = vec![
        turn("user", "Is ice cold?"),
        turn("assistant", "Yes."),
        turn("user", "And fire?"),
        turn("assistant", "It is hot."),
    ];
    let record = record(1, Content::Messages(Vec::new()), vec![Content::Messages(talk)]);
    let settings = Settings { answers_only: true, ..Settings::default() };
    let asked = Tokenization { templates: &templates, ..tokenization(settings) };
    let error = asked.run(std::slice::from_ref(&record), &mut DataReport::default()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "turn 2 is written otherwise once it is not the last one");
    let drops = Settings { drop_untokenizable: true, ..settings };
    let asked = Tokenization { settings: drops, ..asked };
    let mut report = DataReport { records: 1, ..DataReport::default() };
    assert!(asked.run(&[record], &mut report).unwrap().examples.is_empty());
    assert!(report.problems.contains_key(&Problem::Untokenizable));
}
