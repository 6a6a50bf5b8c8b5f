//! Merges checked before the tokenizer is built: the library beneath takes them on trust.

use std::borrow::Cow;
use std::fmt::{self, Formatter};

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

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
    Err(bad(left, right))
}

/// Checks the merges of a `tokenizer.json`; other kinds of model have none.
///
/// The library finds merges of tokens that do not exist; it does not survive a merge that makes
/// something longer than every token, or whose right part is shorter than the prefix it loses.
pub(super) fn check_json(bytes: &[u8]) -> Result<(), Error> {
    let model = match serde_json::from_slice::<Outer<Model<'_>>>(bytes) {
        Ok(outer) if outer.model.kind.as_deref().is_none_or(|kind| kind == BPE) => outer.model,
        Ok(_) => return Ok(()),
        Err(error) => return left_to_the_library(bytes, error),
    };
    let prefix_bytes = model.continuing_subword_prefix.unwrap_or_default().len();
    for merge in &model.merges {
        let Some((left, right)) = merge.parts() else { continue };
        let rest = right.get(prefix_bytes..);
        if rest.is_none_or(|rest| model.vocab.0 < left.len() + rest.len()) {
            return Err(bad(left, right));
        }
    }
    Ok(())
}

/// What is no merge table is refused here if it says that it is one, so that the library never
/// sees merges which were not checked.
fn left_to_the_library(bytes: &[u8], error: serde_json::Error) -> Result<(), Error> {
    let kind = serde_json::from_slice::<Outer<Kind<'_>>>(bytes).ok();
    if kind.and_then(|outer| outer.model.kind).as_deref() != Some(BPE) {
        return Ok(());
    }
    let origin = "tokenizer.json".to_owned();
    Err(TokensError::BadTokenizer { origin, source: error.into() }.into())
}

fn bad(left: &str, right: &str) -> Error {
    TokensError::BadMerge { left: left.to_owned(), right: right.to_owned() }.into()
}

/// The name of models that have merges.
const BPE: &str = "BPE";

#[derive(Deserialize)]
struct Outer<M> {
    model: M,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    vocab: Longest,
    #[serde(borrow, default)]
    merges: Vec<Merge<'a>>,
    continuing_subword_prefix: Option<String>,
}

/// The bytes of the longest token of a vocabulary.
struct Longest(usize);

impl<'de> Deserialize<'de> for Longest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Longest;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Longest, A::Error> {
                let mut longest = 0;
                while let Some((token, IgnoredAny)) = map.next_entry::<Text<'de>, _>()? {
                    longest = token.0.len().max(longest);
                }
                Ok(Longest(longest))
            }
        }
        deserializer.deserialize_map(Tokens)
    }
}

/// A text of the file, copied only if it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A merge in the new spelling, a list of two, or the old one, a text with a space.
enum Merge<'a> {
    Pair(Text<'a>, Text<'a>),
    Text(Cow<'a, str>),
}

impl Merge<'_> {
    /// Both parts; `None` for a text without a space, which the library refuses.
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(left, right) => Some((&left.0, &right.0)),
            Self::Text(text) => text.split_once(' '),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Merge<'de>;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a pair of tokens, as a list or as a text with a space")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Merge<'de>, E> {
                Ok(Merge::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Merge<'de>, E> {
                Ok(Merge::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge<'de>, A::Error> {
                let part = |index, part: Option<Text<'de>>| {
                    part.ok_or_else(|| de::Error::invalid_length(index, &self))
                };
                let left = part(0, list.next_element()?)?;
                let right = part(1, list.next_element()?)?;
                Ok(Merge::Pair(left, right))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
