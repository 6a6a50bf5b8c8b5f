//! Tokenizers: text to token ids and back, exactly as the model was trained.
//!
//! A tokenizer comes from a Hugging Face folder, whose `tokenizer.json` says everything, or from
//! the tables of a GGUF file, from which the same tokenizer is rebuilt. Either way it can be
//! written out again, so that a run's folder is complete.

mod cut;
mod folder;
mod gguf;
mod merges;
mod pieces;
mod pre;
mod sample;
mod stream;
mod to_gguf;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokenizers::{OffsetReferential, OffsetType};

pub use cut::Cut;
pub use stream::TextStream;

use crate::Error;
use crate::tokens_error::TokensError;
use pieces::Pieces;

/// The roles of special tokens, under the names that templates and configuration files use.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A tokenizer with its special tokens.
pub struct Tokenizer {
    /// Vocabulary, added tokens and decoder; encodes too, unless there are scored pieces.
    backend: tokenizers::Tokenizer,
    /// Scored pieces of a `SentencePiece` model.
    pieces: Option<Pieces>,
    /// Text of the special tokens by role; only roles that the model has.
    special: BTreeMap<String, String>,
    /// Ids at which generation stops.
    stop: BTreeSet<u32>,
    /// Ids that steer the model and stand for no text.
    special_ids: BTreeSet<u32>,
    /// What the tokenizer puts around a text: before and after it.
    around: [Vec<u32>; 2],
    /// Whether every text can be spelled; else characters may be lost.
    covers_all_text: bool,
    /// Files from which the same tokenizer is made again, by name.
    files: BTreeMap<String, Vec<u8>>,
    /// The content hash of everything that decides the ids.
    hash: blake3::Hash,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary_size", &self.vocabulary_size())
            .field("special", &self.special)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

/// The parts that a source of tokenizers provides.
struct Parts {
    backend: tokenizers::Tokenizer,
    pieces: Option<Pieces>,
    special: BTreeMap<String, String>,
    stop: BTreeSet<u32>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Tokenizer {
    fn from_parts(mut parts: Parts) -> Result<Self, Error> {
        // Lengths are the caller's business: a stored cut or padding must not act here.
        parts.backend.with_padding(None);
        let cut = parts.backend.with_truncation(None).map(|_| ());
        cut.map_err(TokensError::Encode)?;
        let mut hasher = blake3::Hasher::new();
        for (name, bytes) in &parts.files {
            hasher.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        hasher.update(if parts.pieces.is_some() { b"pieces" } else { b"merges" });
        let mut tokenizer = Self {
            covers_all_text: covers_all_text(&parts),
            special_ids: special_ids(&parts.backend),
            backend: parts.backend,
            pieces: parts.pieces,
            special: parts.special,
            stop: parts.stop,
            around: [Vec::new(), Vec::new()],
            files: parts.files,
            hash: hasher.finalize(),
        };
        tokenizer.around = tokenizer.find_around()?;
        if let Some(eos) = tokenizer.eos() {
            tokenizer.stop.insert(eos);
        }
        Ok(tokenizer)
    }

    /// What is put before and after a text, seen at a text that is one plain token or more.
    fn find_around(&self) -> Result<[Vec<u32>; 2], Error> {
        let error = TokensError::Encode;
        let whole = self.backend.encode_fast("a", true).map_err(error)?.get_ids().to_vec();
        let bare = self.backend.encode_fast("a", false).map_err(error)?.get_ids().to_vec();
        if bare.is_empty() {
            // A vocabulary without this letter: everything up to an end token comes before.
            let eos = self.eos();
            let end = whole.iter().position(|id| Some(*id) == eos).unwrap_or(whole.len());
            return Ok([whole[..end].to_vec(), whole[end..].to_vec()]);
        }
        let added = whole.len().saturating_sub(bare.len());
        let before = (0..=added).find(|&at| whole[at..].starts_with(&bare)).unwrap_or(0);
        let after = (before + bare.len()).min(whole.len());
        Ok([whole[..before].to_vec(), whole[after..].to_vec()])
    }

    /// The ids of a text, with what the tokenizer puts around it (such as one BOS) or without.
    ///
    /// Special tokens spelled out in the text become those tokens.
    ///
    /// # Errors
    ///
    /// A tokenizer that fails on the text.
    pub fn encode(&self, text: &str, with_special: bool) -> Result<Vec<u32>, Error> {
        let Some(pieces) = &self.pieces else {
            let encoding = self.backend.encode_fast(text, with_special);
            return Ok(encoding.map_err(TokensError::Encode)?.get_ids().to_vec());
        };
        let mut ids = Vec::with_capacity(text.len() / 2 + 2);
        let [before, after] = &self.around;
        if with_special {
            ids.extend(before);
        }
        let added = self.backend.get_added_vocabulary();
        let parts = added.extract_and_normalize(None::<&tokenizers::NormalizerWrapper>, text);
        for (part, _, tokens) in parts.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            match tokens {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => pieces.encode(part, &mut ids),
            }
        }
        if with_special {
            ids.extend(after);
        }
        Ok(ids)
    }

    /// The text of ids, with the special tokens' own text or without.
    ///
    /// # Errors
    ///
    /// A decoder that fails on the ids.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        Ok(self.backend.decode(ids, skip_special).map_err(TokensError::Decode)?)
    }

    /// A stream of text for tokens that follow `context`, for example the prompt's ids.
    pub fn stream(&self, context: &[u32]) -> TextStream<'_> {
        TextStream::new(self, context)
    }

    /// How many tokens there are, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.backend.get_vocab_size(true)
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.backend.token_to_id(token)
    }

    /// The token of an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.backend.id_to_token(id)
    }

    /// The text of the special tokens by role (`bos_token`, `eos_token`, ...), as templates see them.
    pub fn special_tokens(&self) -> &BTreeMap<String, String> {
        &self.special
    }

    /// The text of the token that ends a completion.
    pub fn eos_text(&self) -> Option<&str> {
        self.special.get("eos_token").map(String::as_str)
    }

    /// The token that starts a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.role("bos_token")
    }

    /// The token that ends a completion.
    pub fn eos(&self) -> Option<u32> {
        self.role("eos_token")
    }

    /// The token that fills up batches, for files that name one; TrueUp never pads.
    pub fn pad(&self) -> Option<u32> {
        self.role("pad_token").or_else(|| self.eos())
    }

    fn role(&self, role: &str) -> Option<u32> {
        self.special.get(role).and_then(|token| self.id(token))
    }

    /// Every id at which generation stops: the end of a completion, of a turn, of a message.
    pub fn stop_tokens(&self) -> &BTreeSet<u32> {
        &self.stop
    }

    /// Whether generation stops at this id.
    pub fn is_stop(&self, id: u32) -> bool {
        self.stop.contains(&id)
    }

    /// Whether this id steers the model and is left out of decoded text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// What [`encode`](Self::encode) puts before a text, usually one BOS or nothing.
    pub fn prefix(&self) -> &[u32] {
        &self.around[0]
    }

    /// What [`encode`](Self::encode) puts after a text, usually nothing.
    pub fn suffix(&self) -> &[u32] {
        &self.around[1]
    }

    /// Whether the ids lost characters of the text, because the vocabulary cannot spell them.
    pub fn loses_text(&self, text: &str, ids: &[u32]) -> bool {
        if self.covers_all_text {
            return false;
        }
        let plain = |text: &str| text.split_whitespace().collect::<String>();
        self.decode(ids, false).is_ok_and(|decoded| !plain(&decoded).contains(&plain(text)))
    }

    /// The whole tokenizer as a `tokenizer.json`.
    ///
    /// `SentencePiece` vocabularies are written as ordered merges, as other programs expect them.
    ///
    /// # Errors
    ///
    /// A tokenizer that cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(self.backend.to_string(false).map_err(TokensError::Encode)?)
    }

    /// The files from which the same tokenizer is made again: name and bytes, templates not included.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// A hash of everything that decides the ids of a text.
    pub fn content_hash(&self) -> blake3::Hash {
        self.hash
    }
}

/// The added tokens that are special.
fn special_ids(backend: &tokenizers::Tokenizer) -> BTreeSet<u32> {
    let added = backend.get_added_tokens_decoder().into_iter();
    added.filter(|(_, token)| token.special).map(|(id, _)| id).collect()
}

/// Whether bytes are tokens, so that no text is ever lost.
fn covers_all_text(parts: &Parts) -> bool {
    if let Some(pieces) = &parts.pieces {
        return pieces.covers_all_text();
    }
    let byte_tokens =
        (0..=255_u8).all(|b| parts.backend.token_to_id(&format!("<0x{b:02X}>")).is_some());
    let letters = gguf::byte_letters();
    byte_tokens || letters.iter().all(|c| parts.backend.token_to_id(&c.to_string()).is_some())
}

/// A special token of a configuration file: its text, or an object that holds it.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}
