//! Where a model keeps its chat templates, in the order in which they win.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{ChatTemplate, Moment};
use crate::Error;
use crate::tokens_error::TokensError;

/// The names of a model's templates that have a meaning of their own.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// The chat templates of one model, by name.
#[derive(Debug, Default)]
pub struct Templates {
    by_name: BTreeMap<String, ChatTemplate>,
}

impl Templates {
    /// The templates of a Hugging Face folder: `chat_template.jinja` and
    /// `additional_chat_templates/`, else `chat_template` of `tokenizer_config.json` (one, or a
    /// list of named ones), else `chat_template.json`. Empty if the model has none.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, and templates that do not parse.
    pub fn open(folder: &Path, now: Moment) -> Result<Self, Error> {
        let mut sources = files(folder)?;
        for name in ["tokenizer_config.json", "chat_template.json"] {
            if sources.is_empty() {
                sources = configured(&folder.join(name), name)?;
            }
        }
        Self::compile(sources, now)
    }

    /// Templates by name, each with the text that names its origin in messages; the main one is
    /// called `default`.
    ///
    /// # Errors
    ///
    /// Templates that do not parse.
    pub fn from_sources(
        sources: impl IntoIterator<Item = (String, String)>,
        origin: &str,
        now: Moment,
    ) -> Result<Self, Error> {
        let sources = sources.into_iter().map(|(name, source)| (name, (source, origin.to_owned())));
        Self::compile(sources.collect(), now)
    }

    fn compile(sources: Sources, now: Moment) -> Result<Self, Error> {
        let mut by_name = BTreeMap::new();
        for (name, (source, origin)) in sources {
            let template = ChatTemplate::new(source, origin, now)?;
            by_name.insert(name, template);
        }
        Ok(Self { by_name })
    }

    /// Whether the model has no template.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The names and templates, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ChatTemplate)> {
        self.by_name.iter().map(|(name, template)| (name.as_str(), template))
    }

    /// The template called `default`.
    pub fn default_template(&self) -> Option<&ChatTemplate> {
        self.by_name.get(DEFAULT)
    }

    /// The template for a conversation: `tool_use` for one with tools if the model has it, else
    /// `default`.
    pub fn select(&self, has_tools: bool) -> Option<&ChatTemplate> {
        let tool_use = self.by_name.get(TOOL_USE).filter(|_| has_tools);
        tool_use.or_else(|| self.by_name.get(DEFAULT))
    }
}

/// Template texts and their origins, by name.
type Sources = BTreeMap<String, (String, String)>;

/// Templates that lie as files of their own.
fn files(folder: &Path) -> Result<Sources, Error> {
    let mut sources = Sources::new();
    let main = folder.join("chat_template.jinja");
    if main.is_file() {
        let text = read_text(&main)?;
        sources.insert(DEFAULT.to_owned(), (text, "chat_template.jinja".to_owned()));
    }
    let more = folder.join("additional_chat_templates");
    if !more.is_dir() {
        return Ok(sources);
    }
    for entry in fs_err::read_dir(&more).map_err(TokensError::Read)? {
        let path = entry.map_err(TokensError::Read)?.path();
        let (Some(stem), Some("jinja")) =
            (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|s| s.to_str()))
        else {
            continue;
        };
        let origin = format!("additional_chat_templates/{stem}.jinja");
        sources.insert(stem.to_owned(), (read_text(&path)?, origin));
    }
    Ok(sources)
}

/// Templates under the key `chat_template` of a JSON file, if there is such a file.
fn configured(path: &Path, origin: &str) -> Result<Sources, Error> {
    let mut sources = Sources::new();
    if !path.is_file() {
        return Ok(sources);
    }
    let config = read_json(path)?;
    let origin = || origin.to_owned();
    match config.get("chat_template") {
        Some(Value::String(text)) => {
            sources.insert(DEFAULT.to_owned(), (text.clone(), origin()));
        }
        Some(Value::Array(list)) => {
            for named in list {
                if let (Some(name), Some(text)) =
                    (named["name"].as_str(), named["template"].as_str())
                {
                    sources.insert(name.to_owned(), (text.to_owned(), origin()));
                }
            }
        }
        Some(Value::Object(map)) => {
            for (name, text) in map {
                if let Some(text) = text.as_str() {
                    sources.insert(name.clone(), (text.to_owned(), origin()));
                }
            }
        }
        _ => {}
    }
    Ok(sources)
}

/// A text file as UTF-8, without a byte order mark.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let text = fs_err::read_to_string(path).map_err(TokensError::Read)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// A JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value, Error> {
    let text = read_text(path)?;
    serde_json::from_str(&text)
        .map_err(|source| TokensError::NotJson { path: path.to_owned(), source }.into())
}
