//! Tokenizers against sentencepiece, and what holds for every text.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::sync::LazyLock;

use data::{
    template::{Moment, Templates},
    tokenizer::Tokenizer,
};
use formats::gguf::{Gguf, GgufTokenizer, TokenType};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

fn chat() -> &'static Tokenizer {
    static CHAT: LazyLock<Tokenizer> =
        LazyLock::new(|| Tokenizer::open(&testkit::golden("trl/chat")).unwrap());
    &CHAT
}

fn stories() -> Option<Tokenizer> {
    let Some(data) = testkit::shared_data() else {
        println!("skipped: the folder of shared data is not there");
        return None;
    };
    let gguf = Gguf::open(data.join("stories260K/stories260K.gguf")).unwrap();
    Some(Tokenizer::from_gguf(&gguf.tokenizer().unwrap()).unwrap())
}

#[derive(Deserialize)]
struct Pieces {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    decoded: Vec<String>,
}

#[test]
fn pieces_are_those_of_sentencepiece() {
    let text = fs_err::read_to_string(testkit::golden("data/pieces.json")).unwrap();
    let golden: Pieces = serde_json::from_str(&text).unwrap();
    let Some(tokenizer) = stories() else { return };
    for ((text, ids), decoded) in golden.texts.iter().zip(&golden.ids).zip(&golden.decoded) {
        assert_eq!(tokenizer.encode(text, false).unwrap(), *ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids, true).unwrap(), *decoded, "{text:?}");
    }
    assert_eq!(tokenizer.prefix(), [1], "an SPM file without the flag starts with BOS");
    assert_eq!(tokenizer.encode("", true).unwrap(), [1]);
    let around = tokenizer.encode("a</s> b", true).unwrap();
    assert!(around.contains(&2), "special tokens in the text are those tokens");
}

#[test]
fn a_written_tokenizer_is_read_again() {
    let Some(tokenizer) = stories() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in tokenizer.files() {
        fs_err::write(folder.path().join(name), bytes).unwrap();
    }
    let again = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(again.special_tokens(), tokenizer.special_tokens());
    assert_eq!(again.prefix(), tokenizer.prefix());
    for text in ["Once upon a time", "Lily said: \"Hi!\"", "a  b\n\nc", "日本 😀"] {
        let ids = tokenizer.encode(text, true).unwrap();
        assert_eq!(again.encode(text, true).unwrap(), ids);
        assert_eq!(again.decode(&ids, true).unwrap(), tokenizer.decode(&ids, true).unwrap());
    }
}

/// Texts in many scripts, with special tokens among them.
const TEXTS: [&str; 5] = [
    "Once upon a time, in 1999, Lily said: \"Hi!\"  Two spaces,\n\ntwo lines.",
    "Straße, naïve café, e\u{301}; Москва, 東京都, 서울, القاهرة, ไทย, नमस्ते 😀👍🏽",
    "fn main() { let x = [1, 22, 333]; }\t// done\r\n",
    " leading and trailing ",
    "",
];

#[test]
fn a_tokenizer_becomes_the_tables_of_a_gguf_file() {
    let chat = chat();
    let now = Moment::from_unix_seconds(1_700_000_000).unwrap();
    let templates = Templates::open(&testkit::golden("trl/chat"), now).unwrap();
    let rows = chat.vocabulary_size() + 3;
    let table = chat.to_gguf(rows, &templates).unwrap();
    assert_eq!(table.model, "gpt2");
    assert_eq!((table.tokens.len(), table.types.len()), (rows, rows));
    assert_eq!(table.types[rows - 1], TokenType::Unused);
    assert_eq!((table.bos, table.eos), (chat.bos(), chat.eos()));
    let template = templates.default_template().unwrap();
    assert_eq!(table.chat_template.as_deref(), Some(template.source()));
    let again = Tokenizer::from_gguf(&table).unwrap();
    for text in TEXTS {
        for with_special in [false, true] {
            let want = chat.encode(text, with_special).unwrap();
            assert_eq!(again.encode(text, with_special).unwrap(), want, "{text:?}");
        }
    }
    assert_eq!(again.stop_tokens(), chat.stop_tokens());
    // More tokens than the model has embeddings.
    let error = chat.to_gguf(chat.vocabulary_size() - 1, &templates).unwrap_err();
    assert!(error.to_string().contains("embeddings"), "{error}");
}

#[test]
fn scored_pieces_come_back_through_a_folder() {
    let Some(stories) = stories() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in stories.files() {
        fs_err::write(folder.path().join(name), bytes).unwrap();
    }
    let opened = Tokenizer::open(folder.path()).unwrap();
    let table = opened.to_gguf(512, &Templates::default()).unwrap();
    assert_eq!(table.model, "llama");
    assert_eq!((table.add_bos, table.add_space_prefix), (Some(true), Some(true)));
    assert_eq!(table.types.iter().filter(|kind| **kind == TokenType::Byte).count(), 256);
    let again = Tokenizer::from_gguf(&table).unwrap();
    for text in TEXTS {
        let want = stories.encode(text, true).unwrap();
        assert_eq!(again.encode(text, true).unwrap(), want, "{text:?}");
    }
}

/// A way of splitting that has a name is found by it; one that has none is refused.
#[test]
fn what_has_no_form_in_a_gguf_file_is_refused() {
    let folder = testkit::golden("trl/chat");
    let text = fs_err::read_to_string(folder.join("tokenizer.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = json.clone();
        change(&mut json);
        let home = tempfile::tempdir().unwrap();
        fs_err::write(home.path().join("tokenizer.json"), json.to_string()).unwrap();
        let config = fs_err::read(folder.join("tokenizer_config.json")).unwrap();
        fs_err::write(home.path().join("tokenizer_config.json"), config).unwrap();
        let tokenizer = Tokenizer::open(home.path()).unwrap();
        tokenizer.to_gguf(tokenizer.vocabulary_size(), &Templates::default())
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let split = |regex: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            bytes,
        ]})
    };
    let qwen = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let table = with(&|json| {
        json["pre_tokenizer"] = split(qwen);
        json["normalizer"] = json!({"type": "NFC"});
    });
    assert_eq!(table.unwrap().pre.as_deref(), Some("qwen2"));
    let refused = [
        (with(&|json| json["pre_tokenizer"] = split(r"\w+")), "has no name"),
        (with(&|json| json["normalizer"] = json!({"type": "Lowercase"})), "`Lowercase`"),
        (with(&|json| json["model"]["end_of_word_suffix"] = "</w>".into()), "`end_of_word_suffix`"),
    ];
    for (done, told) in refused {
        let error = done.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.hint().is_some());
    }
}

fn table(model: &str, pre: Option<&str>) -> GgufTokenizer {
    GgufTokenizer {
        model: model.into(),
        pre: pre.map(Into::into),
        tokens: Vec::new(),
        types: Vec::new(),
        scores: Vec::new(),
        merges: Vec::new(),
        bos: None,
        eos: None,
        eot: None,
        eom: None,
        unknown: None,
        separator: None,
        padding: None,
        add_bos: None,
        add_eos: None,
        add_space_prefix: None,
        remove_extra_whitespaces: None,
        chat_template: None,
        named_templates: std::collections::BTreeMap::new(),
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let error = Tokenizer::from_gguf(&table("gpt2", Some("zork-9"))).unwrap_err();
    assert!(error.to_string().contains("`zork-9`"), "{error}");
    assert!(error.hint().unwrap().contains("llama-bpe, "));
    let error = Tokenizer::from_gguf(&table("t5", None)).unwrap_err();
    assert!(error.to_string().contains("`t5`"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::open(folder.path()).unwrap_err();
    assert!(error.to_string().starts_with("no `tokenizer.json` in"), "{error}");
    for merges in [r#"["a b"]"#, r#"[["a", "b"]]"#] {
        let model =
            format!(r#"{{"type": "BPE", "vocab": {{"a": 0, "b": 1}}, "merges": {merges}}}"#);
        let json = format!(r#"{{"version": "1.0", "added_tokens": [], "model": {model}}}"#);
        fs_err::write(folder.path().join("tokenizer.json"), json).unwrap();
        let error = Tokenizer::open(folder.path()).unwrap_err();
        assert!(error.to_string().starts_with("the tokenizer merges `a` and `b`"), "{error}");
    }
}

/// A vocabulary of scored pieces in which the same piece has two ways to form.
fn scored(pieces: &[(&str, f32, TokenType)]) -> Tokenizer {
    let mut table = table("llama", None);
    for (text, score, kind) in pieces {
        table.tokens.push((*text).into());
        table.scores.push(*score);
        table.types.push(*kind);
    }
    table.unknown = Some(0);
    table.add_space_prefix = Some(false);
    table.add_bos = Some(false);
    Tokenizer::from_gguf(&table).unwrap()
}

#[test]
fn equal_scores_merge_from_the_left() {
    use TokenType::{Normal, Unknown, Unused};
    let tokenizer = scored(&[
        ("<unk>", 0.0, Unknown),
        ("a", -9.0, Normal),
        ("aa", -1.0, Normal),
        ("aaa", -2.0, Normal),
        ("b", -9.0, Normal),
        ("ab", -3.0, Unused),
    ]);
    // Two pairs make `aaa`; as ordered merges, the pair with the longer left part would win.
    assert_eq!(tokenizer.encode("aaa", false).unwrap(), [3]);
    assert_eq!(tokenizer.encode("aaaaa", false).unwrap(), [2, 3]);
    // An unused piece is taken apart again, and a run without tokens is one unknown.
    assert_eq!(tokenizer.encode("ab", false).unwrap(), [1, 4]);
    assert_eq!(tokenizer.encode("axyzb", false).unwrap(), [1, 0, 4]);
    assert!(tokenizer.loses_text("axyzb", &[1, 0, 4]) && !tokenizer.loses_text("ab", &[1, 4]));
}

#[test]
fn end_tokens_come_from_every_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs_err::copy(testkit::golden("trl/chat").join(name), folder.path().join(name)).unwrap();
    }
    fs_err::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [5, 7]}"#)
        .unwrap();
    fs_err::write(folder.path().join("config.json"), r#"{"eos_token_id": 9}"#).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let eos = tokenizer.eos().unwrap();
    for id in [5, 7, 9, eos] {
        assert!(tokenizer.is_stop(id), "{id}");
    }
    assert_eq!(tokenizer.stop_tokens().len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn text_survives_the_way_there_and_back(text in "(\\PC|[ \n\t]){0,40}") {
        let ids = chat().encode(&text, false).unwrap();
        prop_assert_eq!(chat().decode(&ids, false).unwrap(), text);
    }

    #[test]
    fn a_stream_gives_the_same_text(text in "(\\PC|[ \n]){0,30}", ids in prop::collection::vec(0_u32..290, 0..30)) {
        for ids in [chat().encode(&text, false).unwrap(), ids] {
            let mut stream = chat().stream(&[]);
            let mut streamed = String::new();
            for id in &ids {
                streamed.push_str(&stream.push(*id).unwrap());
            }
            streamed.push_str(&stream.finish().unwrap());
            prop_assert_eq!(streamed, chat().decode(&ids, true).unwrap());
        }
    }

    #[test]
    fn hostile_tables_are_built_or_refused(
        tokens in prop::collection::vec("(<0x0[0-9A-F]>|<s>|[abĠ\u{2581}é]{0,3})", 0..24),
        kinds in prop::collection::vec(0_usize..6, 24),
        scores in prop::collection::vec(any::<f32>(), 24),
        merges in prop::collection::vec(("[abĠ]{0,2}", "[abĠ]{0,2}"), 0..8),
        special in prop::collection::vec(prop::option::of(0_u32..30), 6),
        flags in prop::collection::vec(prop::option::of(any::<bool>()), 3),
        (is_pieces, pre, text) in (any::<bool>(), prop::sample::select(vec!["gpt-2", "smollm", "llama-bpe", "qwen2"]), "[ab é<s>0-9]{0,12}"),
    ) {
        use TokenType::{Byte, Control, Normal, Unknown, Unused, UserDefined};
        let mut table = table(if is_pieces { "llama" } else { "gpt2" }, Some(pre));
        let kinds = kinds.iter().map(|&kind| [Normal, Unknown, Control, UserDefined, Unused, Byte][kind]);
        table.types = kinds.take(tokens.len()).collect();
        table.scores = scores[..tokens.len()].to_vec();
        table.tokens = tokens;
        table.merges = merges;
        [table.bos, table.eos, table.eot, table.unknown, table.padding, table.eom] =
            [special[0], special[1], special[2], special[3], special[4], special[5]];
        [table.add_bos, table.add_eos, table.add_space_prefix] = [flags[0], flags[1], flags[2]];
        if let Ok(tokenizer) = Tokenizer::from_gguf(&table) {
            let ids = tokenizer.encode(&text, true).unwrap_or_default();
            for id in &ids {
                prop_assert!((*id as usize) < table.tokens.len());
            }
            let _ = (tokenizer.decode(&ids, false), tokenizer.loses_text(&text, &ids));
        }
    }
}
