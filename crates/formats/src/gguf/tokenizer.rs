//! The tokenizer inside a GGUF file, as tables.

use std::collections::BTreeMap;

use super::{Array, Gguf, Metadata, Value};
use crate::{Error, Result};

/// What kind of token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// A piece of text.
    Normal,
    /// Stands for text that has no token.
    Unknown,
    /// Steers the model and stands for no text.
    Control,
    /// Added by the model's makers; found in text before anything else.
    UserDefined,
    /// Not in use.
    Unused,
    /// A single byte, written `<0xAB>`.
    Byte,
}

impl TokenType {
    /// The kind with this number; numbers without a meaning are taken as normal.
    fn of(id: i64) -> Self {
        match id {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// Its number in a file.
    const fn id(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }
}

/// The tokenizer's tables as the file has them; `data` makes a tokenizer of them.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTokenizer {
    /// The algorithm: `gpt2` for byte-level merges, `llama` for `SentencePiece`, and others.
    pub model: String,
    /// How text is split before merging, such as `llama-bpe`, `qwen2` or `smollm`.
    pub pre: Option<String>,
    /// The text of every token, by id.
    pub tokens: Vec<String>,
    /// The kind of every token, by id; all normal where the file does not say.
    pub types: Vec<TokenType>,
    /// The score of every token, by id; empty where the file has none.
    pub scores: Vec<f32>,
    /// The pairs of tokens that merge, best first; empty where the file has none.
    pub merges: Vec<(String, String)>,
    /// The token that starts a sequence.
    pub bos: Option<u32>,
    /// The token that ends a sequence.
    pub eos: Option<u32>,
    /// The token that ends a turn.
    pub eot: Option<u32>,
    /// The token that ends a message.
    pub eom: Option<u32>,
    /// The token for text that has none.
    pub unknown: Option<u32>,
    /// The token that separates texts.
    pub separator: Option<u32>,
    /// The token that fills up a batch.
    pub padding: Option<u32>,
    /// Whether [`bos`](Self::bos) is put before a sequence; `None` leaves it to the algorithm.
    pub add_bos: Option<bool>,
    /// Whether [`eos`](Self::eos) is put behind a sequence; `None` leaves it to the algorithm.
    pub add_eos: Option<bool>,
    /// Whether a space is put before the text; `None` leaves it to the algorithm.
    pub add_space_prefix: Option<bool>,
    /// Whether runs of spaces become one; `None` leaves it to the algorithm.
    pub remove_extra_whitespaces: Option<bool>,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
    /// Further chat templates by name, such as `tool_use`.
    pub named_templates: BTreeMap<String, String>,
}

impl GgufTokenizer {
    /// The tables as the metadata of a file, which [`Gguf::tokenizer`] reads back.
    pub fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        let mut put = |key: &str, value: Option<Value>| {
            metadata.extend(value.map(|value| (format!("tokenizer.{key}"), value)));
        };
        let text = |text: &String| Value::String(text.clone());
        let texts = |texts: Vec<String>| Value::Array(Array::String(texts));
        put("ggml.model", Some(text(&self.model)));
        put("ggml.pre", self.pre.as_ref().map(text));
        put("ggml.tokens", Some(texts(self.tokens.clone())));
        let scores = (!self.scores.is_empty()).then(|| Array::F32(self.scores.clone()));
        put("ggml.scores", scores.map(Value::Array));
        let types = self.types.iter().map(|kind| kind.id()).collect();
        put("ggml.token_type", Some(Value::Array(Array::I32(types))));
        let merges = self.merges.iter().map(|(left, right)| format!("{left} {right}"));
        put("ggml.merges", (!self.merges.is_empty()).then(|| texts(merges.collect())));
        for (name, id) in [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("eom", self.eom),
            ("unknown", self.unknown),
            // The misspelling is the format's own.
            ("seperator", self.separator),
            ("padding", self.padding),
        ] {
            put(&format!("ggml.{name}_token_id"), id.map(Value::U32));
        }
        for (name, flag) in [
            ("add_bos_token", self.add_bos),
            ("add_eos_token", self.add_eos),
            ("add_space_prefix", self.add_space_prefix),
            ("remove_extra_whitespaces", self.remove_extra_whitespaces),
        ] {
            put(&format!("ggml.{name}"), flag.map(Value::Bool));
        }
        let names: Vec<String> = self.named_templates.keys().cloned().collect();
        put("chat_templates", (!names.is_empty()).then(|| texts(names)));
        put("chat_template", self.chat_template.as_ref().map(text));
        for (name, template) in &self.named_templates {
            put(&format!("chat_template.{name}"), Some(text(template)));
        }
        metadata
    }
}

impl Gguf {
    /// The tokenizer of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with the file, around [`Error::MissingKey`] where there is no tokenizer,
    /// [`Error::KeyType`], or one of [`Error::TokenizerTable`], [`Error::SpecialToken`] and
    /// [`Error::Merge`] where the tables do not fit together.
    pub fn tokenizer(&self) -> Result<GgufTokenizer> {
        let find = |key: &str| self.find_value(&format!("tokenizer.ggml.{key}"));
        let tokens = self.get::<&[String]>("tokenizer.ggml.tokens")?.to_vec();
        let count = tokens.len();
        let special = |key: &str| self.special_token(key, count);
        Ok(GgufTokenizer {
            model: self.get_str("tokenizer.ggml.model")?.to_owned(),
            pre: self.find_value::<&str>("tokenizer.ggml.pre")?.map(str::to_owned),
            types: self.token_types(count)?,
            scores: self.token_scores(count)?,
            merges: self.merges()?,
            bos: special("bos")?,
            eos: special("eos")?,
            eot: special("eot")?,
            eom: special("eom")?,
            unknown: special("unknown")?,
            // The misspelling is the format's own.
            separator: special("seperator")?,
            padding: special("padding")?,
            add_bos: find("add_bos_token")?,
            add_eos: find("add_eos_token")?,
            add_space_prefix: find("add_space_prefix")?,
            remove_extra_whitespaces: find("remove_extra_whitespaces")?,
            chat_template: self.find_value::<&str>("tokenizer.chat_template")?.map(str::to_owned),
            named_templates: self.named_templates()?,
            tokens,
        })
    }

    /// A special token; one whose number has all bits set is not there.
    fn special_token(&self, name: &str, tokens: usize) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match self.find_value::<u32>(&key)? {
            Some(u32::MAX) | None => Ok(None),
            Some(id) if (id as usize) < tokens => Ok(Some(id)),
            Some(id) => Err(Error::SpecialToken { key, id, tokens }.reading(self.path())),
        }
    }

    fn token_types(&self, tokens: usize) -> Result<Vec<TokenType>> {
        const KEY: &str = "tokenizer.ggml.token_type";
        let Some(types) = self.find_value::<Vec<i64>>(KEY)? else {
            return Ok(vec![TokenType::Normal; tokens]);
        };
        self.check_length(KEY, types.len(), tokens)?;
        Ok(types.into_iter().map(TokenType::of).collect())
    }

    fn token_scores(&self, tokens: usize) -> Result<Vec<f32>> {
        const KEY: &str = "tokenizer.ggml.scores";
        let Some(scores) = self.find_value::<&[f32]>(KEY)? else { return Ok(Vec::new()) };
        self.check_length(KEY, scores.len(), tokens)?;
        Ok(scores.to_vec())
    }

    fn check_length(&self, table: &'static str, found: usize, tokens: usize) -> Result<()> {
        if found == tokens {
            return Ok(());
        }
        Err(Error::TokenizerTable { table, found, tokens }.reading(self.path()))
    }

    fn merges(&self) -> Result<Vec<(String, String)>> {
        let Some(merges) = self.find_value::<&[String]>("tokenizer.ggml.merges")? else {
            return Ok(Vec::new());
        };
        let split = |(index, text): (usize, &String)| {
            // The first token may itself start with a space, and is never empty.
            let start = text.chars().next().map_or(0, char::len_utf8);
            match text[start..].find(' ').map(|at| text.split_at(start + at)) {
                Some((left, right)) if right.len() > 1 => {
                    Ok((left.to_owned(), right[1..].to_owned()))
                }
                _ => Err(Error::Merge { index, text: text.clone() }.reading(self.path())),
            }
        };
        merges.iter().enumerate().map(split).collect()
    }

    fn named_templates(&self) -> Result<BTreeMap<String, String>> {
        const PREFIX: &str = "tokenizer.chat_template.";
        let keys = self.metadata().keys().filter_map(|key| Some((key, key.strip_prefix(PREFIX)?)));
        keys.map(|(key, name)| Ok((name.to_owned(), self.get_str(key)?.to_owned()))).collect()
    }
}
