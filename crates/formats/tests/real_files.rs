//! Files that other programs wrote.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use formats::Dtype;
use formats::gguf::{Gguf, TokenType};

#[test]
fn the_stories_model_is_read() {
    let Some(data) = testkit::shared_data() else {
        eprintln!("skipped: there is no `shared/data` beside the project");
        return;
    };
    let gguf = Gguf::open(data.join("stories260K/stories260K.gguf")).unwrap();
    assert_eq!((gguf.version(), gguf.len(), gguf.metadata().len()), (3, 48, 19));
    assert_eq!(gguf.get_str("general.architecture").unwrap(), "llama");
    assert_eq!(gguf.get_u32("llama.block_count").unwrap(), 5);
    let embedding = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((embedding.dtype, &*embedding.shape), (Dtype::F32, &[512, 64][..]));
    let tokenizer = gguf.tokenizer().unwrap();
    assert_eq!((tokenizer.model.as_str(), tokenizer.tokens.len()), ("llama", 512));
    assert_eq!((tokenizer.bos, tokenizer.eos, tokenizer.padding), (Some(1), Some(2), None));
    assert_eq!(tokenizer.types[3], TokenType::Byte);
    assert_eq!(tokenizer.scores.len(), 512);
}

#[test]
fn the_stories_model_agrees_with_its_other_file() {
    let Some(data) = testkit::shared_data() else {
        eprintln!("skipped: there is no `shared/data` beside the project");
        return;
    };
    // The flat file of the same model: 7 numbers, then the embedding table, all `f32`.
    let flat = fs_err::read(data.join("stories260K/stories260K.bin")).unwrap();
    let gguf = Gguf::open(data.join("stories260K/stories260K.gguf")).unwrap();
    let embedding = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!(embedding.bytes, &flat[28..][..embedding.bytes.len()]);
}
