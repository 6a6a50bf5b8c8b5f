//! Where the prompt ends and the completions begin.

use super::{messages, render_options};
use crate::record::{Content, Record};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::tokens_error::TokensError;

/// How many last tokens of a completion may follow its end token: a template's newline and the like.
const AFTER_END_TOKENS: usize = 4;

/// A record as tokens, before anything is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seamed {
    /// What the prompt alone and with every completion starts with.
    pub(crate) prompt: Vec<u32>,
    /// The rest with each completion.
    pub(crate) completions: Vec<Vec<u32>>,
    /// The text of the tokens in which only the prompt alone ends, if there are any.
    pub(crate) moved_end: Option<String>,
    /// Whether the vocabulary could not spell some characters.
    pub(crate) loses_text: bool,
}

/// Tokens that somebody else made pass through.
pub(super) fn from_tokens(prompt: &[u32], completions: &[Content]) -> Result<Seamed, TokensError> {
    let completions = completions
        .iter()
        .map(|content| match content {
            Content::Tokens(ids) => Ok(ids.clone()),
            _ => Err(TokensError::TokensBesideText),
        })
        .collect::<Result<_, _>>()?;
    Ok(Seamed { prompt: prompt.to_vec(), completions, moved_end: None, loses_text: false })
}

/// Plain text: the tokenizer puts its own tokens around it, and each completion ends with EOS.
pub(super) fn from_text(tokenizer: &Tokenizer, record: &Record) -> Result<Seamed, TokensError> {
    let Content::Text(prompt) = &record.prompt else { return Err(TokensError::TokensBesideText) };
    let eos_text = tokenizer.eos_text().ok_or(TokensError::NoEos)?;
    let eos = tokenizer.eos().ok_or(TokensError::NoEos)?;
    // DIFFERENCE(trl): where the tokenizer itself puts EOS behind a text, TRL ends with two.
    let ends_itself = tokenizer.suffix().last() == Some(&eos);
    let mut seam = Seam::new(tokenizer, encode(tokenizer, prompt, true)?)?;
    for completion in &record.completions {
        let Content::Text(completion) = completion else {
            return Err(TokensError::TokensBesideText);
        };
        let mut text = format!("{prompt}{completion}");
        if ends_itself {
            text.truncate(text.strip_suffix(eos_text).map_or(text.len(), str::len));
        } else if !completion.ends_with(eos_text) {
            text.push_str(eos_text);
        }
        let ids = encode(tokenizer, &text, true)?;
        if ids.last() != Some(&eos) {
            return Err(seam.missing_end(&ids));
        }
        seam.push(&text, ids)?;
    }
    seam.finish()
}

/// Messages: the template writes every token, so the tokenizer adds none.
pub(super) fn from_messages(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    record: &Record,
) -> Result<Seamed, TokensError> {
    let render = |messages: &[serde_json::Value], opens_turn: bool| {
        template
            .render(messages, &render_options(tokenizer, record, opens_turn))
            .map_err(TokensError::from)
    };
    let prompt = messages(&record.prompt, "user")?;
    // Nobody asked anything, so there is no turn to open: the completions bring the prompt.
    let prompt_text = if prompt.is_empty() { String::new() } else { render(&prompt, true)? };
    let mut seam = Seam::new(tokenizer, encode(tokenizer, &prompt_text, false)?)?;
    for completion in &record.completions {
        let mut turns = prompt.clone();
        turns.extend(messages(completion, "assistant")?);
        let text = render(&turns, false)?;
        let ids = encode(tokenizer, &text, false)?;
        let last = &ids[ids.len().saturating_sub(AFTER_END_TOKENS)..];
        if !last.iter().any(|&id| tokenizer.is_stop(id) || tokenizer.is_special(id)) {
            return Err(seam.missing_end(&ids));
        }
        seam.push(&text, ids)?;
    }
    seam.finish()
}

fn encode(tokenizer: &Tokenizer, text: &str, with_special: bool) -> Result<Vec<u32>, TokensError> {
    tokenizer.encode(text, with_special).map_err(TokensError::from)
}

/// The prompt alone, and the prompt with each completion.
struct Seam<'a> {
    tokenizer: &'a Tokenizer,
    prompt: Vec<u32>,
    whole: Vec<Vec<u32>>,
    /// Length of what the prompt alone and all others start with.
    shared: usize,
    loses_text: bool,
}

impl<'a> Seam<'a> {
    fn new(tokenizer: &'a Tokenizer, prompt: Vec<u32>) -> Result<Self, TokensError> {
        refuse_double_bos(tokenizer, &prompt)?;
        let shared = prompt.len();
        Ok(Self { tokenizer, prompt, whole: Vec::new(), shared, loses_text: false })
    }

    fn push(&mut self, text: &str, ids: Vec<u32>) -> Result<(), TokensError> {
        refuse_double_bos(self.tokenizer, &ids)?;
        self.shared = self.shared.min(common_prefix(&self.prompt, &ids));
        self.loses_text |= self.tokenizer.loses_text(text, &ids);
        self.whole.push(ids);
        Ok(())
    }

    fn missing_end(&self, ids: &[u32]) -> TokensError {
        let last = &ids[ids.len().saturating_sub(AFTER_END_TOKENS)..];
        let text = |ids: &[u32]| self.tokenizer.decode(ids, false).unwrap_or_default();
        let known = self.tokenizer.stop_tokens().iter().map(|&id| text(&[id])).collect::<Vec<_>>();
        TokensError::NoEnd { end: text(last), known: known.join(", ") }
    }

    fn finish(self) -> Result<Seamed, TokensError> {
        let Self { tokenizer, prompt, whole, shared, loses_text } = self;
        // A BOS that all texts start with is not a prompt.
        let only_prefix = prompt.len().min(tokenizer.prefix().len());
        if shared <= only_prefix && only_prefix < prompt.len() {
            let text = |ids: &[u32]| {
                tokenizer.decode(&ids[..ids.len().min(16)], false).unwrap_or_default()
            };
            let with = whole.first().map(|ids| text(ids)).unwrap_or_default();
            return Err(TokensError::PromptNotPrefix { prompt: text(&prompt), with });
        }
        let moved_end = (shared < prompt.len())
            .then(|| tokenizer.decode(&prompt[shared..], false).unwrap_or_default());
        let completions = whole.into_iter().map(|ids| ids[shared..].to_vec()).collect();
        Ok(Seamed { prompt: prompt[..shared].to_vec(), completions, moved_end, loses_text })
    }
}

/// How many first tokens two sequences share.
fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

fn refuse_double_bos(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), TokensError> {
    match (tokenizer.bos(), ids) {
        (Some(bos), [first, second, ..]) if *first == bos && *second == bos => {
            let bos = tokenizer.special_tokens().get("bos_token").cloned().unwrap_or_default();
            Err(TokensError::DoubleBos { bos })
        }
        _ => Ok(()),
    }
}
