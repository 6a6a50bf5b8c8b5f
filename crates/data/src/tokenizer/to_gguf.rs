//! The tokenizer as the tables of a GGUF file: what `gguf` rebuilds, the other way round.
//!
//! Such tables say less than a `tokenizer.json`: how text is split is one word of a list, and what
//! is put around a text is two flags. So the tokenizer is rebuilt from the tables, and a tokenizer
//! that then gives other ids for any text of a sample is refused.

use std::collections::{BTreeMap, BTreeSet};

use formats::gguf::{GgufTokenizer, TokenType};
use serde_json::{Map, Value, json};

use super::pieces::SPACE;
use super::pre::Pre;
use super::{Tokenizer, sample};
use crate::Error;
use crate::template::{RenderOptions, Templates};
use crate::tokens_error::TokensError;

impl Tokenizer {
    /// The tables of a GGUF file that give the same ids, for a model with `rows` embeddings.
    ///
    /// # Errors
    ///
    /// A tokenizer that such tables cannot describe, with the reason or the text that shows it; or
    /// more tokens than embeddings.
    pub fn to_gguf(&self, rows: usize, templates: &Templates) -> Result<GgufTokenizer, Error> {
        let json: Value = serde_json::from_str(&self.to_json()?)
            .map_err(|error| TokensError::Encode(error.into()))?;
        let mut table = self.vocabulary_table(rows, json["model"]["byte_fallback"] == true)?;
        let is_byte_level = json.to_string().contains("\"ByteLevel\"");
        match json["model"]["type"].as_str() {
            Some("BPE") if is_byte_level => add_byte_level(&json, &mut table)?,
            Some("BPE") => add_scored_pieces(&json, &mut table)?,
            other => {
                let kind = other.unwrap_or("none");
                return Err(no_form(format!("its model is `{kind}`, and only `BPE` has a form")));
            }
        }
        for (name, template) in templates.iter() {
            let text = template.source().to_owned();
            if name == "default" {
                table.chat_template = Some(text);
            } else {
                table.named_templates.insert(name.to_owned(), text);
            }
        }
        self.expect_same_ids(&table, templates)?;
        Ok(table)
    }

    /// Tokens, their kinds, and special tokens.
    fn vocabulary_table(&self, rows: usize, has_bytes: bool) -> Result<GgufTokenizer, Error> {
        let added = self.backend.get_added_tokens_decoder();
        let highest = self.backend.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if rows <= highest {
            return Err(no_form(format!("it has tokens up to {highest} for {rows} embeddings")));
        }
        let unknown = self.role("unk_token");
        let mut tokens = Vec::with_capacity(rows);
        let mut types = Vec::with_capacity(rows);
        for id in 0..rows as u32 {
            let Some(text) = self.token(id) else {
                tokens.push(format!("[PAD{id}]"));
                types.push(TokenType::Unused);
                continue;
            };
            types.push(match added.get(&id) {
                Some(_) if has_bytes && unknown == Some(id) => TokenType::Unknown,
                Some(token) if token.special => TokenType::Control,
                Some(_) => TokenType::UserDefined,
                None if has_bytes && is_byte(&text) => TokenType::Byte,
                None => TokenType::Normal,
            });
            tokens.push(text);
        }
        let eos = self.eos().or_else(|| self.stop.first().copied());
        let is_message = |id: &u32| self.token(*id).is_some_and(|text| text.contains("eom"));
        let other_ends: Vec<u32> =
            self.stop.iter().copied().filter(|id| Some(*id) != eos).collect();
        let (messages, turns): (Vec<u32>, Vec<u32>) = other_ends.into_iter().partition(is_message);
        Ok(GgufTokenizer {
            model: String::new(),
            pre: None,
            tokens,
            types,
            scores: Vec::new(),
            merges: Vec::new(),
            bos: self.bos(),
            eos,
            eot: turns.first().copied(),
            eom: messages.first().or(turns.get(1)).copied(),
            unknown,
            separator: self.role("sep_token"),
            padding: self.role("pad_token"),
            add_bos: Some(self.adds("before", self.prefix(), self.bos())?),
            add_eos: Some(self.adds("after", self.suffix(), self.eos())?),
            add_space_prefix: None,
            remove_extra_whitespaces: None,
            chat_template: None,
            named_templates: BTreeMap::new(),
        })
    }

    /// Whether one token is put around a text; anything else has no form.
    fn adds(&self, place: &str, around: &[u32], token: Option<u32>) -> Result<bool, Error> {
        match around {
            [] => Ok(false),
            [one] if Some(*one) == token => Ok(true),
            _ => {
                let text = self.decode(around, false)?;
                Err(no_form(format!("it puts `{text}` {place} every text")))
            }
        }
    }

    /// Refuses tables that give other ids than this tokenizer.
    fn expect_same_ids(&self, table: &GgufTokenizer, templates: &Templates) -> Result<(), Error> {
        let rebuilt = Self::from_gguf(table)?;
        let mut texts: Vec<String> = sample::TEXTS.iter().map(|text| (*text).to_owned()).collect();
        let specials: BTreeSet<&String> = self.special.values().collect();
        texts.extend(specials.iter().map(|token| format!("one{token}two")));
        let messages = [
            json!({"role": "user", "content": "How high is Ben Nevis?"}),
            json!({"role": "assistant", "content": "1,345 metres."}),
        ];
        let options = RenderOptions {
            tools: None,
            documents: None,
            add_generation_prompt: false,
            continue_final_message: false,
            special_tokens: &self.special,
            kwargs: &Map::new(),
        };
        // A template may refuse such messages; then there is nothing to compare.
        let template = templates.default_template();
        texts.extend(template.and_then(|template| template.render(&messages, &options).ok()));
        for text in texts {
            for with_special in [false, true] {
                if self.encode(&text, with_special)? != rebuilt.encode(&text, with_special)? {
                    let text = text.chars().take(60).collect();
                    return Err(TokensError::OtherIds { text }.into());
                }
            }
        }
        Ok(())
    }
}

/// How text is split, and the merges.
fn add_byte_level(json: &Value, table: &mut GgufTokenizer) -> Result<(), Error> {
    let composes = match json["normalizer"]["type"].as_str() {
        None => false,
        Some("NFC") => true,
        Some(kind) => return Err(no_form(format!("it changes text first, by `{kind}`"))),
    };
    let model = &json["model"];
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(no_form(format!("it has a `{key}`")));
        }
    }
    let ignores_merges = model["ignore_merges"] == true;
    let name = Pre::name_of(&json["pre_tokenizer"], composes, ignores_merges);
    let name = name.ok_or_else(|| no_form("its way of splitting text has no name".into()))?;
    table.model = "gpt2".into();
    table.pre = Some(name.into());
    table.merges = merges(model)?;
    Ok(())
}

fn no_form(reason: String) -> Error {
    TokensError::NoGgufForm { reason }.into()
}

/// Whether a token is a byte, written `<0xAB>`.
fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok())
}

/// The merges of a `tokenizer.json`, in either spelling.
fn merges(model: &Value) -> Result<Vec<(String, String)>, Error> {
    let list = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pair = |merge: &Value| match merge {
        Value::Array(pair) => Some((pair.first()?.as_str()?.into(), pair.get(1)?.as_str()?.into())),
        Value::String(text) => text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        _ => None,
    };
    let pairs: Option<Vec<_>> = list.iter().map(pair).collect();
    pairs.ok_or_else(|| no_form("its merges are no pairs".into()))
}

/// A `SentencePiece` model that was turned into merges: a piece's score is the place of the first
/// merge that makes it, so that what merged first merges first.
fn add_scored_pieces(json: &Value, table: &mut GgufTokenizer) -> Result<(), Error> {
    let mut places = BTreeMap::new();
    for (place, (left, right)) in merges(&json["model"])?.into_iter().enumerate() {
        places.entry(left + &right).or_insert(place);
    }
    // Pieces that no merge makes are single letters, which never compete.
    let last = places.len() as f32;
    let score = |(text, kind): (&String, &TokenType)| match kind {
        TokenType::Normal => places.get(text).map_or(-last, |place| -(*place as f32)),
        _ => 0.0,
    };
    table.scores = table.tokens.iter().zip(&table.types).map(score).collect();
    table.model = "llama".into();
    table.pre = Some("default".into());
    let steps = [&json["normalizer"], &json["pre_tokenizer"]];
    table.add_space_prefix = Some(steps.iter().any(|step| adds_space(step)));
    Ok(())
}

/// Whether a step of a tokenizer puts a space before the text.
fn adds_space(step: &Value) -> bool {
    match step["type"].as_str() {
        Some("Prepend") => step["prepend"].as_str().is_some_and(|text| text.chars().eq([SPACE])),
        Some("Metaspace") => step["prepend_scheme"] != "never" && step["add_prefix_space"] != false,
        Some("Sequence") => ["normalizers", "pretokenizers"]
            .iter()
            .any(|key| step[*key].as_array().is_some_and(|steps| steps.iter().any(adds_space))),
        _ => false,
    }
}
