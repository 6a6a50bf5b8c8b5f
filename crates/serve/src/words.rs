//! What is served: the model's words, which every thread reads, and its weights, which one has.

use data::{template::Templates, tokenizer::Tokenizer};
use model::{Config, Policy, Spare};
use serde_json::Value;

use crate::{Error, problem::Problem};

/// What is served.
pub struct Served {
    /// The name of the model without an adapter.
    pub name: String,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat templates; may be empty.
    pub templates: Templates,
    /// Its weights.
    pub policy: Policy,
    /// Adapters by the names under which requests ask for them.
    pub adapters: Vec<(String, Spare)>,
    /// How it writes where a request does not say.
    pub defaults: Defaults,
}

/// How a model writes where a request does not say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// The probability that the drawn tokens have together; 1 keeps all.
    pub top_p: f64,
    /// The number of tokens to draw among; 0 keeps all.
    pub top_k: usize,
    /// The share of the most likely token's probability that a token needs; 0 keeps all.
    pub min_p: f64,
    /// Makes tokens that were there before less likely; 1 leaves them.
    pub repetition_penalty: f64,
}

impl Default for Defaults {
    /// Those of OpenAI's interface.
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Defaults {
    /// What a `generation_config.json` says, and OpenAI's where it says nothing.
    ///
    /// # Errors
    ///
    /// A value that is out of its range.
    pub fn of_config(config: &Value) -> Result<Self, Error> {
        let openai = Self::default();
        let number = |key: &'static str, wanted: &'static str, holds: fn(f64) -> bool| {
            let value = &config[key];
            if value.is_null() {
                return Ok(None);
            }
            let number = value.as_f64().filter(|number| holds(*number));
            number.map(Some).ok_or_else(|| Error::Default { key, wanted, value: value.to_string() })
        };
        let share = |number: f64| (0.0..=1.0).contains(&number);
        let top_k = &config["top_k"];
        let whole = || Error::Default {
            key: "top_k",
            wanted: "a whole number of at least 0",
            value: top_k.to_string(),
        };
        let top_k = match top_k {
            Value::Null => openai.top_k,
            value => value.as_u64().and_then(|it| usize::try_from(it).ok()).ok_or_else(whole)?,
        };
        Ok(Self {
            temperature: number("temperature", "from 0 to 2", |it| (0.0..=2.0).contains(&it))?
                .unwrap_or(openai.temperature),
            top_p: number("top_p", "from 0 to 1", share)?.unwrap_or(openai.top_p),
            top_k,
            min_p: number("min_p", "from 0 to 1", share)?.unwrap_or(openai.min_p),
            repetition_penalty: number("repetition_penalty", "above 0", |it| 0.0 < it)?
                .unwrap_or(openai.repetition_penalty),
        })
    }
}

/// What turns requests into tokens and tokens into answers.
pub(crate) struct Words {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) templates: Templates,
    pub(crate) config: Config,
    /// The base, then the adapters.
    pub(crate) names: Vec<String>,
    pub(crate) defaults: Defaults,
}

/// The weights, and adapters that wait.
pub(crate) struct Weights {
    pub(crate) policy: Policy,
    pub(crate) adapters: Vec<Spare>,
}

/// Divides what is served among the threads.
pub(crate) fn split(served: Served) -> Result<(Words, Weights), Error> {
    let Served { name, tokenizer, templates, policy, adapters, defaults } = served;
    let (adapter_names, adapters): (Vec<String>, Vec<Spare>) = adapters.into_iter().unzip();
    let mut names = vec![name];
    for name in adapter_names {
        if names.contains(&name) {
            return Err(Error::SameName { name });
        }
        names.push(name);
    }
    let config = policy.config().clone();
    let words = Words { tokenizer, templates, config, names, defaults };
    Ok((words, Weights { policy, adapters }))
}

impl Words {
    /// Which adapter a name asks for; `None` is the base.
    pub(crate) fn adapter(&self, name: &str) -> Result<Option<usize>, Problem> {
        let place = self.names.iter().position(|known| known == name);
        let known = || self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let place = place.ok_or_else(|| Problem::model(name, &known().join(", ")))?;
        Ok(place.checked_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_says_how_to_write_or_is_wrong() {
        let config = json!({"temperature": 0.2, "top_p": null, "top_k": 50, "eos_token_id": 2});
        let wanted = Defaults { temperature: 0.2, top_k: 50, ..Defaults::default() };
        assert_eq!(Defaults::of_config(&config).unwrap(), wanted);
        assert_eq!(Defaults::of_config(&json!({})).unwrap(), Defaults::default());
        for (bad, words) in [
            (json!({"temperature": "warm"}), "`temperature`"),
            (json!({"top_p": 1.5}), "from 0 to 1, and is 1.5"),
            (json!({"top_k": -1}), "a whole number"),
            (json!({"repetition_penalty": 0}), "above 0"),
        ] {
            let text = Defaults::of_config(&bad).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
