//! Rows with several completions: a score or a rank for each, or NeMo-RL's ranked list.

use serde_json::{Map, Number, Value};

use super::Parts;
use super::columns::{Columns, Fault, list, text};
use super::dialogue::side;
use super::messages::{is_messages, message, messages, prompt};
use crate::check::Problem;
use crate::record::Content;

/// Columns that hold the completions.
pub(super) const LISTS: [&str; 4] = ["responses", "completions", "answers", "generations"];

/// Columns that hold the prompt.
const PROMPTS: [&str; 4] = ["prompt", "instruction", "question", "context"];

/// Keys of the text where each completion is an object.
const TEXTS: [&str; 6] = ["response", "answer", "text", "completion", "content", "generation"];

/// Keys of the score where each completion is an object.
const SCORES: [&str; 4] = ["score", "overall_score", "reward", "rating"];

/// One number a completion, larger is better, in the file's order.
pub(super) type Scores = Vec<Value>;

/// Whether a row is a group: a list of completions with scores or ranks somewhere.
pub(super) fn is_group(fields: &Map<String, Value>) -> bool {
    let Some(Value::Array(all)) = LISTS.iter().find_map(|name| fields.get(*name)) else {
        return false;
    };
    let listed = ["scores", "ranks"].iter().any(|name| fields.contains_key(*name));
    let scored = |it: &Value| {
        SCORES.iter().chain(&["rank"]).any(|key| it.get(key).is_some())
            && TEXTS.iter().any(|key| it.get(key).is_some())
    };
    PROMPTS.iter().any(|name| fields.contains_key(*name))
        && (listed || !all.is_empty() && all.iter().all(scored))
}

/// How many completions NeMo-RL's row has.
pub(super) fn ranked_count(fields: &Map<String, Value>) -> usize {
    fields.get("completions").and_then(Value::as_array).map_or(0, Vec::len)
}

/// A group: `prompt`, `responses` and `scores` or `ranks` (0 or the smallest is best).
pub(super) fn convert(columns: &mut Columns) -> Result<(Parts, Scores), Fault> {
    let system = columns.optional_text("system")?;
    let asked = columns.any_of(&PROMPTS)?;
    let asked = if is_messages(&asked) {
        Content::Messages(prompt(messages(asked, "prompt")?))
    } else {
        Content::Text(text(asked, "prompt")?)
    };
    let mut all = list(columns.any_of(&LISTS)?, "responses")?;
    if all.len() < 2 {
        let detail = format!("`responses` has {} of at least two", all.len());
        return Err(Fault::new(Problem::MissingField, detail));
    }
    let scores = if columns.has("scores") {
        numbers(columns.required("scores")?, "scores", 1.0)?
    } else if columns.has_key("ranks") {
        numbers(columns.required("ranks")?, "ranks", -1.0)?
    } else {
        all.iter().map(score_inside).collect::<Result<_, _>>()?
    };
    if scores.len() != all.len() {
        let detail = format!("{} scores for {} responses", scores.len(), all.len());
        return Err(Fault::new(Problem::WrongType, detail));
    }
    for one in &mut all {
        unwrap_completion(one);
    }
    let chat = system.is_some()
        || columns.has_key("system")
        || matches!(asked, Content::Messages(_))
        || all.iter().any(is_messages);
    let parts = Parts { prompt: asked, completions: completions(all, chat)? };
    let parts = if chat { parts.prompt_as_messages() } else { parts };
    Ok((parts.with_system(system)?, scores))
}

/// NeMo-RL's rows: `context` and `completions`, each with its `rank`, 0 is best.
pub(super) fn ranked(columns: &mut Columns) -> Result<(Parts, Scores), Fault> {
    let asked = prompt(messages(columns.required("context")?, "context")?);
    let mut all = Vec::new();
    for one in list(columns.required("completions")?, "completions")? {
        let rank = number(one.get("rank").unwrap_or(&Value::Null), "rank")?;
        let Some(completion) = one.get("completion") else {
            return Err(Fault::new(Problem::MissingField, "`completion` in `completions`"));
        };
        all.push((rank, Content::Messages(side(completion.clone(), "completion")?)));
    }
    if all.len() < 2 {
        let detail = format!("`completions` has {} of at least two", all.len());
        return Err(Fault::new(Problem::MissingField, detail));
    }
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    if let [(one, _), (other, _)] = all.as_slice()
        && one.total_cmp(other).is_eq()
    {
        let detail = "`rank`";
        return Err(Fault::new(Problem::Tied, detail));
    }
    let scores = all.iter().map(|(rank, _)| score(-rank)).collect();
    let completions = all.into_iter().map(|(_, content)| content).collect();
    Ok((Parts { prompt: Content::Messages(asked), completions }, scores))
}

/// Puts the completion in the place of the object that holds it with its score.
fn unwrap_completion(one: &mut Value) {
    let is_message = one.get("role").is_some() || one.get("from").is_some();
    let key =
        TEXTS.iter().find(|key| one.get(**key).is_some_and(|it| it.is_string() || is_messages(it)));
    if let Some(inner) = key.filter(|_| !is_message).and_then(|key| one.get_mut(*key)) {
        *one = inner.take();
    }
}

fn completions(all: Vec<Value>, chat: bool) -> Result<Vec<Content>, Fault> {
    let one = |value: Value| {
        if is_messages(&value) {
            side(value, "responses").map(Content::Messages)
        } else {
            let text = text(value, "responses")?;
            Ok(if chat {
                Content::Messages(vec![message("assistant", text)])
            } else {
                Content::Text(text)
            })
        }
    };
    all.into_iter().map(one).collect()
}

fn score_inside(one: &Value) -> Result<Value, Fault> {
    if let Some(value) = SCORES.iter().find_map(|key| one.get(*key)) {
        return number(value, "score").map(score);
    }
    number(one.get("rank").unwrap_or(&Value::Null), "rank").map(|rank| score(-rank))
}

pub(super) fn numbers(value: Value, name: &str, sign: f64) -> Result<Scores, Fault> {
    list(value, name)?.iter().map(|it| Ok(score(sign * number(it, name)?))).collect()
}

fn number(value: &Value, name: &str) -> Result<f64, Fault> {
    match value {
        Value::Null => Err(Fault::new(Problem::Null, format!("`{name}`"))),
        value => value.as_f64().ok_or_else(|| {
            let detail = format!("`{name}` holds {}", crate::read::kind(value));
            Fault::new(Problem::WrongType, detail)
        }),
    }
}

/// A finite number as JSON; no zero with a sign.
fn score(value: f64) -> Value {
    Number::from_f64(value + 0.0).map_or(Value::Null, Value::Number)
}
