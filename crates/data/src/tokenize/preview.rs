//! One example as a person can check it: every token's text, and which tokens are scored.

use std::fmt;

use super::Example;
use crate::Error;
use crate::tokenizer::Tokenizer;

/// A token as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The id.
    pub id: u32,
    /// What the token adds to the text; empty within a character that several tokens spell.
    pub text: String,
    /// Whether the model is scored on predicting it.
    pub scored: bool,
}

/// An example, token by token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The example's name.
    pub id: String,
    /// The prompt.
    pub prompt: Vec<Shown>,
    /// The completions.
    pub completions: Vec<Vec<Shown>>,
}

impl Preview {
    pub(super) fn new(tokenizer: &Tokenizer, example: &Example) -> Result<Self, Error> {
        let prompt = show(tokenizer, &[], &example.prompt, &|_| false)?;
        let completions = example.completions.iter().enumerate();
        let completions = completions
            .map(|(side, ids)| {
                show(tokenizer, &example.prompt, ids, &|index| example.is_scored(side, index))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { id: example.id.clone(), prompt, completions })
    }
}

/// The text that each id adds after a context.
fn show(
    tokenizer: &Tokenizer,
    context: &[u32],
    ids: &[u32],
    is_scored: &dyn Fn(usize) -> bool,
) -> Result<Vec<Shown>, Error> {
    let mut stream = tokenizer.stream(context);
    let mut shown = Vec::with_capacity(ids.len());
    for (index, &id) in ids.iter().enumerate() {
        // A stream leaves special tokens out; here they are what one looks for.
        let text = stream.push(id)?;
        let text = if tokenizer.is_special(id) { tokenizer.decode(&[id], false)? } else { text };
        shown.push(Shown { id, text, scored: is_scored(index) });
    }
    if let Some(last) = shown.last_mut() {
        let rest = stream.finish()?;
        last.text.push_str(&rest);
    }
    Ok(shown)
}

impl fmt::Display for Preview {
    /// The prompt, then each completion; scored tokens stand in brackets, one by one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: prompt, {} tokens", self.id, self.prompt.len())?;
        write_tokens(f, &self.prompt)?;
        for (index, completion) in self.completions.iter().enumerate() {
            let scored = completion.iter().filter(|token| token.scored).count();
            let name = match (index, self.completions.len()) {
                (0, 2) => "chosen".to_owned(),
                (1, 2) => "rejected".to_owned(),
                _ => format!("completion {}", index + 1),
            };
            writeln!(f, "{name}, {scored} scored tokens")?;
            write_tokens(f, completion)?;
        }
        Ok(())
    }
}

fn write_tokens(f: &mut fmt::Formatter<'_>, tokens: &[Shown]) -> fmt::Result {
    for token in tokens {
        if token.scored { write!(f, "[{}]", token.text)? } else { f.write_str(&token.text)? }
    }
    writeln!(f)
}
