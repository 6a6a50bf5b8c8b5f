//! Merges checked before the tokenizer is built: the library beneath takes them on trust.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Error;
use crate::tokens_error::TokensError;

/// Checks that both parts of a merge and what they make are tokens.
pub(super) fn check(
    is_token: impl Fn(&str) -> bool,
    left: &str,
    right: &str,
    prefix_bytes: usize,
) -> Result<(), Error> {
    let whole = right.get(prefix_bytes..).map(|rest| format!("{left}{rest}"));
    if is_token(left) && is_token(right) && whole.is_some_and(|whole| is_token(&whole)) {
        return Ok(());
    }
    Err(TokensError::BadMerge { left: left.to_owned(), right: right.to_owned() }.into())
}

/// Checks the merges of a `tokenizer.json`; other kinds of model have none.
///
/// A file that is not readable this way is left to the library, which says what is wrong.
pub(super) fn check_json(bytes: &[u8]) -> Result<(), Error> {
    let kind = serde_json::from_slice::<Outer<Kind>>(bytes).ok().and_then(|outer| outer.model.kind);
    if kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Ok(());
    }
    let Ok(Outer { model }) = serde_json::from_slice::<Outer<Model<'_>>>(bytes) else {
        return Ok(());
    };
    let prefix_bytes = model.continuing_subword_prefix.unwrap_or_default().len();
    for merge in &model.merges {
        let (left, right) = match merge {
            Merge::Pair(left, right) => (left.as_ref(), right.as_ref()),
            Merge::Text(text) => match text.split_once(' ') {
                Some(pair) => pair,
                None => continue,
            },
        };
        check(|token| model.vocab.contains_key(token), left, right, prefix_bytes)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Outer<M> {
    model: M,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    vocab: BTreeMap<Cow<'a, str>, u32>,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
    continuing_subword_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(Cow<'a, str>, Cow<'a, str>),
    Text(Cow<'a, str>),
}
