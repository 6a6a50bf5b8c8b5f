//! The keys of a `config.json`: read by name, checked, and remembered, so that none is passed over.

use std::{cell::RefCell, collections::BTreeSet, path::Path};

use serde_json::{Map, Value};

use crate::Error;

/// Keys that change nothing in the forward pass, or are read elsewhere.
const HARMLESS: &[&str] = &[
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "initializer_range",
    "attention_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "_name_or_path",
    "pretraining_tp",
    "transformers.js_config",
    "is_llama_config",
    "rope_interleaved",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "is_encoder_decoder",
    "problem_type",
    "use_return_dict",
    "torchscript",
    "is_decoder",
    "add_cross_attention",
    "finetuning_task",
    "unsloth_fixed",
    "unsloth_version",
    "_attn_implementation_autoset",
    "max_length",
    "cross_attention_hidden_size",
    "cache_implementation",
    "auto_map",
    "task_specific_params",
    "n_ctx",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "gradient_checkpointing",
];

/// The keys of a configuration file.
pub(super) struct Keys<'a> {
    pub(super) path: &'a Path,
    map: Map<String, Value>,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(path: &'a Path, map: Map<String, Value>) -> Self {
        Self { path, map, used: RefCell::default() }
    }

    /// The value of a key, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.used.borrow_mut().insert(key.to_owned());
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, if only as null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Keys that nobody asked for and that may mean something.
    pub(super) fn unknown(&self) -> Vec<String> {
        let used = self.used.borrow();
        let known = |key: &str| used.contains(key) || HARMLESS.contains(&key);
        self.map.keys().filter(|key| !known(key)).cloned().collect()
    }

    pub(super) fn bad(&self, reason: String) -> Error {
        Error::Config { path: self.path.into(), reason }
    }

    fn wrong(&self, key: &str, wanted: &str, value: &Value) -> Error {
        self.bad(format!("`{key}` should be {wanted} and is `{value}`"))
    }

    /// A whole number that has to be there.
    pub(super) fn count(&self, key: &str) -> Result<usize, Error> {
        self.optional_count(key)?.ok_or_else(|| self.bad(format!("`{key}` is missing")))
    }

    pub(super) fn count_or(&self, key: &str, default: usize) -> Result<usize, Error> {
        Ok(self.optional_count(key)?.unwrap_or(default))
    }

    pub(super) fn optional_count(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.map(Some).ok_or_else(|| self.wrong(key, "a whole number", value))
    }

    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64, Error> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number", value))
    }

    /// Two numbers, either of which may be infinite: as a text, or as transformers writes it.
    pub(super) fn pair(&self, key: &str) -> Result<Option<[f64; 2]>, Error> {
        let number = |value: &Value| match value.get("__float__").unwrap_or(value) {
            Value::String(text) if text == "Infinity" => Some(f64::INFINITY),
            Value::String(text) if text == "-Infinity" => Some(f64::NEG_INFINITY),
            value => value.as_f64(),
        };
        let Some(value) = self.get(key) else { return Ok(None) };
        let numbers: Option<Vec<f64>> =
            value.as_array().and_then(|list| list.iter().map(number).collect());
        match numbers.as_deref() {
            Some(&[first, second]) => Ok(Some([first, second])),
            _ => Err(self.wrong(key, "two numbers", value)),
        }
    }

    /// A number above 0, if there is one.
    pub(super) fn optional_limit(&self, key: &str) -> Result<Option<f32>, Error> {
        match self.optional_number(key)? {
            Some(limit) if limit <= 0.0 => Err(self.bad(format!("`{key}` is {limit}"))),
            limit => Ok(limit.map(|limit| limit as f32)),
        }
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool, Error> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(key, "a text", value))
    }

    /// A list with one entry a block.
    pub(super) fn of_blocks(&self, key: &str, blocks: usize) -> Result<Option<&[Value]>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_array() {
            Some(list) if list.len() == blocks => Ok(Some(list)),
            _ => Err(self.bad(format!("`{key}` should have an entry for each of {blocks} blocks"))),
        }
    }

    /// Refuses any value of a key but those.
    pub(super) fn only(&self, key: &str, allowed: &[Value]) -> Result<(), Error> {
        match self.get(key) {
            Some(value) if !allowed.contains(value) => Err(self.setting(key, value)),
            _ => Ok(()),
        }
    }

    /// A setting that is not supported.
    pub(super) fn setting(&self, key: &str, value: &Value) -> Error {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Object(_) => "{..}".into(),
            value => value.to_string(),
        };
        Error::Setting { path: self.path.into(), key: key.into(), value: text }
    }

    /// The token ids of a key, one or a list.
    pub(super) fn tokens(&self, key: &str) -> Vec<u32> {
        token_ids(self.get(key))
    }
}

/// One id, or a list of them, as `eos_token_id` has it.
pub(crate) fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}
