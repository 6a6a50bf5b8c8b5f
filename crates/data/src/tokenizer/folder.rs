//! The tokenizer of a Hugging Face folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, PostProcessorWrapper};

use super::{Parts, ROLES, Tokenizer, token_text};
use crate::Error;
use crate::template::read_json;
use crate::tokens_error::TokensError;

/// The files that make the tokenizer; all but the first may be absent.
const FILES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

impl Tokenizer {
    /// The tokenizer of a Hugging Face folder: `tokenizer.json`, with the special tokens of
    /// `tokenizer_config.json` and `special_tokens_map.json` and the end tokens of
    /// `generation_config.json` and `config.json`, all but the first optional.
    ///
    /// What is put around a text is the post-processor's word in `tokenizer.json`, as in
    /// `transformers` 5; `add_bos_token` and `add_eos_token` count where it has none.
    ///
    /// # Errors
    ///
    /// A folder without `tokenizer.json`, or files that do not fit together.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let main = folder.join("tokenizer.json");
        if !main.is_file() {
            return Err(TokensError::NoTokenizer { folder: folder.to_owned() }.into());
        }
        let mut files = BTreeMap::new();
        for name in FILES {
            let path = folder.join(name);
            if path.is_file() {
                files.insert(name.to_owned(), fs_err::read(&path).map_err(TokensError::Read)?);
            }
        }
        let optional = |name: &str| -> Result<Value, Error> {
            let path = folder.join(name);
            if path.is_file() { read_json(&path) } else { Ok(Value::Null) }
        };
        let config = optional("tokenizer_config.json")?;
        let special = special_tokens(&[&config, &optional("special_tokens_map.json")?]);
        super::merges::check_json(&files["tokenizer.json"])?;
        let bad = |source| TokensError::BadTokenizer { origin: main.display().to_string(), source };
        let mut backend =
            tokenizers::Tokenizer::from_bytes(&files["tokenizer.json"]).map_err(bad)?;
        add_missing_tokens(&mut backend, &config, &special)?;
        if backend.get_post_processor().is_none() {
            add_post_processor(&mut backend, &config, &special)?;
        }
        let mut stop = BTreeSet::new();
        for name in ["generation_config.json", "config.json"] {
            add_stop_tokens(&optional(name)?, &mut stop);
        }
        Self::from_parts(Parts { backend, pieces: None, special, stop, files })
    }
}

/// The special tokens by role; the first file that names a role wins.
fn special_tokens(configs: &[&Value]) -> BTreeMap<String, String> {
    let mut special = BTreeMap::new();
    for config in configs {
        for role in ROLES {
            if let Some(token) = config.get(role).and_then(token_text) {
                special.entry(role.to_owned()).or_insert(token);
            }
        }
    }
    special
}

/// Adds tokens that the configuration lists and `tokenizer.json` does not know as added.
fn add_missing_tokens(
    backend: &mut tokenizers::Tokenizer,
    config: &Value,
    special: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let mut listed: Vec<(u32, AddedToken)> = Vec::new();
    if let Some(Value::Object(decoder)) = config.get("added_tokens_decoder") {
        for (id, token) in decoder {
            let (Ok(id), Some(content)) = (id.parse::<u32>(), token_text(token)) else { continue };
            let flag = |name: &str| token.get(name).and_then(Value::as_bool);
            let is_special = flag("special").unwrap_or(false);
            let added = AddedToken::from(content, is_special)
                .single_word(flag("single_word").unwrap_or(false))
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false))
                .normalized(flag("normalized").unwrap_or(!is_special));
            listed.push((id, added));
        }
    }
    listed.sort_by_key(|(id, _)| *id);
    let known: BTreeSet<String> =
        backend.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    let mut missing: Vec<AddedToken> = listed
        .into_iter()
        .map(|(_, token)| token)
        .filter(|token| !token.content.is_empty() && !known.contains(&token.content))
        .collect();
    for token in special.values() {
        let is_listed = missing.iter().any(|added| added.content == *token);
        if !token.is_empty() && !known.contains(token) && !is_listed {
            missing.push(AddedToken::from(token.clone(), true));
        }
    }
    let roles: BTreeSet<&String> = special.values().collect();
    for token in missing {
        let is_special = token.special || roles.contains(&token.content);
        let added = if is_special {
            backend.add_special_tokens([token.special(true)])
        } else {
            backend.add_tokens([token])
        };
        added.map_err(TokensError::Encode)?;
    }
    Ok(())
}

/// Puts BOS before and EOS after a text where the configuration asks for it.
fn add_post_processor(
    backend: &mut tokenizers::Tokenizer,
    config: &Value,
    special: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let wanted = |flag: &str, role: &str| {
        let asked = config.get(flag).and_then(Value::as_bool).unwrap_or(false);
        special.get(role).filter(|_| asked).map(String::as_str)
    };
    let [bos, eos] = [wanted("add_bos_token", "bos_token"), wanted("add_eos_token", "eos_token")];
    let id = |token: &str| backend.token_to_id(token);
    let Some(json) = post_processor(bos.zip(bos.and_then(id)), eos.zip(eos.and_then(id))) else {
        return Ok(());
    };
    let processor: PostProcessorWrapper =
        serde_json::from_value(json).map_err(|e| TokensError::Encode(e.into()))?;
    backend.with_post_processor(Some(processor));
    Ok(())
}

/// The post-processor of a `tokenizer.json` that puts these tokens (text and id) around a text.
pub(super) fn post_processor(bos: Option<(&str, u32)>, eos: Option<(&str, u32)>) -> Option<Value> {
    if bos.is_none() && eos.is_none() {
        return None;
    }
    let token = |text: &str, sequence: u32| serde_json::json!({"SpecialToken": {"id": text, "type_id": sequence}});
    let text = |name: &str, sequence: u32| serde_json::json!({"Sequence": {"id": name, "type_id": sequence}});
    let part = |name: &str, sequence: u32| {
        let before = bos.map(|(bos, _)| token(bos, sequence));
        let after = eos.map(|(eos, _)| token(eos, sequence));
        before.into_iter().chain([text(name, sequence)]).chain(after).collect::<Vec<_>>()
    };
    let tokens: serde_json::Map<String, Value> = bos
        .into_iter()
        .chain(eos)
        .map(|(text, id)| {
            (text.to_owned(), serde_json::json!({"id": text, "ids": [id], "tokens": [text]}))
        })
        .collect();
    let pair = [part("A", 0), part("B", 1)].concat();
    Some(serde_json::json!({
        "type": "TemplateProcessing", "single": part("A", 0), "pair": pair, "special_tokens": tokens
    }))
}

/// Adds the end tokens of a model's configuration, one number or a list.
fn add_stop_tokens(config: &Value, stop: &mut BTreeSet<u32>) {
    let Some(eos) = config.get("eos_token_id") else { return };
    let ids = eos.as_array().map_or(std::slice::from_ref(eos), Vec::as_slice);
    stop.extend(ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()));
}
