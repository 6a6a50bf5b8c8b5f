//! Chat templates of published models, rendered by transformers and by us.
//!
//! `goldens/parity/templates.py` takes the templates that come with TRL, a family after the other,
//! and renders conversations of every kind with each.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;
use data::template::{ChatTemplate, Moment, RenderOptions};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::run::{Job, say};

/// What transformers' side says.
#[derive(Deserialize)]
struct Answer {
    source: String,
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
    /// The rendering; absent where it is refused.
    text: Option<String>,
    /// Why it is refused.
    message: Option<String>,
}

/// What transformers refuses and we render: a loop over `none` is empty here, an error in Python.
/// An answer that is nothing but calls has `none` as its content.
const LOOP_OVER_NONE: &str = "'NoneType' object is not iterable";

/// Compares all renderings, also those of the `*.jinja` of a given folder, and returns what differs.
///
/// # Errors
///
/// If transformers' side fails.
pub(super) fn compare(
    root: &Path,
    python: &Job,
    more: Option<&Path>,
) -> anyhow::Result<Vec<String>> {
    let script = root.join("goldens/parity/templates.py");
    let words = [Some(&*script), more].into_iter().flatten();
    let answer: Answer = serde_json::from_slice(&python.clone().args(words).output()?)?;
    ensure!(!answer.cases.is_empty(), "there are no templates to compare");
    say(&format!(
        "templates: {} of {}, {} conversations each",
        answer.templates.len(),
        answer.source,
        answer.conversations.len()
    ));
    let mut complaints = Vec::new();
    let (mut alike, mut refused, mut lenient) = (0, 0, 0);
    for case in &answer.cases {
        match (&case.text, render(&answer, case)) {
            (Some(theirs), Ok(ours)) if *theirs == ours => alike += 1,
            (None, Err(_)) => refused += 1,
            (None, Ok(_)) if case.message.as_deref() == Some(LOOP_OVER_NONE) => lenient += 1,
            (theirs, ours) => complaints.push(complaint(case, theirs.as_deref(), ours)),
        }
    }
    say(&format!("templates: {alike} renderings alike, {refused} refused by both"));
    say(&format!("templates: {lenient} refused there alone, for a loop over `none`"));
    Ok(complaints)
}

fn render(answer: &Answer, case: &Case) -> Result<String, data::Error> {
    let conversation = &answer.conversations[&case.conversation];
    let source = &answer.templates[&case.template];
    let template = ChatTemplate::new(source, &case.template, answer.date)?;
    let options = RenderOptions {
        tools: conversation.tools.as_ref(),
        documents: conversation.documents.as_ref(),
        add_generation_prompt: conversation.add_generation_prompt,
        continue_final_message: conversation.continue_final_message,
        special_tokens: &answer.special_tokens,
        kwargs: &conversation.kwargs,
    };
    template.render(&conversation.messages, &options)
}

/// How two renderings differ, from the first difference on.
fn complaint(case: &Case, theirs: Option<&str>, ours: Result<String, data::Error>) -> String {
    let at = format!("template `{}`, conversation `{}`", case.template, case.conversation);
    match (theirs, ours) {
        (Some(theirs), Ok(ours)) => {
            let same = theirs.chars().zip(ours.chars()).take_while(|(a, b)| a == b).count();
            let rest = |text: &str| text.chars().skip(same).take(60).collect::<String>();
            format!("{at}: {:?} here, {:?} there", rest(&ours), rest(theirs))
        }
        (None, Ok(_)) => format!("{at}: refused there alone"),
        (_, Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{at}: refused here alone: {error}: {}", cause.unwrap_or_default())
        }
    }
}
