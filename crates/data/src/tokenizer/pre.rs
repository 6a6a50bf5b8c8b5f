//! How byte-level vocabularies split text before they merge.
//!
//! A GGUF file names the splitting only by a word. The regular expressions behind each word are
//! those of the published tokenizers that the word stands for; a word that is not in the table is
//! refused, because a wrong split gives wrong tokens without any sign of it.

use serde_json::{Value, json};

use crate::Error;
use crate::tokens_error::TokensError;

/// Everything that the word `pre` of a GGUF file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pre {
    /// The cuts, one after another; each cuts the pieces that the one before left.
    cuts: &'static [Cut],
    /// Whether text is composed (Unicode NFC) first.
    pub(super) composes: bool,
    /// Whether a sequence starts with a BOS token unless the file says otherwise.
    pub(super) puts_bos: bool,
    /// Whether a whole piece that is a token is that token, whatever the merges say.
    pub(super) ignores_merges: bool,
}

/// One cut: matches become pieces of their own, and so does what lies between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Each number character alone.
    Digits,
    /// A regular expression.
    At(&'static str),
}

use Cut::{At, Digits};

/// GPT-2's expression, which Hugging Face's byte-level step has built in.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
/// Letters that have case, as the `DeepSeek` tokenizers list them.
const DEEPSEEK_CASED: &str = r"\s?[A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-\u{2af}\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-\u{3a1}\u{3a3}-\u{3f5}\u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-\u{13f5}\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}\u{1f50}-\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}\u{1ff2}-\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\u{2124}\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}\u{214e}\u{2183}\u{2184}\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}\u{a640}-\u{a66d}\u{a680}-\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-\u{abbf}\u{fb00}-\u{fb06}\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}]+";
const DEEPSEEK_MARKS: &str =
    r"\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+";
const DEEPSEEK_CJK: &str = r"[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+";
const DEEPSEEK3_CJK: &str = r"[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// The cuts alone, with nothing else particular.
const fn cuts(cuts: &'static [Cut]) -> Pre {
    Pre { cuts, composes: false, puts_bos: false, ignores_merges: false }
}

/// The table: the words that share an entry, and the entry.
const KINDS: &[(&[&str], Pre)] = &[
    (&["gpt-2", "phi-2"], cuts(&[At(GPT2)])),
    (&["mpt", "olmo"], Pre { composes: true, ..cuts(&[At(GPT2)]) }),
    (&["smollm", "starcoder", "refact", "codeshell", "minerva-7b"], cuts(&[Digits, At(GPT2)])),
    (&["command-r"], Pre { composes: true, ..cuts(&[Digits, At(GPT2)]) }),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        Pre { puts_bos: true, ignores_merges: true, ..cuts(&[At(LLAMA3)]) },
    ),
    (&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], cuts(&[At(LLAMA3)])),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"],
        Pre { composes: true, ..cuts(&[At(QWEN2)]) },
    ),
    (&["stablelm2", "hunyuan", "solar-open", "grok-2"], cuts(&[At(QWEN2)])),
    (&["qwen35"], Pre { composes: true, ..cuts(&[At(QWEN35)]) }),
    (&["tekken"], Pre { puts_bos: true, ignores_merges: true, ..cuts(&[At(TEKKEN)]) }),
    (&["gpt-4o", "llama4", "kanana2", "minimax-m2"], cuts(&[At(GPT4O)])),
    (
        &["deepseek-llm"],
        cuts(&[
            At(r"[\r\n]"),
            At(DEEPSEEK_CASED),
            At(DEEPSEEK_MARKS),
            At(r"\s+$"),
            At(DEEPSEEK_CJK),
            Digits,
        ]),
    ),
    (
        &["deepseek-coder"],
        cuts(&[At(r"[\r\n]"), At(r"\s?\p{L}+"), At(r"\s?\p{P}+"), At(DEEPSEEK_CJK), Digits]),
    ),
    (
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        cuts(&[At(r"\p{N}{1,3}"), At(DEEPSEEK3_CJK), At(DEEPSEEK3)]),
    ),
    (&["falcon"], cuts(&[At(r"[\p{P}\$\+<=>\^~\|`]+"), At(GPT2), At(r"[0-9][0-9][0-9]")])),
    (&["seed-coder"], cuts(&[At(SEED_CODER)])),
    (&["bailingmoe", "bailingmoe2", "llada-moe"], cuts(&[At(BAILING)])),
    (
        &["default"],
        cuts(&[At(r"[\p{P}\$\+<=>\^~\|]+"), At(GPT2), At(r"\p{N}+"), At(r"[0-9][0-9][0-9]")]),
    ),
];

impl Pre {
    /// What the word of a GGUF file stands for; files from before the word existed mean `default`.
    ///
    /// # Errors
    ///
    /// A word that is not in the table.
    pub(super) fn named(name: Option<&str>) -> Result<Self, Error> {
        let name = name.filter(|name| !name.is_empty()).unwrap_or("default");
        let found = KINDS.iter().find(|(names, _)| names.contains(&name));
        found.map(|(_, pre)| *pre).ok_or_else(|| {
            let known = names().collect::<Vec<_>>().join(", ");
            TokensError::UnknownPre { pre: name.to_owned(), known }.into()
        })
    }

    /// The word for the way in which the pre-tokenizer of a `tokenizer.json` splits: that of an entry
    /// with the same cuts, if possible with the same habits beside them; `None` where there is none.
    pub(super) fn name_of(
        pre_tokenizer: &Value,
        composes: bool,
        ignores_merges: bool,
    ) -> Option<&'static str> {
        let mut wanted = Vec::new();
        let is_known = read_cuts(pre_tokenizer, &mut wanted);
        let fits = |pre: &Pre| {
            let cuts: Vec<Value> = pre.cuts.iter().map(|cut| cut.to_json()).collect();
            is_known && cuts == wanted
        };
        let fitting: Vec<_> = KINDS.iter().filter(|(_, pre)| fits(pre)).collect();
        let same = |pre: &Pre, merges: bool| {
            pre.composes == composes && (!merges || pre.ignores_merges == ignores_merges)
        };
        let best = fitting.iter().find(|(_, pre)| same(pre, true));
        let second = || fitting.iter().find(|(_, pre)| same(pre, false));
        let best = best.or_else(second).or_else(|| fitting.first())?;
        best.0.first().copied()
    }

    /// The pre-tokenizer of a `tokenizer.json` that cuts this way and spells bytes as characters.
    pub(super) fn to_json(self) -> Value {
        let bytes = |cuts_as_gpt2: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": cuts_as_gpt2});
        // The byte-level step cuts as GPT-2 did when asked, which is how such models are published.
        let (last_is_gpt2, cuts) = match self.cuts.split_last() {
            Some((At(GPT2), before)) => (true, before),
            _ => (false, self.cuts),
        };
        if cuts.is_empty() {
            return bytes(last_is_gpt2);
        }
        let mut steps: Vec<Value> = cuts.iter().map(|cut| cut.to_json()).collect();
        steps.push(bytes(last_is_gpt2));
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

impl Cut {
    fn to_json(self) -> Value {
        match self {
            Digits => json!({"type": "Digits", "individual_digits": true}),
            At(regex) => at_json(regex),
        }
    }
}

/// The cuts of a pre-tokenizer, as this module writes them; false for a step that it does not have.
fn read_cuts(step: &Value, cuts: &mut Vec<Value>) -> bool {
    match step["type"].as_str() {
        Some("Sequence") => {
            let steps = step["pretokenizers"].as_array().map(Vec::as_slice).unwrap_or_default();
            steps.iter().all(|step| read_cuts(step, cuts))
        }
        Some("Digits") => {
            cuts.push(Digits.to_json());
            step["individual_digits"] == true
        }
        Some("Split") => {
            // Cutting out what does not match leaves the same pieces, as these match everything.
            let is_isolated = step["behavior"] == "Isolated" && step["invert"] != true;
            let is_removed = step["behavior"] == "Removed" && step["invert"] == true;
            let regex = step["pattern"]["Regex"].as_str();
            cuts.extend(regex.map(at_json));
            regex.is_some() && (is_isolated || is_removed)
        }
        Some("ByteLevel") => {
            if step["use_regex"] != false {
                cuts.push(At(GPT2).to_json());
            }
            step["add_prefix_space"] == false
        }
        _ => false,
    }
}

/// A cut at a regular expression.
fn at_json(regex: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

/// All words of the table.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().flat_map(|(names, _)| names.iter().copied())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    };

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        texts: Vec<String>,
        kinds: BTreeMap<String, Vec<Vec<String>>>,
    }

    fn pieces(pre: &PreTokenizerWrapper, text: &str) -> Vec<String> {
        let mut split = PreTokenizedString::from(text);
        pre.pre_tokenize(&mut split).unwrap();
        let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(piece, _, _)| piece.to_owned()).collect()
    }

    #[test]
    fn text_is_split_as_the_published_tokenizers_split_it() {
        let text = fs_err::read_to_string(testkit::golden("data/splits.json")).unwrap();
        let golden: Golden = serde_json::from_str(&text).unwrap();
        for (name, expected) in &golden.kinds {
            let json = Pre::named(Some(name)).unwrap().to_json();
            let pre: PreTokenizerWrapper = serde_json::from_value(json).unwrap();
            for (text, expected) in golden.texts.iter().zip(expected) {
                assert_eq!(&pieces(&pre, text), expected, "{name}: {text:?}");
            }
        }
        // Every entry of the table that splits in its own way has a golden under one of its names.
        for (names, pre) in KINDS {
            let covered = KINDS.iter().filter(|(_, other)| other.cuts == pre.cuts);
            let covered =
                covered.flat_map(|(names, _)| *names).any(|n| golden.kinds.contains_key(*n));
            assert!(covered, "{names:?} has no golden");
        }
    }

    #[test]
    fn every_split_can_be_built_and_loses_nothing() {
        for name in names() {
            let json = Pre::named(Some(name)).unwrap().to_json();
            let pre: PreTokenizerWrapper = serde_json::from_value(json).unwrap();
            let bytes: usize = pieces(&pre, "It's 12  o'clock,\n\tdéjà 日本!")
                .iter()
                .map(|p| p.chars().count())
                .sum();
            assert_eq!(bytes, "It's 12  o'clock,\n\tdéjà 日本!".len(), "{name}");
        }
    }
}
