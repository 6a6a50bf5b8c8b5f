//! The Modelfile beside a GGUF file, from which Ollama makes a model.
//!
//! Ollama has templates in a language of its own. The pieces of such a template (what stands before
//! and after each message) are read off conversations that the model's Jinja template renders, and
//! then put together again for other conversations; only where all come out alike is a template
//! written.

use std::{fmt::Write as _, path::Path};

use data::template::{ChatTemplate, RenderOptions};
use serde_json::{Map, Value, json};
use train::prepare::ModelFiles;

use crate::failure::Failure;

/// Keys of `generation_config.json`, and what Ollama calls them.
const PARAMETERS: [(&str, &str); 5] = [
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("repetition_penalty", "repeat_penalty"),
];

/// Texts that stand for messages while a template is taken apart; no template holds them.
const MARKS: [&str; 4] = ["Qs1yz", "Qu2yz", "Qa3yz", "Qv4yz"];

/// The text of a Modelfile for the file `name`, made of the model at `path`.
pub(super) fn text(files: &ModelFiles, path: &Path, name: &str) -> Result<String, Failure> {
    let mut text = format!("FROM ./{name}\n");
    let turns = files.templates.default_template().map(|template| (template, turns(files)));
    let _ = match turns {
        None => writeln!(text, "\n# The model has no chat template; it continues plain text."),
        Some((_, Some(turns))) => write!(text, "\n{}", turns.to_go()),
        Some((template, None)) => writeln!(
            text,
            "\n# The model's chat template ({}) was not found to be one that TEMPLATE can say;\n\
             # it is in the GGUF file, from which Ollama takes it where it knows it.",
            template.origin()
        ),
    };
    text.push('\n');
    let ends = files.tokenizer.stop_tokens().iter();
    for end in ends.filter_map(|id| files.tokenizer.token(*id)) {
        let _ = writeln!(text, "PARAMETER stop \"{end}\"");
    }
    let config = path.join("generation_config.json");
    if config.is_file() {
        let config: Value = serde_json::from_str(&fs_err::read_to_string(config)?)?;
        for (theirs, ours) in PARAMETERS {
            if let Some(value) = config.get(theirs).filter(|value| value.is_number()) {
                let _ = writeln!(text, "PARAMETER {ours} {value}");
            }
        }
    }
    Ok(text)
}

/// What a template puts around messages.
#[derive(Clone, Debug, Default, PartialEq)]
struct Turns {
    /// Before the conversation; without the BOS token that the tokenizer puts there anyway.
    head: String,
    /// Around each system message; absent where the template takes none.
    system: Option<[String; 2]>,
    user: [String; 2],
    assistant: [String; 2],
    /// The system message of a conversation that has none.
    default_system: Option<String>,
}

/// A message in a conversation that is rendered: who speaks, and what.
type Message<'a> = (&'a str, &'a str);

/// The pieces of a model's template; `None` where it is not made of such.
fn turns(files: &ModelFiles) -> Option<Turns> {
    let template = files.templates.default_template()?;
    // A date that is shown today would be shown forever.
    if template.asks_for_date() {
        return None;
    }
    let special = files.tokenizer.special_tokens();
    let bos = special.get("bos_token").filter(|_| !files.tokenizer.prefix().is_empty());
    let render = |messages: &[Message<'_>], open: bool| {
        let text = render(template, special, messages, open)?;
        let rest = bos.and_then(|bos| text.strip_prefix(bos.as_str())).map(str::to_owned);
        Some(rest.unwrap_or(text))
    };
    let turns = take_apart(&render)?;
    let [s, u, a, v] = MARKS;
    let (system, user, answer, next) = (("system", s), ("user", u), ("assistant", a), ("user", v));
    let mut conversations = vec![vec![user], vec![user, answer, next]];
    if turns.system.is_some() {
        conversations.push(vec![system, user]);
        conversations.push(vec![system, user, answer, next, answer, user]);
    }
    let same =
        |it: &Vec<Message<'_>>| render(it, true).is_some_and(|text| text == turns.compose(it));
    let is_plain =
        !format!("{turns:?}").contains("{{") && !format!("{turns:?}").contains(r#"\"\"\""#);
    (is_plain && conversations.iter().all(same)).then_some(turns)
}

fn render(
    template: &ChatTemplate,
    special: &std::collections::BTreeMap<String, String>,
    messages: &[Message<'_>],
    open: bool,
) -> Option<String> {
    let message = |(role, content): &Message<'_>| json!({"role": role, "content": content});
    let messages: Vec<Value> = messages.iter().map(message).collect();
    let options = RenderOptions {
        tools: None,
        documents: None,
        add_generation_prompt: open,
        continue_final_message: false,
        special_tokens: special,
        kwargs: &Map::new(),
    };
    template.render(&messages, &options).ok()
}

/// Finds what stands around messages; whether that is all is for the caller to check.
fn take_apart(render: &dyn Fn(&[Message<'_>], bool) -> Option<String>) -> Option<Turns> {
    let [s, u, a, v] = MARKS;
    let one = render(&[("user", u)], false)?;
    let opened = render(&[("user", u)], true)?;
    let (first, after_user) = one.split_once(u)?;
    let answered = render(&[("user", u), ("assistant", a)], false)?;
    let (_, after_answer) = answered.split_once(a)?;
    let more = render(&[("user", u), ("assistant", a), ("user", v)], false)?;
    let (_, rest) = more.split_once(u)?;
    let (between, rest) = rest.split_once(a)?;
    let before_user = rest.split_once(v)?.0.strip_prefix(after_answer)?;
    let open = opened.strip_prefix(one.as_str())?;
    // What opens an answer must be what stands before one.
    if between.strip_prefix(after_user)? != open {
        return None;
    }
    let mut turns = Turns {
        user: [before_user.into(), after_user.into()],
        assistant: [open.into(), after_answer.into()],
        ..Turns::default()
    };
    let head = first.strip_suffix(before_user)?;
    let with_system = render(&[("system", s), ("user", u)], false);
    let Some((before, rest)) = with_system.as_ref().and_then(|text| text.split_once(s)) else {
        turns.head = head.into();
        return Some(turns);
    };
    let after = rest.split_once(u)?.0.strip_suffix(before_user)?;
    turns.default_system =
        head.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).map(str::to_owned);
    turns.system = Some([before.into(), after.into()]);
    if turns.default_system.is_none() {
        // Without a system message the head stands alone, else the message's own text follows it.
        turns.head = head.into();
        turns.system = Some([before.strip_prefix(head)?.into(), after.into()]);
    }
    Some(turns)
}

impl Turns {
    /// A conversation up to where the assistant speaks.
    fn compose(&self, messages: &[Message<'_>]) -> String {
        let mut text = self.head.clone();
        let has_system = messages.first().is_some_and(|(role, _)| *role == "system");
        let default = self.default_system.as_deref().filter(|_| !has_system);
        let default = default.map(|content| ("system", content));
        for (role, content) in default.iter().chain(messages) {
            let [before, after] = match *role {
                "system" => self.system.as_ref().unwrap_or(&self.user),
                "user" => &self.user,
                _ => &self.assistant,
            };
            text.extend([before.as_str(), content, after.as_str()]);
        }
        text + &self.assistant[0]
    }

    /// `TEMPLATE`, and `SYSTEM` where a conversation without a system message gets one.
    fn to_go(&self) -> String {
        let turn = |[before, after]: &[String; 2]| format!("{before}{{{{ .Content }}}}{after}");
        let mut branches = Vec::new();
        if let Some(system) = &self.system {
            branches.push(format!("if eq .Role \"system\" }}}}{}", turn(system)));
        }
        branches.push(format!("if eq .Role \"user\" }}}}{}", turn(&self.user)));
        branches.push(format!("if eq .Role \"assistant\" }}}}{}", turn(&self.assistant)));
        let mut text = format!(
            "TEMPLATE \"\"\"{}{{{{- range .Messages }}}}{{{{ {}{{{{ end }}}}{{{{ end }}}}{}\"\"\"\n",
            self.head,
            branches.join("{{ else "),
            self.assistant[0],
        );
        if let Some(system) = &self.default_system {
            let _ = writeln!(text, "SYSTEM \"\"\"{system}\"\"\"");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A template as a function: `ChatML`, with a system message of its own if asked.
    fn chatml(default: Option<&'static str>) -> impl Fn(&[Message<'_>], bool) -> Option<String> {
        move |messages, open| {
            let mut text = String::new();
            let default = default.filter(|_| messages.first().is_some_and(|it| it.0 != "system"));
            let default = default.map(|content| ("system", content));
            for (role, content) in default.iter().chain(messages) {
                let _ = write!(text, "<|im_start|>{role}\n{content}<|im_end|>\n");
            }
            if open {
                text += "<|im_start|>assistant\n";
            }
            Some(text)
        }
    }

    #[test]
    fn pieces_are_found_and_put_together() {
        for default in [None, Some("You help.")] {
            let render = chatml(default);
            let turns = take_apart(&render).unwrap();
            assert_eq!(turns.default_system.as_deref(), default);
            assert_eq!(turns.user, ["<|im_start|>user\n", "<|im_end|>\n"]);
            for messages in [
                vec![("user", "a")],
                vec![("system", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")],
            ] {
                assert_eq!(turns.compose(&messages), render(&messages, true).unwrap());
            }
            let go = turns.to_go();
            assert!(go.starts_with(
                "TEMPLATE \"\"\"{{- range .Messages }}{{ if eq .Role \"system\" }}<|im_start|>system\n\
                 {{ .Content }}<|im_end|>\n{{ else if eq .Role \"user\" }}<|im_start|>user\n"
            ), "{go}");
            assert!(go.contains("{{ end }}{{ end }}<|im_start|>assistant\n\"\"\"\n"), "{go}");
            assert_eq!(go.contains("SYSTEM \"\"\"You help.\"\"\""), default.is_some());
        }
    }

    #[test]
    fn a_template_that_is_no_row_of_turns_is_left_alone() {
        // What opens an answer is not what stands before one.
        let render = |messages: &[Message<'_>], open: bool| {
            let texts: Vec<_> = messages.iter().map(|it| [it.0, ":", it.1, ";"].concat()).collect();
            let text = texts.concat();
            Some(if open { text + "now:" } else { text })
        };
        assert_eq!(take_apart(&render), None);
    }
}
