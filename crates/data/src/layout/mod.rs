//! Layouts: how a row holds its prompt and its completions.
//!
//! Each family of layouts has its file. [`recognise`] looks at the columns of one row; a file is
//! read with the layout of its first row that has one.

mod columns;
mod dialogue;
mod fields;
mod groups;
mod hh_rlhf;
mod instruction;
mod messages;
mod name;
mod preference;
mod prompts;
pub(crate) mod several;
mod shape;
mod single;
mod tokens;

use serde_json::{Map, Value};

use columns::{Columns, json};

pub use columns::Fault;
pub use fields::Fields;
pub use name::Layout;
pub use shape::Shape;

use crate::check::Problem;
use crate::read::Row;
use crate::record::{Content, Record};

/// Columns of pictures and sounds, which a text model cannot read.
const MEDIA: [&str; 6] = ["images", "image", "videos", "video", "audios", "audio"];

/// A prompt and completions, before the rest of the record is known.
struct Parts {
    prompt: Content,
    completions: Vec<Content>,
}

impl Parts {
    fn pair((prompt, completions): prompts::Pair) -> Self {
        Self { prompt, completions: completions.into() }
    }

    /// Puts a system message before the prompt's messages.
    fn with_system(mut self, system: Option<String>) -> Result<Self, Fault> {
        let Some(system) = system else {
            return Ok(self);
        };
        if let Content::Messages(prompt) = &mut self.prompt {
            let system = messages::message("system", system);
            match prompt.first() {
                Some(first) if *first == system => {}
                Some(first) if messages::role(first) == "system" => {
                    return Err(Fault::new(
                        Problem::BadMessage,
                        "the `system` column and the prompt's system message differ",
                    ));
                }
                _ => prompt.insert(0, system),
            }
        }
        Ok(self)
    }

    /// A prompt that is text becomes the user's turn.
    fn prompt_as_messages(mut self) -> Self {
        if let Content::Text(text) = self.prompt {
            self.prompt = Content::Messages(vec![messages::message("user", text)]);
        }
        self
    }
}

/// The layout that a row's columns belong to; null columns count as absent.
pub fn recognise(fields: &Map<String, Value>) -> Option<Layout> {
    let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    let all = |names: &[&str]| names.iter().all(|name| has(name));
    let any = |names: &[&str]| names.iter().any(|name| has(name));
    let ids = |side: &str| has(&format!("{side}_ids")) || has(&format!("{side}_input_ids"));
    let talks = any(&["messages", "conversations"]);
    let single = any(&single::PROMPTS) && any(&single::COMPLETIONS);
    let rules = [
        (ids("prompt") && ids("chosen") && ids("rejected"), Layout::Tokens),
        (all(&["chosen_messages", "rejected_messages"]), Layout::LlamaFactoryV1),
        (has("messages") && any(&["rejected_response", "rejected_messages"]), Layout::MsSwift),
        (
            all(&["chosen", "rejected"])
                && any(&["conversations", "conversation"])
                && !has("prompt"),
            sharegpt_or_full(fields),
        ),
        (all(&["input", "preferred_output", "non_preferred_output"]), Layout::OpenAi),
        (all(&["context", "completions"]) && is_ranked(fields), Layout::NemoRl),
        (all(&["chosen_response", "rejected_response"]), Layout::Argilla),
        (all(&["chosen", "rejected", "prompt"]), Layout::Preference),
        (all(&["chosen", "rejected", "instruction"]), Layout::Alpaca),
        (all(&["chosen", "rejected"]) && any(&["question", "input"]), Layout::Orca),
        (all(&["chosen", "rejected"]), implicit(fields)),
        (all(&["question", "response_j", "response_k"]), Layout::Orca),
        (
            all(&["instruction"]) && fields.get("output").is_some_and(Value::is_array),
            Layout::Alpaca,
        ),
        (groups::is_group(fields), Layout::Groups),
        (all(&["prompt", "completions", "labels"]), Layout::Stepwise),
        (any(&single::LABELS) && (talks || single), Layout::Unpaired),
        (talks, Layout::Messages),
        (all(&["instruction", "output"]), Layout::AlpacaSingle),
        (single, Layout::PromptCompletion),
        (has("text"), Layout::Text),
        // A pair without one of its sides is a broken pair, not a prompt.
        (
            any(&single::PROMPTS) && !any(&["chosen", "rejected", "response1", "responses"]),
            Layout::Prompts,
        ),
    ];
    rules.into_iter().find(|(holds, _)| *holds).map(|(_, layout)| layout)
}

/// Whether a `chosen` beside `conversations` is an answer (ShareGPT) or the whole dialogue.
fn sharegpt_or_full(fields: &Map<String, Value>) -> Layout {
    let asks = |message: &Value| {
        let role = message.get("role").or_else(|| message.get("from")).and_then(Value::as_str);
        matches!(role, Some("user" | "human" | "system"))
    };
    match fields.get("chosen") {
        Some(Value::Array(all)) if all.first().is_some_and(asks) => Layout::Preference,
        _ => Layout::ShareGpt,
    }
}

fn implicit(fields: &Map<String, Value>) -> Layout {
    let talks =
        |name: &str| fields.get(name).and_then(Value::as_str).is_some_and(hh_rlhf::is_dialogue);
    if talks("chosen") && talks("rejected") { Layout::HhRlhf } else { Layout::Preference }
}

fn is_ranked(fields: &Map<String, Value>) -> bool {
    let ranked = |it: &Value| it.get("rank").is_some() && it.get("completion").is_some();
    fields
        .get("completions")
        .and_then(Value::as_array)
        .is_some_and(|all| !all.is_empty() && all.iter().all(ranked))
}

impl Layout {
    /// What rows of this layout are good for; NeMo-RL's are pairs where there are two completions.
    pub fn shape(self, fields: &Map<String, Value>) -> Shape {
        match self {
            Self::NemoRl if 2 < groups::ranked_count(fields) => Shape::Groups,
            Self::Groups => Shape::Groups,
            Self::Stepwise => Shape::Steps,
            Self::Unpaired => Shape::Unpaired,
            Self::Messages | Self::AlpacaSingle | Self::PromptCompletion => Shape::Completions,
            Self::Text => Shape::Texts,
            Self::Prompts => Shape::Prompts,
            _ => Shape::Pairs,
        }
    }

    /// Makes a record of a row whose columns have this layout's names.
    ///
    /// # Errors
    ///
    /// A column is missing, null or of another type; a message is not one; the sides of a pair
    /// answer different prompts; content is not text. Whether texts are empty or alike is checked
    /// in [`crate::check`].
    pub fn record(self, row: Row) -> Result<Record, Fault> {
        let Row { origin, fields, cells } = row;
        let mut columns = Columns::new(fields, cells);
        for name in MEDIA {
            let media = columns.optional(name);
            if media.is_some_and(|it| !it.as_array().is_some_and(Vec::is_empty)) {
                return Err(Fault::new(Problem::Unsupported, format!("column `{name}`")));
            }
        }
        let mut tools = columns.optional("tools");
        let template_kwargs = columns.optional("chat_template_kwargs");
        let mut added = Vec::new();
        let parts = match self {
            Self::Preference => preference::convert(&mut columns, false)?,
            Self::HhRlhf => preference::convert(&mut columns, true)?,
            Self::Alpaca => instruction::alpaca(&mut columns)?,
            Self::AlpacaSingle => instruction::alpaca_single(&mut columns)?,
            Self::Orca => instruction::orca(&mut columns)?,
            Self::Argilla => instruction::argilla(&mut columns)?,
            Self::ShareGpt => dialogue::sharegpt(&mut columns)?,
            Self::MsSwift => dialogue::swift(&mut columns)?,
            Self::LlamaFactoryV1 => dialogue::whole(&mut columns)?,
            Self::OpenAi => {
                let (parts, inner) = dialogue::openai(&mut columns)?;
                tools = tools.or(inner);
                parts
            }
            Self::Tokens => tokens::convert(&mut columns)?,
            Self::NemoRl | Self::Groups => {
                let (parts, scores) = match self {
                    Self::NemoRl => groups::ranked(&mut columns)?,
                    _ => groups::convert(&mut columns)?,
                };
                added.push(("scores", Value::Array(scores)));
                parts
            }
            Self::Unpaired => {
                let (parts, label) = single::unpaired(&mut columns)?;
                added.push(("label", label));
                parts
            }
            Self::Messages => single::dialogue(&mut columns)?,
            Self::PromptCompletion => single::prompt_completion(&mut columns)?,
            Self::Text => single::plain_text(&mut columns)?,
            Self::Prompts => single::prompt_only(&mut columns)?,
            Self::Stepwise => {
                return Err(Fault::new(Problem::Unsupported, "feedback on single steps"));
            }
        };
        let mut extras = columns.into_extras();
        extras.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(Record {
            origin,
            prompt: parts.prompt,
            completions: parts.completions,
            tools: tools.map(tool_list).transpose()?.flatten(),
            template_kwargs: template_kwargs.map(kwargs).transpose()?.unwrap_or_default(),
            extras,
        })
    }
}

/// Tools as a list; text that holds JSON is read, and an empty list is none.
fn tool_list(value: Value) -> Result<Option<Value>, Fault> {
    match value {
        Value::String(text) if text.trim().is_empty() => Ok(None),
        value => match json(value, "tools")? {
            Value::Null => Ok(None),
            Value::Array(all) if all.is_empty() => Ok(None),
            Value::Object(one) => Ok(Some(Value::Array(vec![Value::Object(one)]))),
            tools @ Value::Array(_) => Ok(Some(tools)),
            _ => Err(Fault::new(Problem::WrongType, "`tools` is no list of tools")),
        },
    }
}

fn kwargs(value: Value) -> Result<Map<String, Value>, Fault> {
    match json(value, "chat_template_kwargs")? {
        // Parquet fills the keys that other rows have with nulls.
        Value::Object(fields) => {
            Ok(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
        }
        Value::Null => Ok(Map::new()),
        _ => Err(Fault::new(Problem::WrongType, "`chat_template_kwargs` is no object")),
    }
}
