//! Rows as an objective sees them: which completions take part, in which order, and what the row
//! says about them.
//!
//! Rows are arranged once, before anything is computed, so that a row that the objective cannot use
//! is found at the start; while training, each becomes a [`Group`] with the model's numbers.

use std::collections::BTreeMap;

use data::tokenize::Example;
use model::{Coefficient, CompletionScore};
use objectives::{Completion, Group, GroupOutcome, Needs, Objective, Scored};
use serde_json::{Value, json};

use crate::{
    Error,
    reference::{EntryKey, entry_key},
};

/// What the arrangement counted, by name; for the report and the screen.
pub type Tally = BTreeMap<String, u64>;

/// How rows are arranged.
#[derive(Clone, Copy, Debug)]
pub struct Arrangement<'a> {
    /// What the rows are for.
    pub objective: &'a Objective,
    /// Whether completions whose labels of factuality are in the wrong order change places.
    pub flip: bool,
    /// Whether rows that give no order are left out and counted, instead of ending the run.
    pub drop_unordered: bool,
    /// Tokens of prompt and completion together, at most.
    pub max_length: usize,
}

impl Arrangement<'_> {
    /// Puts the completions of every row in order, and leaves out those that take no part.
    ///
    /// # Errors
    ///
    /// [`Error::Row`] for the first row that the objective cannot use.
    pub fn arrange(&self, rows: Vec<Example>, tally: &mut Tally) -> Result<Vec<Example>, Error> {
        let needs = self.objective.needs();
        let mut arranged = Vec::with_capacity(rows.len());
        for row in rows {
            if needs.desirable {
                arranged.extend(unpaired(row));
            } else {
                arranged.push(self.ordered(row, needs, tally));
            }
        }
        if needs.mismatched {
            self.add_mismatched(&mut arranged)?;
        }
        let mut kept = Vec::with_capacity(arranged.len());
        for row in arranged {
            match self.check(&row) {
                Ok(()) => kept.push(row),
                Err(objectives::Error::NoOrder) if self.drop_unordered => {
                    count(tally, "dropped: no order between completions");
                }
                Err(source) => return Err(Error::Row { id: row.id, source }),
            }
        }
        Ok(kept)
    }

    fn check(&self, row: &Example) -> Result<(), objectives::Error> {
        let needs = self.objective.needs();
        let is_pair = self.objective.gdpo.is_none() && !needs.desirable && !needs.mismatched;
        if is_pair && is_undecided(row) {
            return Err(objectives::Error::NoOrder);
        }
        let scores = vec![CompletionScore::default(); row.completions.len()];
        self.objective.check_group(&group(row, &scores, needs, |_| Some(0.0)))
    }

    fn ordered(&self, mut row: Example, needs: Needs, tally: &mut Tally) -> Example {
        if needs.factuality {
            let labels = [number(&row, "h_w"), number(&row, "h_l")];
            if self.flip && labels == [Some(1.0), Some(0.0)] {
                row.completions.reverse();
                row.unscored.reverse();
                row.extras.insert("h_w".into(), json!(0));
                row.extras.insert("h_l".into(), json!(1));
                count(tally, "flipped: the rejected completion alone was factual");
            }
            if let [Some(chosen), Some(rejected)] = [number(&row, "h_w"), number(&row, "h_l")] {
                count(tally, &format!("labels (h_w, h_l) = ({chosen}, {rejected})"));
            }
        }
        if let Some(scores) = numbers(&row, "scores").filter(|it| it.len() == row.completions.len())
        {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|left, right| scores[*right].total_cmp(&scores[*left]));
            if let Some(gdpo) = self.objective.gdpo {
                order = gdpo.members(order.len()).into_iter().map(|at| order[at]).collect();
            }
            row.completions = order.iter().map(|at| row.completions[*at].clone()).collect();
            row.unscored = order.iter().map(|at| row.unscored[*at]).collect();
            let scores: Vec<f64> = order.iter().map(|at| scores[*at]).collect();
            row.extras.insert("scores".into(), json!(scores));
        }
        let members = row.completions.len();
        if self.objective.gdpo.is_some() {
            count(tally, &format!("groups of {members}"));
        } else if 2 < members {
            count(tally, &format!("pairs of the best and the worst of {members}"));
            keep_ends(&mut row);
        }
        row
    }

    /// Gives each row the completion of the next one, the last row that of the first.
    // DIFFERENCE(trl): there rows are paired up within slices of a batch's size.
    fn add_mismatched(&self, rows: &mut [Example]) -> Result<(), Error> {
        let completions: Vec<Vec<u32>> =
            rows.iter().map(|row| row.completions[0].clone()).collect();
        let count = rows.len();
        if let [row] = rows {
            let source = objectives::Error::Missing {
                what: "completion of another prompt",
                by: self.objective.name(),
            };
            return Err(Error::Row { id: row.id.clone(), source });
        }
        for (index, row) in rows.iter_mut().enumerate() {
            let mut other = completions[(index + 1) % count].clone();
            other.truncate(self.max_length.saturating_sub(row.prompt.len()).max(1));
            row.completions.push(other);
            row.unscored.push(row.unscored[0]);
        }
        Ok(())
    }
}

/// Leaves the first and the last completion of a group: the pair that its order is surest about.
fn keep_ends(row: &mut Example) {
    row.completions.drain(1..row.completions.len() - 1);
    row.unscored.drain(1..row.unscored.len() - 1);
    if let Some(scores) = numbers(row, "scores")
        && let [best, .., worst] = scores[..]
    {
        row.extras.insert("scores".into(), json!([best, worst]));
    }
}

/// Whether the two completions of a group have one score, or are the same.
fn is_undecided(row: &Example) -> bool {
    let [chosen, rejected] = &row.completions[..] else { return false };
    let scores = numbers(row, "scores").unwrap_or_default();
    chosen == rejected || matches!(scores[..], [best, worst] if best.total_cmp(&worst).is_eq())
}

/// A row of a single completion with its label as it is; a pair as two such rows.
fn unpaired(row: Example) -> Vec<Example> {
    if row.completions.len() != 2 {
        return vec![row];
    }
    let side = |index: usize, label: bool| {
        let mut one = row.clone();
        one.completions = vec![row.completions[index].clone()];
        one.unscored = vec![row.unscored[index]];
        one.extras.insert("label".into(), json!(label));
        one
    };
    vec![side(0, true), side(1, false)]
}

/// The names of an example's completions in the reference store.
pub fn entry_keys(example: &Example) -> Vec<EntryKey> {
    let sides = example.completions.iter().zip(&example.unscored);
    sides.map(|(ids, unscored)| entry_key(&example.prompt, ids, *unscored)).collect()
}

/// The same for the parts past the length of the shortest completion; `None` where there is none.
pub fn tail_keys(example: &Example) -> Vec<Option<EntryKey>> {
    let sides = || example.completions.iter().zip(&example.unscored);
    let shortest = sides().map(|(ids, unscored)| ids.len() - unscored).min().unwrap_or(0);
    let key = |(ids, unscored): (&Vec<u32>, &usize)| {
        let from = unscored + shortest;
        (from < ids.len()).then(|| entry_key(&example.prompt, ids, from))
    };
    sides().map(key).collect()
}

/// A row with the policy's and the reference's numbers.
///
/// `reference` knows the log-probabilities of completions and of their tails; what it does not know
/// is not a number.
pub fn group(
    example: &Example,
    scores: &[CompletionScore],
    needs: Needs,
    reference: impl Fn(&EntryKey) -> Option<f64>,
) -> Group {
    let known = |key: &EntryKey| reference(key).unwrap_or(f64::NAN);
    let references: Vec<f64> = if needs.reference {
        entry_keys(example).iter().map(known).collect()
    } else {
        vec![0.0; scores.len()]
    };
    let mut completions: Vec<Completion> = scores
        .iter()
        .zip(references)
        .map(|(score, reference_logp)| Completion {
            policy_logp: score.logp,
            reference_logp,
            token_count: score.token_count,
            policy_tail_logp: score.tail_logp,
            relative_logp: (score.logp - score.ln_sum_p2) / f64::from(score.token_count.max(1)),
            ..Completion::default()
        })
        .collect();
    if needs.tails && needs.reference {
        for (completion, key) in completions.iter_mut().zip(tail_keys(example)) {
            completion.reference_tail_logp = key.as_ref().map_or(0.0, known);
        }
    }
    let mut group = Group::default();
    if needs.mismatched
        && let [_, other] = completions[..]
    {
        group.mismatched =
            Some(Scored { policy_logp: other.policy_logp, reference_logp: other.reference_logp });
        completions.truncate(1);
    }
    if needs.desirable {
        group.desirable = example.extras.get("label").and_then(Value::as_bool);
    }
    describe(example, &mut completions);
    group.annotator = text(example, "annotator");
    group.completions = completions;
    group
}

/// What the row's columns say about its completions.
fn describe(example: &Example, completions: &mut [Completion]) {
    if let Some(scores) = numbers(example, "scores").filter(|it| it.len() == completions.len()) {
        let mut rank = 0;
        for (index, score) in scores.iter().enumerate() {
            if 0 < index && score.total_cmp(&scores[index - 1]).is_lt() {
                rank += 1;
            }
            completions[index].score = Some(*score);
            completions[index].rank = Some(rank);
        }
    }
    if let [chosen, rejected] = completions {
        chosen.hallucinated = number(example, "h_w");
        rejected.hallucinated = number(example, "h_l");
        let margin = number(example, "margin");
        chosen.score = chosen.score.or(number(example, "score_chosen")).or(margin);
        rejected.score =
            rejected.score.or(number(example, "score_rejected")).or(margin.map(|_| 0.0));
    }
}

/// The coefficients of all completions of a row, those that only were scored included.
pub fn coefficients(
    example: &Example,
    outcome: &GroupOutcome,
    share: f64,
) -> impl Iterator<Item = Coefficient> {
    let of = |index: usize| {
        let head = outcome.coefficients.get(index).copied().unwrap_or(0.0) * share;
        let tail = outcome.tail_coefficients.get(index).map_or(head, |tail| tail * share);
        Coefficient { head, tail }
    };
    (0..example.completions.len()).map(of).collect::<Vec<_>>().into_iter()
}

/// Counts something by name.
pub(crate) fn count(tally: &mut Tally, what: &str) {
    *tally.entry(what.to_owned()).or_insert(0) += 1;
}

/// A number of a row's column; truth values count as 0 and 1.
fn number(example: &Example, name: &str) -> Option<f64> {
    let value = example.extras.get(name)?;
    value.as_f64().or_else(|| value.as_bool().map(f64::from))
}

fn numbers(example: &Example, name: &str) -> Option<Vec<f64>> {
    let list = example.extras.get(name)?.as_array()?;
    list.iter().map(Value::as_f64).collect()
}

fn text(example: &Example, name: &str) -> String {
    match example.extras.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}
