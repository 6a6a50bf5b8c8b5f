//! What happened to the rows of a dataset: the content of `data.json` and of `trueup data check`.
//!
//! Reading and tokenization add to the same report, so that one table accounts for every row.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::check::Problem;
use crate::record::Origin;

/// How many places are remembered for each problem; the count goes on.
pub const PLACES_MAX: usize = 5;

/// What was done with rows that have a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The row is not used.
    Dropped,
    /// The row is used all the same.
    Kept,
}

/// Rows with one problem that were treated alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How many rows.
    pub count: u64,
    /// Where the first of them are, with what was found there.
    pub first: Vec<String>,
}

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its path.
    pub path: String,
    /// `json`, `jsonl`, `csv` or `parquet`.
    pub format: String,
    /// The layout of its rows.
    pub layout: String,
    /// Rows in it, also the unreadable ones.
    pub rows: u64,
    /// How often each row is used, from the source's weight.
    pub weight: f64,
}

/// What happened to the rows of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// The files in the order they were read.
    pub files: Vec<FileReport>,
    /// Rows in all files.
    pub rows: u64,
    /// Rows that are used at least once.
    pub kept: u64,
    /// Records after weights repeated or thinned the rows that are kept.
    pub records: u64,
    /// What was found and what was done about it; the order is that of [`Problem`].
    pub problems: BTreeMap<Problem, BTreeMap<Action, Finding>>,
    /// What records were made of otherwise than one of each row, and how many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub made: BTreeMap<Made, u64>,
}

/// What a record can be made of beside one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Made {
    /// A pair of the chosen completion of a row and one of several rejected ones.
    PairOfList,
    /// A group of the chosen completion of a row and its rejected ones.
    GroupOfList,
    /// A group of the completions of several pairs with one prompt.
    GroupOfPairs,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PairOfList => "pairs of rows that reject several completions",
            Self::GroupOfList => "groups of rows that reject several completions",
            Self::GroupOfPairs => "groups of pairs with the same prompt",
        })
    }
}

impl DataReport {
    /// Counts a row with a problem. The caller keeps `kept` and `records` in step.
    pub fn add(&mut self, problem: Problem, action: Action, origin: &Origin, detail: &str) {
        let finding = self.problems.entry(problem).or_default().entry(action).or_default();
        finding.count += 1;
        if finding.first.len() < PLACES_MAX {
            let separator = if detail.is_empty() { "" } else { ": " };
            finding.first.push(format!("{origin}{separator}{detail}"));
        }
    }

    /// Counts records that were made otherwise than one of each row.
    pub fn add_made(&mut self, made: Made, count: u64) {
        if 0 < count {
            *self.made.entry(made).or_default() += count;
        }
    }

    /// Counts a row with a problem that was so far kept, and is now dropped.
    pub fn drop_record(&mut self, problem: Problem, origin: &Origin, detail: &str) {
        self.add(problem, Action::Dropped, origin, detail);
        self.records = self.records.saturating_sub(1);
    }

    /// How many rows have a problem, and were dropped or kept for it.
    pub fn count(&self, problem: Problem, action: Action) -> u64 {
        self.problems.get(&problem).and_then(|by| by.get(&action)).map_or(0, |it| it.count)
    }

    /// The report as text, a line for each fact, as `trueup data check` prints it.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let weight = if (file.weight - 1.0).abs() < f64::EPSILON {
                String::new()
            } else {
                format!(", weight {}", file.weight)
            };
            let _ = writeln!(
                text,
                "{}: {} rows, {}, {}{weight}",
                file.path, file.rows, file.format, file.layout
            );
        }
        let _ =
            writeln!(text, "rows: {}, used: {}, records: {}", self.rows, self.kept, self.records);
        text.push_str(&self.render_problems());
        text
    }

    /// The lines on problems, in the order of [`Problem`], after those on what was made of rows.
    pub fn render_problems(&self) -> String {
        let mut text = String::new();
        for (made, count) in &self.made {
            let _ = writeln!(text, "made {count}: {made}");
        }
        for (problem, by_action) in &self.problems {
            for (action, finding) in by_action {
                let done = match action {
                    Action::Dropped => "dropped",
                    Action::Kept => "kept",
                };
                let _ = writeln!(text, "{done} {}: {problem}", finding.count);
                for place in &finding.first {
                    let _ = writeln!(text, "  {place}");
                }
                if usize::try_from(finding.count).is_ok_and(|count| count > finding.first.len()) {
                    let more = finding.count - finding.first.len() as u64;
                    let _ = writeln!(text, "  and {more} more");
                }
            }
        }
        text
    }
}
