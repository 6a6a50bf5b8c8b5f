//! Decoding one token at a time, without ever printing half a character.

use super::Tokenizer;
use crate::Error;

/// What stands in decoded text for bytes that are not yet a character.
const REPLACEMENT: char = '\u{fffd}';

/// How many tokens of context are decoded again with each new one: enough for any decoder, which
/// looks at one or two neighbours, and few enough that a step costs the same at any length.
const CONTEXT_TOKENS: usize = 8;

/// Turns a growing sequence of tokens into text that never has to be taken back.
///
/// Tokens can be parts of a character, and the text of a token can depend on its neighbours. So the
/// last few tokens are decoded together, and only what is certain is given out.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The last tokens; the first `settled` of them are already given out as text.
    recent: Vec<u32>,
    settled: usize,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, context: &[u32]) -> Self {
        let recent = context[context.len().saturating_sub(CONTEXT_TOKENS)..].to_vec();
        Self { tokenizer, settled: recent.len(), recent }
    }

    /// Takes the next token, and gives the text that is certain since the last one; may be empty.
    ///
    /// # Errors
    ///
    /// A decoder that fails on the tokens.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.recent.push(id);
        let (before, now) = self.texts()?;
        if now.ends_with(REPLACEMENT) || now.len() <= before.len() {
            return Ok(String::new());
        }
        Ok(self.settle(&before, &now))
    }

    /// The rest of the text, with a replacement character for bytes that never became one.
    ///
    /// # Errors
    ///
    /// A decoder that fails on the tokens.
    pub fn finish(mut self) -> Result<String, Error> {
        let (before, now) = self.texts()?;
        Ok(self.settle(&before, &now))
    }

    /// The text of the settled tokens, and of all recent ones.
    fn texts(&self) -> Result<(String, String), Error> {
        let before = self.tokenizer.decode(&self.recent[..self.settled], true)?;
        Ok((before, self.tokenizer.decode(&self.recent, true)?))
    }

    /// Gives out what is new, and forgets tokens that no longer matter.
    fn settle(&mut self, before: &str, now: &str) -> String {
        let new = now.strip_prefix(before).unwrap_or_else(|| {
            // A decoder that rewrites earlier text: what follows the common part is new.
            let common = before.bytes().zip(now.bytes()).take_while(|(a, b)| a == b).count();
            let start = (0..=common).rev().find(|&at| now.is_char_boundary(at)).unwrap_or(0);
            &now[start..]
        });
        let new = new.to_owned();
        self.settled = self.recent.len();
        let forget = self.recent.len().saturating_sub(CONTEXT_TOKENS);
        // A cut inside a character would change the text of what remains.
        if 0 < forget && self.starts_cleanly(forget) {
            self.recent.drain(..forget);
            self.settled -= forget;
        }
        new
    }

    /// Whether the tokens from here on decode to text that does not start with half a character.
    fn starts_cleanly(&self, from: usize) -> bool {
        let text = self.tokenizer.decode(&self.recent[from..], true);
        text.is_ok_and(|text| !text.starts_with(REPLACEMENT))
    }
}
