//! The tokenizer of a GGUF file, rebuilt from its tables.

use std::collections::{BTreeMap, BTreeSet};

use formats::gguf::{GgufTokenizer, TokenType};
use serde_json::{Map, Value, json};

use super::folder::post_processor;
use super::pieces::{Piece, Pieces, SPACE};
use super::pre::Pre;
use super::{Parts, Tokenizer};
use crate::Error;
use crate::tokens_error::TokensError;

/// The longest piece whose splits are listed as merges; none of a real vocabulary is longer.
const PIECE_BYTES_MAX: usize = 256;

impl Tokenizer {
    /// The tokenizer of a GGUF file: byte-level merges (`gpt2`) or `SentencePiece` (`llama`).
    ///
    /// # Errors
    ///
    /// An algorithm or a splitting that is not known, and tables that do not fit together.
    pub fn from_gguf(table: &GgufTokenizer) -> Result<Self, Error> {
        let (mut json, pieces) = match table.model.as_str() {
            "gpt2" => (byte_level(table)?, None),
            "llama" => {
                let (json, pieces) = sentence_pieces(table)?;
                (json, Some(pieces))
            }
            other => {
                return Err(TokensError::UnknownAlgorithm { model: other.to_owned() }.into());
            }
        };
        json["added_tokens"] = added_tokens(table);
        let text = json.to_string();
        let bad = |source| TokensError::BadTokenizer { origin: "the GGUF file".into(), source };
        let backend = tokenizers::Tokenizer::from_bytes(&text).map_err(bad)?;
        let special = special_tokens(table);
        let config = config_json(table, &special);
        let files = BTreeMap::from([
            ("tokenizer.json".to_owned(), text.into_bytes()),
            ("tokenizer_config.json".to_owned(), format!("{config:#}\n").into_bytes()),
        ]);
        let stop = [table.eos, table.eot, table.eom].into_iter().filter_map(|id| known(table, id));
        let stop = stop.collect();
        Self::from_parts(Parts { backend, pieces, special, stop, files })
    }
}

/// A special token's id, if there is such a token.
fn known(table: &GgufTokenizer, id: Option<u32>) -> Option<u32> {
    id.filter(|&id| (id as usize) < table.tokens.len())
}

/// The text of a special token, if the file has it.
fn text(table: &GgufTokenizer, id: Option<u32>) -> Option<&str> {
    table.tokens.get(id? as usize).map(String::as_str).filter(|text| !text.is_empty())
}

fn special_tokens(table: &GgufTokenizer) -> BTreeMap<String, String> {
    let roles = [
        ("bos_token", table.bos),
        ("eos_token", table.eos),
        ("unk_token", table.unknown),
        ("sep_token", table.separator),
        ("pad_token", table.padding),
    ];
    roles
        .into_iter()
        .filter_map(|(role, id)| Some((role.to_owned(), text(table, id)?.to_owned())))
        .collect()
}

/// The tokens that are found in text before anything else.
///
/// Control tokens and the ones that have a role are special, that is, left out of decoded text;
/// tokens of the model's makers are found whole, but are text.
fn added_tokens(table: &GgufTokenizer) -> Value {
    let roles: BTreeSet<u32> =
        [table.bos, table.eos, table.eot, table.eom, table.unknown, table.separator, table.padding]
            .into_iter()
            .flatten()
            .collect();
    let mut first = BTreeMap::new();
    for (id, content) in table.tokens.iter().enumerate() {
        first.entry(content.as_str()).or_insert(id);
    }
    let mut tokens = Vec::new();
    for (id, content) in table.tokens.iter().enumerate() {
        let kind = table.types.get(id).copied().unwrap_or(TokenType::Normal);
        let has_role = roles.contains(&(id as u32));
        let is_special = has_role || matches!(kind, TokenType::Control | TokenType::Unknown);
        let is_added = is_special || kind == TokenType::UserDefined;
        // A text that occurs twice can only be found once.
        if is_added && !content.is_empty() && first.get(content.as_str()) == Some(&id) {
            tokens.push(json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": is_special
            }));
        }
    }
    Value::Array(tokens)
}

/// The vocabulary of a `tokenizer.json`; of equal texts the first counts.
fn vocabulary(table: &GgufTokenizer) -> Map<String, Value> {
    let mut vocabulary = Map::new();
    for (id, token) in table.tokens.iter().enumerate() {
        vocabulary.entry(token.as_str()).or_insert_with(|| Value::from(id));
    }
    vocabulary
}

/// A `tokenizer.json` without added tokens.
fn byte_level(table: &GgufTokenizer) -> Result<Value, Error> {
    let pre = Pre::named(table.pre.as_deref())?;
    let vocabulary = vocabulary(table);
    for (left, right) in &table.merges {
        super::merges::check(|token| vocabulary.contains_key(token), left, right, 0)?;
    }
    let merges: Vec<Value> = table.merges.iter().map(|(a, b)| json!([a, b])).collect();
    let normalizer = if pre.composes { json!({"type": "NFC"}) } else { Value::Null };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre.to_json(),
        "post_processor": around(table, table.add_bos.unwrap_or(pre.puts_bos)),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre.ignores_merges,
            "vocab": vocabulary, "merges": merges
        }
    }))
}

/// What is put around a text.
fn around(table: &GgufTokenizer, puts_bos: bool) -> Value {
    let token = |wanted: bool, id: Option<u32>| {
        let id = id.filter(|_| wanted)?;
        Some((text(table, Some(id))?, id))
    };
    let [bos, eos] = [token(puts_bos, table.bos), token(table.add_eos.unwrap_or(false), table.eos)];
    post_processor(bos, eos).unwrap_or_default()
}

/// A `tokenizer.json` without added tokens, and the exact pieces.
fn sentence_pieces(table: &GgufTokenizer) -> Result<(Value, Pieces), Error> {
    if table.remove_extra_whitespaces == Some(true) {
        return Err(TokensError::RemovesSpaces.into());
    }
    if table.scores.len() != table.tokens.len() {
        return Err(TokensError::NoScores.into());
    }
    let by_text = scored_pieces(table);
    let bytes = byte_ids(table);
    let adds_space = table.add_space_prefix.unwrap_or(true);
    let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let prepend = json!({"type": "Prepend", "prepend": SPACE});
    let steps = if adds_space { vec![prepend, space] } else { vec![space] };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if adds_space {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": null,
        "post_processor": around(table, table.add_bos.unwrap_or(true)),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": text(table, table.unknown),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": bytes.is_some(), "ignore_merges": false,
            "vocab": vocabulary(table), "merges": ordered_merges(&by_text)
        }
    });
    Ok((json, Pieces::new(by_text, bytes, known(table, table.unknown), adds_space)))
}

/// The pieces that merging may form.
fn scored_pieces(table: &GgufTokenizer) -> BTreeMap<Box<str>, Piece> {
    let mut by_text = BTreeMap::new();
    for (id, token) in table.tokens.iter().enumerate() {
        let kind = table.types.get(id).copied().unwrap_or(TokenType::Normal);
        let merges = matches!(kind, TokenType::Normal | TokenType::UserDefined | TokenType::Unused);
        if merges && !token.is_empty() {
            let piece = Piece {
                id: id as u32,
                score: table.scores.get(id).copied().unwrap_or(0.0),
                unused: kind == TokenType::Unused,
            };
            by_text.entry(token.as_str().into()).or_insert(piece);
        }
    }
    by_text
}

/// The ids of the 256 byte tokens, if all are there.
fn byte_ids(table: &GgufTokenizer) -> Option<Box<[u32; 256]>> {
    let mut ids = [None; 256];
    for (id, token) in table.tokens.iter().enumerate() {
        let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        let is_byte = table.types.get(id) == Some(&TokenType::Byte);
        if let Some(byte) = hex.filter(|_| is_byte).and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            ids[usize::from(byte)].get_or_insert(id as u32);
        }
    }
    let ids: Option<Vec<u32>> = ids.into_iter().collect();
    ids?.try_into().ok().map(Box::new)
}

/// The pieces as merges, best first: every way to make a piece from two others, by the piece's
/// score, then the longer left part first, as `transformers` orders them.
fn ordered_merges(by_text: &BTreeMap<Box<str>, Piece>) -> Vec<Value> {
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for (piece, &Piece { score, unused, .. }) in by_text {
        if unused || PIECE_BYTES_MAX < piece.len() {
            continue;
        }
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if by_text.contains_key(left) && by_text.contains_key(right) {
                merges.push((score, left, right));
            }
        }
    }
    let length = |text: &str| text.chars().count();
    merges.sort_by(|a, b| {
        let longer_first = (length(b.1), length(b.2)).cmp(&(length(a.1), length(a.2)));
        b.0.total_cmp(&a.0).then(longer_first)
    });
    merges.into_iter().map(|(_, left, right)| json!([left, right])).collect()
}

/// A `tokenizer_config.json` for the rebuilt tokenizer.
fn config_json(table: &GgufTokenizer, special: &BTreeMap<String, String>) -> Value {
    let mut config = Map::new();
    let adds_bos = match table.model.as_str() {
        "llama" => table.add_bos.unwrap_or(true),
        _ => table
            .add_bos
            .unwrap_or_else(|| Pre::named(table.pre.as_deref()).is_ok_and(|pre| pre.puts_bos)),
    };
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    config.insert("add_bos_token".into(), (adds_bos && table.bos.is_some()).into());
    config.insert("add_eos_token".into(), table.add_eos.unwrap_or(false).into());
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    for (role, token) in special {
        config.insert(role.clone(), token.as_str().into());
    }
    Value::Object(config)
}

/// The 256 characters that stand for bytes in byte-level vocabularies: printable bytes for
/// themselves, the others from U+0100 on in order.
pub(super) fn byte_letters() -> [char; 256] {
    let mut letters = ['\0'; 256];
    let mut next = 0x100;
    for byte in 0..=255_u8 {
        let prints = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        letters[usize::from(byte)] = if prints {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        };
    }
    letters
}
