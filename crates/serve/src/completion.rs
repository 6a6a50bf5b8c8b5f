//! Requests to `/v1/completions`.

use serde_json::Value;

use crate::{
    ask::{ANSWERS_MAX, Ask, Form, Prompt, TOP_MAX},
    fields::Fields,
    problem::Problem,
    words::Words,
};

/// The limit on tokens where a request has none.
const TOKENS_MAX: usize = 16;

/// Reads a request.
pub(crate) fn parse(body: &[u8], words: &Words) -> Result<Ask, Problem> {
    let mut fields = Fields::of_body(body)?;
    let mut ask = Ask::shared(&mut fields, words, Form::Text)?;
    ask.echo = fields.flag("echo")?.unwrap_or(false);
    ask.top_logps = fields.count("logprobs", 0..=TOP_MAX)?;
    // Without an answer there is only the prompt to show.
    let least = usize::from(!ask.echo);
    let tokens_max = fields.count("max_tokens", least..=usize::MAX)?.unwrap_or(TOKENS_MAX);
    ask.tokens_max = Some(tokens_max);
    let prompt = fields.required("prompt")?;
    let choices = ask.choices as u64;
    fields.only("best_of", |value| value.as_u64() == Some(choices), " beyond `n`")?;
    fields.only("suffix", |value| value.as_str() == Some(""), "")?;
    fields.finish()?;
    let prompts = prompts(prompt, words)?;
    if ANSWERS_MAX < prompts.len() * ask.choices {
        let rule = format!("and 'n' ask for more than {ANSWERS_MAX} answers");
        return Err(Problem::value("prompt", &rule));
    }
    for prompt in prompts {
        ask.add(prompt, words, "prompt")?;
    }
    Ok(ask)
}

/// One prompt or several, as texts or as tokens.
fn prompts(value: Value, words: &Words) -> Result<Vec<Prompt>, Problem> {
    let rule = "must be a string, a list of strings, a list of tokens, or a list of such lists";
    let problem = || Problem::value("prompt", rule);
    let list = match value {
        Value::String(text) => return Ok(vec![of_text(text, words)?]),
        Value::Array(list) if !list.is_empty() => list,
        _ => return Err(problem()),
    };
    if list[0].is_number() {
        return Ok(vec![Prompt { tokens: tokens(list).ok_or_else(problem)?, text: None }]);
    }
    let prompt = |value| match value {
        Value::String(text) => of_text(text, words),
        Value::Array(list) => Ok(Prompt { tokens: tokens(list).ok_or_else(problem)?, text: None }),
        _ => Err(problem()),
    };
    list.into_iter().map(prompt).collect()
}

fn tokens(list: Vec<Value>) -> Option<Vec<u32>> {
    list.into_iter().map(|value| u32::try_from(value.as_u64()?).ok()).collect()
}

/// A text with what the tokenizer puts around texts, as `trueup generate --raw` reads it.
fn of_text(text: String, words: &Words) -> Result<Prompt, Problem> {
    let tokens = words.tokenizer.encode(&text, true);
    let tokens =
        tokens.map_err(|error| Problem::value("prompt", &format!("is no text: {error}")))?;
    Ok(Prompt { tokens, text: Some(text) })
}
