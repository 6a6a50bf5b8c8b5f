//! Finding the prompt that two full dialogues or texts share (TRL's `extract_prompt`).

use serde_json::Value;

use super::columns::Fault;
use super::messages::{completion, prompt, role};
use crate::check::Problem;
use crate::record::Content;

/// A prompt with a chosen and a rejected completion.
pub(super) type Pair = (Content, [Content; 2]);

/// The messages that both sides start with are the prompt; each side keeps one message at least.
pub(super) fn of_messages(chosen: Vec<Value>, rejected: Vec<Value>) -> Result<Pair, Fault> {
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    let shared =
        chosen.iter().zip(&rejected).take(most).take_while(|(one, other)| same(one, other)).count();
    if shared == 0 {
        return Err(Fault::new(Problem::PromptsDiffer, "no message is the same on both sides"));
    }
    let asks = |message: Option<&Value>| message.is_some_and(|it| role(it) == "user");
    if asks(chosen.get(shared)) || asks(rejected.get(shared)) {
        let detail = format!("message {} of the user differs", shared + 1);
        return Err(Fault::new(Problem::PromptsDiffer, detail));
    }
    split(chosen, rejected, shared)
}

/// Cuts both sides after a number of shared messages.
pub(super) fn split(
    mut chosen: Vec<Value>,
    mut rejected: Vec<Value>,
    shared: usize,
) -> Result<Pair, Fault> {
    let chosen_tail = chosen.split_off(shared);
    let rejected_tail = rejected.split_off(shared);
    let completions = [
        Content::Messages(completion(chosen_tail, "chosen")?),
        Content::Messages(completion(rejected_tail, "rejected")?),
    ];
    Ok((Content::Messages(prompt(chosen)), completions))
}

/// Whether two messages are the same; what is learnt from does not count.
fn same(one: &Value, other: &Value) -> bool {
    let (Value::Object(one), Value::Object(other)) = (one, other) else {
        return false;
    };
    let plain = |(key, _): &(&String, &Value)| key.as_str() != "loss_weight";
    let count = |fields: &serde_json::Map<String, Value>| fields.iter().filter(plain).count();
    count(one) == count(other)
        && one.iter().filter(plain).all(|(key, value)| other.get(key) == Some(value))
}

/// The characters that both sides start with are the prompt; a space before the first difference
/// belongs to the completions.
pub(super) fn of_texts(chosen: &str, rejected: &str) -> Pair {
    // TRL stops one character before the end of the shorter side, so that no completion is empty.
    let most = chosen.chars().count().min(rejected.chars().count()).saturating_sub(1);
    let mut shared: usize = 0;
    let mut last = None;
    let mut count = 0;
    for (one, other) in chosen.chars().zip(rejected.chars()).take(most) {
        if one != other {
            break;
        }
        shared += one.len_utf8();
        last = Some(one);
        count += 1;
    }
    // DIFFERENCE(trl): with no shared character TRL looks at the last character of the text here.
    let differs = chosen.chars().nth(count) != rejected.chars().nth(count);
    if last == Some(' ') && differs {
        shared -= 1;
    }
    (
        Content::Text(chosen[..shared].to_owned()),
        [Content::Text(chosen[shared..].to_owned()), Content::Text(rejected[shared..].to_owned())],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What TRL 1.16's `extract_prompt` gives for the same strings.
    #[test]
    fn texts_are_cut_where_trl_cuts_them() {
        for (chosen, rejected, wanted) in [
            ("The sky is blue.", "The sky is green.", ("The sky is", " blue.", " green.")),
            ("2+2=4", "2+2=5", ("2+2=", "4", "5")),
            ("ab", "abc", ("a", "b", "bc")),
            ("日本語です", "日本語だ", ("日本語", "です", "だ")),
            ("x", "y", ("", "x", "y")),
            ("same", "same", ("sam", "e", "e")),
            ("a b", "a bc", ("a ", "b", "bc")),
        ] {
            let (prompt, [one, other]) = of_texts(chosen, rejected);
            let text = |it: &str| Content::Text(it.to_owned());
            assert_eq!(prompt, text(wanted.0), "{chosen}");
            assert_eq!([one, other], [text(wanted.1), text(wanted.2)], "{chosen}");
        }
    }
}
