//! What the model makes of the pairs before any training: how likely and how long their sides are.

use std::path::Path;

use data::{
    dataset::{self, Options},
    layout::Shape,
    read::Source,
    record::Content,
    tokenize::{Settings, Tokenization},
};
use train::batches::micro_batches;

use super::super::generate::Loaded;
use crate::{failure::Failure, terminal::Terminal};

/// Rows that are looked at, at most.
const ROWS_MAX: usize = 200;

/// Tokens that are scored at once.
const TOKENS: usize = 1024;

/// Sums over one side of the pairs.
#[derive(Clone, Copy, Default)]
struct Side {
    logp: f64,
    tokens: f64,
}

/// Says how long the sides are, where no model is at hand; nothing without pairs.
pub(super) fn tell_lengths(path: &Path, terminal: &Terminal) {
    let Ok(pairs) = dataset::load(&[Source::new(path)], &Options::new(Shape::Pairs)) else {
        return;
    };
    let mut sums = [0.0; 2];
    for record in &pairs.records {
        for (sum, completion) in sums.iter_mut().zip(&record.completions) {
            *sum += characters(completion) as f64;
        }
    }
    let count = pairs.records.len() as f64;
    let [chosen, rejected] = sums.map(|sum| sum / count);
    terminal.print(&format!(
        "over {count} pairs: characters a completion: chosen {chosen:.1}, rejected {rejected:.1} ({:+.1})\n",
        chosen - rejected
    ));
    warn_of_length(chosen / rejected, terminal);
}

fn characters(completion: &Content) -> usize {
    match completion {
        Content::Text(text) => text.trim().chars().count(),
        Content::Messages(messages) => messages
            .iter()
            .filter_map(|it| it["content"].as_str())
            .map(|it| it.chars().count())
            .sum(),
        Content::Tokens(tokens) => tokens.len(),
    }
}

fn warn_of_length(ratio: f64, terminal: &Terminal) {
    if !(0.5..=2.0).contains(&ratio) {
        terminal.warn(
            "one side is more than twice as long as the other: length alone tells them apart, and is the easiest thing to learn\nhint: set `--max-new-tokens`, or choose a loss per token (`loss_type: sigmoid_norm` or `simpo`)",
        );
    }
}

/// Says how the sides differ; nothing without pairs.
pub(super) fn tell(path: &Path, loaded: &Loaded, terminal: &Terminal) -> Result<(), Failure> {
    let Loaded { files, policy } = loaded;
    let Ok(pairs) = dataset::load(&[Source::new(path)], &Options::new(Shape::Pairs)) else {
        return Ok(());
    };
    let mut report = pairs.report;
    let mut settings = Settings::default();
    settings.lengths.max_length = Some(policy.config().context.min(TOKENS));
    let tokenization = Tokenization {
        tokenizer: &files.tokenizer,
        templates: &files.templates,
        settings,
        cache: None,
    };
    let rows = pairs.records.len().min(ROWS_MAX);
    let examples = tokenization.run(&pairs.records[..rows], &mut report)?.examples;
    let all: Vec<usize> = (0..examples.len()).collect();
    let mut sides = [Side::default(); 2];
    for batch in micro_batches(&examples, &all, TOKENS) {
        let scores = policy.score(&batch.rows, true).map_err(train::Error::from)?.completions;
        for (index, score) in scores.iter().enumerate() {
            let side = &mut sides[index % 2];
            side.logp += score.logp;
            side.tokens += f64::from(score.token_count);
        }
    }
    if examples.is_empty() {
        return Ok(());
    }
    let count = examples.len() as f64;
    let [chosen, rejected] = sides.map(|side| (side.tokens / count, side.logp / side.tokens));
    terminal.print(&format!(
        "over {} pairs, before training:\n  \
         tokens a completion: chosen {:.1}, rejected {:.1} ({:+.1})\n  \
         log-probability a token: chosen {:.3}, rejected {:.3} ({:+.3})\n",
        examples.len(),
        chosen.0,
        rejected.0,
        chosen.0 - rejected.0,
        chosen.1,
        rejected.1,
        chosen.1 - rejected.1,
    ));
    warn_of_length(chosen.0 / rejected.0, terminal);
    Ok(())
}
