//! Where the answers of a conversation lie among its tokens.
//!
//! The template says it, by what it renders: an answer is what follows the turns before it, with
//! the assistant's turn opened, up to the token that ends it. So any template will do, not only
//! those that mark their answers.

use std::ops::Range;

use serde_json::Value;

use super::{messages, render_options};
use crate::record::Record;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::tokens_error::TokensError;

/// The tokens of every answer in `whole`, the conversation's tokens; cut where `whole` ends.
pub(super) fn of(
    (tokenizer, template): (&Tokenizer, &ChatTemplate),
    record: &Record,
    whole: &[u32],
) -> Result<Vec<Range<usize>>, TokensError> {
    let mut turns = messages(&record.prompt, "user")?;
    for completion in &record.completions {
        turns.extend(messages(completion, "assistant")?);
    }
    let tokens = |turns: &[Value], opens_turn: bool| -> Result<Vec<u32>, TokensError> {
        // A template has nothing to say about no turns.
        if turns.is_empty() {
            return Ok(Vec::new());
        }
        let text = template.render(turns, &render_options(tokenizer, record, opens_turn))?;
        Ok(tokenizer.encode(&text, false)?)
    };
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (index, turn) in turns.iter().enumerate() {
        if turn.get("role").and_then(Value::as_str) != Some("assistant") {
            continue;
        }
        let before = tokens(&turns[..index], true)?;
        let until = tokens(&turns[..=index], false)?;
        let answer = until.strip_prefix(&before[..]).ok_or(TokensError::AnswerMoves { index })?;
        // What a template writes after the end belongs to nobody.
        let ends = |id: &u32| tokenizer.is_stop(*id) || tokenizer.is_special(*id);
        let length = answer.iter().rposition(ends).map_or(answer.len(), |last| last + 1);
        let end = before.len() + length;
        let seen = end.min(whole.len());
        if until[..seen] != whole[..seen] {
            return Err(TokensError::AnswerMoves { index });
        }
        if before.len() < seen {
            spans.push(before.len()..seen);
        }
    }
    Ok(spans)
}
