//! What a quickstart changed, for people.

use std::path::Path;

use data::sample::{Part, pairs};
use serde_json::json;
use train::{Progress, Watch, align::Prepared, metrics::Sums, trainer::Trainer};

use super::super::generate::{Speaker, chat_prompt};
use crate::{failure::Failure, terminal::Terminal};

/// Columns of an answer in the side-by-side view.
const WIDTH: usize = 46;

/// New tokens of a shown answer.
const ANSWER_TOKENS: usize = 60;

/// Evaluates in silence.
struct Quiet;

impl Watch for Quiet {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn interrupted(&self) -> bool {
        false
    }
}

/// Prints the held-out numbers before and after, two answers side by side, and what to do next.
pub(super) fn results(
    prepared: &Prepared,
    trainer: &Trainer,
    out: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let before = trainer.evaluate(false, &mut Quiet)?;
    let after = trainer.evaluate(true, &mut Quiet)?;
    terminal.data(&table(&before, &after))?;
    for index in [0, 17] {
        let Some(pair) = pairs(Part::Evaluation).into_iter().nth(index) else { continue };
        let prompt =
            chat_prompt(prepared.files(), &[json!({"role": "user", "content": pair.prompt})])?;
        let speaker = |adapter| Speaker {
            policy: &trainer.policy,
            tokenizer: &prepared.files().tokenizer,
            adapter,
        };
        let base = speaker(false).say(&prompt, ANSWER_TOKENS)?;
        let aligned = speaker(true).say(&prompt, ANSWER_TOKENS)?;
        terminal.data(&format!("\n{}\n{}", pair.prompt, side_by_side(&base, &aligned)))?;
    }
    let model = prepared.files().checkpoint.path().display();
    terminal.data(&format!(
        "\nThe adapter is in {out}: PEFT, vLLM and others load it as it lies.\n\n\
         next:\n\
         \x20 trueup generate --model {model} --adapter {out} --prompt \"How do I clean a window?\"\n\
         \x20 trueup data check YOUR_PAIRS.jsonl\n\
         \x20 trueup align --config YOUR_RECIPE.yaml     start from {recipe}\n",
        out = out.display(),
        recipe = out.with_file_name("recipe.yaml").display(),
    ))
}

fn table(before: &Sums, after: &Sums) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let rows = [
        ("chosen answer likelier per token", before.likelier_share(), after.likelier_share()),
        (
            "reward accuracy, ties as one half",
            before.accuracy_half_ties(),
            after.accuracy_half_ties(),
        ),
        ("reward accuracy, strict as in TRL", before.accuracy(), after.accuracy()),
    ];
    let row = |name: &str, before: &str, after: &str| format!("{name:<36}{before:>9}{after:>9}\n");
    let head = row(&format!("on {} held-out pairs", after.pairs), "before", "after");
    let rows = rows.map(|(name, before, after)| row(name, &percent(before), &percent(after)));
    format!("\n{head}{}", rows.concat())
}

fn side_by_side(base: &str, aligned: &str) -> String {
    let (left, right) = (wrap(base), wrap(aligned));
    let row = |left: &str, right: &str| {
        let line = format!("  {left:<WIDTH$}  {right}");
        line.trim_end().to_owned() + "\n"
    };
    let rule = "-".repeat(WIDTH);
    let line = |lines: &[String], index: usize| lines.get(index).cloned().unwrap_or_default();
    let rows = 0..left.len().max(right.len());
    let rows: Vec<String> = rows.map(|n| row(&line(&left, n), &line(&right, n))).collect();
    row("base", "aligned") + &row(&rule, &rule) + &rows.concat()
}

/// Breaks a text at spaces into lines of at most [`WIDTH`] characters; longer words are cut.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for part in letters.chunks(WIDTH) {
            let part: String = part.iter().collect();
            let line = lines.last().map_or(0, |line| line.chars().count());
            let fits = line == 0 || line + 1 + part.chars().count() <= WIDTH;
            match lines.last_mut().filter(|_| fits) {
                Some(last) if last.is_empty() => *last = part,
                Some(last) => last.extend([" ", &part]),
                None => lines.push(part),
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_are_cut() {
        let lines = wrap(&format!("one two {} three", "x".repeat(50)));
        assert_eq!(lines, ["one two", &"x".repeat(46), "xxxx three"]);
        assert_eq!(wrap(""), [""]);
    }
}
