//! Pages that are made from the code, so that they cannot say something else.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{files, parity, run::say};

const TESTING: &str = "docs/testing.md";

/// Makes the pages.
///
/// # Errors
///
/// If the repository cannot be read or written.
pub fn make(root: &Path) -> anyhow::Result<()> {
    fs_err::write(root.join(TESTING), testing(root)?)?;
    say(TESTING);
    Ok(())
}

/// Checks that the pages are what [`make`] would write.
///
/// # Errors
///
/// If one is not.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let kept = fs_err::read_to_string(root.join(TESTING)).unwrap_or_default();
    ensure!(kept == testing(root)?, "`{TESTING}` is out of date\n\nhint: run `cargo xtask docs`");
    Ok(())
}

/// The page that says how the numbers are known to be right.
fn testing(root: &Path) -> anyhow::Result<String> {
    let mut page = String::from(
        "# How we know that the numbers are right\n\n\
         This page is made by `cargo xtask docs`.\n\n\
         Every operation has a plain reference beside its fast version.\n\
         The reference is checked against central differences in f64, the fast version against the \
         reference, and both against values from programs that other people wrote.\n\
         `cargo xtask goldens --check` computes those values again.\n\n\
         ## Values from elsewhere\n\n| file | cases | source |\n|---|---|---|\n",
    );
    let folder = root.join("goldens");
    for path in files::below(&folder)? {
        if path.extension().is_none_or(|has| has != "json") {
            continue;
        }
        let golden: Value = serde_json::from_slice(&fs_err::read(&path)?)
            .with_context(|| format!("`{}` is not JSON", path.display()))?;
        let (Some(source), Some(cases)) = (golden["source"].as_str(), golden["cases"].as_array())
        else {
            continue;
        };
        let name = path.strip_prefix(&folder)?.display();
        writeln!(page, "| `{name}` | {} | {source} |", cases.len())?;
    }
    page.push_str(
        "\n## Templates, generation, losses and whole runs beside other programs\n\n\
         `cargo xtask parity --only templates` renders conversations of every kind with each of the \
         chat templates of published models that come with TRL, by transformers and by us. \
         All renderings must be equal, and what one refuses the other must refuse, but for a loop over \
         `none`, which is empty here and an error in Python. `--templates FOLDER` adds the `*.jinja` of a \
         folder, such as llama.cpp's `models/templates`, where Mistral's and Granite's are.\n\n\
         `cargo xtask parity --only greedy --model FOLDER` writes 128 tokens after each of 20 prompts, in \
         f32, always the most likely one; transformers must write the same.\n\n\
         `cargo xtask parity --only likelihood --model FOLDER|FILE.gguf` reads three texts in f32, each \
         program with its own tokenizer; ids must be equal, and negative log-likelihoods to 1e-4.\n\n\
         `cargo xtask parity --only objectives` hands log-probabilities to a real `DPOTrainer`, once \
         for each loss that it has with each setting that changes losses, and compares the mean loss, \
         its slope by each token, and the rewards. \
         It fails where TRL gains or loses a name, where one of the two refuses settings that the other \
         takes, and where a known departure is no longer one; those it lists.\n\n\
         `cargo xtask parity --only training` trains with TRL and with this program, from the same tokens, order and \
         adapter with a random B, and loads the weights of both with transformers and PEFT.\n\
         Without arguments it takes the tiny models of `goldens/`, with `--model FOLDER` any other; \
         the runs are in `goldens/parity/cases.json`. \
         Without `--only` and `--model` all stages run that need no model, but for the server's.\n\n\
         `cargo xtask parity --only server` starts `trueup serve` and asks it with OpenAI's own Python client: \
         models, chat and text completions, streams, log-probabilities, several answers, stop strings, an \
         adapter by name, and refusals by the client's own classes.\n\n\
         In f32 the largest difference over all steps, pairs and tensors must be within these limits; \
         a run in bf16 may stray no further from the same run in f32 than TRL's with bf16 weights \
         does, in loss, gradient norm, margins and log-probabilities, each at its worst step of all \
         models asked for.\n\n\
         | value | at most | |\n|---|---|---|\n",
    );
    for (kind, how, allowed) in parity::limits() {
        writeln!(page, "| {kind} | {allowed:e} | {how} |")?;
    }
    page.push_str("\n## GGUF files in llama.cpp\n\n");
    page.push_str(&parity::gguf_limits());
    page.push_str("\n## Tolerances\n\n| name | value | why |\n|---|---|---|\n");
    let tolerances = fs_err::read_to_string(root.join("crates/testkit/src/tolerance.rs"))?;
    for Tolerance { name, value, why } in parse(&tolerances) {
        writeln!(page, "| `{name}` | {value} | {why} |")?;
    }
    Ok(page)
}

/// A constant with its comment.
#[derive(Debug, PartialEq, Eq)]
struct Tolerance {
    name: String,
    value: String,
    why: String,
}

/// The public constants of a file with the comments before them.
fn parse(text: &str) -> Vec<Tolerance> {
    let (mut why, mut found) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("///") {
            why.push(comment.trim());
            continue;
        }
        let constant = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": "));
        if let Some((name, rest)) = constant {
            let value = rest.split_once(" = ").map_or("", |(_, value)| value);
            let value = value.trim_end_matches(';').replace('_', "");
            found.push(Tolerance { name: name.to_owned(), value, why: why.join(" ") });
        }
        why.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_found_with_their_reasons() {
        let text = "//! Page.\n\n/// One\n/// reason.\npub const A: f64 = 0.001_5;\n\n/// Lost.\n\n\
                    pub const B: f64 = 3.0;\n";
        let tolerance = |name: &str, value: &str, why: &str| Tolerance {
            name: name.into(),
            value: value.into(),
            why: why.into(),
        };
        let want = [tolerance("A", "0.0015", "One reason."), tolerance("B", "3.0", "")];
        assert_eq!(parse(text), want);
    }
}
