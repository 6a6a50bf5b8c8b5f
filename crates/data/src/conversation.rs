//! A conversation as the tokens that a model answers.

use serde_json::{Map, Value};

use crate::Error;
use crate::template::{RenderOptions, Templates};
use crate::tokenizer::Tokenizer;

/// The tokens of messages up to where the assistant speaks; without a template, of their texts as
/// lines.
///
/// `kwargs` are more variables for the template, such as `enable_thinking`.
///
/// # Errors
///
/// The template refuses the messages or fails on them, or the tokenizer fails on the text.
pub fn tokens(
    templates: &Templates,
    tokenizer: &Tokenizer,
    messages: &[Value],
    kwargs: &Map<String, Value>,
) -> Result<Vec<u32>, Error> {
    let Some(template) = templates.default_template() else {
        let texts = messages.iter().filter_map(|message| message["content"].as_str());
        return tokenizer.encode(&texts.collect::<Vec<_>>().join("\n"), true);
    };
    let options = RenderOptions {
        tools: None,
        documents: None,
        add_generation_prompt: true,
        continue_final_message: false,
        special_tokens: tokenizer.special_tokens(),
        kwargs,
    };
    tokenizer.encode(&template.render(messages, &options)?, false)
}
