//! The text of single tokens.

use data::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// What stands in decoded text for bytes that are no character by themselves.
const REPLACEMENT: char = '\u{fffd}';

/// The text that a token adds behind another one; special tokens are spelled out.
pub(crate) fn text(tokenizer: &Tokenizer, before: Option<u32>, token: u32) -> String {
    let decode = |ids: &[u32]| tokenizer.decode(ids, false).unwrap_or_default();
    // The text of a token can depend on the one before: some decoders drop a leading space.
    let added = before.and_then(|before| {
        Some(decode(&[before, token]).strip_prefix(&decode(&[before]))?.to_owned())
    });
    added.unwrap_or_else(|| decode(&[token]))
}

/// The bytes of a token's text; null where they are a part of a character, which text cannot tell.
pub(crate) fn bytes(text: &str) -> Value {
    if text.contains(REPLACEMENT) { Value::Null } else { json!(text.as_bytes()) }
}
